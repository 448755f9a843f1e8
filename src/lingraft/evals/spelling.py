"""The command of the harness that gives the same numbers, spelled to be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .suites import Benchmark

__all__ = ["spell_command", "why_no_command"]


def why_no_command(
    record: Mapping[str, Any], model: Mapping[str, Any], asked: Mapping[str, str]
) -> str:
    """Tell why the harness's command line cannot repeat an evaluation; "": it can.

    Args:
        record: What was asked.
        model: How the model was loaded, as its scores tell.
        asked: `batch_size`, `attn` and `device`, as they were asked for.
    """
    two_folders = record["data"]["kind"] == "local" and record["include_path"]
    reasons = {
        f"the backend was {model['backend']}": model["backend"] != "transformers",
        "--share-prefixes reads prompts in another way": model.get("share_prefixes"),
        f"lingraft loads models in {model['load']} by code of its own": model["load"] != "full",
        f"--attn {asked['attn']} chose the attention": asked["attn"],
        "--device split spread the model over GPUs": asked["device"] == "split",
        "the model's path holds a comma, at which it cuts --model_args": "," in model["folder"],
        "it takes one folder of task files, and there were two": two_folders,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def spell_command(
    benchmark: Benchmark,
    record: Mapping[str, Any],
    model: Mapping[str, Any],
    limit: int | None,
    batch_size: str,
) -> str:
    """Spell the command that gives the model's numbers on a benchmark, for a POSIX shell.

    Args:
        benchmark: The benchmark.
        record: What was asked.
        model: How the model was loaded.
        limit: Items of each task; None: all.
        batch_size: Requests at once.
    """
    arguments = f"pretrained={Path(model['folder']).absolute()}"
    if model.get("dtype"):
        arguments += f",dtype={model['dtype']}"
    words = ["lm_eval", "run", "--model", "hf", "--model_args", arguments]
    words += ["--device", str(model.get("device", "cpu")), "--tasks", benchmark.task]
    if benchmark.num_fewshot is not None:
        words += ["--num_fewshot", str(benchmark.num_fewshot)]
    if limit is not None:
        words += ["--limit", str(limit)]
    if batch_size != "1":
        words += ["--batch_size", batch_size]
    if model.get("trust_remote_code"):
        words.append("--trust_remote_code")
    if record["data"]["kind"] == "local":
        words += ["--include_path", "tasks"]
    elif record["include_path"]:
        words += ["--include_path", record["include_path"]]
    return shlex.join(words)
