"""Lines of a text file, plain, gzip or zstd, with the place of each for messages and progress.

Blocks are decoded whole and split as text: a call for each line would cost as much as unpacking.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from .errors import InputError

__all__ = ["LineBlock", "Span", "TextLine", "count_lines", "read_blocks", "read_lines", "unpack"]

_BLOCK_BYTES = 1 << 17  # stays in the processor's cache while it is decoded and split
_ZSTD_WINDOW_BYTES = 1 << 31  # what `zstd --long=31` asks for; memory follows the file's own
_GZIP = 16 + zlib.MAX_WBITS  # zlib's code for gzip frames
_PACKED = (".gz", ".zst")


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
    is_broken: bool = False
    """Whether some line is not UTF-8: its odd bytes stand there as U+DC80 to U+DCFF."""


class Span(NamedTuple):
    """Part of a plain file: the lines that begin at byte `begin` or later, and before `end`.

    Spans that follow each other hold each line once, wherever they are cut.
    """

    begin: int
    end: int


def read_lines(path: Path) -> Iterator[TextLine]:
    """Read a file line by line; as `read_blocks`, one line at a time."""
    for block in read_blocks(path):
        for number, text in enumerate(block.lines, block.first):
            yield TextLine(number, text, block.position)


def read_blocks(
    path: Path, span: Span | None = None, first: int = 1, *, keep_broken: bool = False
) -> Iterator[LineBlock]:
    r"""Read the lines of a file in blocks; memory holds about one block and one line.

    `.gz` and `.zst` files are unpacked on the way. Only `\n` and `\r\n` end a line, and a byte
    order mark before the first is no part of it. An empty file has no lines.

    Args:
        path: The file.
        span: Which lines to read, of a file that is not packed; None: all.
        first: What the first of them is numbered.
        keep_broken: Whether a block with a line that is not UTF-8 is given, marked.

    Raises:
        InputError: The file cannot be opened, a line is not UTF-8, or the packed data is damaged
            or cut short; file and line are named.
    """
    assert span is None or not is_packed(path), "a packed file has no spans"
    number = first
    begun = bytearray()
    at_start = span is None or not span.begin
    with _open(path) as file:
        blocks = unpack(file, path.suffix.lower()) if span is None else _cut(file, span)
        while block := _next_block(blocks, path, number):
            end = block.rfind(b"\n")
            begun += memoryview(block)[:end] if end >= 0 else block
            if end < 0:
                continue
            text, is_broken = _decode(begun, path, number, keep_broken)
            begun = bytearray(memoryview(block)[end + 1 :])
            lines = _split(text, has_mark=at_start)
            del text  # a line may be most of the memory there is
            yield LineBlock(number, lines, file.tell(), is_broken)
            number += len(lines)
            at_start = False
        if begun:
            text, is_broken = _decode(begun, path, number, keep_broken)
            yield LineBlock(number, _split(text, has_mark=at_start), file.tell(), is_broken)


def is_packed(path: Path) -> bool:
    """Tell whether a file is unpacked on the way; such a file can only be read from its start."""
    return path.suffix.lower() in _PACKED


def first_line(path: Path, span: Span | None) -> int:
    """Give the number of the first line that begins in a span; the file is read up to there."""
    if span is None or not span.begin:
        return 1
    # Of the line ends from one byte before the span on, the first is that of the line before.
    return count_lines(path, span.begin - 1) + 2


def count_lines(path: Path, end: int, begin: int = 0) -> int:
    """Count the line ends between two bytes of a plain file."""
    num_lines, left = 0, end - begin
    with _open(path) as file:
        file.seek(begin)
        while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
            num_lines += block.count(b"\n")
            left -= len(block)
    return num_lines


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}.", way_out="Check the path and its rights."
        ) from None


def _decode(data: bytearray, path: Path, number: int, keep_broken: bool) -> tuple[str, bool]:
    """Turn bytes that begin with line `number` into text; tell whether it is broken."""
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError as error:
        if keep_broken:
            return data.decode("utf-8", "surrogateescape"), True
        line = number + data.count(b"\n", 0, error.start)
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise InputError(
            f"{path}:{line}: byte {byte} of the line is 0x{data[error.start]:02x}; expected UTF-8.",
            effect="Guessing another encoding would train on wrong characters.",
            way_out="Convert the file (iconv -f GB18030 -t UTF-8), or take the line out.",
        ) from None


def _split(text: str, *, has_mark: bool) -> list[str]:
    """Cut text into lines; only the start of a file has a byte order mark."""
    lines = (text.removeprefix("\ufeff") if has_mark else text).split("\n")
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


def _cut(file: BinaryIO, span: Span) -> Iterator[bytes]:
    """Give the bytes of the lines that begin in a span, to the end of the last of them."""
    at = max(span.begin - 1, 0)
    file.seek(at)
    is_inside = not span.begin
    while block := file.read(_BLOCK_BYTES):
        at += len(block)
        if not is_inside:  # up to the end of the line that the border falls into
            _, line_end, block = block.partition(b"\n")
            is_inside = bool(line_end)
            if at - len(block) >= span.end:
                return
        if is_inside and at >= span.end:
            end = block.find(b"\n", max(span.end - 1 - (at - len(block)), 0))
            if end >= 0:
                yield block[: end + 1]
                return
        if is_inside:
            yield block


def unpack(file: BinaryIO, suffix: str) -> Iterator[bytes]:
    """Unpack frames one after the other; unlike zstandard's own reader, notice a cut one.

    Args:
        file: At its start.
        suffix: `.gz` or `.zst`; what else is given as it is.

    Raises:
        EOFError: The last frame is cut short; damage raises the library's own error.
    """
    blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
    if suffix not in _PACKED:
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
