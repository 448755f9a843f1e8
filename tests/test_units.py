"""Files cut into units: each document once, in order, wherever the cuts fall."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lingraft import units as units_module
from lingraft.errors import InputError
from lingraft.texts import is_plain, stem_of
from lingraft.units import Unit, cut_units, read_told, read_unit

TEXTS = [f"text {n} 中文" * (n % 4 + 1) for n in range(40)]


def write_all(folder: Path) -> list[Path]:
    rows = "".join(json.dumps({"body": text}, ensure_ascii=False) + "\n" for text in TEXTS)
    (folder / "a.jsonl").write_text(rows, encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "c.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    pq.write_table(pa.table({"body": TEXTS}), folder / "d.parquet", row_group_size=7)
    return [folder / name for name in ("a.jsonl", "b.jsonl.gz", "c.txt", "d.parquet")]


@pytest.mark.parametrize("unit_bytes", [1, 37, 400, 1 << 28])
def test_units_hold_each_document_once_in_order(unit_bytes: int, tmp_path: Path) -> None:
    for path in write_all(tmp_path):
        units = cut_units([path], unit_bytes)
        found = [doc.text for unit in units for doc in read_unit(unit, "body")]
        assert found == TEXTS
        told = [doc.text for unit in units for doc in read_told(unit, "body")]
        assert told == TEXTS


def test_plain_files_are_cut_by_bytes_and_tables_by_row_groups(tmp_path: Path) -> None:
    plain, packed, _, table = write_all(tmp_path)
    kinds = [{unit.kind for unit in cut_units([path], 100)} for path in (plain, packed, table)]
    assert kinds == [{"bytes"}, {"whole"}, {"groups"}]
    assert sum(unit.size_bytes for unit in cut_units([plain], 100)) == plain.stat().st_size
    assert [unit.kind for unit in cut_units([plain])] == ["whole"]
    groups = cut_units([table], 1)
    assert [(unit.begin, unit.end) for unit in groups] == [(n, n + 1) for n in range(6)]
    assert is_plain(plain)
    assert not is_plain(packed)
    assert stem_of(packed) == "b"


def test_rows_of_a_table_have_their_number_in_the_file(tmp_path: Path) -> None:
    table = write_all(tmp_path)[-1]
    last = cut_units([table], 1)[-1]
    assert [doc.line for doc in read_unit(last, "body")] == [36, 37, 38, 39, 40]


def test_a_bad_line_in_a_later_unit_has_its_number_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' * 9 + "{\n", encoding="utf-8")
    unit = cut_units([path], 60)[-1]
    with pytest.raises(InputError, match=r"a\.jsonl:10: not JSON"):
        list(read_unit(unit))
    first = Unit(str(path), 0, path.stat().st_size, "bytes", path.stat().st_size)
    with pytest.raises(InputError, match=r"a\.jsonl:10: not JSON"):
        list(read_unit(first))


def test_a_table_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="not a readable Parquet file"):
        cut_units([tmp_path / "a.parquet"], 10)


def test_a_unit_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_all(tmp_path)[0]
    told: list[int] = []
    monkeypatch.setattr(units_module, "_TELL_BYTES", 0)
    monkeypatch.setattr(units_module, "tell_bytes", told.append)
    for unit in cut_units([path], 500):
        told.clear()
        list(read_told(unit, "body"))
        assert 0 < sum(told) <= unit.size_bytes


def test_a_table_without_rows_is_one_unit(tmp_path: Path) -> None:
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("body", pa.string())])):
        pass
    (unit,) = cut_units([tmp_path / "a.parquet"], 1)
    assert list(read_unit(unit, "body")) == []
