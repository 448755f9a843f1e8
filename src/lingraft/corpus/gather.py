"""Gathering: one bucket of all units is put in order, and each document where it belongs.

    buckets/N.rows          rows of documents, set after set and split after split, by id
    buckets/N.dropped       duplicates, where dropped documents are asked for
    buckets/N.sources.npy   how many documents came from which file
    buckets/N.json          where each section begins, counts, examples

Of documents with the same text the first stays, and of near duplicates those that `match` says.
The bucket's texts are in memory, unpacked: some 32 MB, whatever the size of all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..store import disk_errors
from .buckets import RECORD, Chunk, read_bucket
from .dropped import MAX_EXAMPLES, Example, Row, RowWriter, shorten
from .plan import Plan, read_plan
from .results import BUCKETS, STEPS, UNITS, Totals, is_whole, read_totals, result_path, writing
from .split import split_of

__all__ = ["DUPLICATE", "NEAR_DUPLICATE", "SOURCES", "Gather"]

DUPLICATE, NEAR_DUPLICATE = "duplicate", "near_duplicate"
SOURCES = "sources.npy"
"""End of a bucket's file: files of the plan; of each its kept documents and their bytes."""
_REASONS = ("", DUPLICATE, NEAR_DUPLICATE)
_ID_DIGITS = 16
_WRITE_BYTES = 1 << 20

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Gather:
    """The step as units of work: one for each bucket."""

    folder: str
    key: str
    label: str = "sort"

    @property
    def _plan(self) -> Plan:
        return read_plan(self.folder, self.key)

    def __len__(self) -> int:
        """Number of buckets."""
        return self._plan.num_buckets

    def size_bytes(self, n: int) -> int:
        """About the bytes of files that bucket `n` came from."""
        return self._plan.total_bytes // self._plan.num_buckets

    def is_done(self, n: int) -> bool:
        """Whether the result of bucket `n` is there."""
        return is_whole(self.folder, BUCKETS, n, self.key)

    def do(self, n: int) -> None:
        """Put bucket `n` in order.

        Raises:
            DiskFullError: There is no room for its result.
        """
        plan = self._plan
        ends = ["rows", SOURCES] + ["dropped"] * plan.settings.keep_dropped
        with (
            disk_errors(Path(self.folder), place=plan.place),
            writing(self.folder, BUCKETS, n, self.key, ends) as (drafts, facts),
            ExitStack() as stack,
        ):
            files = {end: stack.enter_context(drafts[end].open("wb")) for end in ends}
            bucket = _Bucket(plan, read_totals(self.folder, self.key), self.folder, n)
            facts["kept"] = bucket.write_kept(files["rows"])
            facts["dropped"] = bucket.tell_dropped(files.get("dropped"))
            np.save(files[SOURCES], bucket.count_sources())


class _Bucket:
    """The documents of one bucket, by id."""

    def __init__(self, plan: Plan, totals: Totals, folder: str, n: int) -> None:
        self._plan, self._totals = plan, totals
        units, chunks = _read_units(plan, folder, n)
        records = np.concatenate([chunk.records for chunk in chunks] or [np.empty(0, RECORD)])
        self._texts = b"".join([chunk.texts for chunk in chunks])
        ends = np.cumsum(records["row_bytes"], dtype=np.int64)
        # The order of units and numbers is that of sets, files and lines.
        order = np.lexsort((records["number"], units, records["low"], records["high"]))
        self._records, self._units = records[order], units[order]
        self._ends: list[int] = ends[order].tolist()
        self._begins: list[int] = (ends - records["row_bytes"].astype(np.int64))[order].tolist()
        self._sets = totals.sets_U[self._units]
        self._reasons = self._find_reasons(folder)
        self._ids = self._records["high"].astype(">u8").tobytes().hex().encode()

    def _text(self, i: int) -> bytes:
        return self._texts[self._begins[i] : self._ends[i]]

    def _find_reasons(self, folder: str) -> npt.NDArray[np.int8]:
        """Give the index in _REASONS for each document."""
        reasons = np.zeros(len(self._records), np.int8)
        if self._plan.settings.near_duplicates is not None:
            drop = np.load(result_path(folder, STEPS, 0, "npy"), mmap_mode="r", allow_pickle=False)
            places = self._totals.kept_before_U[self._units] + self._records["kept"]
            found = np.searchsorted(drop, places)
            near = found < len(drop)
            near[near] = drop[found[near]] == places[near]
            reasons[near] = _REASONS.index(NEAR_DUPLICATE)
        if self._plan.settings.deduplicate:
            high, low = self._records["high"], self._records["low"]
            same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
            reasons[1:][same] = _REASONS.index(DUPLICATE)
        return reasons

    def write_kept(self, file: BinaryIO) -> dict[int, dict[str, Any]]:
        """Write the rows of kept documents; tell, for each set, what was written."""
        settings = self._plan.settings
        kept = np.flatnonzero(self._reasons == 0)
        splits = self._find_splits(kept)
        told: dict[int, dict[str, Any]] = {}
        for set_index in np.unique(self._sets[kept]).tolist():
            own = self._sets[kept] == set_index
            sections = {}
            for number, split in enumerate(settings.splits):
                chosen = kept[own & (splits == number)]
                sections[split] = self._sizes(chosen) | {"row_bytes": self._write(file, chosen)}
            told[set_index] = {
                "splits": sections,
                "lengths": _count_lengths(self._records["num_chars"][kept[own]]),
                "examples": [self._example(i) for i in kept[own][:MAX_EXAMPLES].tolist()],
            }
        return told

    def tell_dropped(self, file: BinaryIO | None) -> dict[int, dict[str, Any]]:
        """Tell, for each set, what was dropped; write it where that is asked for."""
        dropped = np.flatnonzero(self._reasons)
        told: dict[int, dict[str, Any]] = {}
        for set_index in np.unique(self._sets[dropped]).tolist():
            own = dropped[self._sets[dropped] == set_index]
            counts = Counter(_REASONS[reason] for reason in self._reasons[own].tolist())
            told[set_index] = {
                "counts": dict(sorted(counts.items())),
                "examples": list(self._first_read(own)),
                "row_bytes": 0 if file is None else self._write_dropped(file, own),
            }
        return told

    def count_sources(self) -> Int64:
        """Give the files of kept documents, and documents and UTF-8 bytes of each."""
        kept = np.flatnonzero(self._reasons == 0)
        files = self._totals.files_of(self._units[kept], self._records["piece"][kept])
        found, places = np.unique(files, return_inverse=True)
        sizes = np.zeros(len(found), np.int64)
        np.add.at(sizes, places, self._records["size_bytes"][kept].astype(np.int64))
        return np.stack([found, np.bincount(places, minlength=len(found)), sizes])

    def _find_splits(self, chosen: Int64) -> npt.NDArray[np.int8]:
        """Give the index of each document's split."""
        settings, ids = self._plan.settings, self._ids.decode()
        shares = (self._plan.seed, settings.valid_frac, settings.test_frac)
        numbers = {split: number for number, split in enumerate(settings.splits)}
        begins = (chosen * _ID_DIGITS).tolist()
        found = [numbers[split_of(ids[b : b + _ID_DIGITS], *shares)] for b in begins]
        return np.array(found, np.int8)

    def _sizes(self, chosen: Int64) -> dict[str, int]:
        return {
            "num_docs": len(chosen),
            "num_chars": int(self._records["num_chars"][chosen].sum()),
            "size_bytes": int(self._records["size_bytes"][chosen].sum()),
        }

    def _write(self, file: BinaryIO, chosen: Int64) -> int:
        """Write documents as rows of JSON; give the bytes."""
        begin = file.tell()
        rows: list[bytes] = []
        size = 0
        for i in chosen.tolist():
            doc_id = self._ids[_ID_DIGITS * i : _ID_DIGITS * (i + 1)]
            rows.append(b'{"id": "%b", "text": %b}\n' % (doc_id, self._text(i)))
            size += len(rows[-1])
            if size >= _WRITE_BYTES:
                file.write(b"".join(rows))
                rows, size = [], 0
        file.write(b"".join(rows))
        return file.tell() - begin

    def _write_dropped(self, file: BinaryIO, chosen: Int64) -> int:
        begin = file.tell()
        with RowWriter(file) as writer:
            for i in chosen.tolist():
                reason, place = _REASONS[self._reasons[i]], self._place(i)
                writer.add(Row(reason, *place, self._text(i)))
        return file.tell() - begin

    def _place(self, i: int) -> tuple[int, int, int]:
        """Give unit, piece and line of a document."""
        record = self._records[i]
        return int(self._units[i]), int(record["piece"]), int(record["line"])

    def _example(self, i: int) -> dict[str, str]:
        return {"where": self._totals.where(*self._place(i)), "text": self._shown(i)}

    def _first_read(self, dropped: Int64) -> Iterator[Example]:
        """Give the documents of each reason that were read first."""
        counts: Counter[str] = Counter()
        as_read = np.lexsort((self._records["number"][dropped], self._units[dropped]))
        for i in dropped[as_read].tolist():
            reason = _REASONS[self._reasons[i]]
            counts[reason] += 1
            if counts[reason] <= MAX_EXAMPLES:
                unit, piece, line = self._place(i)
                number = int(self._records["number"][i])
                yield Example(reason, unit, number, piece, line, self._shown(i))

    def _shown(self, i: int) -> str:
        return shorten(str(json.loads(self._text(i))))


def _read_units(plan: Plan, folder: str, n: int) -> tuple[npt.NDArray[np.int32], list[Chunk]]:
    """Read a bucket from all units; give the unit of each document, and the documents."""
    units, chunks = [], []
    for unit in range(len(plan.units)):
        rows, index = (result_path(folder, UNITS, unit, end) for end in ("rows", "index.npy"))
        for chunk in read_bucket(rows, index, n):
            units.append(np.full(len(chunk.records), unit, np.int32))
            chunks.append(chunk)
    return np.concatenate(units or [np.empty(0, np.int32)]), chunks


def _count_lengths(chars: npt.NDArray[Any]) -> list[int]:
    """Count documents of 1, 2 to 3, 4 to 7, ... characters."""
    exponents = np.frexp(chars.astype(np.float64))[1] - 1
    counts: list[int] = np.bincount(exponents).tolist()
    return counts
