"""Arrays in memory up to a limit, on disk beyond it."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from lingraft.vocab.scratch import Scratch, write_array


def test_arrays_beyond_the_limit_go_to_files_without_a_name(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, 100)
    inside, outside = scratch.array(10, np.int64), scratch.array((2, 5), np.int32)
    outside[...] = 7
    assert (scratch.peak_bytes, scratch.spilled_bytes) == (80, 40)
    assert (inside.shape, str(inside.dtype)) == ((10,), "int64")
    assert (outside.shape, str(outside.dtype)) == ((2, 5), "int32")
    assert outside.tolist() == [[7] * 5] * 2
    assert list(tmp_path.iterdir()) == []


def test_room_comes_back_when_an_array_is_gone(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, 100)
    for _ in range(3):
        array = scratch.array(10, np.int64)
        del array
        gc.collect()
    assert (scratch.peak_bytes, scratch.spilled_bytes) == (80, 0)


def test_a_view_keeps_the_room_of_its_array(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, 100)
    view = scratch.array(10, np.int64)[2:4]
    gc.collect()
    scratch.array(10, np.int64)
    assert scratch.spilled_bytes == 80
    assert len(view) == 2


@pytest.mark.parametrize("limit_bytes", [None, 0])
def test_a_copy_is_apart_from_what_it_copies(tmp_path: Path, limit_bytes: int | None) -> None:
    scratch = Scratch(tmp_path, limit_bytes)
    first = np.arange(6, dtype=np.int32).reshape(2, 3)
    second = scratch.copy(first)
    second[0, 0] = 9
    assert (first[0, 0], second.tolist()) == (0, [[9, 1, 2], [3, 4, 5]])
    assert scratch.spilled_bytes == (0 if limit_bytes is None else 24)


@pytest.mark.parametrize("limit_bytes", [None, 0])
def test_an_empty_array_needs_no_file(tmp_path: Path, limit_bytes: int | None) -> None:
    assert Scratch(tmp_path, limit_bytes).array((0, 2), np.int32).shape == (0, 2)


def test_without_a_limit_all_is_in_memory() -> None:
    scratch = Scratch()
    scratch.array(1000, np.int64)
    assert (scratch.peak_bytes, scratch.spilled_bytes) == (8000, 0)


def test_a_limit_without_a_folder_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="needs a folder"):
        Scratch(None, 5)


def test_a_written_array_is_its_bytes(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        write_array(file, np.array([[1, 2], [3, 4]], np.int32)[:, :1])
        write_array(file, np.zeros((0, 2), np.int32))
    assert (tmp_path / "file").read_bytes() == b"\x01\0\0\0\x03\0\0\0"


def test_a_full_disk_tells_what_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Scratch(tmp_path, 0).array(1000, np.int32)
