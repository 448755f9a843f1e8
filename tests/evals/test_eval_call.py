"""What a user of `lingraft eval` and `lingraft bpb` names, and what is kept when it goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_files import save_model, write_winogrande
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

pytest.importorskip("lm_eval", reason="needs the extra 'eval' (lm-evaluation-harness)")

from lingraft.cli import app
from lingraft.errors import DiskFullError, StaleError, UsageError
from lingraft.evals import backends
from lingraft.evals.backends import digest_model
from lingraft.store import write_json

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's and datasets' own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a benchmark and a text."""
    folder = tmp_path_factory.mktemp("call")
    save_model(folder / "base")
    write_winogrande(folder / "data")
    (folder / "t.jsonl").write_text('{"text": "the box"}\n{"text": "a bag"}\n', encoding="utf-8")
    return folder


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "120"})


def ask(place: Path, out: Path, *words: str | Path) -> Result:
    data = ("--suite", "winogrande", "--data-dir", place / "data", "--limit", "2")
    return call("eval", place / "base", *data, "--out", out, *words)


def score(place: Path, *words: str | Path) -> Result:
    return call("bpb", place / "base", "--text", place / "t.jsonl", *words)


def test_weights_that_are_written_over_are_another_model(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they differ in what no slice holds."""
    monkeypatch.setattr(backends, "_WHOLE_BYTES", 1 << 10)
    monkeypatch.setattr(backends, "_SLICE_BYTES", 2)
    shutil.copytree(place / "base", tmp_path / "m")
    path = tmp_path / "m/model.safetensors"
    before = digest_model(tmp_path / "m")
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("down_proj.weight"))
    tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, path, metadata={"format": "pt"})
    assert digest_model(tmp_path / "m") != before


def test_answers_stay_where_scores_cannot_be_written(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, content: Any) -> None:
        if path.name.startswith("winogrande"):
            raise OSError(28, "No space left on device", str(path))
        write_json(path, content)

    monkeypatch.setattr("lingraft.evals.evaluating.write_json", fill)
    failed = ask(place, tmp_path)
    assert isinstance(failed.exception, DiskFullError)
    assert "--out DIR" in str(failed.exception)
    monkeypatch.undo()
    assert ask(place, tmp_path).exit_code == 0
    (scores,) = tmp_path.glob("models/*/winogrande*.json")
    assert json.loads(scores.read_text())["answers_kept_from_before"] == 4


def test_rows_of_own_tasks_belong_to_what_is_asked(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "own/data")
    words = ("--include-path", tmp_path / "own")
    assert ask(place, tmp_path / "out", *words).exit_code == 0
    (tmp_path / "own/data/rows.jsonl").write_text("{}\n")
    changed = ask(place, tmp_path / "out", *words)
    assert isinstance(changed.exception, StaleError)
    assert "task_files" in str(changed.exception)


def test_an_evaluation_that_lies_among_the_tasks_is_none_of_them(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "data", tmp_path / "own")
    words = ("--include-path", tmp_path / "own")
    for name in ("first", "second", "first"):
        done = ask(place, tmp_path / "own" / name, *words)
        assert done.exit_code == 0, done.exception
    record = json.loads((tmp_path / "own/first/evaluation.json").read_text())
    assert record["task_files"]
    assert not [file for file in record["task_files"] if file.startswith(("first", "second"))]


@pytest.mark.parametrize("name", ["base/config.json/x.json", "base", "base/config.json/x/y.json"])
def test_a_place_that_takes_no_json_is_told_before_the_work(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.HarnessModel, "open", None)
    monkeypatch.setattr("lingraft.evals.bitscommand.load_model", None)
    for done in (
        ask(place, tmp_path, "--json", place / name),
        score(place, "--json", place / name),
    ):
        assert isinstance(done.exception, UsageError)
        assert f"--json {place / name}" in str(done.exception)


def test_names_with_brackets_are_shown_as_they_are(place: Path, tmp_path: Path) -> None:
    graft = save_model(tmp_path / "graft[zh]", seed=4)
    shown = call("bpb", place / "base", graft, "--text", place / "t.jsonl").output
    assert "graft[zh]" in shown
    data = ("--suite", "winogrande", "--data-dir", place / "data", "--limit", "1")
    shown = call("eval", place / "base", graft, *data, "--out", tmp_path / "out").output
    assert "graft[zh]" in shown


def test_without_draws_there_is_no_interval(place: Path, tmp_path: Path) -> None:
    graft = save_model(tmp_path / "graft", seed=4)
    done = call("bpb", place / "base", graft, "--text", place / "t.jsonl", "--resamples", "0")
    assert done.exit_code == 0, done.output
    assert "one document" not in done.output
    assert score(place, "--resamples", "-1").exit_code == 2
    assert score(place, "--seed", "-1").exit_code == 2


def test_the_suite_of_bits_is_asked_as_by_its_own_verb(place: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    shutil.copy(place / "t.jsonl", tmp_path / "texts")
    graft = save_model(tmp_path / "graft", seed=4)
    as_suite = ("eval", place / "base", graft, "--suite", "bpb", "--data-dir", tmp_path / "texts")
    as_verb = ("bpb", place / "base", graft, "--text", tmp_path / "texts")
    rows = [json.loads(call(*words, "--json", "-").stdout) for words in (as_suite, as_verb)]
    assert rows[0] == rows[1]
    drawn = json.loads(call(*as_suite, "--json", "-", "--resamples", "50").stdout)
    assert drawn[1]["difference"]["resamples"] == 50
    for words in (as_suite, as_verb):
        refused = call(*words, "--packed-cache", tmp_path / "cache")
        assert isinstance(refused.exception, UsageError)


def test_results_of_a_call_with_other_settings_are_told_before_they_go(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.json"
    partial = tmp_path / ".o.json.partial"
    partial.write_text('["identity", "another"]\n["key", 1]\n', encoding="utf-8")
    done = score(place, "--json", out)
    assert done.exit_code == 0
    told = done.output + done.stderr + capsys.readouterr().err
    assert "begun with other settings; all results are made anew" in told
