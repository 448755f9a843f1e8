"""What `lingraft eval` found, put together for page and card: nothing is computed anew.

A suite's `results.json` holds scores with standard errors, differences to the base with their
intervals, and answers side by side; its shape is `lingraft.eval/1`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

__all__ = [
    "FORMAT",
    "Answer",
    "BenchmarkCell",
    "BenchmarkRow",
    "PublishedRow",
    "SampleRow",
    "Suite",
    "SuiteModel",
    "read_suite",
]

FORMAT = "lingraft.eval/1"
_SUITES = {
    "en": "English benchmarks",
    "leaderboard": "Open LLM Leaderboard, first version",
    "zh": "Chinese benchmarks",
}
_MOST_SAMPLES = 12
"""Items shown with their answers, of all benchmarks together."""
_WAY_OUT = "Make it again: lingraft eval MODEL... --suite NAME --out DIR."


@dataclass(frozen=True)
class SuiteModel:
    """A model of the comparison."""

    name: str
    average: float | None
    """Mean of the suite's scores, in percent; None where the suite has none."""


@dataclass(frozen=True)
class BenchmarkCell:
    """One model on one benchmark, in percent."""

    model: str
    value: float | None
    """None: nothing could be evaluated."""
    stderr: float | None
    change: float | None
    """To the base, in points; None for the base itself."""
    low: float | None
    high: float | None
    num_better: int | None
    """Items that the base had wrong, and this model right."""
    num_worse: int | None
    num_too_long: int
    """Items whose prompt was longer than the model's context."""
    best: bool

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference leaves 0 out."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


@dataclass(frozen=True)
class BenchmarkRow:
    """One benchmark, answered by every model."""

    name: str
    title: str
    num_fewshot: int
    metric: str
    num_items: int
    cells: tuple[BenchmarkCell, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What one model answered to one item."""

    model: str
    text: str
    right: bool


@dataclass(frozen=True)
class SampleRow:
    """One item, answered by every model."""

    title: str
    prompt: str
    target: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class PublishedRow:
    """A model's scores as others published them, in percent, by the benchmarks of the table."""

    model: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Suite:
    """A suite and its results."""

    name: str
    title: str
    harness: str
    limit: int | None
    """Items of each task, at most; None: all."""
    from_files: bool
    """Whether rows came from local files; else from the hub."""
    models: tuple[SuiteModel, ...]
    rows: tuple[BenchmarkRow, ...]
    samples: tuple[SampleRow, ...]
    published: tuple[PublishedRow, ...]
    published_source: str

    @property
    def has_average(self) -> bool:
        """Whether the suite's scores have a mean."""
        return any(model.average is not None for model in self.models)


def read_suite(path: Path) -> Suite:
    """Read a `results.json`.

    Raises:
        InputError: It is no such file, or a benchmark of it is not scored in percent.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["format"]
        if found != FORMAT:
            raise InputError(f"{path}: format {found!r}; expected {FORMAT!r}.", way_out=_WAY_OUT)
        other = next((row for row in content["rows"] if not row.get("percent", True)), None)
        if other is not None:
            raise InputError(
                f"{path}: {other['title']} is scored by {other['metric']}; expected percent.",
                effect="The report's table and bars would show it a hundred times too large.",
                way_out="Leave it out of report.benchmarks; its own results.md shows it.",
            )
        return _suite(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"{path}: not the results of an evaluation: {error!r}.", way_out=_WAY_OUT
        ) from None


def _suite(content: Mapping[str, Any]) -> Suite:
    names = [model["name"] for model in content["models"]]
    average = content.get("average") or {}
    models = [SuiteModel(name, _percent(average.get(name))) for name in names]
    titles = {row["benchmark"]: row["title"] for row in content["rows"]}
    published = content.get("published")
    return Suite(
        name=content["suite"],
        title=_SUITES.get(content["suite"], content["suite"]),
        harness=content["harness"],
        limit=content["limit"],
        from_files=content["data"]["kind"] == "local",
        models=tuple(models),
        rows=tuple(_row(row, names) for row in content["rows"]),
        samples=tuple(_sample(s, names, titles) for s in _spread(content["samples"])),
        published=tuple(_published(published, content["rows"])),
        published_source=published["source"] if published else "",
    )


def _row(row: Mapping[str, Any], names: Sequence[str]) -> BenchmarkRow:
    values = [row["scores"][name]["value"] for name in names]
    highest = max((value for value in values if value is not None), default=None)
    cells = [
        _cell(name, row["scores"][name], row["differences"].get(name), highest) for name in names
    ]
    return BenchmarkRow(
        name=row["benchmark"],
        title=row["title"],
        num_fewshot=int(row["num_fewshot"]),
        metric=row["metric"],
        num_items=int(row["num_items"]),
        cells=tuple(cells),
        notes=tuple(row["notes"]),
    )


def _cell(
    name: str, score: Mapping[str, Any], change: Mapping[str, Any] | None, highest: float | None
) -> BenchmarkCell:
    found = change or {}
    return BenchmarkCell(
        model=name,
        value=_percent(score["value"]),
        stderr=_percent(score["stderr"]),
        change=_percent(found.get("value")),
        low=_percent(found.get("low")),
        high=_percent(found.get("high")),
        num_better=found.get("num_better"),
        num_worse=found.get("num_worse"),
        num_too_long=int(score.get("num_too_long") or 0),
        best=score["value"] is not None and score["value"] == highest,
    )


def _spread(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Take samples of all benchmarks alike, the first ones of each, in the order they have."""
    taken: Counter[str] = Counter()
    ranks: list[int] = []
    for sample in samples:
        ranks.append(taken[sample["benchmark"]])
        taken[sample["benchmark"]] += 1
    first = sorted(range(len(samples)), key=ranks.__getitem__)[:_MOST_SAMPLES]
    return [samples[place] for place in sorted(first)]


def _sample(
    sample: Mapping[str, Any], names: Sequence[str], titles: Mapping[str, str]
) -> SampleRow:
    answers = [
        Answer(name, str(sample["answers"][name]["text"]), bool(sample["answers"][name]["right"]))
        for name in names
        if name in sample["answers"]
    ]
    title = titles.get(sample["benchmark"], sample["benchmark"])
    return SampleRow(title, str(sample["prompt"]), str(sample["target"]), tuple(answers))


def _published(
    found: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> list[PublishedRow]:
    """Rows that have a figure for one of the benchmarks at its shots."""
    keys = [f"{row['benchmark']}@{row['num_fewshot']}" for row in rows]
    listed = [
        PublishedRow(row["model"], tuple(row["values"].get(key) for key in keys))
        for row in (found or {}).get("rows", [])
    ]
    return [row for row in listed if any(value is not None for value in row.values)]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * float(value)
