"""Lines of a text file, plain, gzip or zstd, with the place of each for messages and progress.

Blocks are decoded whole and split as text: a call for each line would cost as much as unpacking.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .errors import InputError

__all__ = ["LineBlock", "TextLine", "read_blocks", "read_lines"]

_BLOCK_BYTES = 1 << 17  # stays in the processor's cache while it is decoded and split
_ZSTD_WINDOW_BYTES = 1 << 31  # what `zstd --long=31` asks for; memory follows the file's own
_GZIP = 16 + zlib.MAX_WBITS  # zlib's code for gzip frames


class TextLine(NamedTuple):
    """One line, without its line end."""

    number: int
    """From 1."""
    text: str
    position: int
    """Bytes of the file (as stored) that were read up to this line's block."""


class LineBlock(NamedTuple):
    """Lines that follow each other, without their line ends."""

    first: int
    """Number of the first line, from 1."""
    lines: list[str]
    position: int
    """Bytes of the file (as stored) that were read up to this block's end."""


def read_lines(path: Path) -> Iterator[TextLine]:
    """Read a file line by line; as `read_blocks`, one line at a time."""
    for block in read_blocks(path):
        for number, text in enumerate(block.lines, block.first):
            yield TextLine(number, text, block.position)


def read_blocks(path: Path) -> Iterator[LineBlock]:
    r"""Read the lines of a file in blocks; memory holds about one block and one line.

    `.gz` and `.zst` files are unpacked on the way. Only `\n` and `\r\n` end a line, and a byte
    order mark before the first is no part of it. An empty file has no lines.

    Raises:
        InputError: The file cannot be opened, a line is not UTF-8, or the packed data is damaged
            or cut short; file and line are named.
    """
    number = 1
    begun: list[bytes] = []
    with _open(path) as file:
        blocks = _unpacked(file, path.suffix.lower())
        while block := _next_block(blocks, path, number):
            end = block.rfind(b"\n")
            if end < 0:
                begun.append(block)
                continue
            lines = _decode(b"".join((*begun, block[:end])), path, number)
            yield LineBlock(number, lines, file.tell())
            number += len(lines)
            begun = [block[end + 1 :]]
        if last := b"".join(begun):
            yield LineBlock(number, _decode(last, path, number), file.tell())


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}.", way_out="Check the path and its rights."
        ) from None


def _decode(data: bytes, path: Path, number: int) -> list[str]:
    """Turn bytes that begin with line `number` into lines."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = number + data.count(b"\n", 0, error.start)
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise InputError(
            f"{path}:{line}: byte {byte} of the line is 0x{data[error.start]:02x}; expected UTF-8.",
            effect="Guessing another encoding would train on wrong characters.",
            way_out="Convert the file (iconv -f GB18030 -t UTF-8), or take the line out.",
        ) from None
    if number == 1:
        text = text.removeprefix("\ufeff")
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def _next_block(blocks: Iterator[bytes], path: Path, number: int) -> bytes:
    """Give the next unpacked bytes, none at the end; line `number` is not whole yet."""
    import zstandard

    try:
        return next((block for block in blocks if block), b"")
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InputError(
            f"{path}:{number}: not a whole {path.suffix} file; no whole line can be read from "
            f"here on: {error}.",
            effect="Its last documents would be missing, unseen.",
            way_out="Fetch or pack the file again.",
        ) from None


def _unpacked(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """Unpack frames one after the other; unlike zstandard's own reader, notice a cut one."""
    blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
    if suffix not in (".gz", ".zst"):
        yield from blocks
        return
    frame = None
    num_frames = 0
    for block in blocks:
        left = block
        while left:
            if frame is None:
                # Zeros after a gzip frame are padding (tapes, block devices), as for gzip itself.
                if suffix == ".gz" and num_frames and not (left := left.lstrip(b"\0")):
                    break
                frame = _frame(suffix)
                num_frames += 1
            yield frame.decompress(left)
            left = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame has no end")


def _frame(suffix: str) -> Any:
    """Make what unpacks one frame: `decompress`, `unused_data`, `eof`."""
    if suffix == ".gz":
        return zlib.decompressobj(_GZIP)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
