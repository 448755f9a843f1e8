"""`lingraft embed ...` as typed."""

import json
from pathlib import Path

import pytest
import torch
from byte_tokenizers import without_bytes
from expandable import (
    BYTES_SIZE,
    SIZE,
    extended_folder,
    tied_llama,
    untied_bytes_llama,
    untied_llama,
)

from lingraft import cli
from lingraft.cli_embed import parse_options
from lingraft.embed.methods import METHODS
from lingraft.errors import UsageError
from lingraft.models import ModelFolder
from lingraft.tokenizer.extending import extend


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["lingraft", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_expand_prints_json_or_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    untied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    words = ["embed", "expand", "--model", f"{tmp_path}/base"]
    words += ["--tokenizer", f"{tmp_path}/extended", "--out", f"{tmp_path}/out"]
    words += ["--method", "normal", "--option", "std=0.5", "--head-method", "mean"]
    words += ["--pad-to-multiple-of", "64"]
    assert call(monkeypatch, *words, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["folder"], record["was_done"]) == (f"{tmp_path}/out", False)
    assert record["facts"]["averaged_over"] == {"3": 2, "6": 2}
    assert call(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert f"{SIZE:,} + 4 rows + {-(SIZE + 4) % 64} of padding (was there already)" in out
    assert "input rows: normal; head rows: mean" in out
    assert "equal to another new row: 0 (0 before ties were broken)" in out
    assert "equal head rows: 0 (2 before)" in out


def test_a_tied_model_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    words = ["embed", "expand", "--model", f"{tmp_path}/base", "--method", "calibrated"]
    words += ["--tokenizer", f"{tmp_path}/extended", "--out", f"{tmp_path}/out"]
    assert call(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert "input rows: calibrated; tied" in out
    assert "4 pieces: input: norm of" in out


def test_bytes_that_the_base_lacks_are_told_and_get_the_mean_of_its_byte_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = untied_bytes_llama(tmp_path / "base")
    file = tmp_path / "base" / "tokenizer.json"
    file.write_text(json.dumps(without_bytes(json.loads(file.read_text()), b"x\x04")))
    (tmp_path / "pieces.txt").write_text("中\n", encoding="utf-8")
    extend(base=file, pieces=tmp_path / "pieces.txt", out=tmp_path / "extended")
    words = ["embed", "expand", "--model", f"{tmp_path}/base"]
    words += ["--tokenizer", f"{tmp_path}/extended", "--out", f"{tmp_path}/out"]
    assert call(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert f"{BYTES_SIZE} + 3 rows" in out
    assert "bytes that the base lacks: 2, mean of its byte rows" in out
    name = "model.embed_tokens.weight"
    rows = ModelFolder(tmp_path / "out").rows(name, BYTES_SIZE, BYTES_SIZE + 2)
    known = [id for id in range(256) if id not in (0x04, ord("x"))]
    mean = base.rows(name, 0, 256)[known].double().mean(0).to(rows.dtype)
    assert torch.equal(rows, torch.stack([mean, mean]))


def test_plot_lists_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tied_llama(tmp_path / "base")
    extended_folder(tmp_path / "extended")
    base, out = f"{tmp_path}/base", f"{tmp_path}/out"
    words = ["--tokenizer", f"{tmp_path}/extended", "--out", out]
    assert call(monkeypatch, "embed", "expand", "--model", base, *words) == 0
    capsys.readouterr()
    plot = ["embed", "plot", out, "--base", base, "--out", f"{tmp_path}/plots"]
    assert call(monkeypatch, *plot, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0] == f"{tmp_path}/plots/embeddings.html"
    assert call(monkeypatch, *plot) == 0
    assert "input-map.svg" in capsys.readouterr().out


def test_methods_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "embed", "methods", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(METHODS)
    assert next(row for row in rows if row["name"] == "frequency")["needs"] == ["counts"]
    assert call(monkeypatch, "embed", "methods") == 0
    out = capsys.readouterr().out
    assert "mean-cov: draws from a normal" in out
    assert "options scale=1e-09" in out
    assert "needs counts" in out


def test_options_are_numbers_truths_or_text() -> None:
    assert parse_options(["a=1", "b=1e-3", "c=true", "d=x=y", 'e="q"']) == {
        "a": 1,
        "b": 1e-3,
        "c": True,
        "d": "x=y",
        "e": '"q"',
    }
    for words, what in ((["a"], "expected KEY=VALUE"), (["a=1", "a=2"], "given twice")):
        with pytest.raises(UsageError, match=what):
            parse_options(words)


def test_errors_come_with_their_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--tokenizer", str(tmp_path), "--out", f"{tmp_path}/out"]
    assert call(monkeypatch, "embed", "expand", "--model", f"{tmp_path}/absent", *words) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "x.gguf").write_bytes(b"none")
    words = ["embed", "from-gguf", "--model", f"{tmp_path}/x.gguf", "--out", f"{tmp_path}/out"]
    assert call(monkeypatch, *words) == 1
    assert "not a GGUF file" in capsys.readouterr().err
