"""The numbers are those of the harness's own command line, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import (
    save_model,
    write_arc,
    write_gsm8k,
    write_hellaswag,
    write_subjects,
    write_truthfulqa,
    write_winogrande,
)

pytest.importorskip("lm_eval", reason="needs the extra 'eval' (lm-evaluation-harness)")

from lingraft.evals.evaluating import EvalPlan, evaluate_models
from lingraft.evals.harness import make_manager, tasks_of
from lingraft.evals.items import read_items
from lingraft.evals.taskfolder import write_task_folder
from lingraft.progress import SilentReporter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the harness's and datasets' own
]

TASKS = [
    *("ceval-valid", "cmmlu_agronomy", "mmlu_stem"),  # a group, one subject, a group by sizes
    *("winogrande", "hellaswag", "arc_challenge", "gsm8k", "truthfulqa_mc2"),
]
NUM_SUBJECTS = {"ceval-valid": 52, "mmlu_stem": 19}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, benchmarks, and the harness's own results on one task folder of them all."""
    folder = tmp_path_factory.mktemp("equal")
    data = folder / "data"
    save_model(folder / "base")
    manager = make_manager(["ceval", "cmmlu", "mmlu/default", "winogrande", "hellaswag", "arc",
                            "gsm8k", "truthfulqa"], all_tasks=False)  # fmt: skip
    ceval, stem = (tasks_of(manager, group) for group in NUM_SUBJECTS)
    assert [len(ceval), len(stem)] == list(NUM_SUBJECTS.values())
    write_subjects(data, "ceval", [name.removeprefix("ceval-valid_") for name in ceval], 2)
    write_subjects(data, "cmmlu", ["agronomy"])
    for part, num_items in ((stem[:6], 2), (stem[6:], 3)):
        write_subjects(data, "mmlu", [name.removeprefix("mmlu_") for name in part], num_items)
    for write in (write_winogrande, write_hellaswag, write_arc, write_gsm8k, write_truthfulqa):
        write(data)
    configs = {n: Path(e.yaml_path) for n, e in manager.task_index.items() if e.yaml_path}
    names = ["ceval", "cmmlu", "mmlu", *TASKS[3:7], "truthfulqa"]
    write_task_folder(names, [], data, folder / "tasks", configs)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={folder / 'base'},dtype=float32"]
    command += ["--tasks", *TASKS, "--num_fewshot", "5", "--include_path", str(folder / "tasks")]
    command += ["--log_samples", "--output_path", str(folder / "harness")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_scores_and_answers_equal_those_of_the_harness(
    task: str, place: Path, tmp_path: Path
) -> None:
    plan = EvalPlan(task, place / "data", num_fewshot=5)
    evaluate_models([str(place / "base")], plan, out=tmp_path, reporter=SilentReporter())
    (path,) = tmp_path.glob("models/*/*.json")
    ours = json.loads(path.read_text())["results"]["results"]
    theirs = json.loads(next((place / "harness").rglob("results_*.json")).read_text())["results"]
    assert len(ours) == 1 + NUM_SUBJECTS.get(task, 0)
    for name, scores in ours.items():
        assert numbers(scores) == numbers(theirs[name])
    answers = their_answers(place / "harness")
    for row in read_items(path.with_suffix(".jsonl")):
        found = answers[row["task"], row["doc_id"], row["filter"]]
        if "answers" in row:
            assert [[float(a), str(b) == "True"] for ((a, b),) in found] == row["answers"]
        else:
            assert found == [[text] for text in row["generated"]]


def numbers(scores: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in scores.items() if "," in key}
    assert len(found) >= 2
    return found


def their_answers(folder: Path) -> dict[tuple[str, int, str], Any]:
    found = {}
    for path in folder.rglob("samples_*.jsonl"):
        task = path.name.removeprefix("samples_").rsplit("_20", 1)[0]
        for row in map(json.loads, path.read_text().splitlines()):
            found[task, row["doc_id"], row["filter"]] = row["resps"]
    return found
