"""Whole evaluations of tiny models on tiny benchmarks: kept, resumed, compared, refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import save_model, write_gsm8k, write_hellaswag, write_winogrande
from typer.testing import CliRunner

pytest.importorskip("lm_eval", reason="needs the extra 'eval' (lm-evaluation-harness)")

from lingraft.cli import app
from lingraft.errors import InputError, StaleError, UsageError, VerifyError
from lingraft.evals import backends
from lingraft.evals.evaluating import EvalPlan, evaluate_models
from lingraft.progress import SilentReporter

pytestmark = pytest.mark.filterwarnings("ignore")  # the harness's and datasets' own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and some benchmarks, as a user's folder."""
    folder = tmp_path_factory.mktemp("evals")
    save_model(folder / "base")
    save_model(folder / "ext", seed=4)
    for write in (write_winogrande, write_hellaswag, write_gsm8k):
        write(folder / "data")
    return folder


def evaluate(place: Path, out: Path, *models: str, reporter: Any = None, **plan: Any) -> Any:
    settings: dict[str, Any] = {"suite": "winogrande", "data_dir": place / "data"}
    settings |= {"resamples": 200} | plan
    redo = settings.pop("redo", False)
    return evaluate_models(
        [str(place / model) for model in models or ("base",)],
        EvalPlan(**settings),
        out=out,
        redo=redo,
        reporter=reporter or SilentReporter(),
    ).results


def rewrite(path: Path, text: str) -> None:
    """Change kept answers and their digest too."""
    path.write_text(text)
    scores = json.loads(path.with_suffix(".json").read_text())
    digest = hashlib.sha256(text.encode()).hexdigest()
    scores["items"] = {"num_rows": text.count("\n"), "sha256": digest}
    path.with_suffix(".json").write_text(json.dumps(scores))


class Counting:
    """Counts answers, and can be killed after some."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.num_answers, self.num_before, self._kill_after = 0, 0, kill_after

    @contextmanager
    def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Any]:
        self.num_before += done
        yield self

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.num_answers += amount
        if self._kill_after == self.num_answers:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(results)
    kept: dict[str, Any] = json.loads(text)
    for row in kept["rows"]:
        for score in row["scores"].values():
            del score["time_s"]
    return kept


def test_a_result_holds_models_scores_differences_and_commands(place: Path, tmp_path: Path) -> None:
    results = evaluate(place, tmp_path, "base", "ext")
    (row,) = results["rows"]
    assert [model["name"] for model in results["models"]] == ["base", "ext"]
    assert (row["num_items"], row["num_fewshot"], row["version"]) == (6, 5, 1.0)
    assert results["published"]["rows"][-1]["values"]["winogrande@5"] == 82.08
    base, ext = (row["scores"][name]["value"] for name in ("base", "ext"))
    assert row["differences"]["ext"]["value"] == pytest.approx(ext - base)
    assert "6 of 12 validation items are set aside" in row["notes"][0]
    (command,) = results["commands"]
    assert command == (
        f"lm_eval run --model hf --model_args pretrained={place / 'base'},dtype=float32 "
        "--device cpu --tasks winogrande --num_fewshot 5 --include_path tasks"
    )
    assert results["no_commands"] is None
    assert json.loads((tmp_path / "results.json").read_text()) == results
    rows = [json.loads(x) for x in next(tmp_path.glob("models/base-*/*.jsonl")).open()]
    assert len(rows) == 6
    assert rows[0]["prompts"][0].count("\n\n") == 5
    assert sum(row["metrics"]["acc"] for row in rows) / 6 == base


def test_what_is_done_is_not_asked_again(place: Path, tmp_path: Path) -> None:
    first = evaluate(place, tmp_path)
    counting = Counting()
    again = evaluate(place, tmp_path, "base", "ext", reporter=counting)
    assert counting.num_answers == 12  # those of 'ext' alone
    assert again["rows"][0]["scores"]["base"] == first["rows"][0]["scores"]["base"]


def test_a_killed_run_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    whole = evaluate(place, tmp_path / "whole", suite="gsm8k", limit=4, num_fewshot=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            place, tmp_path / "cut", reporter=Counting(3), suite="gsm8k", limit=4, num_fewshot=2
        )
    assert not (tmp_path / "cut/results.json").exists()
    counting = Counting()
    rest = evaluate(
        place, tmp_path / "cut", reporter=counting, suite="gsm8k", limit=4, num_fewshot=2
    )
    assert (counting.num_before, counting.num_answers) == (3, 1)
    assert without_times(rest) == without_times(whole)


def test_items_of_each_benchmark_can_be_asked_for(place: Path, tmp_path: Path) -> None:
    results = evaluate(place, tmp_path, suite="hellaswag", items=4)
    assert results["rows"][0]["num_items"] == 4
    assert "the first 4 items of the benchmark alone were asked" in results["rows"][0]["notes"]


def test_too_few_examples_are_told(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="7 examples are wanted before each question, and there"):
        evaluate(place, tmp_path, num_fewshot=7)


def test_another_question_in_the_same_folder_is_refused(place: Path, tmp_path: Path) -> None:
    evaluate(place, tmp_path, limit=2)
    with pytest.raises(StaleError, match="whose limit was 2; now it is 3"):
        evaluate(place, tmp_path, limit=3)
    assert evaluate(place, tmp_path, limit=3, redo=True)["rows"][0]["num_items"] == 3


def test_a_changed_model_is_asked_anew(place: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "m", seed=5)
    first = evaluate(tmp_path, tmp_path / "out", "m", data_dir=place / "data")
    save_model(tmp_path / "m", seed=6)
    counting = Counting()
    again = evaluate(tmp_path, tmp_path / "out", "m", data_dir=place / "data", reporter=counting)
    assert counting.num_answers == 12
    assert first["models"] == again["models"]
    assert len(list((tmp_path / "out/models").iterdir())) == 2


def test_changed_data_ends_a_resumed_run(place: Path, tmp_path: Path) -> None:
    write_gsm8k(tmp_path / "data")
    evaluate(place, tmp_path / "out", suite="gsm8k", limit=1, data_dir=tmp_path / "data")
    (tmp_path / "data/gsm8k/train.jsonl").write_text("{}\n")
    with pytest.raises(VerifyError, match="has other bytes since this evaluation was begun"):
        evaluate(place, tmp_path / "out", "ext", suite="gsm8k", limit=1, data_dir=tmp_path / "data")


def raise_target(path: Path) -> None:
    path.write_text(path.read_text().replace('"acc": 0', '"acc": 1').replace("box", "bag"))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda out: (out / "evaluation.json").write_text("{"), "not JSON"),
        (lambda out: (out / "evaluation.json").write_text("[]"), "holds no record"),
        (lambda out: next(out.glob("models/*/*.json")).write_text("{"), "scores cannot be read"),
        (lambda out: next(out.glob("models/*/*.json")).write_text("{}"), "of another version"),
        (lambda out: next(out.glob("models/*/*.jsonl")).write_text("{"), "cannot be read"),
        (lambda out: next(out.glob("models/*/*.jsonl")).write_text(""), "are 0 rows; 1 were"),
        (lambda out: raise_target(next(out.glob("models/*/*.jsonl"))), "have other bytes than"),
        (lambda out: (out / "tasks/sources.json").write_text("{"), "not the record of a task"),
        (lambda out: (out / "tasks/sources.json").write_text("[]"), "not the record of a task"),
        (
            lambda out: (out / "tasks/sources.json").write_text('{"benchmarks": {}}'),
            "or of another version",
        ),
    ],
)
def test_damaged_results_are_refused(
    damage: Any, problem: str, place: Path, tmp_path: Path
) -> None:
    evaluate(place, tmp_path, limit=1)
    damage(tmp_path)
    with pytest.raises(VerifyError, match=problem):
        evaluate(place, tmp_path, limit=1)


def test_models_that_were_asked_other_items_are_not_compared(place: Path, tmp_path: Path) -> None:
    evaluate(place, tmp_path, "base", "ext", limit=2)
    path = next(tmp_path.glob("models/ext-*/*.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    rewrite(path, lines[1] + lines[0])
    with pytest.raises(VerifyError, match="'ext' was asked other items than 'base'"):
        evaluate(place, tmp_path, "base", "ext", limit=2)


def test_a_model_of_nan_is_named(place: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    save_model(tmp_path / "broken")
    path = tmp_path / "broken/model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], torch.nan)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(InputError, match="model 'broken': its likelihood of an answer is nan"):
        evaluate(tmp_path, tmp_path / "out", "broken", data_dir=place / "data")


def test_prompts_longer_than_the_context_are_told_and_counted(place: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "short", context=128)
    results = evaluate(tmp_path, tmp_path / "out", "short", data_dir=place / "data")
    assert results["rows"][0]["scores"]["short"]["num_too_long"] == 6
    assert "short: 6 items are longer than its 128 tokens" in results["rows"][0]["notes"][-1]
    with pytest.raises(InputError, match="takes 128 tokens; 6 items are longer"):
        evaluate(tmp_path, tmp_path / "o2", "short", data_dir=place / "data", too_long="refuse")


def test_items_that_cannot_be_fetched_are_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="winogrande: its items cannot be loaded"):
        evaluate(place, tmp_path, data_dir=None)


def test_task_files_of_the_user_can_be_asked(place: Path, tmp_path: Path) -> None:
    results = evaluate(place, tmp_path / "first")
    assert results["rows"][0]["num_items"] == 6
    folder = tmp_path / "own"
    folder.mkdir()
    text = (tmp_path / "first/tasks/winogrande.yaml").read_text()
    (folder / "mine.yaml").write_text(text + "task: my_winogrande\n")
    found = evaluate(
        place, tmp_path / "out", suite="my_winogrande", data_dir=None, include_path=folder
    )
    assert found["published"] is None
    assert (found["rows"][0]["num_fewshot"], found["rows"][0]["metric"]) == (0, "acc")
    assert found["commands"][0].endswith(f"--include_path {folder}")
    (folder / "mine.yaml").write_text(text + "task: my_winogrande\nnum_fewshot: 1\n")
    with pytest.raises(StaleError, match="holds an evaluation whose task_files was"):
        evaluate(place, tmp_path / "out", suite="my_winogrande", data_dir=None, include_path=folder)


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ({"backend": "jax"}, "--backend jax"),
        ({"too_long": "skip"}, "--too-long skip"),
        ({"limit": 1, "items": 1}, "--limit and --items"),
        ({"batch_size": "0"}, "--batch-size 0"),
        ({"batch_size": "many"}, "--batch-size many"),
        ({"model_args": {"a": 1}}, "--model-args: they go to vLLM"),
        ({"data_dir": Path("nowhere")}, "--data-dir nowhere: no such folder"),
        ({"include_path": Path("nowhere")}, "--include-path nowhere: no such folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    plan: dict[str, Any], problem: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=problem):
        evaluate(place, tmp_path, **plan)


def test_experts_in_four_bits_are_asked(place: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "moe", experts=True)
    call = ["eval", str(tmp_path / "moe"), "--suite", "winogrande", "--backend", "4bit"]
    call += ["--data-dir", str(place / "data"), "--out", str(tmp_path / "out"), "--json", "-"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert results["models"][0]["load"] == "4bit"
    assert results["rows"][0]["scores"]["moe"]["value"] is not None


def test_a_folder_without_weights_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.safetensors"):
        evaluate(tmp_path, tmp_path / "out", "empty", data_dir=place / "data")


def test_a_missing_second_model_is_told_before_the_first_is_asked(
    place: Path, tmp_path: Path
) -> None:
    counting = Counting()
    with pytest.raises(UsageError, match="no such folder"):
        evaluate(place, tmp_path, "base", "exxt", reporter=counting)
    assert counting.num_answers == 0


def test_vllm_is_told_when_it_is_missing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "has_package", lambda name: False)
    with pytest.raises(UsageError, match="--backend vllm needs the package vllm"):
        evaluate(place, tmp_path, backend="vllm")


def test_the_harness_is_told_when_it_is_missing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import PackageNotFoundError

    from lingraft.evals import harness

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(harness, "version", absent)
    with pytest.raises(UsageError, match=r"pip install 'lingraft\[eval\]'"):
        evaluate(place, tmp_path)


def test_tasks_that_run_code_of_models_are_refused(place: Path, tmp_path: Path) -> None:
    evaluate(place, tmp_path / "first")
    folder = tmp_path / "own"
    folder.mkdir()
    text = (tmp_path / "first/tasks/winogrande.yaml").read_text()
    (folder / "mine.yaml").write_text(text + "task: my_code\nunsafe_code: true\n")
    with pytest.raises(UsageError, match="my_code: it runs code that the model writes"):
        evaluate(place, tmp_path / "out", suite="my_code", data_dir=None, include_path=folder)


def test_the_command_prints_tables_and_writes_json(place: Path, tmp_path: Path) -> None:
    call = ["eval", str(place / "base"), str(place / "ext"), "--suite", "winogrande"]
    call += ["--data-dir", str(place / "data"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*call, "--json", str(tmp_path / "x/o.json"), "--published"])
    assert done.exit_code == 0, done.output
    assert "Winogrande" in done.output
    assert "82.08" in done.output
    saved = json.loads((tmp_path / "x/o.json").read_text())
    printed = CliRunner().invoke(app, [*call, "--json", "-", "--subjects"])
    assert json.loads(printed.stdout) == saved
    shown = CliRunner().invoke(app, [*call, "--subjects"])
    assert "note: winogrande: no training split" in shown.output


def test_bits_per_byte_are_a_suite_too(place: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("今天天气很好。" * 20)
    call = ["eval", str(place / "base"), "--suite", "bpb"]
    done = CliRunner().invoke(app, [*call, "--data-dir", str(tmp_path / "texts"), "--json", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["bytes"] == len("今天天气很好。".encode()) * 20
    refused = CliRunner().invoke(app, call)
    assert isinstance(refused.exception, UsageError)


@pytest.mark.parametrize("word", ["tensor_parallel_size", "=2"])
def test_arguments_for_vllm_are_pairs(word: str, place: Path) -> None:
    call = ["eval", str(place / "base"), "--suite", "zh", "--model-args", word]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, UsageError)
