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
        lines.append([model, *(_score(row["scores"][model]) for row in rows), *mean])
        if number:
            changes = [_change(row["differences"].get(model)) for row in rows]
            lines.append(["  to the base (95%)", *changes, *([""] if average else [])])
    if published:
        lines += _published_rows(rows, bool(average))
    return Table("percent, with standard errors", columns, lines)


def _heading(row: Mapping[str, Any]) -> str:
    return (
        f"{row['title']}\n{row['num_fewshot']} shots, {row['metric']}\n{row['num_items']:,} items"
    )


def _score(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return "-"
    stderr = score["stderr"]
    return f"{100 * score['value']:.2f}" + ("" if stderr is None else f" ±{100 * stderr:.2f}")


def _change(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    if found["low"] is None:
        return f"{100 * found['value']:+.2f}"
    return f"{100 * found['value']:+.2f} ({100 * found['low']:+.2f} to {100 * found['high']:+.2f})"


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
                "-" if subject["scores"][m] is None else f"{100 * subject['scores'][m]:.2f}"
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
    parts.append(
        "The harness's own command line gives the first model's numbers, in this folder:\n\n"
        + "\n".join(f"    {command}" for command in results["commands"])
    )
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
