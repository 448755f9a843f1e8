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

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .lines import read_lines
from .strings import MIN_LITERAL_CHARS, find_literals, prose_of
from .tagged import Paragraph, group_paragraphs, join_words

__all__ = ["READERS", "SUFFIXES", "RawDocument", "read_raw"]

_BATCH_ROWS = 1024


class RawDocument(NamedTuple):
    """A document as read, not cleaned."""

    text: str
    line: int
    """Where it begins in its file: line, or row of a table, from 1."""
    position: int
    """Bytes of the file read so far; never decreases."""
    drop: str = ""
    """A reason to drop it that only the reader can know, or ""."""


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


def _read_jsonl(path: Path, text_key: str) -> Iterator[RawDocument]:
    for line in read_lines(path):
        if line.text.strip():
            text = _json_text(line.text, text_key, f"{path}:{line.number}")
            yield RawDocument(text, line.number, line.position)


def _json_text(line: str, text_key: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _bad_row(where, f"not JSON: {error}", text_key) from None
    if not isinstance(row, dict):
        raise _bad_row(where, f"a JSON {type(row).__name__}", text_key)
    if text_key not in row:
        keys = ", ".join(f"'{key}'" for key in row) or "none"
        raise _bad_row(where, f"no column '{text_key}' (there are: {keys})", text_key)
    text = row[text_key]
    if not isinstance(text, str):
        raise _bad_row(where, f"column '{text_key}' is {json.dumps(text)[:40]}", text_key)
    return text


def _bad_row(where: str, found: str, text_key: str) -> InputError:
    return InputError(
        f"{where}: {found}; expected a row with text in column '{text_key}'.",
        effect="The document would be lost unseen; nothing was made.",
        way_out="Mend the row or take it out, or name the set's column with text_key.",
    )


def _read_parquet(path: Path, text_key: str) -> Iterator[RawDocument]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size_bytes = path.stat().st_size
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            _check_column(file.schema_arrow, text_key, path)
            for batch in file.iter_batches(_BATCH_ROWS, columns=[text_key]):
                for text in batch.column(0).to_pylist():
                    row += 1
                    if text is None:
                        raise _bad_row(f"{path}: row {row}", "an empty cell", text_key)
                    yield RawDocument(text, row, size_bytes * row // file.metadata.num_rows)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: after row {row}: not a readable Parquet file: {error}.",
            way_out="Fetch or write the file again.",
        ) from None


def _check_column(schema: Any, text_key: str, path: Path) -> None:
    if text_key not in schema.names:
        raise _bad_row(str(path), f"no column '{text_key}' (there are: {schema.names})", text_key)
    kind = str(schema.field(text_key).type)
    if kind not in ("string", "large_string", "string_view"):
        raise _bad_row(str(path), f"column '{text_key}' holds {kind}", text_key)


def _read_lines(path: Path, text_key: str) -> Iterator[RawDocument]:
    for line in read_lines(path):
        if line.text.strip():
            yield RawDocument(line.text, line.number, line.position)


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
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "lines": _read_lines,
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
