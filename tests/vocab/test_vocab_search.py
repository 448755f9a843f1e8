"""`lingraft vocab search` on files: what it writes, and what it goes on from."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from samples import CHINESE
from searches import made_up_chinese, search_files, search_words, write_rows

import lingraft.vocab
from lingraft.store import lock_folder
from lingraft.vocab import command

FILES = [
    "alp.html", "alp.png", "alp.svg", "choice.json", "curves.parquet", "pieces.jsonl",
    "pieces.txt", "rules.parquet",
]  # fmt: skip
COLUMNS = {
    "num_chars", "size", "num_added", "eval", "alp", "alp_per_byte", "tokens", "chars_per_token",
    "byte_fallback_frac",
}  # fmt: skip
"""Those that are promised to users."""


def test_a_search_writes_what_is_promised(place: Path, run: Callable[..., Any]) -> None:
    code, out, _ = run(*search_words())
    assert code == 0
    assert sorted(p.name for p in (place / "out").iterdir() if p.name != ".lock") == FILES
    choice = json.loads((place / "out" / "choice.json").read_text(encoding="utf-8"))
    assert {"num_chars", "size", "num_added", "reasons"} <= choice.keys()
    lines = (place / "out" / "pieces.txt").read_text(encoding="utf-8").splitlines()
    assert choice["size"] == choice["num_added"] == len(lines) == len(set(lines))
    text = (place / "out" / "pieces.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [json.loads(line) for line in lines] == [row["piece"] for row in rows]
    assert lines[0].startswith('"')
    assert choice["reasons"][0] in out
    assert f"{len(lines):,} pieces in out/pieces.txt" in out


def test_curves_have_a_row_for_every_size_of_every_count_and_text(place: Path) -> None:
    write_rows(place / "more.jsonl", CHINESE)
    search_files(eval={"a": "eval.jsonl", "b": ["more.jsonl"]})
    table = pq.read_table(place / "out" / "curves.parquet")
    assert set(table.column_names) >= COLUMNS
    rows = table.to_pylist()
    found = [(row["num_chars"], row["eval"], row["size"]) for row in rows]
    ends = {count: max(s for c, _, s in found if c == count) for count in (30, 60)}
    assert found == [
        (count, name, size)
        for count in (30, 60)
        for name in ("a", "b")
        for size in range(count, ends[count] + 1)
    ]
    assert all(row["num_added"] == row["size"] for row in rows)


@pytest.mark.usefixtures("without_plots")
def test_rules_of_every_count_are_kept(place: Path) -> None:
    search_files(size=100, num_chars=60)
    rows = pq.read_table(place / "out" / "rules.parquet").to_pylist()
    chosen = [row["piece"] for row in rows if row["num_chars"] == 60 and row["size"] <= 100]
    text = (place / "out" / "pieces.txt").read_text(encoding="utf-8")
    assert chosen == [json.loads(line) for line in text.splitlines()]


def test_size_and_count_can_be_given(place: Path, run: Callable[..., Any]) -> None:
    code, out, _ = run(*search_words(size="77", num_chars="30"), "--json")
    choice = json.loads(out)
    assert code == 0
    assert (choice["size"], choice["num_chars"], choice["rule"]) == (77, 30, "given")
    assert choice == json.loads((place / "out" / "choice.json").read_text(encoding="utf-8"))


def test_options_take_all_words_up_to_the_next_one(place: Path, run: Callable[..., Any]) -> None:
    for n, text in enumerate(["天地", "天人", "地人"]):
        write_rows(place / f"{n}.jsonl", [text] * 4)
    code, out, _ = run(
        *search_words(
            corpus="0.jsonl 1.jsonl 2.jsonl",
            eval="x=0.jsonl 1.jsonl y=2.jsonl",
            chars="3",
            ban="天地 天人",
            size="4",
        ),
        "--json",
    )
    choice = json.loads(out)
    assert code == 0
    assert choice["training"]["num_docs"] == 12
    assert {name: text["num_docs"] for name, text in choice["evals"].items()} == {"x": 8, "y": 4}
    pieces = (place / "out" / "pieces.txt").read_text(encoding="utf-8")
    assert pieces == '"人"\n"地"\n"天"\n"地人"\n'


@pytest.mark.usefixtures("without_plots")
def test_halves_of_surrogate_pairs_are_counted_and_told(
    place: Path, run: Callable[..., Any]
) -> None:
    for name, halves in (
        ("zh", r"\ud800\udc00\ud800"),
        ("eval", r"\udc00 \udc00"),
        ("en", r"\ud800"),
    ):
        path = place / f"{name}.jsonl"
        rows = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(rows + f'{{"text": "{halves}"}}\n', encoding="utf-8")
    words = search_words(size="77", num_chars="30", keep="en=en.jsonl")
    code, out, _ = run(*words)
    assert code == 0
    assert r"4 halves of surrogate pairs (\ud800 to \udfff in JSON) became U+FFFD" in out
    choice = json.loads((place / "out" / "choice.json").read_text(encoding="utf-8"))
    found = (choice["training"], choice["evals"]["a"], choice["kept"]["en"])
    assert [text["num_surrogates"] for text in found] == [1, 2, 1]


@pytest.mark.usefixtures("without_plots")
def test_a_text_without_halves_says_nothing_of_them(place: Path, run: Callable[..., Any]) -> None:
    code, out, _ = run(*search_words(size="77", num_chars="30"))
    assert code == 0
    assert "surrogate" not in out
    assert "num_surrogates" not in (place / "out" / "choice.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("without_plots")
def test_patterns_and_folders_are_searched_for_files(place: Path) -> None:
    for n in range(3):
        write_rows(place / "data" / f"{n}.jsonl", made_up_chinese(20, n))
    first = search_files(corpus="data", out="one")
    second = search_files(corpus=["data/[01].jsonl", "data/2.jsonl"], out="two", jobs=2)
    assert first.pieces == second.pieces
    assert first.choice == second.choice


@pytest.mark.usefixtures("without_plots")
def test_every_format_gives_the_same_search(place: Path) -> None:
    texts = made_up_chinese(80)
    data = (place / "zh.jsonl").read_bytes()
    (place / "zh.jsonl.gz").write_bytes(gzip.compress(data))
    (place / "zh.jsonl.zst").write_bytes(zstandard.compress(data))
    (place / "zh.txt").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    pq.write_table(pa.table({"text": texts}), place / "zh.parquet")
    wanted = search_files().choice
    for name in ("zh.jsonl.gz", "zh.jsonl.zst", "zh.txt", "zh.parquet"):
        assert search_files(corpus=name, out=name + ".out").choice == wanted


def test_a_search_again_in_the_same_folder_writes_the_same_bytes(place: Path) -> None:
    contents = []
    for jobs in (1, 2):
        search_files(keep_work=True, jobs=jobs)
        files = [p for p in sorted((place / "out").iterdir()) if p.name in FILES]
        contents.append({p.name: p.read_bytes() for p in files})
    assert contents[0] == contents[1]
    assert (place / "out" / ".work").is_dir()
    search_files(keep_work=False)
    assert not (place / "out" / ".work").exists()


@pytest.mark.usefixtures("without_plots")
def test_a_search_that_was_stopped_goes_on_with_what_it_has_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "write_files", stop)
        with pytest.raises(KeyboardInterrupt):
            search_files()
    assert not (place / "out" / "choice.json").exists()
    monkeypatch.setattr("lingraft.vocab.spool.read_texts", None)  # nothing is read again
    assert len(search_files().pieces) > 0


@pytest.mark.usefixtures("without_plots")
def test_an_older_choice_never_stands_beside_newer_curves(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_files()
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == "curves.parquet":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(Exception, match="out"):
        search_files(size=99)
    assert not (place / "out" / "choice.json").exists()


def test_two_searches_in_one_folder_at_once_are_refused(
    place: Path, run: Callable[..., Any]
) -> None:
    with lock_folder(place / "out"):
        code, _, err = run(*search_words())
    assert code in (1, 2)
    assert "another run is at work here" in err
    assert "--out OTHER" in err


def test_the_work_of_other_searches_is_priced(place: Path, run: Callable[..., Any]) -> None:
    search_files(size=100)
    shape = "hidden=64,active=1e6,total=1e6,vocab=271"
    code, out, _ = run("price", "out", "--model", shape, "--serve-chars-per-day", "1e6")
    assert code == 0
    assert "100" in out
    code, out, _ = run("price", "out", "--model", shape, "--size", "90", "--json")
    assert code == 0
    assert json.loads(out)
    assert lingraft.vocab.price("out", model=shape, eval="a", num_chars=30).size == 100


def test_a_folder_without_a_search_has_no_price(place: Path, run: Callable[..., Any]) -> None:
    code, _, err = run("price", "nowhere", "--model", "hidden=64,active=1,total=1,vocab=9")
    assert (code, "holds no finished search" in err) == (2, True)


def test_a_public_name_that_is_none_is_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'find'"):
        lingraft.vocab.find  # noqa: B018
