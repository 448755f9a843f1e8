"""EleutherAI's lm-evaluation-harness, called piece by piece as its own command line does.

Tasks are loaded, told their shots and seeds, and evaluated with the harness's own functions, in the
order of `lm_eval.simple_evaluate`; so the numbers are those of `lm_eval run`. What differs: one
benchmark at a time, answers kept on the way, only the folders of task files that are needed.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, MissingPackageError, UsageError
from .suites import Benchmark

__all__ = [
    "SEEDS",
    "LoadedBenchmark",
    "harness_version",
    "load_benchmark",
    "make_manager",
    "quiet_harness",
    "run_benchmark",
    "task_root",
    "tasks_of",
]

SEEDS = (0, 1234, 1234, 1234)
"""Of Python, numpy, torch and the choice of examples: the harness's own defaults."""

_TESTED = "0.4.13"


class LoadedBenchmark(NamedTuple):
    """Tasks of the harness, told their shots."""

    benchmark: Benchmark
    tasks: dict[str, Any]
    groups: dict[str, Any]
    loaded: Any
    """What the harness's evaluator takes."""

    @property
    def num_fewshot(self) -> int:
        """Examples before each question; of a group with several numbers, the largest."""
        return max(int(task.get_config("num_fewshot") or 0) for task in self.tasks.values())


def harness_version() -> str:
    """Tell which harness is installed.

    Raises:
        MissingPackageError: None is.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise MissingPackageError(
            "lingraft eval needs EleutherAI's lm-evaluation-harness (package lm-eval).",
            way_out=f"pip install 'lingraft[eval]' (tested with lm-eval {_TESTED}).",
        ) from None


def task_root() -> Path:
    """Where the harness keeps its own task files."""
    import lm_eval.tasks

    assert lm_eval.tasks.__file__ is not None, "lm_eval.tasks is a package with a file"
    return Path(lm_eval.tasks.__file__).parent


@contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep the harness's progress bars and advice off the terminal; its errors pass."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "evaluate")]
    levels = [logger.level for logger in loggers]
    had_bars = datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with _no_bars(), redirect_stdout(sys.stderr):  # it prints what batches it finds
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not had_bars:
            datasets.enable_progress_bars()


@contextmanager
def _no_bars() -> Iterator[None]:
    """Silence the bar that the harness shows while it builds prompts; it has no switch for it."""
    import lm_eval.api.task as module

    original = module.tqdm
    module.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        module.tqdm = original


def make_manager(folders: Sequence[str | Path], *, all_tasks: bool) -> Any:
    """Make the harness's index of tasks.

    Args:
        folders: Folders of task files, later ones win; relative ones are the harness's own.
        all_tasks: Index everything that the harness has: 14,000 names, a quarter of a minute.
    """
    from lm_eval.tasks import TaskManager

    paths = [str(task_root() / folder) for folder in folders]
    return TaskManager(include_path=paths, include_defaults=all_tasks)


def tasks_of(manager: Any, name: str) -> list[str]:
    """Name the tasks of a group or tag, or a task itself, without loading anything."""
    entry = manager.task_index.get(name)
    if entry is None or "TASK" in entry.kind.name:
        return [name]
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    children = (entry.cfg or {}).get("task") or []
    names = [c if isinstance(c, str) else c.get("task") or c.get("group") for c in children]
    return [task for child in names if child for task in tasks_of(manager, child)]


def load_benchmark(manager: Any, benchmark: Benchmark) -> LoadedBenchmark:
    """Load a benchmark's tasks and their items.

    Raises:
        InputError: The items of a task can be had neither from the hub nor from this machine, or
            they have fewer examples than are asked for.
        UsageError: A task runs code that models write.
    """
    import huggingface_hub.errors as hub_errors

    try:
        loaded = manager.load([benchmark.task])
    except (OSError, ValueError, KeyError, hub_errors.HfHubHTTPError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{benchmark.task}: its items cannot be loaded: {first}",
            way_out="Check the network and HF_ENDPOINT, or read them from files: --data-dir DIR "
            "(layout: docs/evaluation.md).",
        ) from error
    for task in loaded["tasks"].values():
        _refuse_unsafe(task)
        own = task.get_config("num_fewshot")
        if benchmark.num_fewshot is not None and own != 0:
            task.set_config(key="num_fewshot", value=benchmark.num_fewshot)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        _refuse_few_examples(task)
    return LoadedBenchmark(benchmark, loaded["tasks"], loaded.get("groups", {}), loaded)


def _refuse_few_examples(task: Any) -> None:
    wanted, found = int(task.get_config("num_fewshot") or 0), len(task.sampler.df)
    if wanted > found:
        raise InputError(
            f"{task.task_name}: {wanted} examples are wanted before each question, and there are "
            f"{found}.",
            way_out="Ask for fewer (--num-fewshot), or give more in the data folder.",
        )


def _refuse_unsafe(task: Any) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise UsageError(
            f"{task.task_name}: it runs code that the model writes.",
            effect="A model's code would run with your rights.",
            way_out="Use the harness's own command line in a sandbox: lm_eval run "
            "--confirm_run_unsafe_code.",
        )


def run_benchmark(lm: Any, found: LoadedBenchmark, limit: int | None) -> dict[str, Any]:
    """Evaluate, as the harness's command line does from its seeds on.

    Returns:
        The harness's own results, with samples.
    """
    import numpy as np
    import torch
    from lm_eval.evaluator import evaluate

    random.seed(SEEDS[0])
    np.random.seed(SEEDS[1])
    torch.manual_seed(SEEDS[2])
    for task in found.tasks.values():
        task.set_fewshot_seed(seed=SEEDS[3])
    results: dict[str, Any] = evaluate(
        lm=lm, task_dict=found.loaded, limit=limit, log_samples=True, bootstrap_iters=100_000
    )
    return results
