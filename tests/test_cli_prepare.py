"""The command line of `lingraft corpus prepare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpora import rows_of

from lingraft import cli
from lingraft.cli_prepare import parse_named
from lingraft.errors import UsageError

LINES = [f"Document number {n} is long enough to be kept." for n in range(60)]


def run_cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lingraft", "corpus", "prepare", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "in put"
    folder.mkdir()
    (folder / "en.jsonl").write_bytes(rows_of([*LINES, LINES[0], "short"], "body"))
    zh = [f"第{n:03}号文件，足够长，所以留下来了。" for n in range(60)]
    (folder / "zh.jsonl").write_bytes(rows_of(zh, "body"))
    return folder


def test_files_become_a_table_of_what_was_kept_and_dropped(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(corpus / "en.jsonl"), "--out", str(tmp_path / "out"), "--text-key", "body"]
    assert run_cli(monkeypatch, *words, "--valid-frac", "0.2", "--jobs", "1") == 0
    out = capsys.readouterr().out
    assert "en: language und-Latn, by its script (--language)" in out
    assert "duplicate" in out
    assert "too_short" in out
    assert "see stats.html" in out
    assert (tmp_path / "out" / "en-train.jsonl").is_file()


def test_json_tells_the_figures_and_whether_it_was_done(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [f"zh={corpus}/zh.jsonl", f"en={corpus}/e*.jsonl"]
    words = [*files, "--out", str(tmp_path / "out"), "--text-key", "body", "--json"]
    words += ["--language", "zh=zh", "en=en", "--valid-frac", "0.2", "--test-frac", "0.1"]
    words += ["--keep-dropped", "--min-chars", "18", "--scripts", "Han", "Latin"]
    for was_done in (False, True):
        assert run_cli(monkeypatch, *words) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["was_done"] == was_done
        assert list(record["sets"]) == ["zh", "en"]
        assert record["sets"]["en"]["language"] == "en"
        assert set(record["sets"]["zh"]["splits"]) == {"train", "valid", "test"}
    assert (tmp_path / "out" / "dropped" / "en.jsonl.zst").is_file()


def test_a_mistake_ends_in_a_message_and_a_code(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(corpus), "--out", str(tmp_path / "out")]
    assert run_cli(monkeypatch, *words) == 1
    assert "no column 'text' (there are: 'body', 'n')" in capsys.readouterr().err
    assert run_cli(monkeypatch, *words, "--text-key", "body", "--min-script-frac", "0.9") == 2
    assert "no --scripts" in capsys.readouterr().err
    assert run_cli(monkeypatch, *words, "--language", "zh", "en") == 2
    assert "--language zh: expected NAME=CODE" in capsys.readouterr().err
    assert run_cli(monkeypatch, *words, "--partition", "cpu") == 2
    assert "no --executor" in capsys.readouterr().err


def test_words_without_a_name_belong_to_the_one_before(tmp_path: Path) -> None:
    assert parse_named(["a.txt", "b.txt"], "") == ["a.txt", "b.txt"]
    assert parse_named(["a.txt"], "n") == {"n": ["a.txt"]}
    assert parse_named(["a=x.txt", "y.txt", "b=z.txt"], "") == {
        "a": ["x.txt", "y.txt"],
        "b": ["z.txt"],
    }
    odd = tmp_path / "k=v.txt"
    odd.touch()
    assert parse_named([str(odd), "dir/k=v.txt"], "") == [str(odd), "dir/k=v.txt"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a.txt", "b=c.txt"], "a.txt: belongs to no set"),
        (["b="], "expected NAME=FILE"),
        (["=c.txt"], "expected NAME=FILE"),
    ],
)
def test_a_word_without_a_set_or_a_file_is_refused(words: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse_named(words, "")


def test_halves_of_surrogate_pairs_in_what_is_kept_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps({"text": line}) for line in LINES]
    rows.append(json.dumps({"text": "\\ud800 " + "word " * 400}).replace("\\\\", "\\"))
    rows.append('{"text": "\\ud800, too many for so few characters"}')
    (tmp_path / "en.jsonl").write_text("\n".join(rows), encoding="utf-8")
    words = [str(tmp_path / "en.jsonl"), "--out", str(tmp_path / "out"), "--valid-frac", "0.2"]
    assert run_cli(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert "replacement_characters" in out
    assert "1 half of a surrogate pair" in out
    stats = json.loads((tmp_path / "out" / "stats.json").read_text(encoding="utf-8"))
    assert stats["sets"]["en"]["num_surrogates"] == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--reader", "foo"], "--reader = 'foo': expected 'auto', 'jsonl'"),
        (["--valid-frac", "2"], "--valid-frac = 2.0: expected less than 1."),
        (["--mask", "foo", "bar"], "--mask = 'bar': expected 'email' or 'phone'."),
        (["--min-similarity", "2"], "--min-similarity = 2.0: expected less than or equal to 1."),
        (["--scripts", "Klingon"], "--scripts = ['Klingon']: no Unicode script 'Klingon'."),
        (["--decontaminate-splits", "x"], "--decontaminate-splits = 'x': expected 'train'"),
        (["--language", "z"], "--language = 'z': "),
        (
            ["--valid-frac", "0.5", "--test-frac", "0.6"],
            "settings: valid_frac = 0.5 and test_frac = 0.6 leave nothing to train on.",
        ),
    ],
)
def test_a_wrong_option_is_told_by_its_name_once(
    corpus: Path,
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [f"a={corpus}/zh.jsonl", f"b={corpus}/en.jsonl", "--text-key", "body"]
    assert run_cli(monkeypatch, *files, "--out", str(corpus / "out"), *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count(told) == 1
    assert "sets." not in error
    assert "Input should" not in error


@pytest.mark.parametrize("name", ["my set", "a:b", ".x"])
def test_a_set_name_is_refused_as_a_registry_refuses_it(
    corpus: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{name}={corpus}/zh.jsonl", "--out", str(corpus / "out"), "--text-key", "body"]
    assert run_cli(monkeypatch, *words) == 2
    mine = capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["lingraft", "corpus", "add", str(corpus / "x.toml"), name])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    theirs = capsys.readouterr().err
    rule = "expected letters, digits, '.', '_' and '-', a letter or a digit first"
    assert f"set name = '{name}': {rule}" in mine
    assert f"set name '{name}': {rule}" in theirs
    assert mine[mine.index(rule) :] == theirs[theirs.index(rule) :]


def test_a_set_may_have_a_chinese_name(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (corpus / "zh.jsonl").rename(corpus / "维基 百科.jsonl")
    out = corpus / "out"
    words = [f"{corpus}/维基 百科.jsonl", "--out", str(out), "--text-key", "body"]
    assert run_cli(monkeypatch, *words, "--valid-frac", "0.2") == 0
    assert (out / "维基-百科-train.jsonl").is_file()
    monkeypatch.setattr("sys.argv", ["lingraft", "corpus", "add", str(out / "x.toml"), "维基-百科"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
