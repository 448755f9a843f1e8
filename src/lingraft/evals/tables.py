"""Results as tables, for a terminal and for Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

__all__ = ["Table", "markdown", "published_figures", "result_table", "subject_table"]

Results = Mapping[str, Any]


class Table(NamedTuple):
    """Cells as text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def result_table(results: Results, *, published: bool) -> Table:
    """Benchmarks as columns, models as rows; under each score its standard error.

    Args:
        results: The content of `results.json`.
        published: Whether the reference's table follows.
    """
    rows = results["rows"]
    average = results["average"]
    columns = ["model", *(_heading(row) for row in rows), *(["average"] if average else [])]
    lines: list[list[str]] = []
    for number, model in enumerate(m["name"] for m in results["models"]):
        mean = [f"{100 * average[model]:.2f}"] if average else []
        lines.append([model, *(_score(row["scores"][model], row) for row in rows), *mean])
        if number:
            changes = [_change(row["differences"].get(model), row) for row in rows]
            lines.append(["  to the base (95%)", *changes, *([""] if average else [])])
    if published:
        lines += _published_rows(rows, bool(average))
    unit = "percent" if all(_is_percent(row) for row in rows) else "scores"
    return Table(f"{unit}, with standard errors", columns, lines)


def _heading(row: Mapping[str, Any]) -> str:
    return (
        f"{row['title']}\n{row['num_fewshot']} shots, {row['metric']}\n{row['num_items']:,} items"
    )


def _is_percent(row: Mapping[str, Any]) -> bool:
    """Whether a row's scores are shares; a perplexity is none, and is shown as it is."""
    return bool(row.get("percent", True))


def _number(value: float, row: Mapping[str, Any], sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}" if _is_percent(row) else f"{value:{sign},.4f}"


def _score(score: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return "-"
    stderr = score["stderr"]
    return _number(score["value"], row) + ("" if stderr is None else f" ±{_number(stderr, row)}")


def _change(found: Mapping[str, Any] | None, row: Mapping[str, Any]) -> str:
    if found is None:
        return "-"
    value, low, high = (
        None if found[name] is None else _number(found[name], row, "+")
        for name in ("value", "low", "high")
    )
    return f"{value}" if low is None else f"{value} ({low} to {high})"


def _published_rows(rows: Sequence[Mapping[str, Any]], average: bool) -> list[list[str]]:
    """Rows of the reference's own tables for these benchmarks at these shots; [] if it has none."""
    lines: list[list[str]] = []
    for entry in published_figures()["rows"]:
        values = [entry["values"].get(f"{row['benchmark']}@{row['num_fewshot']}") for row in rows]
        if any(value is not None for value in values):
            cells = ["" if value is None else f"{value:.2f}" for value in values]
            mean = [f"{entry['average']:.2f}" if "average" in entry else ""] if average else []
            lines.append([f"published: {entry['model']}", *cells, *mean])
    return lines


def published_figures() -> dict[str, Any]:
    """The reference's tables, as published, with their source."""
    text = files("lingraft.evals").joinpath("published.json").read_text(encoding="utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures


def subject_table(row: Mapping[str, Any], models: Sequence[str]) -> Table:
    """Subjects of one benchmark as rows."""
    lines = [
        [
            subject["title"],
            f"{subject['num_items']:,}",
            *(
                "-" if subject["scores"][m] is None else _number(subject["scores"][m], row)
                for m in models
            ),
        ]
        for subject in row["subjects"].values()
    ]
    return Table(f"{row['title']} by subject", ["subject", "items", *models], lines)


def markdown(results: Results) -> str:
    """Write everything that is printed as Markdown, with the notes."""
    parts = [f"# Evaluation: {results['suite']}", _pipes(result_table(results, published=False))]
    notes = [note for row in results["rows"] for note in row["notes"]]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    parts.append(
        f"lm-evaluation-harness {results['harness']}, lingraft {results['lingraft']}; differences: "
        f"paired bootstrap over items, {results['resamples']:,} draws, seed {results['seed']}."
    )
    if results["commands"]:
        parts.append(
            "The harness's own command line gives the first model's numbers, in this folder:\n\n"
            + "\n".join(f"    {command}" for command in results["commands"])
        )
    else:
        parts.append(f"The harness's own command line cannot repeat it: {results['no_commands']}.")
    names = [model["name"] for model in results["models"]]
    for row in results["rows"]:
        if row["subjects"]:
            table = subject_table(row, names)
            parts += [f"## {table.title}", _pipes(table)]
    return "\n\n".join(parts) + "\n"


def _pipes(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("\n", ", ").replace("|", "\\|") for c in cells) + " |"

    rule = "|" + "---|" * len(table.columns)
    return "\n".join([line(table.columns), rule, *map(line, table.rows)])
