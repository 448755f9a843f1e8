"""Items of benchmarks, read from the files that benchmarks are published in.

    .csv .tsv                  rows with a header
    .jsonl .ndjson             rows of JSON, also .gz and .zst; .json: a list of them
    .parquet .arrow            tables; `.arrow` as `datasets` saves it
    .txt                       an item a line, also .gz, .zst and .bz2

A row's question is looked for under the names that benchmarks give it, and so are its answers.
Rows may wrap the item in `doc`, as evaluation harnesses log it. A `.json` that is no list, and
files of other endings (licences, read-me files), hold no items.
"""

from __future__ import annotations

import bz2
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, UsageError
from ..lines import read_lines

__all__ = ["Benchmark", "Item", "find_benchmarks", "read_items"]

_QUESTIONS = (
    "question", "query", "ctx", "sentence", "problem", "prompt", "instruction", "context", "input",
    "text", "context_options",
)  # fmt: skip
"""Names of the question, in the order of preference, whatever their case."""
_ANSWERS = (
    "choices", "endings", "options", "answer", "solution", "continuation", "target", "explanation",
    "best answer", "correct answers", *"abcdefghij", *(f"choice{n}" for n in range(10)),
    *(f"option{n}" for n in range(10)),
)  # fmt: skip
_SPLITS = ("dev", "test", "train", "val", "valid", "validation", "data", "main")
"""Folders with these names are parts of a benchmark, not benchmarks."""
_ENDINGS = (
    ".csv", ".tsv", ".json", ".parquet", ".arrow", ".txt.bz2",
    *(f"{e}{packed}" for e in (".jsonl", ".ndjson", ".txt") for packed in ("", ".gz", ".zst")),
)  # fmt: skip


class Item(NamedTuple):
    """One item of a benchmark."""

    where: str
    """File and row."""
    question: str
    answers: tuple[str, ...]


class Benchmark(NamedTuple):
    """A benchmark and its files."""

    name: str
    files: tuple[Path, ...]


def find_benchmarks(places: Sequence[str]) -> list[Benchmark]:
    """Find benchmarks and their files.

    Args:
        places: Files and folders; a benchmark is called after its own. A folder that has folders
            only, none of them a split, holds a benchmark in each.

    Raises:
        UsageError: There is nothing at a place, no file of a known ending, or a name comes twice.
    """
    found: dict[str, Benchmark] = {}
    for place in places:
        given = Path(place).expanduser()
        if not given.exists():
            raise UsageError(f"benchmark '{place}': nothing there.", way_out="Check the path.")
        for path in _parts_of(given):
            benchmark = Benchmark(path.name.split(".")[0], tuple(_files_in(path)))
            if not benchmark.files:
                raise UsageError(
                    f"benchmark '{place}': no file in {path} has a known ending.",
                    way_out=f"Use files of {', '.join(_ENDINGS)}.",
                )
            if benchmark.name in found:
                raise UsageError(
                    f"benchmark '{benchmark.name}' comes twice, the second time from '{place}'.",
                    effect="What it overlaps could not be told apart.",
                    way_out="Name each place once; folders with equal names go into one folder.",
                )
            found[benchmark.name] = benchmark
    return list(found.values())


def _parts_of(path: Path) -> list[Path]:
    """Give the folders of a collection of benchmarks, or the path itself."""
    if not path.is_dir():
        return [path]
    inner = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    folders = [p for p in inner if p.is_dir()]
    is_collection = folders and not any(p.name.lower() in _SPLITS for p in folders)
    return folders if is_collection and not any(map(_is_known, inner)) else [path]


def _files_in(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for inner in sorted(path.iterdir()):
        if not inner.name.startswith(".") and (inner.is_dir() or _is_known(inner)):
            yield from _files_in(inner)


def _is_known(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(_ENDINGS)


def read_items(path: Path) -> Iterator[Item]:
    """Read the items of one file.

    Raises:
        InputError: The file or a row cannot be read, or a row has no question under any of the
            names that are known.
    """
    for number, row in _read_rows(path):
        yield _item_of(row, f"{path}:{number}")


def _read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".tsv")):
            text = path.read_text(encoding="utf-8-sig")
            rows = csv.DictReader(io.StringIO(text), delimiter="\t" if name[-3] == "t" else ",")
            yield from enumerate(rows, 2)
        elif name.endswith(".json"):
            rows = json.loads(path.read_text(encoding="utf-8"))
            yield from enumerate(rows if isinstance(rows, list) else [], 1)
        elif name.endswith((".parquet", ".arrow")):
            yield from enumerate(_read_table(path), 1)
        elif name.endswith(".bz2"):
            lines = bz2.decompress(path.read_bytes()).decode("utf-8").splitlines()
            yield from ((n, {"text": line}) for n, line in enumerate(lines, 1))
        elif ".txt" in name:
            yield from ((line.number, {"text": line.text}) for line in read_lines(path))
        else:
            for line in read_lines(path):
                if line.text.strip():
                    yield line.number, json.loads(line.text)
    except (ValueError, OSError, EOFError, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read as items of a benchmark: {error}.",
            effect="Texts that overlap it would be trained on.",
            way_out="Fetch the file again, or leave it out.",
        ) from None


def _read_table(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() == ".parquet":
        yield from pq.read_table(path).to_pylist()
        return
    with pa.memory_map(str(path)) as source:
        for batch in pa.ipc.open_stream(source):
            yield from batch.to_pylist()


def _item_of(row: Any, where: str) -> Item:
    if isinstance(row, Mapping) and isinstance(row.get("doc"), Mapping):
        row = row["doc"]
    fields = (
        {str(key).lower(): value for key, value in row.items()} if isinstance(row, Mapping) else {}
    )
    known = [list(_strings_in(fields[key])) for key in _QUESTIONS if key in fields]
    if not known:
        raise InputError(
            f"{where}: no question under a known name (there are: {', '.join(fields) or 'none'}); "
            f"expected one of {', '.join(_QUESTIONS)}.",
            effect="Texts that overlap it would be trained on.",
            way_out="Name its columns so (a table needs a header), or leave the file out.",
        )
    question, *others = next((texts for texts in known if any(texts)), [""])
    answers = [text for key in _ANSWERS if key in fields for text in _strings_in(fields[key])]
    return Item(where, question, (*others, *answers))


def _strings_in(value: Any) -> Iterator[str]:
    """Give the texts of a field: of `{"text": [...], "label": [...]}` those of its text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings_in(value.get("text", []))
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _strings_in(inner)
