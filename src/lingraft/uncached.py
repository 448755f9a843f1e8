"""A new file that is written in order past the page cache, and hashed as it is written.

Files of many gigabytes, written once and not read soon, gain nothing from the page cache: the
kernel copies each byte into it, throws out what others had there, and writes it to the disk later.
`O_DIRECT` hands whole blocks to the disk at once: measured, a tenth of the processor's time.
Where a system or a file system does not have it the same file is written in the usual way.

Source: open(2), O_DIRECT: address, length and place of each write are multiples of the disk's
block size. 4,096 is one of every disk's; anonymous memory maps begin at such an address.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

__all__ = ["UncachedFile"]

_BLOCK = 4_096
_BUFFER_BYTES = 8 << 20
_DIRECT = getattr(os, "O_DIRECT", 0)
_NOT_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What file systems without O_DIRECT say."""


class UncachedFile:
    """Takes bytes in order; memory holds two buffers of 8 MiB.

    One buffer is filled and hashed while the other one is written. What follows the last whole
    block is written in the usual way when the file is closed.
    """

    def __init__(self, path: Path) -> None:
        """Make the file, or empty the one that is there.

        Raises:
            OSError: It cannot be made.
        """
        self._fd = _open(path)
        self._digest = hashlib.sha256()
        self._buffers = [mmap.mmap(-1, _BUFFER_BYTES) for _ in range(2)]
        self._filled = 0
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> UncachedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is left and close; after an error, close what there is."""
        try:
            if kind is None:
                self._finish()
        finally:
            self._writer.shutdown()
            os.close(self._fd)

    def write(self, data: memoryview) -> None:
        """Take bytes.

        Raises:
            OSError: An earlier buffer could not be written.
        """
        view = data.cast("B")
        while len(view):
            count = min(len(view), _BUFFER_BYTES - self._filled)
            memoryview(self._buffers[0])[self._filled : self._filled + count] = view[:count]
            self._digest.update(view[:count])
            self._filled += count
            view = view[count:]
            if self._filled == _BUFFER_BYTES:
                self._turn(_BUFFER_BYTES)

    @property
    def sha256(self) -> str:
        """Hash of the bytes taken until now."""
        return self._digest.hexdigest()

    def _turn(self, count: int) -> None:
        """Have `count` bytes of the filled buffer written, and go on with the other one."""
        if self._pending is not None:
            self._pending.result()
        self._buffers.reverse()
        self._pending = self._writer.submit(_write, self._fd, memoryview(self._buffers[1])[:count])
        self._filled = 0

    def _finish(self) -> None:
        left = self._filled
        whole = left - left % _BLOCK
        self._turn(whole)
        assert self._pending is not None, "a buffer was just handed over"
        self._pending.result()
        _use_cache(self._fd)
        _write(self._fd, memoryview(self._buffers[1])[whole:left])


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError as error:
        if error.errno not in _NOT_DIRECT or not _DIRECT:
            raise
    return os.open(path, flags, 0o666)


def _use_cache(fd: int) -> None:
    """Let the rest, which is no whole block, be written in the usual way."""
    if _DIRECT:
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~_DIRECT)


def _write(fd: int, data: memoryview) -> None:
    while len(data):
        try:
            done = os.write(fd, data)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            _use_cache(fd)  # a file system may take the flag and refuse the write
            done = os.write(fd, data)
        if not done:
            raise OSError(errno.EIO, "the file system takes no more bytes and does not say why")
        if done % _BLOCK and done < len(data):
            _use_cache(fd)  # a short write: what follows is no longer in line
        data = data[done:]
