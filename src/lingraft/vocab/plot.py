"""ALP over the number of added pieces: one panel an evaluation text, one line a curve."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from .alp import Curve, EvalFacts
from .choose import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "plot_curves"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's: told apart by most colour-blind readers, too."""

_PANEL_WIDTH, _HEIGHT, _DPI = 6.4, 5.2, 150  # inches, inches, dots an inch
_MOST_POINTS = 600
_STEEP_FRAC = 0.1
_INK, _GREY = "#222222", "#666666"
_MOST_IN_ONE_ROW, _COLUMNS = 4, 3
_FALLBACK_FONTS = (
    "Noto Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei", "SimHei",
)  # fmt: skip
_WORDS = {"gain": "choice", "knee": "choice, at the knee", "given": "given"}


def plot_curves(
    curves: Sequence[Curve],
    evals: Sequence[EvalFacts],
    choice: Choice,
    format: Literal["svg", "png"] = "svg",
) -> bytes:
    """Draw the curves; equal values give equal bytes.

    Args:
        curves: One for each number of single characters.
        evals: Evaluation texts, in the order of the curves' rows.
        choice: The vocabulary to mark.
        format: Kind of picture.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without the salt and with a date, ids inside the file would differ from run to run.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "lingraft"
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["font.family"] = _fonts([text.name for text in evals])
        rows, columns = _grid(len(evals))
        figure = Figure(figsize=(_PANEL_WIDTH * columns, _HEIGHT * rows), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
        _draw(figure, curves, evals, choice)
        content = io.BytesIO()
        nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[format]
        with warnings.catch_warnings():  # a name may hold characters that no font here has
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(content, format=format, dpi=_DPI, metadata=nothing)
    return content.getvalue()


def _grid(num_panels: int) -> tuple[int, int]:
    """Give rows and columns."""
    columns = num_panels if num_panels <= _MOST_IN_ONE_ROW else _COLUMNS
    return -(-num_panels // columns), columns


def _fonts(names: Sequence[str]) -> list[str]:
    """Give the fonts to look for a character in; of one that is not here matplotlib would warn.

    Plain names take matplotlib's own alone: an SVG holds the list, and would differ from machine
    to machine.
    """
    from matplotlib import font_manager

    if all(name.isascii() for name in names):
        return ["sans-serif"]
    known = {font.name for font in font_manager.fontManager.ttflist}
    return ["sans-serif", *(name for name in _FALLBACK_FONTS if name in known)]


def _draw(
    figure: Figure, curves: Sequence[Curve], evals: Sequence[EvalFacts], choice: Choice
) -> None:
    rows, columns = _grid(len(evals))
    for row, text in enumerate(evals):
        panel = figure.add_subplot(rows, columns, row + 1)
        for i, curve in enumerate(curves):
            _draw_curve(panel, row, curve, choice, COLOURS[i % len(COLOURS)])
        _set_heights(panel, row, curves, choice)
        _mark_sizes(panel, choice)
        panel.set_title(text.name, fontsize=12, color=_INK, parse_math=False)
        panel.set_xlabel("added pieces, single characters included")
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.grid(color="#e4e4e4", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines["top"].set_visible(False)
        is_last = row % columns == columns - 1 or row == len(evals) - 1
        _add_byte_axis(panel, text, is_last=is_last)
        if row % columns == 0:
            panel.set_ylabel("ALP: average log probability, nats per document")
        if row == 0:
            panel.legend(title="single characters", loc="lower right", framealpha=0.9)


def _draw_curve(panel: Axes, row: int, curve: Curve, choice: Choice, colour: str) -> None:
    sizes = curve.sample(_MOST_POINTS, choice.size)
    heights = [curve.alp_EK[row, size - curve.start] for size in sizes]
    chosen = curve.num_chars == choice.num_chars
    label = f"{curve.num_chars:,}{' (chosen)' if chosen else ''}"
    # The chosen curve lies below: where two run together, the thin one stays visible on it.
    panel.plot(
        sizes,
        heights,
        color=colour,
        linewidth=2.8 if chosen else 1.3,
        zorder=2 if chosen else 3,
        label=label,
    )
    if chosen:
        height = curve.alp_EK[row, choice.size - curve.start]
        panel.plot(
            [choice.size], [height], "o", color=colour, markersize=9,
            markeredgecolor="white", markeredgewidth=1.5, zorder=5,
        )  # fmt: skip


def _set_heights(panel: Axes, row: int, curves: Sequence[Curve], choice: Choice) -> None:
    """Let the steep beginning run out at the foot: drawn whole, it would flatten all the rest."""
    first, last = min(c.start for c in curves), max(c.end for c in curves)
    size = min(first + round(_STEEP_FRAC * (last - first)), choice.size)
    lows = [c.alp_EK[row, size - c.start] for c in curves if c.has(size)]
    low, high = min(lows, default=0.0), max(c.alp_EK[row].max() for c in curves)
    if high > low:
        panel.set_ylim(low - 0.05 * (high - low), high + 0.09 * (high - low))


def _mark_sizes(panel: Axes, choice: Choice) -> None:
    """Draw the choice's line, and the knee's where it is another."""
    _mark(panel, choice.size, f"{_WORDS[choice.rule]}: {choice.size:,}", "--", _INK, 0.965)
    if choice.knee is not None and choice.knee != choice.size:
        _mark(panel, choice.knee, f"knee: {choice.knee:,}", ":", _GREY, 0.03)


def _mark(panel: Axes, size: int, text: str, style: str, colour: str, height: float) -> None:
    panel.axvline(size, color=colour, linewidth=1.0, linestyle=style, zorder=1)
    # Curves rise to the right: on top, the free place is on the left; at the foot, on the right.
    low, high = panel.get_xlim()
    is_left = (size - low) / (high - low) > (0.3 if height > 0.5 else 0.5)
    panel.annotate(
        text,
        (size, height),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if is_left else 6, 0),
        textcoords="offset points",
        ha="right" if is_left else "left",
        va="center",
        color=colour,
        fontsize=10,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )


def _add_byte_axis(panel: Axes, text: EvalFacts, *, is_last: bool) -> None:
    """Give the same heights in nats per byte on the right: they compare from text to text."""
    per_byte = text.num_docs / text.num_bytes

    def scale(nats: Any) -> Any:
        return nats * per_byte

    def back(nats: Any) -> Any:
        return nats / per_byte

    axis = panel.secondary_yaxis("right", functions=(scale, back))
    axis.tick_params(colors=_GREY)
    if is_last:
        axis.set_ylabel("nats per byte", color=_GREY)
