"""One file from its origin to its place, so that it is there whole or not at all.

Bytes are appended to a part file; beside it stands what it is a part of. After a stop it goes on
from its length if the file at the origin is still the same one, by size and by what its server
tells of its bytes or date; where a server tells nothing, it begins again. sha256 is taken on the
way. When all bytes are there the origin is asked once more: a file that was written over while it
was fetched would be half of one and half of the other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

from ..errors import InputError
from ..store import write_json
from .origins import Origin, RemoteFile, is_absent, is_refused, redact

__all__ = ["StoppedError", "Transfer", "part_length", "part_path"]

_CHUNK_BYTES = 1 << 23
_LEAST_CHUNK_BYTES = 1 << 16
"""A bad connection may break before a chunk is through; after failures less is asked for."""
_TRIES = 4
"""How often in a row nothing may come before a file is given up for now."""
_WAIT_S = 1.0
"""Before the second try; doubled before each further one."""


class StoppedError(Exception):
    """Another file failed, or the user stopped: what was fetched of this one stays."""


def part_path(parts: Path, source: str, name: str) -> Path:
    """Where a file is gathered while it is fetched."""
    key = hashlib.sha256(f"{source}\n{name}".encode()).hexdigest()[:16]
    return parts / f"{key}.partial"


def part_length(part: Path, source: str, file: RemoteFile) -> int:
    """Bytes of a file that were fetched before and can be gone on from; 0: none.

    Args:
        part: Where it is gathered.
        source: What it is fetched from.
        file: The file as it is there now.
    """
    try:
        mark = json.loads(_mark_of(part).read_text(encoding="utf-8"))
        length = part.stat().st_size
    except (OSError, ValueError):
        return 0
    is_same = file.version and mark == _mark(source, file)
    return length if is_same and length <= (file.size_bytes or 0) else 0


def _mark_of(part: Path) -> Path:
    return part.with_suffix(".json")


def _mark(source: str, file: RemoteFile) -> dict[str, Any]:
    return {
        "source": source,
        "name": file.name,
        "size_bytes": file.size_bytes,
        "version": file.version,
    }


class _ReadError(Exception):
    """The origin gave less than there is; it may give more when asked again."""


class _NoRangesError(Exception):
    """The server gives a file only from its beginning."""


class _Part:
    """The bytes of a file that are there already, and their hash."""

    def __init__(self, file: BinaryIO, length: int, tell: Callable[[int], None]) -> None:
        """Go on after the first `length` bytes of an open part file."""
        self._file, self._tell = file, tell
        self.length = 0
        self._digest = hashlib.sha256()
        while self.length < length:
            block = file.read(min(_CHUNK_BYTES, length - self.length))
            self._count(block)
        file.truncate()

    def append(self, block: bytes) -> None:
        self._file.write(block)
        self._count(block)

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._tell(-self.length)
        self.length = 0
        self._digest = hashlib.sha256()

    def finish(self) -> str:
        """Make the bytes durable; give their sha256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def _count(self, block: bytes) -> None:
        self._digest.update(block)
        self.length += len(block)
        self._tell(len(block))


@dataclass
class Transfer:
    """Fetches one file."""

    origin: Origin
    file: RemoteFile
    part: Path
    """Where it is gathered; see `part_path`."""
    tell: Callable[[int], None]
    """Told how many bytes more are there; less than 0: so many must come again."""
    stop: Event
    """When it is set, the file is left as it is."""
    _is_streamed: bool = False
    _failures: int = 0
    """Tries in a row in which nothing came."""

    def gather(self) -> tuple[int, str]:
        """Fetch the file to its part file.

        Returns:
            Its size in bytes, and its sha256.

        Raises:
            InputError: It cannot be read, is not there any more, changed, or has other bytes than
                its origin says; what can be gone on from is kept.
            StoppedError: `stop` was set.
        """
        before = self._look()
        done = part_length(self.part, self.origin.source, self.file)
        with self.part.open("r+b" if done else "w+b") as opened:
            if not done:
                write_json(_mark_of(self.part), _mark(self.origin.source, self.file))
            part = _Part(opened, done, self.tell)
            self._fill(part)
            sha256 = part.finish()
        self._check(before, sha256)
        return part.length, sha256

    def place(self, target: Path) -> None:
        """Move the whole file to where it belongs."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.part.replace(target)
        _mark_of(self.part).unlink()

    def _fill(self, part: _Part) -> None:
        """Read until all bytes are there, or nothing comes any more."""
        most = part.length
        self._is_streamed = self.file.size_bytes is None
        while True:
            try:
                self._read_rest(part)
                return
            except _NoRangesError:
                self._is_streamed = True
            except _ReadError as error:
                self._failures = 0 if part.length > most else self._failures + 1
                most = max(most, part.length)
                if self._failures >= _TRIES:
                    raise self._refuse(f"cannot be read on: {error}") from None
                self.stop.wait(_WAIT_S * 2**self._failures)

    def _read_rest(self, part: _Part) -> None:
        if self._is_streamed:
            part.clear()
        size = self.file.size_bytes
        if part.length == size:
            return
        with self._reading(part):
            remote = self.origin.open(self.file, is_streamed=self._is_streamed)
        with closing(remote):
            with self._reading(part):
                remote.seek(part.length)
            while size is None or part.length < size:
                if self.stop.is_set():
                    raise StoppedError
                most = max(_CHUNK_BYTES >> 2 * self._failures, _LEAST_CHUNK_BYTES)
                wanted = most if size is None else min(most, size - part.length)
                with self._reading(part):
                    block = remote.read(wanted)
                if len(block) > wanted:
                    raise _NoRangesError
                if not block:
                    break
                part.append(block)
        if size is not None and part.length < size:
            raise _ReadError(f"it ended after {part.length:,} of {size:,} bytes")

    @contextmanager
    def _reading(self, part: _Part) -> Iterator[None]:
        """Sort out what goes wrong at the origin; writing here is another matter."""
        try:
            yield
        except Exception as error:  # each file system raises what it likes
            if is_absent(error):
                raise self._refuse("is not there any more") from None
            if is_refused(error):
                raise self._refuse(f"may not be read: {redact(str(error))}") from None
            if isinstance(error, ValueError) and part.length and not self._is_streamed:
                raise _NoRangesError from None  # as fsspec calls an answer that is no range
            raise _ReadError(redact(str(error)) or type(error).__name__) from None

    def _look(self) -> tuple[int | None, str]:
        """Ask the origin for the file's size and version."""
        try:
            return self.origin.info(self.file)
        except Exception as error:  # each file system raises what it likes
            why = redact(str(error.__cause__ or error)) or type(error).__name__
            told = "is not there any more" if is_absent(error) else f"cannot be looked at: {why}"
            raise self._refuse(told) from None

    def _check(self, before: tuple[int | None, str], sha256: str) -> None:
        """Compare what came with what the origin says now.

        Versions are compared as `_look` gives them: lists of files may tell them otherwise.
        """
        if self._look() != before or before[0] != self.file.size_bytes:
            self._discard()
            raise self._refuse("changed while it was fetched")
        if self.file.sha256 and sha256 != self.file.sha256:
            self._discard()
            raise self._refuse(
                f"came with sha256 {sha256[:12]}...; its origin says {self.file.sha256[:12]}..."
            )

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        _mark_of(self.part).unlink(missing_ok=True)

    def _refuse(self, found: str) -> InputError:
        return InputError(
            f"source '{self.origin.source}': {self.file.name} {found}.",
            effect="A file that is not whole would be part of the corpus.",
            way_out="Run it again: what is there already is not fetched again.",
        )
