"""Files to packed ids."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from byte_tokenizers import byte_level
from small_tokenizers import FIRST, build

from lingraft import cli
from lingraft.errors import InputError, LockedError, UsageError
from lingraft.shards import open_tokens
from lingraft.streaming import in_order, read_batches
from lingraft.tokenizer.packing import encode

MARK, ABC, ZHONGWEN = FIRST + 6, FIRST + 3, FIRST + 5  # "▁", "abc", "中文"
EOS = 2


class Teller:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = self.total = 0

    def task(self, label: str, total: int, unit: str, done: int = 0) -> Any:
        self.total = total
        return self

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.done += amount

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.model").write_bytes(build())
    (tmp_path / "a.txt").write_text("abc\n中文\n", encoding="utf-8")
    return tmp_path


def rows(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def test_ids_and_ends_are_as_by_hand(place: Path) -> None:
    result = encode("a.txt", tokenizer="base.model", out="ids.npy")
    assert np.load("ids.npy").tolist() == [MARK, ABC, MARK, ZHONGWEN]
    assert np.load("ids.ends.npy").tolist() == [2, 4]
    assert (np.load("ids.npy").dtype, np.load("ids.ends.npy").dtype) == (np.uint16, np.uint64)
    assert (result.num_docs, result.total_tokens, result.size_bytes) == (2, 4, 9)
    assert (result.encoder, result.reason, result.eos_id) == ("compiled", "", None)


def test_files_are_the_bytes_that_numpy_itself_writes(place: Path) -> None:
    encode("a.txt", tokenizer="base.model", out="ids.npy")
    for name in ("ids.npy", "ids.ends.npy"):
        content = io.BytesIO()
        np.save(content, np.load(name))
        assert Path(name).read_bytes() == content.getvalue()


def test_token_files_open_as_those_of_a_recipe_do(place: Path) -> None:
    encode("a.txt", tokenizer="base.model", out="ids.npy")
    opened = open_tokens(Path("ids.npy"))
    assert (opened.num_docs, opened.doc(1).tolist()) == (2, [MARK, ZHONGWEN])


def test_empty_documents_keep_their_place(place: Path) -> None:
    rows(place / "b.jsonl", ["", "abc", ""])
    encode("b.jsonl", tokenizer="base.model", out="ids.npy")
    assert np.load("ids.ends.npy").tolist() == [0, 2, 2]


def test_halves_of_surrogate_pairs_are_counted(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "b.jsonl").write_text('{"text": "abc"}\n{"text": "\\ud800"}\n', encoding="utf-8")
    assert encode("b.jsonl", tokenizer="base.model", out="ids.npy").num_surrogates == 1
    assert encode("a.txt", tokenizer="base.model", out="ids.npy").num_surrogates == 0
    words = ["tokenizer", "encode", "b.jsonl", "--tokenizer", "base.model", "--out", "ids.npy"]
    monkeypatch.setattr("sys.argv", ["lingraft", *words])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert r"1 half of a surrogate pair (\ud800 to \udfff in JSON)" in capsys.readouterr().out


def test_eos_ends_each_document_where_asked(place: Path) -> None:
    rows(place / "b.jsonl", ["", "abc"])
    teller = Teller()
    result = encode("b.jsonl", tokenizer="base.model", out="ids.npy", eos=True, reporter=teller)
    assert np.load("ids.npy").tolist() == [EOS, MARK, ABC, EOS]
    assert np.load("ids.ends.npy").tolist() == [1, 4]
    assert result.eos_id == EOS
    assert teller.notes == ["after each document: '</s>', id 2, as base.model says"]


def test_order_is_that_of_files_and_documents_in_every_form(place: Path) -> None:
    (place / "z.txt.gz").write_bytes(gzip.compress("中文".encode()))
    packed = zstandard.compress(json.dumps({"body": "abc"}).encode())
    (place / "b.jsonl.zst").write_bytes(packed)
    encode(["z.txt.gz", "b.jsonl.zst"], tokenizer="base.model", out="ids.npy", text_key="body")
    assert np.load("ids.npy").tolist() == [MARK, ZHONGWEN, MARK, ABC]


def test_threads_do_not_change_the_result(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lingraft.streaming._BATCH_CHARS", 50)
    rows(place / "b.jsonl", [f"abc {n} 中文嗨" * (n % 7) for n in range(300)])
    teller = Teller()
    for jobs in (1, 2, 5):
        encode(["a.txt", "b.jsonl"], tokenizer="base.model", out=f"{jobs}.npy", jobs=jobs,
               reporter=teller)  # fmt: skip
        for end in (".npy", ".ends.npy"):
            assert Path(f"{jobs}{end}").read_bytes() == Path(f"1{end}").read_bytes()
    assert teller.done == 3 * teller.total


def test_a_large_vocabulary_takes_four_bytes(place: Path) -> None:
    spec = byte_level()
    spec["added_tokens"] = [{"id": 70_000, "content": "<end>", "special": True, "normalized": False,
                             "single_word": False, "lstrip": False, "rstrip": False}]  # fmt: skip
    (place / "b.json").write_text(json.dumps(spec), encoding="utf-8")
    result = encode("a.txt", tokenizer="b.json", out="ids.npy")
    assert np.load("ids.npy").dtype == np.uint32
    assert (result.dtype, np.load("ids.npy")[:3].tolist()) == ("uint32", [97, 98, 99])


def test_files_without_documents_give_empty_rows_and_a_note(place: Path) -> None:
    (place / "e.txt").write_text("\n\n", encoding="utf-8")
    teller = Teller()
    result = encode("e.txt", tokenizer="base.model", out="ids.npy", reporter=teller)
    assert (result.num_docs, np.load("ids.npy").shape, np.load("ids.ends.npy").shape) == (
        0,
        (0,),
        (0,),
    )
    assert "no document" in teller.notes[-1]


@pytest.mark.parametrize("content", [b'{"text": "abc"}\n{"text": \n', b'{"text": "a"}\n\xff\n'])
def test_a_broken_row_is_named_and_nothing_is_left(place: Path, content: bytes) -> None:
    (place / "b.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"b\.jsonl:2"):
        encode(["a.txt", "b.jsonl"], tokenizer="base.model", out="out/ids.npy")
    assert list((place / "out").iterdir()) == []


def test_a_failed_run_keeps_what_was_there(place: Path) -> None:
    encode("a.txt", tokenizer="base.model", out="ids.npy")
    content = Path("ids.npy").read_bytes()
    (place / "b.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(InputError):
        encode("b.jsonl", tokenizer="base.model", out="ids.npy")
    assert Path("ids.npy").read_bytes() == content


def test_what_a_killed_run_left_is_written_over(place: Path) -> None:
    (place / ".ids.npy.draft").write_bytes(b"x" * 10_000)
    (place / ".ids.ends.npy.draft").write_bytes(b"x" * 10_000)
    encode("a.txt", tokenizer="base.model", out="ids.npy")
    assert np.load("ids.npy").tolist() == [MARK, ABC, MARK, ZHONGWEN]
    assert list(place.glob(".*")) == []
    assert Path("ids.npy").stat().st_size < 1000


def test_two_runs_do_not_mix_their_ids(place: Path) -> None:
    draft = place / ".ids.npy.draft"
    with draft.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="another process"):
            encode("a.txt", tokenizer="base.model", out="ids.npy")
        assert draft.exists()


def test_a_draft_that_was_just_moved_into_place_is_not_touched(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: Any, _: int) -> None:
        (place / ".ids.npy.draft").replace(place / "ids.npy")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(LockedError):
        encode("a.txt", tokenizer="base.model", out="ids.npy")
    assert (place / "ids.npy").exists()


@pytest.mark.parametrize("out", ["ids", "ids.bin", "folder.npy", "shadow.npy", "a.txt/ids.npy"])
def test_a_place_that_cannot_be_the_output_is_refused(place: Path, out: str) -> None:
    (place / "folder.npy").mkdir()
    (place / "shadow.ends.npy").mkdir()
    with pytest.raises(UsageError, match=r"ends in \.npy|is a folder|cannot be made a folder"):
        encode("a.txt", tokenizer="base.model", out=out)


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True, 5000])
def test_a_number_of_threads_that_cannot_be_is_refused(place: Path, jobs: Any) -> None:
    with pytest.raises(UsageError, match="jobs"):
        encode("a.txt", tokenizer="base.model", out="ids.npy", jobs=jobs)


@pytest.mark.parametrize("files", [[], ["none.txt"], [3]])
def test_no_file_is_refused(place: Path, files: Any) -> None:
    with pytest.raises(UsageError):
        encode(files, tokenizer="base.model", out="ids.npy")


def test_results_come_in_order_and_an_error_stops_the_work() -> None:
    assert list(in_order(lambda n: n * n, range(20), 3)) == [(n, n * n) for n in range(20)]

    def fail(n: int) -> int:
        if n == 2:
            raise InputError("two")
        return n

    with pytest.raises(InputError, match="two"):
        list(in_order(fail, range(20), 2))


def test_batches_hold_all_documents_and_tell_all_bytes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.streaming._BATCH_CHARS", 4)
    rows(place / "b.jsonl", ["ab", "", "cdefg", "h"])
    paths = [place / "a.txt", place / "b.jsonl"]
    batches = list(read_batches(paths, "text"))
    assert [batch.texts for batch in batches] == [
        ["abc"], ["中文", "ab"], ["", "cdefg"], ["h"],
    ]  # fmt: skip
    assert sum(batch.read_bytes for batch in batches) == sum(p.stat().st_size for p in paths)
