"""The second step of encoding: parts end to end, one token file a text file, and their index."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..manifest import file_sha256
from ..shards import (
    INDEX_NAME,
    IndexedFile,
    IndexedTokenizer,
    RowWriter,
    TokenIndex,
    open_folder,
    read_index,
    token_paths,
)
from ..store import disk_errors, write_text
from .spans import EncodeWork, Span, part_path

__all__ = ["INPUTS_NAME", "JoinWork", "describe_inputs"]

INPUTS_NAME = ".inputs.json"
"""What the folder was made from, mtimes included: not part of what is reproducible."""
_BLOCK = 1 << 22


@dataclass(frozen=True)
class JoinWork:
    """All parts to token files: one unit; see `work.Work`."""

    encode: EncodeWork
    names: tuple[str, ...]
    """Name of the token file that each unit belongs to; equal ones stand together."""
    sources: tuple[str, ...]
    """What the index calls the text of each unit."""
    tokenizer: IndexedTokenizer
    out: str
    inputs: str
    """Content of INPUTS_NAME: says for whom the folder is done."""
    label: str = "join"

    def __len__(self) -> int:
        """Give 1."""
        return 1

    def size_bytes(self, n: int) -> int:
        """Give the bytes of all parts, as far as they are there."""
        paths = [part_path(self.encode.folder, i) for i in range(len(self.names))]
        return sum(path.stat().st_size for path in paths if path.is_file())

    def is_done(self, n: int) -> bool:
        """Whether the folder is there, as long as its index says, and made from the same things."""
        try:
            return self.has_same_inputs() and bool(open_folder(Path(self.out)))
        except InputError:  # damaged since: to be made again
            return False

    def has_same_inputs(self) -> bool:
        """Whether what is in the folder was made from the same things."""
        try:
            path = Path(self.out) / INPUTS_NAME
            return path.read_text(encoding="utf-8") == self.inputs
        except FileNotFoundError:
            return False

    def do(self, n: int) -> None:
        """Write every token file, then the index, then what it was made from."""
        out = Path(self.out)
        with disk_errors(out, place="--out DIR"):
            (out / INPUTS_NAME).unlink(missing_ok=True)
            _remove_others(out, set(self.names))
            (out / INDEX_NAME).unlink(missing_ok=True)
            files = [self._join(name, self._units_of(name)) for name in dict.fromkeys(self.names)]
            index = TokenIndex.build(self.tokenizer, files)
            write_text(out / INDEX_NAME, index.model_dump_json(indent=1) + "\n")
            write_text(out / INPUTS_NAME, self.inputs)
            shutil.rmtree(self.encode.folder, ignore_errors=True)

    def _units_of(self, name: str) -> list[int]:
        return [n for n, owner in enumerate(self.names) if owner == name]

    def _join(self, name: str, units: Sequence[int]) -> IndexedFile:
        found = [self.encode.find(n) for n in units]
        spans = [span for span in found if span is not None]
        assert len(spans) == len(units), "a part vanished between the steps"
        target = Path(self.out) / f"{name}.npy"
        draft = target.with_name(f".{name}.draft.npy")
        parts = [token_paths(part_path(self.encode.folder, n)) for n in units]
        for which, path in enumerate(token_paths(draft)):
            _append_all(path, [part[which] for part in parts], spans if which == 1 else None)
        files = list(zip(token_paths(draft), token_paths(target), strict=True))
        for source, place in files:
            source.replace(place)
        return IndexedFile(
            name=name,
            source=self.sources[units[0]],
            num_docs=sum(span.num_docs for span in spans),
            num_empty=sum(span.num_empty for span in spans),
            total_tokens=sum(span.total_tokens for span in spans),
            size_bytes=sum(span.size_bytes for span in spans),
            num_surrogates=sum(span.num_surrogates for span in spans),
            sha256={place.name: file_sha256(place) for _, place in files},
        )


def _remove_others(folder: Path, names: Set[str]) -> None:
    """Remove token files that the index tells of and that the next one will not.

    Files that it does not tell of are somebody else's. It stays until they are gone, so that a
    process that is killed here is gone on from.
    """
    with contextlib.suppress(InputError):  # none, or none that can be read
        for name in {entry.name for entry in read_index(folder).files} - names:
            for path in token_paths(folder / f"{name}.npy"):
                if path.parent == folder:  # a name is no way out of the folder
                    path.unlink(missing_ok=True)


def _append_all(target: Path, parts: Sequence[Path], shifts: Sequence[Span] | None) -> None:
    """Write rows end to end; ends are shifted by the tokens of the parts before."""
    shift = 0
    with target.open("wb") as file:
        row: RowWriter | None = None
        for n, part in enumerate(parts):
            numbers: npt.NDArray[np.unsignedinteger] = np.load(
                part, mmap_mode="r", allow_pickle=False
            )
            row = row or RowWriter(file, numbers.dtype)
            for begin in range(0, len(numbers), _BLOCK):
                row.append(numbers[begin : begin + _BLOCK] + numbers.dtype.type(shift))
            if shifts is not None:
                shift += shifts[n].total_tokens
        assert row is not None, "a token file has one unit or more"
        row.finish()


def describe_inputs(encode: EncodeWork) -> str:
    """Give the content of INPUTS_NAME."""
    units = [encode.identity(n) for n in range(len(encode))]
    return json.dumps({"tokenizer": encode.digest, "units": units}, indent=1) + "\n"
