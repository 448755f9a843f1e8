"""Documents from users' files: JSON lines, Parquet, plain text, packed or not.

    .jsonl .ndjson     rows of JSON, the text in one column; also .gz and .zst, and .json.gz
    .parquet           rows of a table, the text in one column
    .txt               one document a line, as sentencepiece takes a line for a sentence;
                       blank lines are none; also .gz and .zst

A row that cannot be read is an error, unless the caller counts such rows: a corpus that loses rows
unseen is another corpus.
A file without documents is none; whoever asked for documents judges that.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .errors import InputError, UsageError
from .lines import LineBlock, Span, read_blocks

__all__ = [
    "BAD_ROW",
    "TEXT_ENDINGS",
    "RawDocument",
    "find_texts",
    "is_plain",
    "read_jsonl",
    "read_parquet",
    "read_plain_lines",
    "read_texts",
    "reader_of",
    "stem_of",
    "tell_surrogates",
]

BAD_ROW = "bad_row"
"""Reason to drop what a file has in place of a document, where that is no error."""
_BATCH_ROWS = 1024
_PACKED = ("", ".gz", ".zst")
_LONG_CHARS = 1 << 20
_JSON_SPACE = " \t\n\r"
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
# Unlike json.loads, it does not look for space around the row: half the time of short rows.
_parse_json = json.JSONDecoder().raw_decode


class RawDocument(NamedTuple):
    """A document as read, not cleaned."""

    text: str
    line: int
    """Where it begins in its file: line, or row of a table, from 1."""
    position: int
    """Bytes of the file read so far; never decreases."""
    drop: str = ""
    """A reason to drop it that only the reader can know, or ""."""
    num_surrogates: int = 0
    """Halves of surrogate pairs that its row spells; each stands as U+FFFD in the text."""


def find_texts(names: Sequence[str]) -> list[Path]:
    """Find text files, each once, in the order of the names.

    Args:
        names: Files, folders (searched for files that can be read, in order of their names,
            hidden ones left out), or patterns such as `data/*.jsonl.zst` or `data/**/*.txt`;
            a pattern gives what its matches would give by name, in order of their names.

    Raises:
        UsageError: A name gives no file or cannot be looked at, or is a file whose ending tells
            no format.
    """
    found: dict[str, Path] = {}
    for name in names:
        try:
            files = _files_at(name)
        except OSError as error:
            raise UsageError(
                f"'{name}': {error.filename or name} cannot be read: {error.strerror}.",
                way_out="Check the path and its rights.",
            ) from None
        if not files:
            raise UsageError(
                f"'{name}': no text file there.",
                way_out=f"Name a file, folder or pattern of {_KNOWN}.",
            )
        for file in files:
            reader_of(file)
            # Links stay as named: what they point to may have no ending.
            found.setdefault(os.path.abspath(file), file)  # noqa: PTH100
    return list(found.values())


def read_texts(
    path: Path,
    text_key: str = "text",
    span: Span | None = None,
    first: int = 1,
    *,
    keep_bad: bool = False,
) -> Iterator[RawDocument]:
    """Read the documents of one file; its ending tells how.

    Args:
        path: The file.
        text_key: Column of the text, where the file has columns.
        span: Which lines to read of a plain file of lines; None: the whole file.
        first: What the first line of the span is numbered.
        keep_bad: Whether a row that cannot be read is given, with the reason `bad_row` to drop it.

    Raises:
        InputError: The file or, unless `keep_bad`, a row of it cannot be read; file and row are
            named.
        UsageError: The ending tells no format.
    """
    reader = reader_of(path)
    if span is None:
        return reader(path, text_key, keep_bad=keep_bad)
    assert is_plain(path), "only a plain file of lines has spans"
    return reader(path, text_key, span, first, keep_bad=keep_bad)


def is_plain(path: Path) -> bool:
    """Whether a file of documents is read by its lines as they stand, and may be cut at them."""
    return _ending_of(path) in _PLAIN


def _files_at(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if not name:  # an unset variable of a shell; as a path it would be the working directory
        return []
    path_exists = path.exists()
    matches = [path] if path_exists else map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
    return [file for match in matches for file in (_search(match) if match.is_dir() else [match])]


def _search(root: Path) -> list[Path]:
    """Give the files under `root` whose ending is known, in order of their names."""
    names = []
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inner = (Path(folder) / name for name in files if not name.startswith("."))
        names += [path.relative_to(root).as_posix() for path in inner if _ending_of(path)]
    return [root / name for name in sorted(names)]


def _raise(error: OSError) -> None:
    """Stop at a folder that cannot be listed; os.walk would pass over it in silence."""
    raise error


def _ending_of(path: Path) -> str:
    return next((ending for ending in _READERS if path.name.lower().endswith(ending)), "")


def stem_of(path: Path) -> str:
    """Give a file's name without the ending that tells its format."""
    return path.name[: len(path.name) - len(_ending_of(path))]


def reader_of(path: Path) -> Callable[..., Iterator[RawDocument]]:
    """Give what reads a file with this ending: of (path, text_key), and a part of the file.

    Raises:
        UsageError: The ending tells no format.
    """
    if ending := _ending_of(path):
        return _READERS[ending]
    raise UsageError(
        f"{path}: the ending tells no format that can be read.",
        way_out=f"Use a file of {_KNOWN}.",
    )


def tell_surrogates(number: int) -> str:
    """Tell that a text held halves of surrogate pairs, which stand in it as U+FFFD."""
    noun = "half of a surrogate pair" if number == 1 else "halves of surrogate pairs"
    return (
        f"{number:,} {noun} (\\ud800 to \\udfff in JSON) became U+FFFD: no character has that code"
    )


def read_jsonl(
    path: Path,
    text_key: str,
    span: Span | None = None,
    first: int = 1,
    *,
    keep_bad: bool = False,
) -> Iterator[RawDocument]:
    """Read rows of JSON, one a line; blank lines are none.

    Half of a surrogate pair, which JSON can spell but UTF-8 cannot hold, becomes U+FFFD, and is
    counted.
    """
    for block in read_blocks(path, span, first, keep_broken=keep_bad):
        number = block.first - 1
        for line in block.lines:  # enumerate would hold the line
            number += 1
            if not line or line.isspace():
                continue
            if len(line) > _LONG_CHARS:  # not to be held beside the text that is read out of it
                block.lines[number - block.first] = ""
            try:
                text, num_surrogates = _json_text(line, text_key)
            except _BadRowError as error:
                if not keep_bad:
                    raise _bad_row(f"{path}:{number}", str(error), text_key) from None
                yield _as_bad(line, number, block)
                continue
            if block.is_broken and _LONE_SURROGATES.search(line):
                yield _as_bad(line, number, block)
            else:
                del line
                yield RawDocument(text, number, block.position, "", num_surrogates)
                del text


class _BadRowError(ValueError):
    """Tells what a row is instead of a document."""


def _json_text(line: str, text_key: str) -> tuple[str, int]:
    """Give the text of a row, and how many halves of surrogate pairs were replaced in it."""
    stripped = line.strip(_JSON_SPACE)
    try:
        row, end = _parse_json(stripped)
        if end < len(stripped):
            raise json.JSONDecodeError("Extra data", stripped, end)
    except (ValueError, RecursionError) as error:  # ValueError: also numbers of too many digits
        raise _BadRowError(f"not JSON: {error}") from None
    text = row.get(text_key) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise _BadRowError(_why_no_text(row, text_key))
    # Only an escape can spell a surrogate, and few rows have one.
    return _LONE_SURROGATES.subn("\ufffd", text) if "\\u" in line else (text, 0)


def _as_bad(line: str, number: int, block: LineBlock) -> RawDocument:
    shown = _LONE_SURROGATES.sub("\ufffd", line) if block.is_broken else line
    return RawDocument(shown, number, block.position, BAD_ROW)


def _why_no_text(row: object, text_key: str) -> str:
    if not isinstance(row, dict):
        return f"a JSON {type(row).__name__}"
    if text_key not in row:
        keys = ", ".join(f"'{key}'" for key in row) or "none"
        return f"no column '{text_key}' (there are: {keys})"
    return f"column '{text_key}' is {json.dumps(row[text_key])[:40]}"


def _bad_row(where: str, found: str, text_key: str) -> InputError:
    return InputError(
        f"{where}: {found}; expected a row with text in column '{text_key}'.",
        effect="The document would be lost unseen; nothing was made.",
        way_out="Mend the row or take it out, or name the column of the text (text_key).",
    )


def read_parquet(
    path: Path, text_key: str, groups: Sequence[int] | None = None, *, keep_bad: bool = False
) -> Iterator[RawDocument]:
    """Read rows of a table, one batch of a row group at a time; None: of all row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        size_bytes = path.stat().st_size
        with pq.ParquetFile(path) as file:
            _check_column(file.schema_arrow, text_key, path)
            if groups:
                row = sum(file.metadata.row_group(n).num_rows for n in range(groups[0]))
            for batch in file.iter_batches(_BATCH_ROWS, groups, columns=[text_key]):
                for text in batch.column(0).to_pylist():
                    row += 1
                    if text is None and not keep_bad:
                        raise _bad_row(f"{path}: row {row}", "an empty cell", text_key)
                    position = size_bytes * row // file.metadata.num_rows
                    yield RawDocument(
                        text or "", row, position, "" if text is not None else BAD_ROW
                    )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # OSError: damaged pages
        raise InputError(
            f"{path}: after row {row}: not a readable Parquet file: {error}.",
            way_out="Check the path, or fetch or write the file again.",
        ) from None


def _check_column(schema: Any, text_key: str, path: Path) -> None:
    if text_key not in schema.names:
        raise _bad_row(str(path), f"no column '{text_key}' (there are: {schema.names})", text_key)
    import pyarrow as pa

    kind = schema.field(text_key).type
    # Texts that come often may be kept as a dictionary, as pandas keeps categories.
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if str(values) not in ("string", "large_string", "string_view"):
        raise _bad_row(str(path), f"column '{text_key}' holds {kind}", text_key)


def read_plain_lines(
    path: Path,
    text_key: str = "",
    span: Span | None = None,
    first: int = 1,
    *,
    keep_bad: bool = False,
) -> Iterator[RawDocument]:
    """Read one document a line; blank lines are none. There is no `text_key` in such a file."""
    for block in read_blocks(path, span, first, keep_broken=keep_bad):
        for number, line in enumerate(block.lines, block.first):
            if not line or line.isspace():
                continue
            if block.is_broken and _LONE_SURROGATES.search(line):
                yield _as_bad(line, number, block)
            else:
                yield RawDocument(line, number, block.position)


_PLAIN = (".jsonl", ".ndjson", ".txt")
_READERS: Mapping[str, Callable[..., Iterator[RawDocument]]] = {
    **{f"{ending}{packed}": read_jsonl for ending in (".jsonl", ".ndjson") for packed in _PACKED},
    ".json.gz": read_jsonl,
    ".parquet": read_parquet,
    **{f".txt{packed}": read_plain_lines for packed in _PACKED},
}
TEXT_ENDINGS = tuple(_READERS)
"""Endings of files of documents."""
_KNOWN = ", ".join(TEXT_ENDINGS)
