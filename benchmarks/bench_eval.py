"""Time `lingraft eval` against the harness's own command line, and compare every number.

Each benchmark is asked twice, by processes of their own, one after the other: `lingraft eval` on
files (`--data-dir`), and `lm_eval run` on the task folder that it wrote. Then every score, standard
error and likelihood is compared; they must be equal, not close.

Timed: whole processes, imports and loading included. Not timed: the fetch of models and data.
Run:   python benchmarks/bench_eval.py --data-dir DIR --model DIR [--model DIR] --out DIR
           [--items 200] [--full TASK] [--share-prefixes] [--device cpu] [--dtype float32]
           [--batch-size 1]
Row:   bench, task, model, shots, items, scores, metrics compared and different, answers compared
       and different, harness_s, lingraft_s, shared (the same with `--share-prefixes`, whose
       likelihoods are expected to differ), machine, versions.
Read:  equal runs give equal answers on one machine only; times where machine is equal.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

TASKS = ("ceval-valid", "cmmlu", "mmlu", "hellaswag", "arc_challenge", "truthfulqa_mc2",
         "winogrande", "gsm8k")  # fmt: skip


def run_timed(command: list[str], log: Path) -> float:
    """Run to the end; its output goes into a file."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    start_s = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode:
        print(log.read_text(encoding="utf-8")[-3_000:], file=sys.stderr)
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return time.perf_counter() - start_s


def ask_lingraft(
    task: str, models: list[Path], args: argparse.Namespace, out: Path, share: bool = False
) -> float:
    """`lingraft eval` of all models."""
    command = [sys.executable, "-m", "lingraft", "eval", *map(str, models), "--suite", task]
    command += ["--data-dir", str(args.data_dir), "--out", str(out)]
    command += ["--device", args.device, "--dtype", args.dtype, "--batch-size", args.batch_size]
    command += ["--share-prefixes"] if share else []
    if task not in args.full:
        command += ["--items", str(args.items)]
    return run_timed(command, out.with_suffix(".lingraft.log"))


def ask_harness(model: Path, score: dict[str, Any], task: str, out: Path, args: Any) -> float:
    """`lm_eval run` of one model."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", task]
    command += ["--model_args", f"pretrained={model},dtype={args.dtype}"]
    command += ["--device", args.device, "--batch_size", args.batch_size]
    command += ["--include_path", str(out / "tasks"), "--log_samples"]
    command += ["--output_path", str(out / f"harness-{model.name}")]
    command += ["--num_fewshot", str(score["num_fewshot"])] if score["num_fewshot"] else []
    command += ["--limit", str(score["limit"])] if score["limit"] else []
    return run_timed(command, out / f"harness-{model.name}.log")


def read_harness(folder: Path) -> tuple[dict[str, Any], dict[tuple[str, int, str], list[Any]]]:
    """Results and answers, as the harness's command line wrote them."""
    (path,) = folder.rglob("results_*.json")
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    answers: dict[tuple[str, int, str], list[Any]] = {}
    for samples in folder.rglob("samples_*.jsonl"):
        task = samples.name.removeprefix("samples_").rsplit("_20", 1)[0]
        with samples.open(encoding="utf-8") as file:
            for row in map(json.loads, file):
                answers[task, row["doc_id"], row["filter"]] = row["resps"]
    return results, answers


def as_ours(responses: list[Any]) -> Any:
    """The one response to a request; the harness writes numbers as text."""
    (response,) = responses
    if isinstance(response, list):
        return [float(response[0]), str(response[1]) == "True"]
    return response


def compare(scores: Path, harness: Path) -> dict[str, Any]:
    """Compare everything that both wrote."""
    theirs, their_answers = read_harness(harness)
    ours = json.loads(scores.read_text(encoding="utf-8"))["results"]["results"]
    pairs = [
        (ours[name].get(key), value)
        for name, of_task in theirs.items()
        for key, value in of_task.items()
        if "," in key
    ]
    different, largest, count = 0, 0.0, 0
    with scores.with_suffix(".jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            found = their_answers.pop((row["task"], row["doc_id"], row["filter"]))
            mine = row.get("answers") or row["generated"]
            for own, their in zip(mine, map(as_ours, found), strict=True):
                count += 1
                if isinstance(own, list):
                    largest = max(largest, abs(own[0] - their[0]))
                different += own != their
    assert not their_answers, f"{len(their_answers)} answers of the harness have no counterpart"
    return {
        "metrics": len(pairs),
        "metrics_different": sum(own != their for own, their in pairs),
        "answers": count,
        "answers_different": different,
        "largest_difference": largest,
    }


def share_row(shared: Path, model: Path, key: str, out: Path, time_s: float) -> dict[str, Any]:
    """What `--share-prefixes` took, and how far it is from the harness."""
    if not time_s:
        return {}
    (scores,) = shared.glob(f"models/{model.name}-*/{key}.json")
    compared = compare(scores, out / f"harness-{model.name}")
    answering_s = json.loads(scores.read_text(encoding="utf-8"))["time_s"]
    return {"shared": compared | {"lingraft_s": round(time_s, 1), "answering_s": answering_s}}


def bench(task: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One benchmark: a row a model."""
    out: Path = args.out / task
    out.parent.mkdir(parents=True, exist_ok=True)
    lingraft_s = ask_lingraft(task, args.model, args, out)
    shared = out.with_name(f"{task}-shared")
    shared_s = ask_lingraft(task, args.model, args, shared, True) if args.share_prefixes else 0
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    (row,) = results["rows"]
    rows = []
    for model in args.model:
        (scores,) = out.glob(f"models/{model.name}-*/{row['key']}.json")
        score = json.loads(scores.read_text(encoding="utf-8"))
        harness_s = ask_harness(model, score, task, out, args)
        rows.append(
            {
                "bench": "eval",
                "task": task,
                "model": model.name,
                "shots": row["num_fewshot"],
                "items": row["num_items"],
                "score": row["scores"][model.name]["value"],
                "stderr": row["scores"][model.name]["stderr"],
                "difference": row["differences"].get(model.name),
                **compare(scores, out / f"harness-{model.name}"),
                "harness_s": round(harness_s, 1),
                "lingraft_s": round(lingraft_s / len(args.model), 1),
                **share_row(shared, model, row["key"], out, shared_s / len(args.model)),
                "lingraft_answering_s": row["scores"][model.name]["time_s"],
                "device": args.device,
                "dtype": args.dtype,
                "batch_size": args.batch_size,
                "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                "versions": {n: version(n) for n in ("lm_eval", "torch", "transformers")},
            }
        )
    return rows


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--full", action="append", default=[], choices=TASKS)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--share-prefixes", action="store_true", help="Also with them shared.")
    for name, default in (("device", "cpu"), ("dtype", "float32"), ("batch-size", "1")):
        parser.add_argument(f"--{name}", default=default)
    args = parser.parse_args()
    for task in args.task or TASKS:
        for row in bench(task, args):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
