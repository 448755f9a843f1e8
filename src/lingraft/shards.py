"""Token files: ids of many documents end to end, memory-mapped, with the document ends beside.

    NAME.npy       ids, uint16 or uint32, shape (total_tokens,)
    NAME.ends.npy  where each document ends, uint64, shape (num_docs,)

Both are plain `.npy`: dtype and shape stand in the header, any NumPy opens them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["TokenFile", "open_tokens", "token_dtype", "write_tokens"]


@dataclass(frozen=True)
class TokenFile:
    """One opened pair of files."""

    ids: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    ends: npt.NDArray[np.uint64]

    @property
    def num_docs(self) -> int:
        """Documents in the file."""
        return len(self.ends)

    def doc(self, n: int) -> npt.NDArray[np.int64]:
        """Ids of document `n`, BOS and EOS included where they were written."""
        start = int(self.ends[n - 1]) if n else 0
        return self.ids[start : int(self.ends[n])].astype(np.int64)


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """Smallest dtype that holds every id: uint16 up to 65,536 pieces, else uint32."""
    return np.dtype(np.uint16) if vocab_size <= 1 << 16 else np.dtype(np.uint32)


def write_tokens(path: Path, docs: Iterable[list[int]], vocab_size: int) -> tuple[int, int]:
    """Write documents' ids to `path` (`.npy`) and their ends beside it.

    Ids are appended as they come, so memory holds one document; the header is written last.

    Returns:
        Number of documents, total tokens.
    """
    dtype = token_dtype(vocab_size)
    ends: list[int] = []
    total = 0
    raw = path.with_name(path.name + ".raw")
    with raw.open("wb") as file:
        for ids in docs:
            file.write(np.asarray(ids, dtype).tobytes())
            total += len(ids)
            ends.append(total)
    if total:
        ids_on_disk = np.memmap(raw, dtype, mode="r", shape=(total,))
        np.save(path, ids_on_disk)
        del ids_on_disk
    else:
        np.save(path, np.empty(0, dtype))
    raw.unlink()
    np.save(_ends_path(path), np.asarray(ends, np.uint64))
    return len(ends), total


def open_tokens(path: Path) -> TokenFile:
    """Map a token file.

    Raises:
        InputError: A file is missing or is not what `write_tokens` writes.
    """
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
        ends = np.load(_ends_path(path), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a token file: {error}.") from None
    length = int(ends[-1]) if len(ends) else 0
    if ids.ndim != 1 or ids.dtype not in (np.uint16, np.uint32) or length != len(ids):
        raise InputError(
            f"{path}: {ids.dtype} {ids.shape} with ends at {length}; "
            "expected one row of uint16 or uint32 ids that its ends cover.",
            way_out="Encode again: --redo encode.",
        )
    return TokenFile(ids, ends)


def _ends_path(path: Path) -> Path:
    return path.with_suffix(".ends.npy")
