"""Large arrays: in memory up to a limit, beyond it in files that vanish with the process.

A file's pages still use memory while there is some, but the system can take them back, so the
arrays may be larger than the machine's memory. What is computed is the same.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["Scratch", "write_array"]


class Scratch:
    """Gives room for arrays and counts what is in memory and what is on disk."""

    def __init__(self, folder: Path | None = None, limit_bytes: int | None = None) -> None:
        """Keep at most `limit_bytes` in memory (None: all), the rest in files in `folder`."""
        assert limit_bytes is None or folder is not None, "a limit needs a folder to spill to"
        self._folder, self._limit_bytes = folder, limit_bytes
        self._lock = threading.Lock()
        self._used_bytes = 0
        self.peak_bytes = 0
        """Most that was in memory at once."""
        self.spilled_bytes = 0
        """All that went to files."""

    def array(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Give an array with any content; its room comes back when nothing refers to it."""
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self._lock:
            if self._limit_bytes is not None and self._used_bytes + size_bytes > self._limit_bytes:
                self.spilled_bytes += size_bytes
                return self._on_disk(shape, dtype, size_bytes)
            self._used_bytes += size_bytes
            self.peak_bytes = max(self.peak_bytes, self._used_bytes)
        array = np.empty(shape, dtype)
        weakref.finalize(array, self._give_back, size_bytes)
        return array

    def copy(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Copy an array into room of its own."""
        copied = self.array(array.shape, array.dtype)
        copied[...] = array
        return copied

    def _give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._used_bytes -= size_bytes

    def _on_disk(
        self, shape: int | tuple[int, ...], dtype: npt.DTypeLike, size_bytes: int
    ) -> npt.NDArray[Any]:
        if not size_bytes:
            return np.empty(shape, dtype)
        with tempfile.TemporaryFile(dir=self._folder) as file:  # the mapping outlives the name
            os.posix_fallocate(file.fileno(), 0, size_bytes)  # a full disk tells now, not later
            mapped = np.memmap(file, dtype, "r+", shape=shape)
        return mapped.view(np.ndarray)


def write_array(file: BinaryIO, array: npt.NDArray[Any]) -> None:
    """Append the bytes of an array; unlike numpy's own, an error tells what it is."""
    if array.size:
        file.write(np.ascontiguousarray(array).data)
