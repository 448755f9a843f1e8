"""Everything side by side: scores, differences to the base with their intervals, some items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import VerifyError
from .compare import compare_items
from .harness import LoadedBenchmark
from .items import Row, chosen_text, read_items, shared_prompt, values_of
from .suites import Benchmark
from .tables import published_figures

__all__ = ["sum_up"]

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
    for benchmark in found:
        key = benchmark.benchmark.key
        scores = {m: _read_scores(place / f"{key}.json") for m, place in places.items()}
        items = {m: read_items(place / f"{key}.jsonl") for m, place in places.items()}
        _same_items(items)
        told |= {model: score["model"] for model, score in scores.items()}
        metric, filter_name = _metric_of(benchmark, next(iter(scores.values())), items)
        differences = _differences(items, metric, filter_name, resamples, seed)
        row = _row(benchmark, metric, filter_name, scores)
        rows.append(row | {"differences": differences, "notes": _notes(benchmark, record, scores)})
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
        "commands": [_command(b.benchmark, record, models[0], _limit_of(places, b)) for b in found],
    }


def _limit_of(places: Mapping[str, Path], benchmark: LoadedBenchmark) -> int | None:
    """Tell how many items of each task were asked; None: all."""
    place = next(iter(places.values()))
    limit = _read_scores(place / f"{benchmark.benchmark.key}.json")["limit"]
    return None if limit is None else int(limit)


def _read_scores(path: Path) -> dict[str, Any]:
    try:
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VerifyError(
            f"{path}: scores cannot be read: {error}.",
            way_out="Remove the file to ask that model again, or evaluate anew with --redo.",
        ) from None
    return scores


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


def _metric_of(
    benchmark: LoadedBenchmark, score: Mapping[str, Any], items: Mapping[str, Sequence[Row]]
) -> tuple[str, str]:
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


def _differences(
    items: Mapping[str, Sequence[Row]], metric: str, filter_name: str, resamples: int, seed: int
) -> dict[str, Any]:
    values = {model: values_of(rows, metric, filter_name) for model, rows in items.items()}
    base, *others = values
    return {
        model: compare_items(values[base], values[model], resamples=resamples, seed=seed)
        for model in others
        if values[base]
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
                    "right": (rows[item]["metrics"].get(metric) or 0) > _RIGHT,
                }
                for model, rows in table.items()
            },
        }
        for item in picked
    ]


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    number = min(number, len(items))
    return [items[n * len(items) // number] for n in range(number)]


def _target_text(row: Row) -> str:
    target, choices = row["target"], row.get("continuations", [])
    if isinstance(target, int) and 0 <= target < len(choices) and len(set(choices)) > 1:
        return str(choices[target]).strip()
    return str(target).strip()


def _command(
    benchmark: Benchmark, record: Mapping[str, Any], model: Mapping[str, Any], limit: int | None
) -> str:
    """Spell the harness's own command that gives the base's numbers of this row."""
    words = [f"lm_eval run --model hf --model_args pretrained={model.get('folder')}"]
    words[0] += f",dtype={model.get('dtype')}" if model.get("dtype") else ""
    words.append(f"--device {model.get('device', 'cpu')} --tasks {benchmark.task}")
    if benchmark.num_fewshot is not None:
        words.append(f"--num_fewshot {benchmark.num_fewshot}")
    if limit is not None:
        words.append(f"--limit {limit}")
    if record["data"]["kind"] == "local":
        words.append("--include_path tasks")
    elif record["include_path"]:
        words.append(f"--include_path {record['include_path']}")
    return " ".join(words)
