"""Files written past the page cache: the same bytes as any other way, and errors that are told."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft import uncached
from lingraft.uncached import UncachedFile

SMALL = 3 * 4_096


def write(path: Path, pieces: Iterable[bytes]) -> str:
    with UncachedFile(path) as file:
        for piece in pieces:
            file.write(memoryview(piece))
    return file.sha256


@given(sizes=st.lists(st.integers(0, 4 * SMALL), max_size=6))
def test_any_pieces_are_written_as_they_are(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncached, "_BUFFER_BYTES", SMALL)
        content = os.urandom(sum(sizes))
        cuts = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
        pieces = [content[a:b] for a, b in pairwise(cuts)]
        path = tmp_path_factory.mktemp("uncached") / "x"
        sha256 = write(path, pieces)
    assert path.read_bytes() == content
    assert sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_was_there_is_emptied_first(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"something longer than what follows")
    write(tmp_path / "x", [b"short"])
    assert (tmp_path / "x").read_bytes() == b"short"


def refusing(real: Callable[..., int], refused: list[int]) -> Callable[..., int]:
    """Make a system call that refuses O_DIRECT, once it is there, as some file systems do."""

    def call(first: object, *rest: int) -> int:
        if rest and isinstance(rest[0], int) and rest[0] & uncached._DIRECT:
            refused.append(rest[0])
            raise OSError(errno.EOPNOTSUPP, "no O_DIRECT here")
        return real(first, *rest)

    return call


needs_direct = pytest.mark.skipif(not uncached._DIRECT, reason="this system has no O_DIRECT")


@needs_direct
def test_a_file_system_without_o_direct_is_written_in_the_usual_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []
    monkeypatch.setattr(os, "open", refusing(os.open, refused))
    content = os.urandom(SMALL + 5)
    assert write(tmp_path / "x", [content]) == hashlib.sha256(content).hexdigest()
    assert refused
    assert (tmp_path / "x").read_bytes() == content


@needs_direct
def test_a_write_that_is_refused_for_its_alignment_is_done_in_the_usual_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real, refused = os.write, []

    def refuse(fd: int, data: memoryview) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & uncached._DIRECT:
            refused.append(fd)
            raise OSError(errno.EINVAL, "blocks of another size")
        return real(fd, data)

    monkeypatch.setattr(os, "write", refuse)
    content = os.urandom(SMALL + 5)
    write(tmp_path / "x", [content])
    assert refused
    assert (tmp_path / "x").read_bytes() == content


@needs_direct
def test_after_a_short_write_the_rest_is_written_in_the_usual_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real, direct = os.write, []

    def short(fd: int, data: memoryview) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & uncached._DIRECT:
            direct.append(len(data))
            assert len(direct) == 1, "out of line with the disk's blocks"
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_WRONLY)
            done = real(fd, data[:1_000])
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_WRONLY | uncached._DIRECT)
            return done
        return real(fd, data[:3_000])

    monkeypatch.setattr(os, "write", short)
    content = os.urandom(4 * 4_096 + 5)
    write(tmp_path / "x", [content])
    assert direct
    assert (tmp_path / "x").read_bytes() == content


def test_a_write_of_nothing_does_not_go_on_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(OSError, match="takes no more bytes"):
        write(tmp_path / "x", [b"something"])


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "x", [b"1" * 10])
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "x", [bytes(9 << 20), bytes(9 << 20), bytes(9 << 20)])


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        UncachedFile(tmp_path / "no" / "x")


def test_after_an_error_nothing_more_is_written(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write(tmp_path / "x", pieces())
    assert (tmp_path / "x").read_bytes() == b""
