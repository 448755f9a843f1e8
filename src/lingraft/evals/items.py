"""What a model answered to each item: one row an item, to be read by people and compared.

The harness's samples repeat a prompt of a thousand tokens for every choice; here it stands once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import VerifyError
from ..manifest import file_sha256

__all__ = [
    "chosen_text",
    "item_rows",
    "last_question",
    "read_items",
    "shared_prompt",
    "values_of",
    "write_items",
]

Row = dict[str, Any]


def item_rows(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Row]:
    """Turn the harness's samples into rows.

    Args:
        samples: Task -> its samples; one a filter of the same item.

    Yields:
        `task`, `doc_id`, `filter`, `prompt` (or `prompts`, where they differ), `continuations` and
        their `answers` (log-likelihood, is it what greedy decoding gives), or `generated` and what
        the filter made of it, or `log_likelihood` of the whole text; `target`, `metrics` (name ->
        value), the harness's hashes, `doc`.
    """
    for task, of_task in samples.items():
        for sample in of_task:
            prompts = [args[0] for args in sample["arguments"]]
            row: Row = {"task": task, "doc_id": sample["doc_id"], "filter": sample["filter"]}
            if len(set(prompts)) == 1:
                row["prompt"] = prompts[0]
            else:
                row["prompts"] = prompts
            row |= _answers(sample)
            row["target"] = sample["target"]
            row["metrics"] = {name: sample[name] for name in sample["metrics"]}
            row |= {k: sample[k] for k in ("doc_hash", "prompt_hash", "target_hash", "doc")}
            yield row


def _answers(sample: Mapping[str, Any]) -> Row:
    first = sample["arguments"][0]
    if len(first) > 1 and isinstance(first[1], str):
        return {
            "continuations": [args[1] for args in sample["arguments"]],
            "answers": [list(answer) for answer in sample["filtered_resps"]],
        }
    if len(first) == 1:
        return {"log_likelihood": sample["filtered_resps"][0]}
    return {
        "generated": [text for resps in sample["resps"] for text in resps],  # a task may repeat
        "filtered": list(sample["filtered_resps"]),
    }


def write_items(path: Path, rows: Iterable[Row]) -> dict[str, Any]:
    """Write rows, whole or not at all.

    Returns:
        `num_rows` and `sha256` of the file, which `read_items` compares.
    """
    partial, num_rows = path.with_name(f"{path.name}.writing"), 0
    with partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
            num_rows += 1
    sha256 = file_sha256(partial)
    partial.replace(path)
    return {"num_rows": num_rows, "sha256": sha256}


def _plain(value: Any) -> Any:
    """Turn numpy's numbers into Python's; of anything else its text is kept."""
    return value.item() if hasattr(value, "item") else str(value)


def read_items(path: Path, written: Mapping[str, Any] | None = None) -> list[Row]:
    """Read rows.

    Args:
        path: The file.
        written: What `write_items` gave; None: it is not known, and nothing is compared.

    Raises:
        VerifyError: The file is gone, or was changed after it was written.
    """
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        problem = _changed(path, rows, written)
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {error}"
    if not problem:
        return rows
    raise VerifyError(
        f"{path}: answers of an earlier run {problem}.",
        effect="Models would be compared on other answers than they gave, or on part of the items.",
        way_out="Put the file back, or remove it and the .json beside it to ask them again.",
    )


def _changed(path: Path, rows: Sequence[Row], written: Mapping[str, Any] | None) -> str:
    if written is None:
        return ""
    if len(rows) != written["num_rows"]:
        return f"are {len(rows):,} rows; {written['num_rows']:,} were written"
    if file_sha256(path) != written["sha256"]:
        return "have other bytes than were written"
    return ""


def values_of(rows: Iterable[Row], metric: str, filter_name: str) -> dict[tuple[str, int], float]:
    """Give each item's value of a metric: 0 or 1, or a share.

    Returns:
        (task, doc_id) -> value; items whose value is no number are left out.
    """
    return {
        (row["task"], row["doc_id"]): float(row["metrics"][metric])
        for row in rows
        if row["filter"] == filter_name and isinstance(row["metrics"].get(metric), int | float)
    }


def last_question(prompt: str) -> str:
    """Take the question at a prompt's end, without the examples before it."""
    return re.split(r"\n\n+", prompt.strip())[-1]


def chosen_text(row: Row, metric: str) -> str:
    """Tell what the model chose or wrote, as the metric judges it."""
    if "log_likelihood" in row:
        return f"log-likelihood {row['log_likelihood']:.2f}"
    if "generated" in row:
        filtered = row["filtered"][0]
        return str(filtered[0] if isinstance(filtered, list) else filtered)
    choices = [text.strip() for text in row["continuations"]]
    scores = [answer[0] for answer in row["answers"]]
    if metric == "acc_norm":  # by the characters of the choice, as the harness does
        scores = [score / max(len(c), 1) for score, c in zip(scores, choices, strict=True)]
    best = max(range(len(scores)), key=scores.__getitem__)
    if "prompts" in row:  # the choices stand in the prompts, as Winogrande's
        return str(row["prompts"][best].removeprefix(_common_start(row["prompts"])).strip())
    return str(choices[best])


def _common_start(texts: Sequence[str]) -> str:
    """Give what all texts begin with, in whole words."""
    first, last = min(texts), max(texts)  # in order: what these two share, all share
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first if length is None else first[: first.rfind(" ", 0, length) + 1]


def shared_prompt(row: Row) -> str:
    """Give the question of an item, without the examples and without choices that stand in it."""
    prompt = row["prompt"] if "prompt" in row else _common_start(row["prompts"])
    return last_question(str(prompt))
