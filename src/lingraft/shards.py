"""Token files: ids of many documents end to end, memory-mapped, with what tells them apart.

    NAME.npy        ids, uint16 or uint32, shape (total_tokens,)
    NAME.ends.npy   where each document ends, uint64, shape (num_docs,)
    NAME.bytes.npy  UTF-8 bytes of each document's text, uint32, shape (num_docs,)

All are plain `.npy`: dtype and shape stand in the header, any NumPy opens them. A folder of them
has an `index.json` that tells which tokenizer's ids they are, how many, and the sha256 of each
file. A token file that is cut short, or of another tokenizer, does not crash: it mistrains. So
sizes are compared whenever a folder is opened, and hashes when asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from .errors import InputError, UsageError, VerifyError
from .manifest import Facts, file_sha256

__all__ = [
    "INDEX_NAME",
    "IndexedFile",
    "IndexedTokenizer",
    "RowWriter",
    "TokenFile",
    "TokenFolder",
    "TokenIndex",
    "check_folder",
    "open_folder",
    "open_tokens",
    "read_index",
    "token_dtype",
    "token_paths",
    "write_tokens",
]

INDEX_NAME = "index.json"


@dataclass(frozen=True)
class TokenFile:
    """One opened token file."""

    ids: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    ends: npt.NDArray[np.uint64]
    sizes_bytes: npt.NDArray[np.uint32] | None = None
    """UTF-8 bytes of each document's text, where they were kept."""

    @property
    def num_docs(self) -> int:
        """Documents in the file."""
        return len(self.ends)

    def doc(self, n: int) -> npt.NDArray[np.int64]:
        """Ids of document `n`, BOS and EOS included where they were written."""
        start = int(self.ends[n - 1]) if n else 0
        return self.ids[start : int(self.ends[n])].astype(np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        """Hand a mapped file to another process as its path, not as a copy of its ids."""
        is_whole = isinstance(self.ids.base, mmap)  # a slice of a map has the map as its base
        if isinstance(self.ids, np.memmap) and is_whole and self.ids.filename:
            return open_tokens, (Path(self.ids.filename),)
        return TokenFile, (self.ids, self.ends, self.sizes_bytes)


class IndexedTokenizer(Facts):
    """Which tokenizer's ids they are."""

    name: str
    digest: str
    """`BaseTokenizer.digest`: of all that decides ids."""
    vocab_size: int
    bos_id: int | None
    """Before each document; None: nothing."""
    eos_id: int | None
    """After each document; None: nothing."""


class IndexedFile(Facts):
    """One token file of a folder."""

    name: str
    """Its files are NAME.npy, NAME.ends.npy and NAME.bytes.npy."""
    source: str
    """The text that it was made from."""
    num_docs: int
    num_empty: int = 0
    """Documents without text, which were left out."""
    total_tokens: int
    """BOS and EOS included."""
    size_bytes: int
    """UTF-8 bytes of the texts."""
    num_surrogates: int = 0
    """Halves of surrogate pairs in the texts, each encoded as U+FFFD."""
    sha256: dict[str, str]
    """File name -> hash."""


class TokenIndex(Facts):
    """`index.json`."""

    format: Literal["lingraft-tokens"]
    version: Literal[1]
    tokenizer: IndexedTokenizer
    dtype: Literal["uint16", "uint32"]
    files: list[IndexedFile]

    @classmethod
    def build(cls, tokenizer: IndexedTokenizer, files: Sequence[IndexedFile]) -> TokenIndex:
        """Make the index of the files of one tokenizer."""
        dtype: Any = token_dtype(tokenizer.vocab_size).name
        return cls(
            format="lingraft-tokens", version=1, tokenizer=tokenizer, dtype=dtype, files=list(files)
        )


@dataclass(frozen=True)
class TokenFolder:
    """An opened folder of token files."""

    path: Path
    index: TokenIndex
    files: dict[str, TokenFile]
    """By name, in the order of the index."""

    def file(self, name: str) -> TokenFile:
        """Give one file by name.

        Raises:
            UsageError: There is none; the names are told.
        """
        if name not in self.files:
            raise UsageError(
                f"{self.path}: no token file '{name}' (there are: {', '.join(self.files)})."
            )
        return self.files[name]

    def refuse_other(self, digest: str, name: str) -> None:
        """Refuse a tokenizer that these are not the ids of.

        Args:
            digest: Of the tokenizer that is about to read them.
            name: How messages call it.

        Raises:
            InputError: It is another one.
        """
        if digest != self.index.tokenizer.digest:
            raise InputError(
                f"{self.path}: holds ids of the tokenizer {self.index.tokenizer.name} "
                f"({self.index.tokenizer.digest[:12]}), not of {name} ({digest[:12]}).",
                effect="Every id would stand for another piece; training would not notice.",
                way_out="Encode again with the tokenizer that is used.",
            )


class RowWriter:
    """Writes one row of numbers as `.npy`, block by block; `finish` writes its length."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        """Begin a row in a file that is open for writing, at its beginning."""
        self._file, self._dtype, self.length = file, dtype, 0
        self._write_header()
        self._begin = file.tell()

    def append(self, numbers: npt.NDArray[Any]) -> None:
        """Write numbers after those before."""
        self._file.write(np.ascontiguousarray(numbers, self._dtype).data)
        self.length += len(numbers)

    def finish(self) -> None:
        """Write the length where it belongs, and make all of it durable."""
        self._file.seek(0)
        self._write_header()
        # NumPy leaves room in the header for any length.
        assert self._file.tell() == self._begin, "the header grew over the numbers"
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """Smallest dtype that holds every id: uint16 up to 65,536 pieces, else uint32."""
    return np.dtype(np.uint16) if vocab_size <= 1 << 16 else np.dtype(np.uint32)


def token_paths(ids: Path) -> tuple[Path, Path, Path]:
    """Give the files of a token file: ids, ends, bytes."""
    return ids, ids.with_suffix(".ends.npy"), ids.with_suffix(".bytes.npy")


def write_tokens(path: Path, docs: Iterable[list[int]], vocab_size: int) -> tuple[int, int]:
    """Write documents' ids to `path` (`.npy`) and their ends beside it.

    Ids are appended as they come, so memory holds one document and the ends.

    Returns:
        Number of documents, total tokens.
    """
    ends: list[int] = []
    total = 0
    with path.open("wb") as file:
        row = RowWriter(file, token_dtype(vocab_size))
        for ids in docs:
            row.append(np.asarray(ids, np.int64))
            total += len(ids)
            ends.append(total)
        row.finish()
    np.save(token_paths(path)[1], np.asarray(ends, np.uint64))
    return len(ends), total


def open_tokens(path: Path) -> TokenFile:
    """Map a token file.

    Raises:
        InputError: A file is missing or is not what `write_tokens` writes.
    """
    ids_path, ends_path, bytes_path = token_paths(path)
    try:
        ids = np.load(ids_path, mmap_mode="r", allow_pickle=False)
        ends = np.load(ends_path, mmap_mode="r", allow_pickle=False)
        sizes = None
        if bytes_path.exists():
            sizes = np.load(bytes_path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:  # ValueError: also a file that is cut short
        raise InputError(
            f"{path}: not a token file: {error}.", way_out="Encode the text again."
        ) from None
    length = int(ends[-1]) if len(ends) else 0
    if ids.ndim != 1 or ids.dtype not in (np.uint16, np.uint32) or length != len(ids):
        raise InputError(
            f"{path}: {ids.dtype} {ids.shape} with ends at {length}; "
            "expected one row of uint16 or uint32 ids that its ends cover.",
            way_out="Encode the text again (of a run: --redo encode).",
        )
    if sizes is not None and len(sizes) != len(ends):
        raise InputError(
            f"{bytes_path}: {len(sizes)} sizes of {len(ends)} documents.",
            way_out="Encode the text again (of a run: --redo encode).",
        )
    return TokenFile(ids, ends, sizes)


def open_folder(folder: Path, *, verify: bool = False) -> TokenFolder:
    """Map all token files of a folder.

    Args:
        folder: What `lingraft encode` or the encode stage wrote.
        verify: Whether every file is hashed, too.

    Raises:
        InputError: There is no index, it cannot be read, or a file is not as long as it says.
        VerifyError: A file is not what was written.
    """
    index = read_index(folder)
    files = {entry.name: _open_indexed(folder, entry, index.dtype) for entry in index.files}
    if verify:
        _verify(folder, index)
    return TokenFolder(folder, index, files)


def check_folder(folder: Path) -> list[str]:
    """Compare a folder with its index, hashes and all; list what differs, [] where nothing does."""
    try:
        index = read_index(folder)
    except InputError as error:
        return [error.what]
    wrong = [line for entry in index.files for line in _check_file(folder, entry, index.dtype)]
    named = {path.name for entry in index.files for path in _places(folder, entry)}
    others = sorted(path for path in folder.glob("*.npy") if path.name not in named)
    return wrong + [f"{path}: not in {INDEX_NAME}" for path in others]


def _check_file(folder: Path, entry: IndexedFile, dtype: str) -> list[str]:
    places = _places(folder, entry)
    missing = [f"{path}: missing" for path in places if not path.is_file()]
    wrong = []
    for path in places:
        wanted = entry.sha256.get(path.name, "")
        if not wanted:
            wrong.append(f"{path}: no hash in {INDEX_NAME}")
        elif path.is_file() and (found := file_sha256(path)) != wanted:
            wrong.append(f"{path}: sha256 {found[:12]}..., expected {wanted[:12]}...")
    if missing:
        return missing + wrong
    try:
        file = _open_indexed(folder, entry, dtype)
    except InputError as error:
        return [*wrong, error.what]
    assert file.sizes_bytes is not None, "it was found above"
    size_bytes = int(file.sizes_bytes.sum(dtype=np.uint64))
    if size_bytes != entry.size_bytes:
        wrong.append(f"{places[2]}: {size_bytes:,} bytes of text, expected {entry.size_bytes:,}")
    return wrong


def _places(folder: Path, entry: IndexedFile) -> tuple[Path, Path, Path]:
    return token_paths(folder / f"{entry.name}.npy")


def read_index(folder: Path) -> TokenIndex:
    """Read the index of a folder of token files.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    path = folder / INDEX_NAME
    try:
        return TokenIndex.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(
            f"{path}: not the index of a folder of token files: {_first_problem(error)}.",
            way_out="Name a folder that `lingraft encode` wrote, or encode again.",
        ) from None


def _first_problem(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _open_indexed(folder: Path, entry: IndexedFile, dtype: str) -> TokenFile:
    path = folder / f"{entry.name}.npy"
    file = open_tokens(path)
    found = (file.num_docs, len(file.ids), file.ids.dtype.name)
    if found != (entry.num_docs, entry.total_tokens, dtype):
        raise InputError(
            f"{path}: {found[0]:,} documents, {found[1]:,} tokens of {found[2]}; its index says "
            f"{entry.num_docs:,}, {entry.total_tokens:,} of {dtype}.",
            effect="Text would be missing, or ids would be read wrongly.",
            way_out="Encode the text again.",
        )
    return file


def _verify(folder: Path, index: TokenIndex) -> None:
    for entry in index.files:
        for name, wanted in entry.sha256.items():
            found = file_sha256(folder / name)
            if found != wanted:
                raise VerifyError(
                    f"{folder / name}: sha256 {found[:12]}..., expected {wanted[:12]}...",
                    effect="Some ids are not those that were written.",
                    way_out="Encode the text again.",
                )
