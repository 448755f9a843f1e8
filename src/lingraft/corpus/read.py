"""Readers: from one file to its raw documents, one generator each.

    jsonl            rows of JSON, the text in one column; also .gz and .zst
    parquet          rows of a table, one batch of a row group at a time
    lines            one document a line; blank lines are none
    wet              text that was extracted from a WARC
    tagged           word/tag text, see `tagged.py`
    python-strings   prose in long string literals, see `strings.py`
    auto             one of the first four, by the file's ending

A row that cannot be read stops the work, or is given as what it is, to be counted: a corpus that
loses rows unseen is another corpus. Python files are no corpus to begin with; one that does not
parse is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import InputError, UsageError
from ..lines import read_lines
from ..texts import TEXT_ENDINGS, RawDocument, is_plain, read_jsonl, read_parquet, read_plain_lines
from ..units import Unit, read_unit
from .strings import MIN_LITERAL_CHARS, find_literals, prose_of
from .tagged import Paragraph, group_paragraphs, join_words

__all__ = [
    "READERS",
    "SUFFIXES",
    "can_be_cut",
    "find_reader",
    "read_piece",
    "read_raw",
    "whole_file",
]


def find_reader(path: Path, reader: str) -> str:
    """Give the reader of a file: the one that is asked for, or the one of its ending.

    Raises:
        UsageError: The ending tells no format.
    """
    if reader != "auto":
        return reader
    name = path.name.lower()
    for kind in ("wet", "jsonl", "parquet", "lines"):
        if name.endswith(_ENDINGS[kind]):
            return kind
    raise UsageError(
        f"{path}: the ending tells no format that can be read.",
        way_out=f"Use a file of {', '.join(SUFFIXES['auto'])}, or name its reader.",
    )


def can_be_cut(path: Path, reader: str) -> bool:
    """Whether a file may be read in pieces, as `units.cut_units` cuts it."""
    kind = find_reader(path, reader)
    if kind == "parquet":
        return path.suffix.lower() == ".parquet"
    return kind in ("jsonl", "lines") and is_plain(path)


def whole_file(path: Path) -> Unit:
    """Give a file as one piece."""
    size_bytes = path.stat().st_size
    return Unit(str(path), 0, size_bytes, "whole", size_bytes)


def read_raw(path: Path, reader: str, text_key: str) -> Iterator[RawDocument]:
    """Read the documents of one file.

    Args:
        path: The file.
        reader: One of `READERS`, or "auto".
        text_key: Column of the text, for `jsonl` and `parquet`.

    Raises:
        InputError: A row cannot be read; file and row are named.
    """
    return READERS[find_reader(path, reader)](path, text_key)


def read_piece(
    piece: Unit, reader: str, text_key: str, *, keep_bad: bool = False
) -> Iterator[RawDocument]:
    """Read the documents of a file or a part of it.

    Lines count from 1 where the piece begins, rows of a table from where the file begins.

    Args:
        piece: What to read.
        reader: As for `read_raw`.
        text_key: As for `read_raw`.
        keep_bad: Whether a row that cannot be read is given, with a reason to drop it.

    Raises:
        InputError: The file or, unless `keep_bad`, a row cannot be read; both are named as they
            are in the whole file.
    """
    kind = find_reader(Path(piece.path), reader)
    options = {"keep_bad": True} if keep_bad and kind in _KEEP_BAD else {}
    return read_unit(piece, text_key, READERS[kind], **options)


def _read_wet(path: Path, text_key: str, **options: bool) -> Iterator[RawDocument]:
    from .wet import read_wet

    return read_wet(path, text_key, **options)


def _read_tagged(path: Path, text_key: str) -> Iterator[RawDocument]:
    for paragraphs in group_paragraphs(_paragraphs(path)):
        text = "\n".join(paragraph.text for paragraph in paragraphs)
        yield RawDocument(text, paragraphs[0].line, paragraphs[-1].position)


def _paragraphs(path: Path) -> Iterator[Paragraph]:
    for line in read_lines(path):
        try:
            yield Paragraph(line.number, join_words(line.text), line.position)
        except ValueError as error:
            raise InputError(
                f"{path}:{line.number}: {error}; expected tokens like 中国/ns, between spaces.",
                effect="Tags would be left in the text.",
                way_out='Mend the line, or use reader = "lines" if the file has no tags.',
            ) from None


def _read_python(path: Path, text_key: str) -> Iterator[RawDocument]:
    source = path.read_bytes()
    try:
        literals = find_literals(source, MIN_LITERAL_CHARS)
    except ValueError as error:
        yield RawDocument(str(error), 1, len(source), drop="not_python")
        return
    for literal in literals:
        prose = prose_of(literal.text)
        drop = "" if prose else "not_prose"
        yield RawDocument(prose or literal.text, literal.line, len(source), drop)


READERS: Mapping[str, Callable[..., Iterator[RawDocument]]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "lines": read_plain_lines,
    "wet": _read_wet,
    "tagged": _read_tagged,
    "python-strings": _read_python,
}
"""Reader by name; each takes (path, text_key)."""

_KEEP_BAD = ("jsonl", "parquet", "lines", "wet")
"""Readers that can give a row that holds no document."""

_WET = (".warc.wet", ".warc.wet.gz", ".wet", ".wet.gz")
_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "jsonl": tuple(e for e in TEXT_ENDINGS if "json" in e),
    "parquet": (".parquet",),
    "lines": tuple(e for e in TEXT_ENDINGS if e.startswith(".txt")),
    "wet": _WET,
}

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "auto": (*TEXT_ENDINGS, *_WET),
    "jsonl": (".jsonl", ".jsonl.gz", ".jsonl.zst"),
    "parquet": (".parquet",),
    "lines": (".txt", ".txt.gz", ".txt.zst"),
    "wet": _WET,
    "tagged": (".txt", ".txt.gz", ".txt.zst"),
    "python-strings": (".py",),
}
"""Endings of the files that a reader takes from a folder."""
