"""Threads and memory while slices stream: many of the same size, one after another."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["kept_memory", "num_cores", "torch_threads"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_USUAL, _KEPT = 128 << 10, 64 << 20


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let one operation of torch use `count` threads, here and in threads that begin here."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed blocks of up to 64 MiB for the next slice, with one thread an operation.

    glibc gives large blocks back to the kernel, which clears them again for the next slice; and
    threads of OpenMP spin while they wait, against the threads that read and write. Other C
    libraries are left as they are.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    with torch_threads(1):
        if tune is not None:
            tune(_MMAP_THRESHOLD, _KEPT)
            tune(_TRIM_THRESHOLD, 4 * _KEPT)
        try:
            yield
        finally:
            if tune is not None:
                tune(_MMAP_THRESHOLD, _USUAL)
                tune(_TRIM_THRESHOLD, _USUAL)
