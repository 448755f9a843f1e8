"""Files cut into units of work: by their own bytes, whoever does the work and with how many.

    plain .jsonl .ndjson .txt   ranges of bytes, cut at line ends
    .parquet                    ranges of row groups
    everything else             the whole file: packed files are read from their beginning

Units that follow each other hold each document of a file once, in order. The number of a line is
not known inside a range of bytes until someone counts the lines before it: lines count from the
unit's beginning, and an error is raised again with the number that the line has in its file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import InputError
from .lines import Span, first_line
from .texts import RawDocument, is_plain, reader_of
from .work import tell_bytes

__all__ = ["UNIT_BYTES", "Unit", "cut_units", "read_told", "read_unit"]

UNIT_BYTES = 1 << 28
"""About how many bytes of a file make a unit: a second or two of work for each core."""

_TELL_BYTES = 1 << 20


class Unit(NamedTuple):
    """Part of a file, or the whole."""

    path: str
    begin: int
    """First byte, or row group; see `kind`."""
    end: int
    """Byte, or row group, after the last."""
    kind: str
    """"whole", "bytes" or "groups"."""
    size_bytes: int
    """Bytes of the file, as stored, that belong to it."""


def cut_units(paths: Sequence[Path], unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """Cut files into units, in order.

    Raises:
        InputError: A Parquet file is none.
        OSError: A file cannot be looked at.
    """
    return [unit for path in paths for unit in _cut_file(path, unit_bytes)]


def read_unit(
    unit: Unit,
    text_key: str = "text",
    read: Callable[..., Iterator[RawDocument]] | None = None,
    **options: bool,
) -> Iterator[RawDocument]:
    """Read the documents of a unit; lines count from 1 at its beginning, rows at the file's.

    Args:
        unit: What to read.
        text_key: Column of the text.
        read: Reads such a file, see `texts.reader_of`; None: as its ending tells.
        options: More of what `read` takes.

    Raises:
        InputError: A row cannot be read; file and row are named as they are in the file.
    """
    path = Path(unit.path)
    read = read or reader_of(path)
    if unit.kind == "whole":
        yield from read(path, text_key, **options)
        return
    if unit.kind == "groups":
        yield from read(path, text_key, range(unit.begin, unit.end), **options)
        return
    span = Span(unit.begin, unit.end)
    try:
        yield from read(path, text_key, span, **options)
    except InputError:
        # Read again to the same place, now that the number of its line is worth counting: the
        # error comes again, with it.
        deque(read(path, text_key, span, first_line(path, span), **options), maxlen=0)
        raise


def read_told(unit: Unit, text_key: str = "text") -> Iterator[RawDocument]:
    """Read the documents of a unit, and tell how far it is, see `work.tell_bytes`."""
    told = unit.begin if unit.kind == "bytes" else 0
    for doc in read_unit(unit, text_key):
        position = min(doc.position, unit.end)  # blocks are read ahead
        if unit.kind != "groups" and position - told > _TELL_BYTES:
            tell_bytes(position - told)
            told = position
        yield doc


def _cut_file(path: Path, unit_bytes: int) -> Iterator[Unit]:
    size_bytes = path.stat().st_size
    name = str(path)
    if size_bytes <= unit_bytes:
        yield Unit(name, 0, size_bytes, "whole", size_bytes)
    elif is_plain(path):
        for begin in range(0, size_bytes, unit_bytes):
            end = min(begin + unit_bytes, size_bytes)
            yield Unit(name, begin, end, "bytes", end - begin)
    elif path.suffix.lower() == ".parquet":
        yield from _cut_groups(path, unit_bytes)
    else:
        yield Unit(name, 0, size_bytes, "whole", size_bytes)


def _cut_groups(path: Path, unit_bytes: int) -> Iterator[Unit]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            sizes = [
                sum(group.column(c).total_compressed_size for c in range(group.num_columns))
                for group in groups
            ]
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: not a readable Parquet file: {error}.",
            way_out="Check the path, or fetch or write the file again.",
        ) from None
    if not sizes:
        yield Unit(str(path), 0, path.stat().st_size, "whole", path.stat().st_size)
    begin = size = 0
    for n, group_bytes in enumerate(sizes):
        size += group_bytes
        if size >= unit_bytes or n + 1 == len(sizes):
            yield Unit(str(path), begin, n + 1, "groups", size)
            begin, size = n + 1, 0
