"""Rows of the corpus stage."""

from pathlib import Path

import pytest

from lingraft.documents import Document, read_documents
from lingraft.errors import InputError


def test_rows_become_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "text": "中文"}\n{"id": "2", "text": "b"}\n', encoding="utf-8")
    assert list(read_documents(path)) == [Document("1", "中文"), Document("2", "b")]


@pytest.mark.parametrize("row", ["{", "[]", '{"id": "1"}'])
def test_a_bad_row_is_named_by_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "text": "a"}\n' + row + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        list(read_documents(path))
