"""Lines of a text file, plain, gzip or zstd, with the place of each for messages and progress."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import InputError

__all__ = ["TextLine", "read_lines"]

_BLOCK_BYTES = 1 << 20


class TextLine(NamedTuple):
    """One line, without its line end."""

    number: int
    """From 1."""
    text: str
    position: int
    """Bytes of the file (as stored) that were read up to this line's block."""


def read_lines(path: Path) -> Iterator[TextLine]:
    r"""Read a file line by line; memory holds about one block and one line.

    `.gz` and `.zst` files are unpacked on the way. Only `\n` and `\r\n` end a line.

    Raises:
        InputError: A line is not UTF-8, or the packed data is damaged or cut short.
    """
    number = 0
    rest = b""
    with path.open("rb") as file:
        for block in _unpacked(file, path):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                number += 1
                yield TextLine(number, _decode(line, path, number), file.tell())
        if rest:
            yield TextLine(number + 1, _decode(rest, path, number + 1), file.tell())


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}:{number}: byte {error.start + 1} of the line is "
            f"0x{line[error.start]:02x}; expected UTF-8.",
            effect="Guessing another encoding would train on wrong characters.",
            way_out="Convert the file (iconv -f GB18030 -t UTF-8), or take the line out.",
        ) from None
    return text.removeprefix("\ufeff") if number == 1 else text


def _unpacked(file: BinaryIO, path: Path) -> Iterator[bytes]:
    import zstandard

    try:
        match path.suffix:
            case ".gz":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from iter(lambda: unpacked.read(_BLOCK_BYTES), b"")
            case ".zst":
                yield from _unzstd(file)
            case _:
                yield from iter(lambda: file.read(_BLOCK_BYTES), b"")
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InputError(
            f"{path}: not a whole {path.suffix} file: {error}.",
            effect="Its last documents would be missing, unseen.",
            way_out="Fetch or pack the file again.",
        ) from None


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """Unpack frames one after the other; unlike zstandard's reader, notice a cut one."""
    import zstandard

    frame = None
    for block in iter(lambda: file.read(_BLOCK_BYTES), b""):
        left = block
        while left:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(left)
            left = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame has no end")
