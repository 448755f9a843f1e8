"""What is made of the measurements of `bench_embed.py`: a table in Markdown and a plot."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Line", "summarize", "table", "write_figures"]

INK, MUTED = "#222222", "#7f7f7f"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", ":")


class Line(NamedTuple):
    """A candidate over its seeds."""

    name: str
    steps: list[int]
    zh: list[list[float]]
    """Bits per byte of each seed, at each step."""
    en: list[list[float]]
    seeds: int
    rows_s: float


def summarize(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, float], list[Line]]:
    """Put the seeds of each candidate together; best at the end first.

    Returns:
        Bits per byte of the base itself, and the candidates whose every seed came to its end.
    """
    base: dict[str, float] = next(
        (row["points"][0]["bpb"] for row in rows if row["method"] == "base"), {}
    )
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row.get("complete"):
            head = row["head_method"]
            same = head is None or head == row["method"]
            groups[row["method"] if same else f"{row['method']} / {head}"].append(row)
    lines = []
    for name, runs in groups.items():
        steps = [point["step"] for point in runs[0]["points"]]
        zh, en = (
            [[run["points"][n]["bpb"][text] for run in runs] for n in range(len(steps))]
            for text in ("zh", "en")
        )
        seconds = statistics.mean(run["rows_s"] for run in runs)
        lines.append(Line(name, steps, zh, en, len(runs), seconds))
    return base, sorted(lines, key=lambda line: statistics.mean(line.zh[-1]))


def table(base: Mapping[str, float], lines: Sequence[Line], row_steps: int) -> str:
    """Give the table: before training, after the rows' steps, after all; spread over seeds."""
    marks = [0, row_steps, lines[0].steps[-1]] if lines else []
    head = [
        "input / head method",
        "zh before",
        "zh rows",
        "zh all",
        "en before",
        "en all",
        "rows, s",
    ]
    out = [head, ["---"] + ["---:"] * (len(head) - 1)]
    if base:
        out.append(["*base, own ids*", f"{base['zh']:.3f}", "", "", f"{base['en']:.3f}", "", ""])
    for line in lines:
        at = [line.steps.index(mark) for mark in marks]
        cells = [_mean(line.zh[n]) for n in at] + [_mean(line.en[at[0]]), _mean(line.en[at[-1]])]
        out.append([line.name, *cells, f"{line.rows_s:.1f}"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in out)


def _mean(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}"


def write_figures(log: Path, folder: Path) -> str:
    """Write `table.md`, `embed-quality.svg` and `.png`; give the table."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    base, lines = summarize(rows)
    if not lines:
        return "no candidate came to its end"
    text = table(base, lines, rows[-1]["row_steps"])
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    for ending in ("svg", "png"):
        draw(base, lines, rows[-1], folder / f"embed-quality.{ending}")
    return text


def draw(
    base: Mapping[str, float], lines: Sequence[Line], about: Mapping[str, Any], path: Path
) -> None:
    """Draw curves of the new language, and where the base's language ends beside it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"], mpl.rcParams["svg.fonttype"] = "lingraft", "none"
        height = 2.2 + 0.24 * len(lines)
        figure = Figure(figsize=(10.5, max(height, 4.6)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
        for number, line in enumerate(lines):
            style = {
                "color": COLORS[number % len(COLORS)],
                "linestyle": DASHES[number // len(COLORS) % len(DASHES)],
            }
            means = [statistics.mean(values) for values in line.zh]
            left.plot(
                line.steps,
                means,
                marker="o",
                markersize=3,
                label=f"{number + 1}  {line.name}",
                **style,
            )
            right.plot(
                statistics.mean(line.zh[-1]),
                statistics.mean(line.en[-1]),
                "o",
                color=style["color"],
            )
            right.annotate(
                str(number + 1),
                (statistics.mean(line.zh[-1]), statistics.mean(line.en[-1])),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=6.5,
                color=INK,
            )
        if base:
            left.axhline(base["zh"], color=MUTED, linewidth=1)
            left.annotate("base, own ids", (0, base["zh"]), fontsize=7, color=MUTED, va="bottom")
            right.axhline(base["en"], color=MUTED, linewidth=1)
        left.axvline(about["row_steps"], color=MUTED, linewidth=0.6, linestyle=":")
        left.set_title("new language: new rows alone, then everything", fontsize=9, loc="left")
        left.set_xlabel(f"steps of {about['tokens_per_step']:,} tokens")
        left.set_ylabel("bits per byte, held out")
        left.legend(fontsize=6.5, frameon=False)
        right.set_title("at the end: new language and the base's", fontsize=9, loc="left")
        right.set_xlabel("new language, bits per byte")
        right.set_ylabel("base's language, bits per byte")
        for panel in (left, right):
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=7)
        nothing: Any = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
        figure.savefig(path, dpi=150, metadata=nothing[path.suffix])
