"""Dropped documents: a few examples of each reason, and on demand all of them.

While the work goes on a document's place is (unit, piece, line of the piece): lines of a file can
be numbered once all of its units are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import zstandard

__all__ = [
    "MAX_EXAMPLES",
    "Example",
    "Examples",
    "Row",
    "RowWriter",
    "merge",
    "read_rows",
    "shorten",
]

MAX_EXAMPLES = 20
"""Documents of each set and reason that are shown."""

_EXAMPLE_CHARS = 200
_LEVEL = 1


class Example(NamedTuple):
    """A dropped document; in this order examples of one reason stand as their texts were read."""

    reason: str
    unit: int
    number: int
    """Its number in the unit, dropped documents counted, too."""
    piece: int
    line: int
    text: str


class Row(NamedTuple):
    """A dropped document as it is kept."""

    reason: str
    unit: int
    piece: int
    line: int
    text: bytes
    """As a JSON string."""


class Examples:
    """Keeps the first documents of each reason that it is given."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: Counter[str] = Counter()
        self.kept: list[Example] = []

    def add(self, example: Example) -> None:
        """Take a document; its text may be long."""
        self._counts[example.reason] += 1
        if self._counts[example.reason] <= MAX_EXAMPLES:
            self.kept.append(example._replace(text=shorten(example.text)))


def shorten(text: str) -> str:
    """Give the beginning of a text, in at most 200 characters."""
    return text if len(text) <= _EXAMPLE_CHARS else text[: _EXAMPLE_CHARS - 1] + "…"


def merge(examples: Iterable[Example]) -> list[Example]:
    """Give the first documents of each reason, in the order in which they were read."""
    first = Examples()
    for example in sorted(examples, key=lambda e: (e.unit, e.number)):
        first.add(example)
    return first.kept


class RowWriter:
    """Writes dropped documents, packed: reason, unit, piece, line and text between tabs.

    A JSON string holds no tab and no line end.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`, which stays open."""
        packer = zstandard.ZstdCompressor(level=_LEVEL)
        self._stream: BinaryIO = packer.stream_writer(file, closefd=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(self, row: Row) -> None:
        """Write one document."""
        head = f"{row.reason}\t{row.unit}\t{row.piece}\t{row.line}\t".encode()
        self._stream.write(b"".join((head, row.text, b"\n")))


def read_rows(source: BinaryIO | bytes) -> Iterator[Row]:
    """Read what a `RowWriter` wrote."""
    begun: list[bytes] = []
    unpacker = zstandard.ZstdDecompressor()
    for block in unpacker.read_to_iter(source):
        *ends, last = block.split(b"\n")
        for end in ends:
            reason, unit, piece, line, text = b"".join((*begun, end)).split(b"\t", 4)
            yield Row(reason.decode(), int(unit), int(piece), int(line), text)
            begun = []
        begun.append(last)
