"""`lingraft corpus list|add|stats|fetch` on the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import build

from lingraft import cli
from lingraft.cli_corpus import app

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `lingraft corpus ...`: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lingraft", "corpus", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.model").write_bytes(build())
    (tmp_path / "in").mkdir()
    (tmp_path / "in/zh-train.jsonl").write_text('{"text": "abc"}\n', encoding="utf-8")
    return tmp_path


def test_a_set_is_fetched_added_listed_and_counted(place: Path, run: Run) -> None:
    code, out, _ = run("fetch", "in", "--out", "data")
    assert (code, out.splitlines()[-1]) == (0, "data: see fetched.json")
    code, out, _ = run("add", "data/datasets.toml", "zh", "--splits", "train")
    assert (code, out) == (0, f"{place}/data/datasets.toml: made, with 'zh'\n")
    code, out, _ = run("add", "data/datasets.toml", "en", "--splits", "train, dev")
    assert (code, out) == (0, f"{place}/data/datasets.toml: now has 'en'\n")
    code, out, _ = run("list", "data")
    assert code == 0
    assert len(out.splitlines()) == 5
    page = place / "stats.html"
    code, out, _ = run("stats", "data", "--tokenizer", "base.model", "b=base.model",
                       "--html", page)  # fmt: skip
    assert code == 0
    assert "counted" in out
    assert f"page: {page}" in out
    assert "en, dev: no documents at" in out
    assert page.is_file()


def test_every_verb_gives_json(place: Path, run: Run) -> None:
    def read(*words: str) -> Any:
        code, out, _ = run(*words, "--json")
        assert code == 0
        return json.loads(out)

    assert read("fetch", "in", "--out", "data", "--list")["files"][0]["state"] == "missing"
    assert read("fetch", "in", "--out", "data")["is_done"] is True
    assert read("add", "data", "zh", "--splits", "train")["created"] is True
    assert read("list", "data")[0]["size_bytes"] == 16
    found = read("stats", "data", "--count")
    assert found["sets"]["zh"]["splits"]["train"]["num_chars"] == 3
    assert found["notes"] == []


def test_halves_of_surrogate_pairs_are_told(place: Path, run: Run) -> None:
    (place / "in/zh-train.jsonl").write_text(r'{"text": "\ud800 \ud83d\ude00"}', encoding="utf-8")
    run("add", "in", "zh", "--splits", "train")
    told = r"1 half of a surrogate pair (\ud800 to \udfff in JSON) became U+FFFD"
    assert told in run("stats", "in", "--count")[1]
    (place / "in/zh-train.jsonl").write_text(r'{"text": "\ud83d\ude00"}', encoding="utf-8")
    assert "surrogate" not in run("stats", "in", "--count")[1]


def test_a_listing_of_a_fetch_tells_sizes_and_states(place: Path, run: Run) -> None:
    code, out, _ = run("fetch", "in", "--pattern", "*.jsonl", "*.txt", "--out", "data", "--list")
    assert code == 0
    assert out.splitlines() == [
        "        0.0 MB  missing   zh-train.jsonl",
        "1 files; to fetch: 1, 0.0 MB",
    ]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("list", "gone.toml"), 2, "UsageError: gone.toml: there is no registry."),
        (("add", "bad.toml", "x"), 1, "InputError: "),
        (("add", "r.toml", "x", "--splits", ","), 2, "UsageError: --splits: none is given."),
        (("stats", "in"), 2, "UsageError: in/datasets.toml: there is no registry."),
        (("fetch", "gone", "--out", "data"), 2, "UsageError: source 'gone': nothing at gone."),
        (("fetch", "in", "--out", "data", "--pattern", "*.zst"), 1, "InputError: source"),
        (("fetch", "in"), 2, "Missing option"),
    ],
)
def test_mistakes_end_in_a_message_and_their_code(
    place: Path, run: Run, words: tuple[str, ...], code: int, told: str
) -> None:
    (place / "bad.toml").write_text("[", encoding="utf-8")
    found, _, err = run(*words)
    assert found == code
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", ["list", "add", "stats", "fetch"])
def test_help_ends_in_an_example(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"Example: lingraft corpus {verb} " in out


def test_the_verbs_are_there() -> None:
    named = {command.name or getattr(command.callback, "__name__", "") for command in
             app.registered_commands}  # fmt: skip
    assert {"list", "add", "stats", "fetch"} <= named
