"""Tokenizers compared on texts, from Python and from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from byte_tokenizers import byte_level
from small_tokenizers import BY_HAND, build
from typer.testing import CliRunner

from lingraft import cli_texts
from lingraft.errors import InputError, LingraftError, UsageError
from lingraft.tokenizer.comparing import compare, write_record

FILES = [f"efficiency.{end}" for end in ("csv", "json", "md", "png", "svg")]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.model").write_bytes(build())
    (tmp_path / "ours.model").write_bytes(build((*BY_HAND, ("▁abc", -20.0))))
    (tmp_path / "gpt.json").write_text(json.dumps(byte_level()), encoding="utf-8")
    (tmp_path / "en.txt").write_text("abc abc\nabc\n", encoding="utf-8")
    (tmp_path / "zh.txt").write_text("中文嗨\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run a verb: exit code of the error, standard output, the error's message."""
    app = typer.Typer()
    cli_texts.register(app)

    def run(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, words)
        if isinstance(done.exception, LingraftError):
            return done.exception.exit_code, done.stdout, str(done.exception)
        return done.exit_code, done.stdout, done.stderr

    return run


def test_tokens_of_each_text_and_of_all_are_as_by_hand(place: Path) -> None:
    table = compare(["base.model", "ours.model", "gpt.json"], text=["en.txt", "zh.txt"]).table
    tokens = {(row.text, row.tokenizer): row.tokens for row in table.rows}
    # "abc" is ▁ abc, joined by ours; "中文嗨" is ▁ 中文 and three bytes; gpt has bytes alone.
    assert tokens == {
        ("en", "base"): 6, ("en", "ours"): 3, ("en", "gpt"): 10,
        ("zh", "base"): 5, ("zh", "ours"): 5, ("zh", "gpt"): 9,
        ("total", "base"): 11, ("total", "ours"): 8, ("total", "gpt"): 19,
    }  # fmt: skip
    row = table.rows_of("en")[1]
    assert (row.tokens_per_word, row.tokens_frac, row.bytes_per_token) == (1.0, 0.5, 10 / 3)
    assert table.rows_of("zh")[0].byte_token_frac == 3 / 5
    assert table.rows_of("zh")[2].byte_token_frac == 1.0
    assert [(f.family, f.vocab_size) for f in table.tokenizers][2] == ("byte-level", 256)


def test_the_folder_holds_every_form_and_the_same_bytes_for_any_threads(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.streaming._BATCH_CHARS", 5)
    for jobs in (1, 2):
        compare(["base.model", "gpt.json"], text={"t": ["en.txt", "zh.txt"]}, out=f"out{jobs}",
                jobs=jobs)  # fmt: skip
    assert sorted(path.name for path in (place / "out1").iterdir()) == FILES
    for name in FILES:
        assert (place / "out1" / name).read_bytes() == (place / "out2" / name).read_bytes()


def test_all_problems_are_told_before_anything_is_read(place: Path) -> None:
    (place / "bad.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        compare(["base.model", "bad.json", "gone.model"], text=["en.txt", "gone.txt"], out="en.txt")
    message = str(caught.value)
    assert message.startswith("4 problems")
    for name in ("bad.json", "gone.model", "gone.txt", "--out en.txt"):
        assert name in message


def test_a_file_in_two_texts_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="count it twice"):
        compare("base.model", text={"a": "en.txt", "b": ["zh.txt", "en.txt"]})


def test_a_text_called_total_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="'total'"):
        compare("base.model", text={"total": "en.txt", "b": "zh.txt"})


def test_a_text_that_holds_nothing_is_refused(place: Path) -> None:
    (place / "e.jsonl").write_text('{"text": ""}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"no text in e\.jsonl"):
        compare("base.model", text="e.jsonl", out="out")
    assert not (place / "out").exists()


def test_halves_of_surrogate_pairs_are_counted_and_told(place: Path, run: Run) -> None:
    rows = [r"abc \ud83d\ude00", r"abc \ud83d abc \ude00", r"\udc00"]
    text = "".join(f'{{"text": "{row}"}}\n' for row in rows)
    (place / "half.jsonl").write_text(text, encoding="utf-8")
    told = r"3 halves of surrogate pairs (\ud800 to \udfff in JSON) became U+FFFD"
    code, out, _ = run("compare", "base.model", "--text", "half.jsonl", "en.txt", "--out", "out")
    assert code == 0
    assert told in out
    record = json.loads((place / "out" / "efficiency.json").read_text(encoding="utf-8"))
    found = {text["name"]: text["num_surrogates"] for text in record["texts"]}
    assert found == {"half": 3, "en": 0, "total": 3}
    assert "3 halves" in (place / "out" / "efficiency.md").read_text(encoding="utf-8")
    code, out, _ = run("compare", "base.model", "--text", "en.txt")
    assert code == 0
    assert "surrogate" not in out


def test_a_broken_row_leaves_nothing(place: Path) -> None:
    (place / "b.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.jsonl:1"):
        compare("base.model", text=["en.txt", "b.jsonl"], out="out")
    assert not (place / "out").exists()


def test_a_failed_chart_leaves_no_half_of_the_files(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise InputError("no chart")

    monkeypatch.setattr("lingraft.tokenizer.comparing.draw_bars", fail)
    with pytest.raises(InputError, match="no chart"):
        compare("base.model", text="en.txt", out="out")
    assert list((place / "out").iterdir()) == []


def test_json_goes_to_a_file_and_the_table_to_the_terminal(place: Path, run: Run) -> None:
    code, out, _ = run("compare", "base.model", "ours.model", "--text", "en.txt", "zh.txt",
                       "--json", "sub/x.json", "--out", "out")  # fmt: skip
    assert code == 0
    assert Path("sub/x.json").read_bytes() == Path("out/efficiency.json").read_bytes()
    assert "en: 2 documents, 10 bytes, 10 characters, 3 words" in out
    assert "50.0%" in out
    assert [path.name for path in Path("sub").iterdir()] == ["x.json"]


def test_json_to_standard_output_stands_alone_there(place: Path, run: Run) -> None:
    code, out, _ = run("compare", "a=base.model", "--text", "x=en.txt", "zh.txt", "--json", "-")
    record = json.loads(out)
    assert code == 0
    assert [(row["text"], row["tokenizer"]) for row in record["rows"]] == [("x", "a")]


def test_a_folder_for_the_json_is_refused(place: Path, run: Run) -> None:
    code, _, message = run("compare", "base.model", "--text", "en.txt", "--json", ".")
    assert code == 2
    assert "is a folder" in message


@pytest.mark.parametrize(
    "words",
    [("--text", "en.txt"), ("base.model",), ("base.model", "base.model", "--text", "en.txt"),
     ("no.model", "--text", "en.txt"), ("base.model", "--text", "no.txt")],
)  # fmt: skip
def test_what_is_missing_ends_in_code_2(place: Path, run: Run, words: tuple[str, ...]) -> None:
    assert run("compare", *words)[0] == 2


def test_a_record_is_written_whole_or_not_at_all(place: Path) -> None:
    result = compare("base.model", text="en.txt")
    write_record(Path("r.json"), result)
    assert json.loads(Path("r.json").read_text(encoding="utf-8")) == result.record


def test_encode_prints_json_for_scripts(place: Path, run: Run) -> None:
    code, out, _ = run("encode", "--tokenizer", "base.model", "en.txt", "zh.txt", "--out",
                       "ids.npy", "--jobs", "1", "--json")  # fmt: skip
    record = json.loads(out)
    assert code == 0
    assert (record["num_docs"], record["total_tokens"], record["out"]) == (3, 11, "ids.npy")


def test_encode_tells_what_it_wrote(place: Path, run: Run) -> None:
    code, out, _ = run("encode", "--tokenizer", "base.model", "en.txt", "--out", "ids.npy")
    assert code == 0
    assert "6 tokens of 2 documents" in out


def test_eos_of_a_tokenizer_without_one_ends_in_code_2(place: Path, run: Run) -> None:
    code, _, message = run("encode", "--tokenizer", "gpt.json", "en.txt", "--out", "i.npy", "--eos")
    assert code == 2
    assert "nothing tells its EOS" in message


def test_show_prints_plain_lines_into_a_pipe(place: Path, run: Run) -> None:
    code, out, _ = run("show", "abc", "--tokenizer", "base.model", "ours.model", "--ids")
    assert code == 0
    assert out.splitlines() == [
        "base", "▁:265|abc:262", "2 tokens", "",
        "ours", "▁abc:271", "1 token, 50.0% fewer than base",
    ]  # fmt: skip


def test_show_paints_a_terminal(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = run("show", "abc\x1b[31m", "--tokenizer", "base.model")
    assert "\x1b[" in out
    assert "\x1b[31mabc" not in out
    assert "<0x1B>" in out


def test_show_reads_standard_input(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    cli_texts.register(app)
    words = ["show", "-", "--tokenizer", "base.model", "--json"]
    done = CliRunner().invoke(app, ["show", *words[1:]], input="abc")
    assert json.loads(done.stdout)["tokenizers"][0]["num_tokens"] == 2
    broken = CliRunner().invoke(app, ["show", *words[1:]], input=b"\xff")
    assert "standard input is not UTF-8" in str(broken.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [(("abc",), "no tokenizer"), (("--tokenizer", "base.model", "abc"), "no TEXT"),
     (("abc", "--tokenizer", "no.model"), "nothing at")],
)  # fmt: skip
def test_show_without_text_or_tokenizer_is_refused(
    place: Path, run: Run, words: tuple[str, ...], message: str
) -> None:
    code, _, told = run("show", *words)
    assert code == 2
    assert message in told


def test_importing_the_verbs_loads_nothing_heavy() -> None:
    assert not {"numpy", "numba"} & set(vars(sys.modules["lingraft.cli_texts"]))
