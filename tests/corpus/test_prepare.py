"""`lingraft corpus prepare`: what it writes, what it refuses, what it counts."""

from __future__ import annotations

import errno
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from corpora import bytes_of, rows_of, texts_of, write_corpus

import lingraft
from lingraft.corpus import PrepareResult, buckets, engine, plan, prepare
from lingraft.corpus.registry import read_registry
from lingraft.documents import read_documents
from lingraft.errors import DiskFullError, InputError, StaleError, UsageError, VerifyError

LINES = [f"Document number {n} is long enough to be kept." for n in range(100)]


def write_rows(path: Path, texts: Sequence[str], key: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows_of(texts, key))
    return path


def make(tmp_path: Path, texts: Sequence[str], **options: Any) -> PrepareResult:
    """Prepare one set of rows."""
    source = write_rows(tmp_path / "set.jsonl", texts)
    return prepare(source, out=tmp_path / "out", **{"valid_frac": 0.2, **options})


def texts_in(folder: Path, *names: str) -> list[str]:
    return [doc.text for name in names for doc in read_documents(folder / f"{name}.jsonl")]


def test_a_file_becomes_documents_a_registry_and_figures(tmp_path: Path) -> None:
    result = make(tmp_path, [*LINES, LINES[0], "short"])
    folder = tmp_path / "out"
    assert sorted(texts_in(folder, "set-train", "set-valid")) == sorted(LINES)
    assert (
        read_registry(folder / "datasets.toml")["set"].docs["valid"] == folder / "set-valid.jsonl"
    )
    assert result.stats == json.loads((folder / "stats.json").read_text(encoding="utf-8"))
    found = result.stats["sets"]["set"]
    assert (found["num_docs_read"], found["dropped"]) == (102, {"duplicate": 1, "too_short": 1})
    assert "Document number" in (folder / "stats.html").read_text(encoding="utf-8")
    assert not (folder / ".work").exists()
    assert lingraft.verify(folder) == []


def test_the_figures_are_those_of_the_documents(tmp_path: Path) -> None:
    texts = ["一二三四五六七八九十一二三四五六", "x" * 40, "y" * 31, "z" * 32]
    stats = make(tmp_path, texts, valid_frac=0.0).stats["sets"]["set"]
    sizes = {"num_docs": 4, "num_chars": 119, "size_bytes": 119 + 32}
    assert stats["splits"] == {"train": sizes}
    assert stats["chars_histogram"]["edges"] == [1, 2, 4, 8, 16, 32, 64]
    assert stats["chars_histogram"]["counts"] == [0, 0, 0, 0, 2, 2]
    source = {"name": f"{tmp_path}/set.jsonl", "num_docs": 4, "size_bytes": 151}
    assert stats["sources"] == [source]
    shown = {tuple(example.values()) for example in stats["examples"]["kept"]}
    assert shown == {(f"{tmp_path}/set.jsonl:{n}", text) for n, text in enumerate(texts, 1)}


def test_the_largest_sources_are_named_and_the_rest_is_one(tmp_path: Path) -> None:
    for n in range(23):
        write_rows(tmp_path / "in" / f"{n:02}.jsonl", [f"{n:02} " + "x" * (20 + n)])
    stats = prepare(tmp_path / "in", out=tmp_path / "out", valid_frac=0.0).stats["sets"]["in"]
    names = [Path(source["name"]).name for source in stats["sources"]]
    assert names == [*(f"{n:02}.jsonl" for n in range(22, 2, -1)), "(other)"]
    assert stats["sources"][-1] == {"name": "(other)", "num_docs": 3, "size_bytes": 3 * 23 + 3}


def test_a_test_split_takes_nothing_from_the_validation_split(tmp_path: Path) -> None:
    make(tmp_path / "one", LINES)
    make(tmp_path / "two", LINES, test_frac=0.3)
    one, two = tmp_path / "one" / "out", tmp_path / "two" / "out"
    assert texts_in(one, "set-valid") == texts_in(two, "set-valid")
    held_out = texts_in(two, "set-test")
    assert 10 <= len(held_out) <= 50
    assert sorted([*texts_in(two, "set-train", "set-valid"), *held_out]) == sorted(LINES)
    assert set(read_registry(two / "datasets.toml")["set"].docs) == {"train", "valid", "test"}


def test_what_is_held_out_stays_held_out_when_data_is_added(tmp_path: Path) -> None:
    make(tmp_path / "few", LINES[:60], test_frac=0.2)
    make(tmp_path / "all", LINES[::-1], test_frac=0.2)
    for split in ("valid", "test"):
        few, every = (texts_in(tmp_path / name / "out", f"set-{split}") for name in ("few", "all"))
        assert set(few) == set(every) & set(LINES[:60])


def test_dropped_documents_are_written_with_their_reasons(tmp_path: Path) -> None:
    texts = [*LINES[:30], "tiny", LINES[2], "z" * 300, LINES[2]]
    make(tmp_path, texts, max_chars=200, keep_dropped=True)
    packed = (tmp_path / "out" / "dropped" / "set.jsonl.zst").read_bytes()
    rows = zstandard.ZstdDecompressor().decompressobj().decompress(packed).decode().splitlines()
    where = f"{tmp_path}/set.jsonl"
    assert [json.loads(row) for row in rows] == [
        {"reason": "too_short", "where": f"{where}:31", "text": "tiny"},
        {"reason": "too_long", "where": f"{where}:33", "text": "z" * 300},
        {"reason": "duplicate", "where": f"{where}:32", "text": LINES[2]},
        {"reason": "duplicate", "where": f"{where}:34", "text": LINES[2]},
    ]


BAD = {
    "not JSON": b"{",
    "not UTF-8": b'{"text": "\xff\xfe and more of it, and more"}',
    "no such column": b'{"txt": "x"}',
    "null": b'{"text": null}',
    "no object": b"[1]",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_row_stops_or_is_counted(bad: bytes, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "set.jsonl", LINES)
    source.write_bytes(source.read_bytes() + bad + b"\n" + rows_of(["The last document of all."]))
    with pytest.raises(InputError, match=r"set\.jsonl:101: "):
        prepare(source, out=tmp_path / "out", language="en")
    result = prepare(source, out=tmp_path / "out", valid_frac=0.1, on_bad_row="drop")
    stats = result.stats["sets"]["set"]
    assert (stats["dropped"], stats["num_docs_read"]) == ({"bad_row": 1}, 102)
    example = stats["examples"]["dropped"]["bad_row"][0]
    assert example["where"] == f"{source}:101"
    assert example["text"] == bad.decode("utf-8", "replace")


def test_a_line_that_is_not_utf8_is_counted_too(tmp_path: Path) -> None:
    source = tmp_path / "set.txt"
    source.write_bytes("\n".join(LINES).encode() + b"\n\xb0\xd7 in another encoding\n")
    stats = prepare(source, out=tmp_path / "out", valid_frac=0.1, on_bad_row="drop").stats
    assert stats["sets"]["set"]["dropped"] == {"bad_row": 1}


def test_an_empty_cell_of_a_table_stops_or_is_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = tmp_path / "set.parquet"
    pq.write_table(pa.table({"text": [*LINES, None]}), source, row_group_size=30)
    with pytest.raises(InputError, match="row 101: an empty cell"):
        prepare(source, out=tmp_path / "out", language="en")
    stats = prepare(source, out=tmp_path / "out", valid_frac=0.1, on_bad_row="drop").stats
    assert stats["sets"]["set"]["examples"]["dropped"]["bad_row"] == [
        {"where": f"{source}:101", "text": ""}
    ]


def test_extracted_web_text_is_read_by_its_ending(tmp_path: Path) -> None:
    def record(data: bytes) -> bytes:
        head = (
            "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:1>\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        return gzip.compress(head.encode() + data + b"\r\n\r\n")

    source = tmp_path / "crawl.warc.wet.gz"
    texts = [*LINES, ""]
    source.write_bytes(b"".join(record(text.encode()) for text in texts) + record(b"\xb0\xd7"))
    with pytest.raises(InputError, match="record 102: byte 1"):
        prepare(source, out=tmp_path / "out", language="en")
    result = prepare(source, out=tmp_path / "out", valid_frac=0.1, on_bad_row="drop")
    assert list(result.stats["sets"]) == ["crawl"]
    assert result.stats["sets"]["crawl"]["dropped"] == {"bad_row": 1, "too_short": 1}


@pytest.mark.parametrize("ending", ["jsonl.zst", "jsonl.gz", "parquet"])
def test_a_file_cut_short_always_stops(ending: str, tmp_path: Path) -> None:
    write_corpus(tmp_path)
    source = next(tmp_path.rglob(f"*.{ending}"))
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(InputError, match=source.name):
        prepare(source, out=tmp_path / "out", language="en", on_bad_row="drop")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_line_of_a_bad_row_is_that_of_the_file_not_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_UNIT_BYTES", 500)
    source = write_rows(tmp_path / "set.jsonl", LINES)
    source.write_bytes(source.read_bytes() + b"{\n")
    with pytest.raises(InputError, match=r"set\.jsonl:101: not JSON"):
        prepare(source, out=tmp_path / "out", language="en")


def test_a_document_too_large_to_keep_is_counted(tmp_path: Path) -> None:
    stats = make(tmp_path, [*LINES, "大" * 1_000_001]).stats["sets"]["set"]
    assert stats["dropped"] == {"too_long": 1}
    assert stats["examples"]["dropped"]["too_long"][0]["text"] == "大" * 199 + "…"


def test_a_text_is_too_long_by_what_is_left_of_it(tmp_path: Path) -> None:
    blank, long = " " * 9000 + LINES[0], "\n\n\n".join(LINES[:50]) + "!" * 9000
    stats = make(tmp_path, [*LINES[1:], blank, long], max_chars=200).stats["sets"]["set"]
    assert stats["dropped"] == {"too_long": 1}
    assert LINES[0] in texts_in(tmp_path / "out", "set-train", "set-valid")
    shown = stats["examples"]["dropped"]["too_long"][0]["text"]
    assert shown == "\n\n".join(LINES[:50])[:199] + "…"


def test_a_second_call_finds_it_done(tmp_path: Path) -> None:
    first = make(tmp_path, LINES)
    before = bytes_of(tmp_path / "out"), (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    second = make_again(tmp_path)
    assert (second.was_done, second.stats) == (True, first.stats)
    assert before == (
        bytes_of(tmp_path / "out"),
        (tmp_path / "out" / "manifest.json").stat().st_mtime_ns,
    )


def make_again(tmp_path: Path, **options: Any) -> PrepareResult:
    """Prepare what `make` wrote, once more."""
    given = {"valid_frac": 0.2, **options}
    return prepare(tmp_path / "set.jsonl", out=tmp_path / "out", **given)


def test_another_corpus_is_replaced_only_when_told(tmp_path: Path) -> None:
    make(tmp_path, LINES, test_frac=0.2, keep_dropped=True)
    before = bytes_of(tmp_path / "out")
    with pytest.raises(StaleError, match=r"valid_frac: 0\.2 -> 0\.3") as caught:
        make_again(tmp_path, valid_frac=0.3)
    assert "--redo" in caught.value.way_out
    assert bytes_of(tmp_path / "out") == before
    make_again(tmp_path, valid_frac=0.3, redo=True)
    assert set(bytes_of(tmp_path / "out")) == set(before) - {
        "set-test.jsonl",
        "dropped/set.jsonl.zst",
    }
    assert lingraft.verify(tmp_path / "out") == []


def test_a_changed_source_is_another_corpus(tmp_path: Path) -> None:
    make(tmp_path, LINES)
    with pytest.raises(StaleError, match=r"set\.jsonl: .*bytes"):
        make(tmp_path, LINES[:-1])


def test_many_changes_are_not_all_told(tmp_path: Path) -> None:
    make(tmp_path, LINES)
    for n in range(12):
        write_rows(tmp_path / "other" / f"{n}.jsonl", LINES)
    with pytest.raises(StaleError, match=r"\.\.\. and \d+ more"):
        prepare(tmp_path / "other", out=tmp_path / "out", valid_frac=0.2)


def test_a_damaged_result_is_not_taken_for_done(tmp_path: Path) -> None:
    make(tmp_path, LINES)
    (tmp_path / "out" / "set-train.jsonl").write_text("x", encoding="utf-8")
    (tmp_path / "out" / "set-valid.jsonl").unlink()
    with pytest.raises(VerifyError, match=r"differs from its manifest: .*and 1 more") as caught:
        make_again(tmp_path)
    assert "--redo" in caught.value.way_out
    make_again(tmp_path, redo=True)
    assert lingraft.verify(tmp_path / "out") == []


def test_files_of_others_are_not_written_over(tmp_path: Path) -> None:
    other = tmp_path / "out" / "set-train.jsonl"
    write_rows(other, ["mine"])
    with pytest.raises(UsageError, match=r"set-train\.jsonl: is there already"):
        make(tmp_path, LINES)
    with pytest.raises(UsageError, match="is read, and would be written over"):
        prepare({"set": other}, out=tmp_path / "out", language="en")
    assert other.read_bytes() == rows_of(["mine"])


def test_a_full_disk_is_told_and_the_work_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_UNIT_BYTES", 1000)
    real, calls = buckets.BucketWriter._flush, []

    def fills_up(self: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self)

    monkeypatch.setattr(buckets.BucketWriter, "_flush", fills_up)
    with pytest.raises(DiskFullError, match="No space left on device") as caught:
        make(tmp_path, LINES)
    assert "--out DIR" in caught.value.way_out
    work = tmp_path / "out" / ".work" / "units"
    assert len(list(work.glob("*.json"))) == 2
    assert not list(work.glob("*.draft"))
    calls.clear()
    monkeypatch.setattr(buckets.BucketWriter, "_flush", real)
    make_again(tmp_path)
    make(tmp_path / "whole", LINES)
    names = ("set-train.jsonl", "set-valid.jsonl")
    one, two = (bytes_of(folder / "out") for folder in (tmp_path, tmp_path / "whole"))
    assert [one[name] for name in names] == [two[name] for name in names]


def test_work_that_was_begun_differently_is_thrown_away(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "set.jsonl", LINES)
    source.write_bytes(source.read_bytes() + b"{")
    with pytest.raises(InputError, match="not JSON"):
        prepare(source, out=tmp_path / "out", language="en", valid_frac=0.2)
    assert (tmp_path / "out" / ".work" / "plan.json").is_file()
    make(tmp_path, LINES)
    assert lingraft.verify(tmp_path / "out") == []


def test_a_file_that_changes_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "set.jsonl", LINES)
    real = engine.begin

    def meanwhile(*arguments: Any) -> str:
        key = real(*arguments)
        write_rows(source, LINES[1:])
        return key

    monkeypatch.setattr("lingraft.corpus.command.begin", meanwhile)
    with pytest.raises(InputError, match="its size or time of change is another"):
        prepare(source, out=tmp_path / "out", language="en")

    def removed(*arguments: Any) -> str:
        key = real(*arguments)
        source.unlink()
        return key

    monkeypatch.setattr("lingraft.corpus.command.begin", removed)
    with pytest.raises(InputError, match="No such file"):
        prepare(source, out=tmp_path / "out", language="en")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"valid_frac": 0.0001}, "leave none for valid at --valid-frac = 0.0001"),
        ({"test_frac": 0.0001}, "leave none for test at --test-frac = 0.0001"),
        ({"min_chars": 1000}, "no document was kept"),
    ],
)
def test_an_empty_split_names_the_option(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=text) as caught:
        make(tmp_path, LINES, **options)
    assert "--" in caught.value.way_out
    assert not (tmp_path / "out" / "set-train.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"valid_frac": 1.5}, "--valid-frac = 1.5: expected less than 1"),
        ({"valid_frac": 0.6, "test_frac": 0.5}, "leave nothing to train on"),
        ({"max_char": 5}, "Did you mean 'max_chars'"),
        ({"on_bad_row": "pass"}, "--on-bad-row = .pass.: expected .stop. or .drop."),
        ({"language": {"other": "zh"}}, "language of 'other': there is no such set"),
        ({"jobs": 0}, "jobs = 0"),
    ],
)
def test_what_cannot_be_asked_is_told_before_any_work(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=text):
        make(tmp_path, LINES, **options)
    assert not (tmp_path / "out").exists()


def test_equal_texts_stay_with_the_first_set_that_has_them(tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", texts_of("x", 30))
    two = write_rows(tmp_path / "two.jsonl", texts_of("x", 50))
    stats = prepare({"b": one, "a": two}, out=tmp_path / "out", valid_frac=0.2).stats["sets"]
    assert (stats["b"]["dropped"], stats["a"]["dropped"]) == ({}, {"duplicate": 30})
