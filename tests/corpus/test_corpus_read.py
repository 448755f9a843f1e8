from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lingraft.corpus.read import READERS, SUFFIXES, read_raw
from lingraft.errors import InputError
from lingraft.texts import RawDocument


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read(path: Path, reader: str, text_key: str = "text") -> list[RawDocument]:
    return list(read_raw(path, reader, text_key))


def test_every_reader_has_endings() -> None:
    assert {*READERS, "auto"} == SUFFIXES.keys()


def test_jsonl_gives_text_and_line_of_each_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"body": "中文"}\r\n\n{"body": "b", "x": 1}')
    docs = read(path, "jsonl", "body")
    assert [(d.text, d.line) for d in docs] == [("中文", 1), ("b", 3)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_packed_files_read_as_plain_ones(tmp_path: Path, suffix: str) -> None:
    rows = [f'{{"text": "{n} {"x" * 1000}"}}\n'.encode() for n in range(3000)]
    data = b"".join(rows)
    packed = {
        ".jsonl": data,
        ".jsonl.gz": gzip.compress(data[:500]) + gzip.compress(data[500:]),
        ".jsonl.zst": zstandard.compress(data[:500]) + zstandard.compress(data[500:]),
    }[suffix]
    path = write(tmp_path / f"a{suffix}", packed)
    docs = read(path, "jsonl")
    assert [d.text.split()[0] for d in docs] == [str(n) for n in range(3000)]
    assert docs[-1].position == path.stat().st_size
    assert [d.position for d in docs] == sorted(d.position for d in docs)


def table(path: Path, column: pa.Array, name: str = "text") -> Path:
    pq.write_table(pa.table({name: column, "n": list(range(len(column)))}), path, row_group_size=2)
    return path


def test_parquet_rows_are_read_across_row_groups(tmp_path: Path) -> None:
    docs = read(table(tmp_path / "a.parquet", pa.array(["一", "二", "三"])), "parquet")
    assert [(d.text, d.line) for d in docs] == [("一", 1), ("二", 2), ("三", 3)]
    assert docs[-1].position == (tmp_path / "a.parquet").stat().st_size


def test_each_line_with_text_is_a_document(tmp_path: Path) -> None:
    docs = read(write(tmp_path / "a.txt", "one\n \ntwo\x85three\n"), "lines")
    assert [(d.text, d.line) for d in docs] == [("one", 1), ("two\x85three", 3)]


def test_tagged_paragraphs_become_documents(tmp_path: Path) -> None:
    lines = "标题/n\n正文/n  。/w\n末/n  。/w\n另/n  题/n\n文/n  。/w\n"
    docs = read(write(tmp_path / "a.txt", lines), "tagged")
    assert [(d.text, d.line) for d in docs] == [("标题\n正文。\n末。", 1), ("另题\n文。", 4)]


def test_a_line_without_tags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt:2: token '正文。' is not word/tag"):
        read(write(tmp_path / "a.txt", "标题/n\n正文。\n"), "tagged")


def test_python_files_give_prose_and_say_what_is_none(tmp_path: Path) -> None:
    prose = "These are plain words of a long sentence that goes on and on. " * 4
    code = "x = {1: [2, 3], 4: (5, 6)}; " * 10
    path = write(tmp_path / "a.py", f'"""{prose}"""\ny = "{code}"\n')
    assert [(d.text, d.line, d.drop) for d in read(path, "python-strings")] == [
        (prose.strip(), 1, ""),
        (code, 2, "not_prose"),
    ]


def test_a_file_that_is_not_python_is_dropped_not_refused(tmp_path: Path) -> None:
    docs = read(write(tmp_path / "a.py", "print 'two'\n"), "python-strings")
    assert [d.drop for d in docs] == ["not_python"]


def test_real_files_read_whole(shared_data: Path) -> None:
    path = shared_data / "corpora" / "zh-eval" / "wiki.jsonl.zst"
    docs = read(path, "jsonl")
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        assert [d.text for d in docs] == [json.loads(line)["text"] for line in file]
