"""`report.html`: one page that opens from disk, with its style and its plots inside.

Everything that comes from data is escaped by the template engine; the vocabulary search's own
plot goes in as an image, where no script or style of it can reach the page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment
from markupsafe import Markup

from ..formats import show_bpb
from ..pages import page_environment
from .benchmarks import BenchmarkCell, Suite
from .curves import Curves
from .figures import Bar, BarGroup, Series, bar_chart, line_chart, thin
from .settings import ReportSettings
from .summary import Summary, language_name, model_name

__all__ = ["Page", "pair_samples", "render_page"]

_MOST_POINTS = 400


class Page(NamedTuple):
    """The page and what is in it."""

    html: str
    num_plots: int
    """Plots, the vocabulary search's included."""


def render_page(
    settings: ReportSettings,
    summary: Summary,
    curves: Curves,
    alp_svg: bytes,
    suites: Sequence[Suite] = (),
) -> Page:
    """Render the report.

    Args:
        settings: Title and notes.
        summary: Tables and facts of the run.
        curves: Training loss and validations.
        alp_svg: The plot of the vocabulary search, an SVG file.
        suites: Results of benchmarks.
    """
    plots = {
        "scores": _score_bars(summary),
        "loss": _loss_plot(curves),
        "valid": _valid_plot(curves),
    }
    html = (
        _environment()
        .get_template("report.html")
        .render(
            report=settings,
            run=summary,
            facts=summary.facts,
            settings=summary.settings,
            curves=curves,
            has_intervals=any(cell.interval for row in summary.scores for cell in row.cells),
            loss_steps=thin(curves.loss, _MOST_POINTS)[1],
            suites=[(suite, Markup(_suite_bars(suite))) for suite in suites],
            plots={name: Markup(svg) for name, svg in plots.items()},
            alp_uri="data:image/svg+xml;base64," + base64.b64encode(alp_svg).decode("ascii"),
            samples=pair_samples(summary.facts["evals"]["samples"], summary.models),
        )
    )
    return Page(html, 1 + len(suites) + sum(bool(svg) for svg in plots.values()))


def pair_samples(
    samples: Sequence[dict[str, str]], models: Sequence[str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group continuations by prompt, in the order of prompts, each with one text per model."""
    by_prompt: dict[str, dict[str, str]] = {}
    for sample in samples:
        by_prompt.setdefault(sample["prompt"], {})[sample["model"]] = sample["text"]
    return [
        (prompt, [(model, texts.get(model, "–")) for model in models])
        for prompt, texts in by_prompt.items()
    ]


def _environment() -> Environment:
    environment = page_environment("report")
    environment.filters.update(language=language_name, model=model_name, pretty=_pretty)
    return environment


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _score_bars(summary: Summary) -> str:
    groups = [
        BarGroup(
            row.name,
            tuple(Bar(model_name(c.model), c.bpb, show_bpb(c.bpb)) for c in row.cells),
        )
        for row in summary.scores
        if row.whole_language
    ]
    told = "; ".join(
        f"{group.name}: " + ", ".join(f"{bar.name} {bar.text}" for bar in group.bars)
        for group in groups
    )
    return bar_chart(groups, label=f"Bits per byte by language and model. {told}")


def _suite_bars(suite: Suite) -> str:
    groups = [BarGroup(row.title, tuple(map(_suite_bar, row.cells))) for row in suite.rows]
    told = "; ".join(
        f"{group.name}: " + ", ".join(f"{bar.name} {bar.text}" for bar in group.bars)
        for group in groups
    )
    return bar_chart(groups, label=f"{suite.title}, percent by benchmark and model. {told}")


def _suite_bar(cell: BenchmarkCell) -> Bar:
    if cell.value is None:
        return Bar(cell.model, 0.0, "–")
    spread = None
    if cell.stderr is not None:
        spread = (max(cell.value - cell.stderr, 0.0), cell.value + cell.stderr)
    return Bar(cell.model, cell.value, f"{cell.value:.1f}", spread)


def _loss_plot(curves: Curves) -> str:
    if not curves.loss:
        return ""
    points, _ = thin(curves.loss, _MOST_POINTS)
    first, last = points[0][1], points[-1][1]
    return line_chart(
        [Series("training loss", points)],
        label=f"Training loss over tokens: from {first:.3f} to {last:.3f} nats per token",
        x_label="tokens trained on",
        y_label="nats per token",
        markers=False,
    )


def _valid_plot(curves: Curves) -> str:
    names = sorted({name for row in curves.valid for name in row.bpb})
    if not names:
        return ""
    series = [
        Series(name, tuple((float(r.tokens), r.bpb[name]) for r in curves.valid if name in r.bpb))
        for name in names
    ]
    told = "; ".join(f"{s.name} from {s.points[0][1]:.3f} to {s.points[-1][1]:.3f}" for s in series)
    return line_chart(
        series,
        label=f"Validation bits per byte over tokens: {told}",
        x_label="tokens trained on",
        y_label="bits per byte",
        markers=True,
    )
