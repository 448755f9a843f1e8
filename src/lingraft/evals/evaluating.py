"""Evaluate models on benchmarks, the base first, and keep what each answered.

    OUT/evaluation.json           what was asked: suite, limit, versions, data files with sha256
    OUT/tasks/                    task files for the harness, where rows come from files
    OUT/models/NAME-KEY/          KEY: of the model's files and how it was loaded
        TASK@SHOTS.jsonl          each item: prompt, answers, metrics
        TASK@SHOTS.json           scores, as the harness gives them
    OUT/results.json              everything side by side

A killed run leaves `.TASK@SHOTS.jsonl.partial`, the answers so far; the same command goes on there.
Models can be added to an evaluation: those that are there are not asked again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import StaleError, UsageError, VerifyError
from ..progress import Progress, Reporter, SilentReporter
from ..store import disk_errors, lock_folder, write_json, write_text
from .answering import make_keeping_lm
from .backends import BACKENDS, HarnessModel, check_vllm, model_key
from .clearing import FORMAT, RECORD, clear_evaluation, clear_tasks, refuse_place
from .fitting import Fitting
from .harness import (
    LoadedBenchmark,
    harness_version,
    load_benchmark,
    make_manager,
    quiet_harness,
    run_benchmark,
    tasks_of,
)
from .items import item_rows, write_items
from .kept import Kept
from .owntasks import digest_tasks
from .placing import labels_of
from .plans import LoadPlan, check_plan
from .suites import FOLDERS, Benchmark, find_suite
from .summing import read_answers, sum_up
from .tables import markdown
from .taskfolder import (
    SOURCES,
    check_sources,
    local_benchmarks,
    missing_tasks,
    read_sources,
    write_task_folder,
)

__all__ = ["EvalPlan", "EvalResult", "evaluate_models"]

_TOO_LONG = ("cut", "refuse")


@dataclass(frozen=True)
class EvalPlan:
    """What is asked of every model, and how.

    Attributes:
        suite: A suite's name, or a task, group or tag of the harness.
        data_dir: Where benchmarks lie as files; None: the hub.
        include_path: Task files of the user's own.
        limit: Items of each task (of each subject), as the harness counts.
        items: Items of each benchmark, about: spread evenly over its tasks.
        num_fewshot: Replaces every benchmark's shots, but 0.
        backend: "transformers" or "vllm".
        load: How models are loaded.
        model_args: For vLLM.
        batch_size: Requests at once; "auto": as many as fit.
        share_prefixes: Whether what prompts begin with is read once; see `prefixes`.
        too_long: "cut", as the harness does and told; or "refuse".
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.
    """

    suite: str
    data_dir: Path | None = None
    include_path: Path | None = None
    limit: int | None = None
    items: int | None = None
    num_fewshot: int | None = None
    backend: str = "transformers"
    load: LoadPlan = field(default_factory=LoadPlan)
    model_args: dict[str, str] = field(default_factory=dict)
    batch_size: str = "1"
    share_prefixes: bool = False
    too_long: str = "cut"
    resamples: int = 10_000
    seed: int = 17


@dataclass(frozen=True)
class EvalResult:
    """What was found, and where it is."""

    folder: Path
    results: dict[str, Any]


def evaluate_models(
    models: Sequence[str],
    plan: EvalPlan,
    *,
    out: Path,
    redo: bool = False,
    reporter: Reporter | None = None,
) -> EvalResult:
    """Evaluate models and write `results.json`.

    Args:
        models: Folders, or OWNER/NAME of the hub; the base first.
        plan: What is asked.
        out: Folder to write; what an earlier call left there is used, if it asked the same.
        redo: Replace it instead.
        reporter: Told of progress.

    Raises:
        UsageError: The call cannot be carried out as asked.
        StaleError: The folder holds an evaluation that asked something else.
        VerifyError: Data files or answers changed since they were recorded.
        InputError: A model or a benchmark cannot be used.
    """
    reporter = reporter or SilentReporter()
    _check_plan(plan)
    labels = labels_of(models)
    named = [path for path in (Path(name).expanduser() for name in models) if path.is_dir()]
    refuse_place(out, [*named, *([plan.data_dir] if plan.data_dir else [])], redo=redo)
    harness = harness_version()
    with (
        lock_folder(out, place="--out DIR", other="--out OTHER"),
        disk_errors(out, place="--out DIR"),
        quiet_harness(),
    ):
        if redo:
            _open_all(models, labels, plan, out)  # a mistyped name is told before answers are lost
            clear_evaluation(out)
        benchmarks, manager = _find_benchmarks(plan, out, reporter)
        record = _record(plan, benchmarks, harness, out)
        _hold_to(out, record)
        if plan.data_dir is not None:
            _refuse_hub(benchmarks, manager, out / "tasks")
        found = [load_benchmark(manager, benchmark) for benchmark in benchmarks]
        places = _ask_all(models, labels, found, plan, out, reporter)
        results = sum_up(record, found, places, models, plan.resamples, plan.seed)
        write_text(out / "results.md", markdown(results))
        write_json(out / "results.json", results)
    return EvalResult(out, results)


def _ask_all(
    models: Sequence[str],
    labels: Sequence[str],
    found: Sequence[LoadedBenchmark],
    plan: EvalPlan,
    out: Path,
    reporter: Reporter,
) -> dict[str, Path]:
    """Ask one model after the other, and tell where the answers of each are."""
    # All are found and read in part before the first is asked: hours may lie between.
    opened, places = _open_all(models, labels, plan, out)
    for place in places.values():
        for benchmark in found:
            if (place / f"{benchmark.benchmark.key}.json").is_file():
                read_answers(place, benchmark.benchmark.key)
    for model in opened:
        places[model.label].mkdir(parents=True, exist_ok=True)
        for benchmark in found:
            _ask(model, benchmark, plan, places[model.label], reporter)
        model.close()
    return places


def _open_all(
    models: Sequence[str], labels: Sequence[str], plan: EvalPlan, out: Path
) -> tuple[list[HarnessModel], dict[str, Path]]:
    """Locate all models, and tell where the answers of each are to lie; nothing is written."""
    opened = [
        HarnessModel(
            name,
            label,
            plan.backend,
            plan.load,
            plan.model_args,
            plan.batch_size,
            plan.share_prefixes,
        )
        for name, label in zip(models, labels, strict=True)
    ]
    places = {
        model.label: out / "models" / f"{Path(model.label).name}-{model_key(model)[:12]}"
        for model in opened
    }
    return opened, places


def _check_plan(plan: EvalPlan) -> None:
    if plan.backend not in BACKENDS:
        raise UsageError(f"--backend {plan.backend}: expected one of {', '.join(BACKENDS)}.")
    if plan.backend == "transformers":
        check_plan(plan.load)
        if plan.model_args:
            raise UsageError("--model-args: they go to vLLM; expected --backend vllm with them.")
    else:
        check_vllm(plan.load, plan.model_args)
    if plan.share_prefixes and (plan.backend != "transformers" or plan.batch_size == "auto"):
        raise UsageError(
            "--share-prefixes: expected --backend transformers or 4bit, and a number of "
            "--batch-size.",
            way_out="vLLM shares them by itself.",
        )
    if plan.too_long not in _TOO_LONG:
        raise UsageError(f"--too-long {plan.too_long}: expected one of {', '.join(_TOO_LONG)}.")
    if plan.limit is not None and plan.items is not None:
        raise UsageError(
            "--limit and --items: both say how many items to ask; expected one of them.",
            way_out="--limit N takes N of every subject, --items N about N of every benchmark.",
        )
    if (not plan.batch_size.isdigit() and plan.batch_size != "auto") or plan.batch_size == "0":
        raise UsageError(f"--batch-size {plan.batch_size}: expected a number from 1 on, or auto.")
    for option, path in (("--data-dir", plan.data_dir), ("--include-path", plan.include_path)):
        if path is not None and not path.is_dir():
            raise UsageError(f"{option} {path}: no such folder.", way_out="Check the path.")


def _find_benchmarks(
    plan: EvalPlan, out: Path, reporter: Reporter
) -> tuple[tuple[Benchmark, ...], Any]:
    """Find the suite, write its task folder where rows come from files, and index the tasks."""
    own = [plan.include_path.resolve()] if plan.include_path else []
    folders: list[Path | str] = [*FOLDERS, *own]
    manager, everything = make_manager(folders, all_tasks=False), False
    names = manager.all_tasks
    benchmarks = find_suite(plan.suite, plan.num_fewshot, names, complete=False)
    if benchmarks is None:
        reporter.note("looking through all tasks of the harness")
        manager, everything = make_manager(own, all_tasks=True), True
        names = manager.all_tasks
        benchmarks = find_suite(plan.suite, plan.num_fewshot, names, complete=True)
        assert benchmarks is not None, "find_suite tells with all names"
    if plan.data_dir is not None:
        _make_task_folder(benchmarks, plan.data_dir, out / "tasks", manager)
        tasks = (out / "tasks").resolve()
        manager = make_manager([*(own if everything else folders), tasks], all_tasks=everything)
    return benchmarks, manager


def _make_task_folder(
    benchmarks: Sequence[Benchmark], data_dir: Path, folder: Path, manager: Any
) -> None:
    if (folder / SOURCES).is_file():
        if (folder.parent / RECORD).is_file():
            check_sources(read_sources(folder), data_dir, folder)
            return
        clear_tasks(folder)  # a run that ended before its first question left it, of any suite
    configs = {
        name: Path(entry.yaml_path) for name, entry in manager.task_index.items() if entry.yaml_path
    }
    names = local_benchmarks(benchmark.task for benchmark in benchmarks)
    wanted = [task for b in benchmarks for task in tasks_of(manager, b.task)]
    write_task_folder(names, wanted, data_dir, folder, configs)


def _refuse_hub(benchmarks: Sequence[Benchmark], manager: Any, folder: Path) -> None:
    """Refuse a task folder that lacks a task: the harness would fetch its rows in silence."""
    wanted = [task for b in benchmarks for task in tasks_of(manager, b.task)]
    missing = missing_tasks(read_sources(folder), wanted)
    if missing:
        raise VerifyError(
            f"{folder}: holds no rows of {len(missing):,} tasks, the first is '{missing[0]}'.",
            effect="They would be fetched from the hub.",
            way_out="Evaluate anew with --redo.",
        )


def _record(
    plan: EvalPlan, benchmarks: Sequence[Benchmark], harness: str, out: Path
) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": "hub"}
    if plan.data_dir is not None:
        sources = read_sources(out / "tasks")
        data = {"kind": "local", "folder": sources["folder"], "benchmarks": sources["benchmarks"]}
    return {
        "format": FORMAT,
        "lingraft": __version__,
        "harness": harness,
        "suite": plan.suite,
        "benchmarks": [benchmark.key for benchmark in benchmarks],
        "limit": plan.limit,
        "items": plan.items,
        "too_long": plan.too_long,
        "include_path": str(plan.include_path.resolve()) if plan.include_path else None,
        "task_files": digest_tasks(plan.include_path, out),
        "data": data,
    }


def _hold_to(out: Path, record: dict[str, Any]) -> None:
    """Write the record, or compare with the one that is there."""
    path = out / RECORD
    if not path.is_file():
        write_json(path, record)
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VerifyError(
            f"{path}: not JSON: {error}.", way_out="Name another folder with --out."
        ) from None
    if not isinstance(kept, dict):
        raise VerifyError(f"{path}: holds no record.", way_out="Name another folder with --out.")
    for key, value in record.items():
        if key != "lingraft" and kept.get(key) != json.loads(json.dumps(value)):
            was, now = (json.dumps(v, ensure_ascii=False)[:80] for v in (kept.get(key), value))
            raise StaleError(
                f"{out}: holds an evaluation whose {key} was {was}; now it is {now}.",
                effect="Models would be compared on different questions.",
                way_out="Name another folder with --out, or evaluate anew with --redo.",
            )


def _ask(
    model: HarnessModel, found: LoadedBenchmark, plan: EvalPlan, place: Path, reporter: Reporter
) -> None:
    """Ask a model one benchmark, unless its answers are there."""
    key = found.benchmark.key
    scores = place / f"{key}.json"
    if scores.is_file():
        return
    lm = model.open(reporter)
    fitting = Fitting(model.label, lm, refuse=plan.too_long == "refuse")
    limit = plan.limit
    if plan.items is not None:
        limit = max(-(-plan.items // len(found.tasks)), 1)

    def open_task(total: int, done: int) -> AbstractContextManager[Progress]:
        return reporter.task(f"{model.label}: {found.benchmark.title}", total, "answers", done)

    start_s = time.monotonic()
    items = place / f"{key}.jsonl"
    identity = {"benchmark": key, "harness": harness_version(), "num_tasks": len(found.tasks)}
    with Kept(items, identity) as kept:
        num_before = kept.num_found
        if kept.damage:
            reporter.note(kept.damage)
        keeping = make_keeping_lm(
            lm,
            model.label,
            kept,
            open_task=open_task,
            inspect=fitting.inspect,
            chunk=model.chunk,
        )
        results = run_benchmark(keeping, found, limit)
        written = write_items(items, item_rows(results.pop("samples")))
        # within, or a full disk would take the answers with it
        write_json(
            scores,
            {
                "model": model.describe(),
                "asked": {
                    "batch_size": plan.batch_size,
                    "attn": plan.load.attn,
                    "device": plan.load.device,
                },
                "items": written,
                "num_fewshot": found.num_fewshot,
                "limit": limit,
                "num_too_long": fitting.num_items,
                "max_tokens": fitting.context,
                "answers_kept_from_before": num_before,
                "time_s": time.monotonic() - start_s,
                "results": {k: results[k] for k in ("results", "versions", "n-shot", "n-samples")}
                | {
                    "groups": results.get("groups", {}),
                    "group_subtasks": results["group_subtasks"],
                },
            },
        )
