"""Time `lingraft eval` against the harness's own command line, and compare every number.

Each benchmark is asked by processes of their own, one after the other: `lingraft eval` on files
(`--data-dir`), as it is (`apart`) and with `--share-prefixes` (`shared`), and `lm_eval run` on the
task folder that it wrote. Then every score, standard error and likelihood is compared: with
`apart` they must be equal, not close; with `shared` likelihoods differ in their last digits.

Timed: whole processes, imports and loading included. Not timed: the fetch of models and data.
Run:   python benchmarks/bench_eval.py --data-dir DIR --model DIR [--model DIR] --out DIR
           [--task TASK] [--items 200] [--full TASK] [--ways apart,shared] [--device cpu]
           [--dtype float32] [--batch-size 1] [--threads 2]
Row:   bench, task, model, shots, items, score of the first way, difference to the first model, the
       harness's wall and processor seconds, and for each way: metrics and answers compared and
       different, wall and processor seconds, seconds of the answering alone; machine, versions.
Read:  equal runs give equal answers on one machine only; times where machine is equal. Ours asks
       several models in one process, the harness one: a way's seconds are shared out evenly. On a
       machine with other work compare processor seconds, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

TASKS = ("ceval-valid", "cmmlu", "mmlu", "hellaswag", "arc_challenge", "truthfulqa_mc2",
         "winogrande", "gsm8k")  # fmt: skip


class Seconds(NamedTuple):
    """What a process took."""

    wall: float
    processor: float

    def over(self, count: int) -> dict[str, float]:
        """A model's share."""
        return {"wall_s": round(self.wall / count, 1), "cpu_s": round(self.processor / count, 1)}


def run_timed(command: list[str], log: Path, threads: int) -> Seconds:
    """Run to the end; its output goes into a file."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"OMP_NUM_THREADS": str(threads)}
    start_s, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        print(log.read_text(encoding="utf-8")[-3_000:], file=sys.stderr)
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.perf_counter() - start_s, processor)


def ask_lingraft(task: str, args: argparse.Namespace, out: Path, shared: bool) -> Seconds:
    """`lingraft eval` of all models."""
    command = [sys.executable, "-m", "lingraft", "eval", *map(str, args.model), "--suite", task]
    command += ["--data-dir", str(args.data_dir), "--out", str(out)]
    command += ["--device", args.device, "--dtype", args.dtype, "--batch-size", args.batch_size]
    command += ["--share-prefixes"] if shared else []
    if task not in args.full:
        command += ["--items", str(args.items)]
    return run_timed(command, out.with_name(f"{out.name}.lingraft.log"), args.threads)


def ask_harness(model: Path, score: dict[str, Any], task: str, out: Path, args: Any) -> Seconds:
    """`lm_eval run` of one model."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", task]
    command += ["--model_args", f"pretrained={model},dtype={args.dtype}"]
    command += ["--device", args.device, "--batch_size", args.batch_size]
    command += ["--include_path", str(out / "tasks"), "--log_samples"]
    command += ["--output_path", str(out / f"harness-{model.name}")]
    command += ["--num_fewshot", str(score["num_fewshot"])] if score["num_fewshot"] else []
    command += ["--limit", str(score["limit"])] if score["limit"] else []
    return run_timed(command, out / f"harness-{model.name}.log", args.threads)


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


def bench(task: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One benchmark: a row a model."""
    ways = args.ways.split(",")
    args.out.mkdir(parents=True, exist_ok=True)
    outs = {way: args.out / f"{task}-{way}" for way in ways}
    took = {way: ask_lingraft(task, args, out, way == "shared") for way, out in outs.items()}
    results = json.loads((outs[ways[0]] / "results.json").read_text(encoding="utf-8"))
    (row,) = results["rows"]
    rows = []
    for model in args.model:
        scores = {
            way: next(out.glob(f"models/{model.name}-*/{row['key']}.json"))
            for way, out in outs.items()
        }
        score = json.loads(scores[ways[0]].read_text(encoding="utf-8"))
        seconds = ask_harness(model, score, task, outs[ways[0]], args)
        harness = outs[ways[0]] / f"harness-{model.name}"
        of_ways = {}
        for way, path in scores.items():
            answering_s = json.loads(path.read_text(encoding="utf-8"))["time_s"]
            of_ways[way] = {
                **compare(path, harness),
                **took[way].over(len(args.model)),
                "answering_s": answering_s,
            }
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
                "harness": seconds.over(1),
                **of_ways,
                "device": args.device,
                "dtype": args.dtype,
                "batch_size": args.batch_size,
                "threads": args.threads,
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
    parser.add_argument("--ways", default="apart", help="apart, shared, or both with a comma")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    for name, default in (("device", "cpu"), ("dtype", "float32"), ("batch-size", "1")):
        parser.add_argument(f"--{name}", default=default)
    args = parser.parse_args()
    for task in args.task or TASKS:
        for row in bench(task, args):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
