"""The corpus as codes on disk: what is kept, what is read again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from searches import SMALL, as_documents, made_up_chinese, write_rows

from lingraft.errors import InputError
from lingraft.vocab import spool as spool_module
from lingraft.vocab.alphabet import Alphabet
from lingraft.vocab.spool import Part, Spool, batch_texts, make_scan, read_part

HAN = Alphabet(SMALL, ["Han"])
V = HAN.num_base


class Reader:
    """Reads files into a spool; notes which texts were scanned and what progress was told."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder, len(HAN.flags_C))
        self.scanned: list[str] = []
        self.told: list[int] = []
        self._scan = make_scan(HAN)

    def read(self, path: Path, jobs: int = 1) -> Part:
        with ThreadPoolExecutor(jobs) as pool:
            name, part = read_part(
                self.spool, path, "text", HAN, self.scan, pool, 2 * jobs, self.told.append
            )
        self.spool.add(name, part)
        return part

    def scan(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        self.scanned.extend(texts)
        return self._scan(texts)


def test_a_part_tells_what_was_read(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    path = write_rows(tmp_path / "a.jsonl", ["中文嬗", "é"])
    part = reader.read(path)
    assert (part.num_docs, part.num_chars, part.num_bytes) == (2, 4, 11)
    assert [codes.tolist() for codes in reader.spool.batches()] == [
        [SMALL.find_piece("中文"), V + ord("嬗"), -1]
    ]
    assert reader.spool.num_codes == sum(part.batches) == 3
    assert reader.spool.counts_C.sum() == 2
    assert sum(reader.told) == path.stat().st_size


def test_a_part_that_is_whole_is_not_read_again(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ["中文嬗", "天地"])
    first, second = Reader(tmp_path), Reader(tmp_path)
    assert first.read(path) == second.read(path)
    assert (len(first.scanned), second.scanned) == (2, [])
    assert first.spool.counts_C.tolist() == second.spool.counts_C.tolist()
    assert sum(second.told) == path.stat().st_size


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ["中文"])
    Reader(tmp_path).read(path)
    write_rows(path, ["文中"])
    os.utime(path, ns=(1, 1))
    reader = Reader(tmp_path)
    reader.read(path)
    assert reader.scanned == ["文中"]
    assert [HAN.text_of(c) for c in next(reader.spool.batches()).tolist() if c >= 0] == ["文", "中"]


def test_a_part_for_other_scripts_is_read_again(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ["中文"])
    Reader(tmp_path).read(path)
    other = Alphabet(SMALL, ["Han", "Hiragana"])
    spool = Spool(tmp_path, len(other.flags_C))
    scanned: list[str] = []

    def scan(texts: Sequence[str]) -> npt.NDArray[np.int32]:
        scanned.extend(texts)
        return np.array([-1], np.int32)

    with ThreadPoolExecutor(1) as pool:
        read_part(spool, path, "text", other, scan, pool, 1, lambda _: None)
    assert scanned == ["中文"]


def test_a_part_that_was_left_half_written_is_read_again(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ["中文"])
    Reader(tmp_path).read(path)
    (record,) = tmp_path.glob("*.json")
    record.write_text(record.read_text(encoding="utf-8")[:20], encoding="utf-8")
    reader = Reader(tmp_path)
    reader.read(path)
    assert reader.scanned == ["中文"]


def test_a_bad_row_leaves_no_part(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", ["中文"])
    path.write_text(path.read_text(encoding="utf-8") + "{", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl:2: not JSON"):
        Reader(tmp_path).read(path)
    assert not list(tmp_path.glob("*.json"))


def test_an_empty_file_is_a_part_without_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    for _ in range(2):
        reader = Reader(tmp_path)
        assert reader.read(tmp_path / "a.jsonl").num_docs == 0
        assert list(reader.spool.batches()) == []


@pytest.mark.parametrize("jobs", [2, 3])
def test_threads_do_not_change_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(spool_module, "_BATCH_CHARS", 100)
    path = write_rows(tmp_path / "a.jsonl", made_up_chinese(100))
    found = []
    for number in (1, jobs):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert len(Reader(folder).read(path, number).batches) > 5
        found.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert found[0] == found[1]


def test_batches_hold_whole_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_BATCH_CHARS", 4)
    docs = as_documents(["abc", "d", "ef", "ghi", "j"])
    assert [b.texts for b in batch_texts(docs)] == [["abc", "d"], ["ef", "ghi"], ["j"]]


def test_halves_of_surrogate_pairs_become_replacement_characters_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_BATCH_CHARS", 1)
    path = tmp_path / "a.jsonl"
    rows = ['{"text": "\\ud800中\\udc00"}', '{"text": "\\ud83d\\ude00文"}', '{"text": "\\udc00"}']
    path.write_text("\n".join(rows), encoding="utf-8")
    part = Reader(tmp_path).read(path)
    assert (part.num_bytes, part.num_surrogates) == (9 + 7 + 3, 3)
    assert Reader(tmp_path).read(path) == part  # kept with it
    (record,) = tmp_path.glob("*.json")
    before = json.loads(record.read_text(encoding="utf-8"))
    del before["num_surrogates"]
    record.write_text(json.dumps(before), encoding="utf-8")
    assert Reader(tmp_path).read(path) == replace(part, num_surrogates=0)
