"""Everything side by side: scores, differences to the base with their intervals, some items."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import VerifyError
from .compare import compare_items
from .harness import LoadedBenchmark
from .items import Row, chosen_text, read_items, shared_prompt, values_of
from .scoring_rule import averages_items, weights_of
from .spelling import spell_command, why_no_command
from .suites import Benchmark
from .tables import published_figures

__all__ = ["read_answers", "sum_up"]

_SAMPLES = 4
"""Items shown of each benchmark, those first on which models differ."""
_RIGHT = 0.5
_PROMPT_CHARS = 600


def sum_up(
    record: Mapping[str, Any],
    found: Sequence[LoadedBenchmark],
    places: Mapping[str, Path],
    sources: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Read every model's scores and items, and compare.

    Args:
        record: What was asked.
        found: The benchmarks.
        places: Model -> folder of its scores; the base first.
        sources: What each model was called in the command.
        resamples: Draws of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        The content of `results.json`.

    Raises:
        VerifyError: Answers are missing or damaged, or models were asked different items.
    """
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    told: dict[str, dict[str, Any]] = {}
    told_first: list[dict[str, Any]] = []
    for benchmark in found:
        key = benchmark.benchmark.key
        kept = {m: read_answers(place, key) for m, place in places.items()}
        scores, items = {m: k[0] for m, k in kept.items()}, {m: k[1] for m, k in kept.items()}
        _same_items(items)
        told |= {model: score["model"] for model, score in scores.items()}
        metric, filter_name = _metric_of(benchmark, items)
        row = _row(benchmark, metric, filter_name, scores)
        row |= _compared(benchmark, row, scores, items, resamples, seed)
        rows.append(row | {"notes": _notes(benchmark, record, scores)})
        told_first.append(next(iter(scores.values())))
        samples += _samples(benchmark.benchmark, items, metric, filter_name)
    models = [
        {"name": name, "source": source, **told.get(name, {})}
        for name, source in zip(places, sources, strict=True)
    ]
    return {
        **record,
        "seed": seed,
        "resamples": resamples,
        "models": models,
        "rows": rows,
        "average": _averages(rows, places),
        "samples": samples,
        "published": _published(rows),
        **_commands(found, record, told_first),
    }


def _commands(
    found: Sequence[LoadedBenchmark], record: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Spell the harness's commands for the first model; or tell why there are none.

    Args:
        found: The benchmarks.
        record: What was asked.
        scores: The first model's, benchmark by benchmark.
    """
    reasons = [why_no_command(record, score["model"], score["asked"]) for score in scores]
    reason = next((reason for reason in reasons if reason), "")
    if reason:
        return {"commands": [], "no_commands": reason}
    spelled = [
        spell_command(
            one.benchmark, record, score["model"], score["limit"], score["asked"]["batch_size"]
        )
        for one, score in zip(found, scores, strict=True)
    ]
    return {"commands": spelled, "no_commands": None}


def read_answers(place: Path, key: str) -> tuple[dict[str, Any], list[Row]]:
    """Read a model's scores and items of a benchmark.

    Raises:
        VerifyError: They are missing, damaged, or other than they were written.
    """
    path = place / f"{key}.json"
    try:
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        items, _ = scores["items"], scores["asked"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerifyError(
            f"{path}: scores cannot be read, or are of another version: {error!r}.",
            way_out="Remove the file to ask that model again, or evaluate anew with --redo.",
        ) from None
    return scores, read_items(place / f"{key}.jsonl", items)


def _same_items(items: Mapping[str, Sequence[Row]]) -> None:
    """Compare the items themselves: the hub may have changed between two models."""
    base = next(iter(items))
    hashes = {
        m: [(r["task"], r["doc_hash"], r["filter"]) for r in rows] for m, rows in items.items()
    }
    for model, found in hashes.items():
        if found != hashes[base]:
            raise VerifyError(
                f"'{model}' was asked other items than '{base}', or in another order.",
                effect="The difference would not be one of the models.",
                way_out="Evaluate anew with --redo.",
            )


def _metric_of(benchmark: LoadedBenchmark, items: Mapping[str, Sequence[Row]]) -> tuple[str, str]:
    """Name the metric to show: the benchmark's, or else the first of its first task."""
    if benchmark.benchmark.metric:
        return benchmark.benchmark.metric, benchmark.benchmark.filter
    first = next(iter(items.values()))[0]
    return next(iter(first["metrics"])), first["filter"]


def _row(
    found: LoadedBenchmark, metric: str, filter_name: str, scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    benchmark = found.benchmark
    first = next(iter(scores.values()))
    results = {model: _leaf_results(score) for model, score in scores.items()}
    subjects = {
        task: {
            "title": task.removeprefix(benchmark.task).lstrip("_"),
            "num_items": first["results"]["n-samples"][task]["effective"],
            "scores": {m: results[m][task].get(f"{metric},{filter_name}") for m in scores},
        }
        for task in found.tasks
        if task != benchmark.task
    }
    return {
        "benchmark": benchmark.task,
        "key": benchmark.key,
        "title": benchmark.title,
        "num_fewshot": first["num_fewshot"],
        "metric": metric,
        "filter": filter_name,
        "version": first["results"]["versions"].get(benchmark.task),
        "num_items": sum(n["effective"] for n in first["results"]["n-samples"].values()),
        "scores": {m: _score(benchmark.task, metric, filter_name, s) for m, s in scores.items()},
        "subjects": subjects,
    }


def _leaf_results(score: Mapping[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = score["results"]["results"]
    return results


def _score(task: str, metric: str, filter_name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    found = _leaf_results(score).get(task, {})
    stderr = found.get(f"{metric}_stderr,{filter_name}")
    return {
        "value": found.get(f"{metric},{filter_name}"),
        "stderr": stderr if isinstance(stderr, float) else None,
        "num_too_long": score["num_too_long"],
        "time_s": round(score["time_s"], 2),
        "others": {k: v for k, v in found.items() if "," in k},
    }


def _compared(
    found: LoadedBenchmark,
    row: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
    items: Mapping[str, Sequence[Row]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Tell the differences to the base, and whether the scores are shares, shown as percent.

    A score that is no mean of its items has a difference without an interval; a tag, which has no
    score, has none.
    """
    metric, filter_name = row["metric"], row["filter"]
    values = {model: values_of(rows, metric, filter_name) for model, rows in items.items()}
    base, *others = values
    is_mean = averages_items(found, metric) and bool(values[base])
    every = [value for of_model in values.values() for value in of_model.values()]
    percent = is_mean and all(0 <= value <= 1 for value in every)
    score_of = {model: score["value"] for model, score in row["scores"].items()}
    if score_of[base] is None:
        return {"percent": percent, "differences": {}}
    if not is_mean:
        plain = {"low": None, "high": None, "num_better": None, "num_worse": None}
        differences = {m: {"value": score_of[m] - score_of[base], **plain} for m in others}
        return {"percent": percent, "differences": differences}
    num_items = Counter(task for task, _ in values[base])
    results = _leaf_results(scores[base])
    weights = weights_of(found, metric, filter_name, results, num_items)
    return {
        "percent": percent,
        "differences": {
            model: compare_items(
                values[base], values[model], resamples=resamples, seed=seed, weights=weights
            )
            for model in others
        },
    }


def _notes(
    found: LoadedBenchmark, record: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Tell what a reader must know before comparing the row with others."""
    from .localdata import find_local

    notes: list[str] = []
    if record["data"]["kind"] == "local":
        own = record["data"]["benchmarks"].get(find_local(found.benchmark.task) or "", {})
        notes += own.get("notes", [])
    limit = next(iter(scores.values()))["limit"]
    if limit is not None:
        of = "each subject" if len(found.tasks) > 1 else "the benchmark"
        notes.append(f"the first {limit} items of {of} alone were asked")
    for model, score in scores.items():
        if score["num_too_long"]:
            notes.append(
                f"{model}: {score['num_too_long']:,} items are longer than its "
                f"{score['max_tokens']:,} tokens; their beginnings were cut, examples first, as "
                "the harness does"
            )
    return notes


def _averages(rows: Sequence[Mapping[str, Any]], places: Mapping[str, Path]) -> dict[str, float]:
    """Mean of the benchmarks, as the leaderboard showed it; {}: there is one benchmark alone."""
    if len(rows) < 2 or any(s["value"] is None for row in rows for s in row["scores"].values()):
        return {}
    return {
        model: sum(row["scores"][model]["value"] for row in rows) / len(rows) for model in places
    }


def _published(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The reference's figures, where it has any of these benchmarks at these shots."""
    keys = {f"{row['benchmark']}@{row['num_fewshot']}" for row in rows}
    figures = published_figures()
    return figures if any(keys & entry["values"].keys() for entry in figures["rows"]) else None


def _samples(
    benchmark: Benchmark, items: Mapping[str, Sequence[Row]], metric: str, filter_name: str
) -> list[dict[str, Any]]:
    """Pick items, spread over the benchmark: first those that the models answer differently."""
    table = {
        model: {(r["task"], r["doc_id"]): r for r in rows if r["filter"] == filter_name}
        for model, rows in items.items()
    }
    base = next(iter(table.values()))
    chosen = {i: {m: chosen_text(of[i], metric) for m, of in table.items()} for i in base}
    differ = [i for i, texts in chosen.items() if len(set(texts.values())) > 1]
    same = [i for i, texts in chosen.items() if len(set(texts.values())) == 1]
    picked = _spread(differ, _SAMPLES)
    picked += _spread(same, _SAMPLES - len(picked))
    return [
        {
            "benchmark": benchmark.task,
            "task": item[0],
            "doc_id": item[1],
            "prompt": shared_prompt(base[item])[-_PROMPT_CHARS:],
            "target": _target_text(base[item]),
            "answers": {
                model: {
                    "text": chosen[item][model],
                    "right": _is_right(rows[item]["metrics"].get(metric)),
                }
                for model, rows in table.items()
            },
        }
        for item in picked
    ]


def _is_right(value: Any) -> bool:
    """Of metrics that are a number; a likelihood with its words is neither right nor wrong."""
    return isinstance(value, int | float) and value > _RIGHT


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    number = min(number, len(items))
    return [items[n * len(items) // number] for n in range(number)]


def _target_text(row: Row) -> str:
    target, choices = row["target"], row.get("continuations", [])
    if isinstance(target, int) and 0 <= target < len(choices) and len(set(choices)) > 1:
        return str(choices[target]).strip()
    return str(target).strip()
