"""Readers: from one file to its raw documents, one generator each.

    jsonl            rows of JSON, the text in one column; also .jsonl.gz and .jsonl.zst
    parquet          rows of a table, one batch of a row group at a time
    lines            one document a line; blank lines are none
    tagged           word/tag text, see `tagged.py`
    python-strings   prose in long string literals, see `strings.py`

A row that cannot be read stops the stage: a corpus that loses rows unseen is another corpus.
Python files are no corpus to begin with; one that does not parse is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import InputError
from ..lines import read_lines
from ..texts import RawDocument, read_jsonl, read_parquet, read_plain_lines
from .strings import MIN_LITERAL_CHARS, find_literals, prose_of
from .tagged import Paragraph, group_paragraphs, join_words

__all__ = ["READERS", "SUFFIXES", "read_raw"]


def read_raw(path: Path, reader: str, text_key: str) -> Iterator[RawDocument]:
    """Read the documents of one file.

    Args:
        path: The file.
        reader: One of `READERS`.
        text_key: Column of the text, for `jsonl` and `parquet`.

    Raises:
        InputError: A row cannot be read; file and row are named.
    """
    return READERS[reader](path, text_key)


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


READERS: Mapping[str, Callable[[Path, str], Iterator[RawDocument]]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "lines": read_plain_lines,
    "tagged": _read_tagged,
    "python-strings": _read_python,
}
"""Reader by name; each takes (path, text_key)."""

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "jsonl": (".jsonl", ".jsonl.gz", ".jsonl.zst"),
    "parquet": (".parquet",),
    "lines": (".txt", ".txt.gz", ".txt.zst"),
    "tagged": (".txt", ".txt.gz", ".txt.zst"),
    "python-strings": (".py",),
}
"""Endings of the files that a reader takes from a folder."""
