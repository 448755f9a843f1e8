"""Finishing: the sections of all buckets become the files of each set and split.

    SET-SPLIT.jsonl           rows `{"id", "text"}`, in the order of the id
    dropped/SET.jsonl.zst     rows `{"reason", "where", "text"}`, where that is asked for: as they
                              were read, then duplicates, by id

Files stand in the work folder (`outputs/N.data`) until all are there; see `sealing`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from ..store import disk_errors
from ..work import tell_bytes
from .dropped import Row, read_rows
from .plan import Plan, read_plan
from .results import (
    BUCKETS,
    OUTPUTS,
    UNITS,
    is_whole,
    read_result,
    read_totals,
    result_path,
    writing,
)

__all__ = ["DATA", "Joining", "Output", "list_outputs"]

DATA = "data"
_DROPPED_FOLDER = "dropped"
_BLOCK_BYTES = 1 << 20
_LEVEL = 3


class Output(NamedTuple):
    """One file to make."""

    name: str
    set_index: int
    split: str
    """ "" for the dropped documents of a set."""


def list_outputs(plan: Plan) -> list[Output]:
    """List the large files of a corpus, in order."""
    splits = plan.settings.splits
    outputs = [
        Output(f"{one.name}-{split}.jsonl", n, split)
        for n, one in enumerate(plan.sets)
        for split in splits
    ]
    if plan.settings.keep_dropped:
        outputs += [
            Output(f"{_DROPPED_FOLDER}/{one.name}.jsonl.zst", n, "")
            for n, one in enumerate(plan.sets)
        ]
    return outputs


@dataclass(frozen=True)
class Joining:
    """The step as units of work: one for each file."""

    folder: str
    key: str
    label: str = "write"

    @property
    def _plan(self) -> Plan:
        return read_plan(self.folder, self.key)

    def __len__(self) -> int:
        """Number of files."""
        return len(list_outputs(self._plan))

    def size_bytes(self, n: int) -> int:
        """Bytes of file `n`, or of what it comes from; not known before all buckets are there."""
        plan = self._plan
        if not is_whole(self.folder, BUCKETS, plan.num_buckets - 1, self.key):
            return 1
        return _read_sizes(self.folder, self.key)[n]

    def is_done(self, n: int) -> bool:
        """Whether file `n` is there."""
        return is_whole(self.folder, OUTPUTS, n, self.key)

    def do(self, n: int) -> None:
        """Make file `n`.

        Raises:
            DiskFullError: There is no room for it.
        """
        plan = self._plan
        output = list_outputs(plan)[n]
        with (
            disk_errors(Path(self.folder), place=plan.place),
            writing(self.folder, OUTPUTS, n, self.key, [DATA]) as (drafts, facts),
            drafts[DATA].open("wb") as file,
        ):
            if output.split:
                digest = hashlib.sha256()
                for block in self._read_sections(output):
                    file.write(block)
                    digest.update(block)
                    tell_bytes(len(block))
                facts["sha256"] = digest.hexdigest()
            else:
                self._write_dropped(output, file)
            file.flush()
            os.fsync(file.fileno())

    def _read_sections(self, output: Output) -> Iterator[bytes]:
        """Give the rows of a set's split, bucket after bucket."""
        for n in range(self._plan.num_buckets):
            begin = 0
            for set_index, tally in read_result(self.folder, BUCKETS, n)["kept"].items():
                for split, section in tally["splits"].items():
                    if (int(set_index), split) == (output.set_index, output.split):
                        path = result_path(self.folder, BUCKETS, n, "rows")
                        yield from _read_blocks(path, begin, section["row_bytes"])
                    begin += section["row_bytes"]

    def _write_dropped(self, output: Output, file: BinaryIO) -> None:
        totals = read_totals(self.folder, self.key)
        packer = zstandard.ZstdCompressor(level=_LEVEL)
        with packer.stream_writer(file, closefd=False) as stream:
            for row in self._read_dropped(output.set_index):
                where = totals.where(row.unit, row.piece, row.line)
                head = json.dumps({"reason": row.reason, "where": where}, ensure_ascii=False)
                stream.write(b'%b, "text": %b}\n' % (head[:-1].encode(), row.text))

    def _read_dropped(self, set_index: int) -> Iterator[Row]:
        """Give the dropped documents of a set: those of units, then those of buckets."""
        plan = self._plan
        for n in range(len(plan.units)):
            if plan.set_of(n) == set_index:
                with result_path(self.folder, UNITS, n, "dropped").open("rb") as file:
                    yield from read_rows(file)
        for n in range(plan.num_buckets):
            begin = 0
            for other, tally in read_result(self.folder, BUCKETS, n)["dropped"].items():
                if int(other) == set_index:
                    path = result_path(self.folder, BUCKETS, n, "dropped")
                    yield from read_rows(b"".join(_read_blocks(path, begin, tally["row_bytes"])))
                begin += tally["row_bytes"]


@lru_cache(maxsize=1)
def _read_sizes(folder: str, key: str) -> list[int]:
    """Add up the bytes of each output's sections, kept for this process."""
    plan = read_plan(folder, key)
    outputs = list_outputs(plan)
    sizes: Counter[tuple[int, str]] = Counter()
    for n in range(plan.num_buckets):
        told = read_result(folder, BUCKETS, n)
        for set_index, tally in told["kept"].items():
            for split, section in tally["splits"].items():
                sizes[int(set_index), split] += section["row_bytes"]
        for set_index, tally in told["dropped"].items():
            sizes[int(set_index), ""] += tally["row_bytes"]
    return [max(1, sizes[output.set_index, output.split]) for output in outputs]


def _read_blocks(path: Path, begin: int, size_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while size_bytes:
            block = file.read(min(size_bytes, _BLOCK_BYTES))
            assert block, f"{path} ends before its last section"
            size_bytes -= len(block)
            yield block
