"""Small corpora in every format, and the bytes that a preparation leaves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

NOT_COMPARED = ("manifest.json", ".lock")
"""What differs between two folders of the same corpus: times, processes."""


def texts_of(name: str, count: int) -> list[str]:
    """Give texts of different lengths; every fifth holds what JSON has to escape."""
    return [
        f"{name} document {n} is long enough to be kept. " * (1 + n % 7)
        + ('\n"quoted"\t\\ 中文，文件。' if n % 5 == 0 else "")
        for n in range(count)
    ]


def rows_of(texts: Sequence[str], key: str = "text") -> bytes:
    """Give texts as rows of JSON."""
    rows = (
        json.dumps({key: text, "n": n}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)
    )
    return "\n".join(rows).encode() + b"\n"


def write_corpus(folder: Path) -> dict[str, list[str]]:
    """Write two sets in files of all formats, with equal texts inside and between them."""
    a, b = folder / "a", folder / "b and more"
    a.mkdir()
    b.mkdir()
    texts = texts_of("first", 60)
    (a / "1.jsonl").write_bytes(rows_of([*texts, "short", texts[3], "", "x" * 4000]))
    (a / "2.jsonl.gz").write_bytes(gzip.compress(rows_of([*texts_of("packed", 20), texts[7]])))
    table = pa.table({"text": [*texts_of("table", 20), texts[0]]})
    pq.write_table(table, a / "3.parquet", row_group_size=4)
    lines = [text.replace("\n", " ") for text in texts_of("second", 50)]
    (b / "1.txt").write_text("\n".join([*lines, "", "tiny", lines[4]]), encoding="utf-8")
    packed = zstandard.compress(rows_of([*texts[:9], *texts_of("third", 30), "bad \ufffd"]))
    (b / "2.jsonl.zst").write_bytes(packed)
    return {"a": [str(a)], "b": [str(b)]}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Give every file of a finished folder that must be the same each time."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if path.name not in NOT_COMPARED
    }
