"""ALP over the number of added pieces: one panel an evaluation text, one line a curve."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .alp import Curve
from .choose import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_curves"]

_PANEL_WIDTH, _HEIGHT = 5.6, 4.6  # inches
_MOST_POINTS = 400
# Okabe and Ito's colours: told apart by most colour-blind readers, too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_GREY = "#666666"


def plot_curves(curves: Sequence[Curve], names: Sequence[str], choice: Choice) -> str:
    """Draw the curves as SVG; equal values give equal text.

    Args:
        curves: One for each number of single characters.
        names: Evaluation texts, in the order of the curves' rows.
        choice: The vocabulary to mark.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without the salt and with a date, ids inside the file would differ from run to run.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "lingraft"
        mpl.rcParams["svg.fonttype"] = "none"
        figure = Figure(figsize=(_PANEL_WIDTH * len(names), _HEIGHT), layout="constrained")
        for row, name in enumerate(names):
            panel = figure.add_subplot(1, len(names), row + 1)
            _draw_panel(panel, row, curves, choice)
            panel.set_title(name)
            if row == 0:
                panel.legend(title="single characters", loc="lower right", frameon=False)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def _draw_panel(panel: Axes, row: int, curves: Sequence[Curve], choice: Choice) -> None:
    for i, curve in enumerate(curves):
        sizes = curve.sample(_MOST_POINTS, choice.size)
        heights = [curve.alp_EK[row, size - curve.num_chars] for size in sizes]
        chosen = curve.num_chars == choice.num_chars
        colour = _COLOURS[i % len(_COLOURS)]
        width = 2.0 if chosen else 1.1
        panel.plot(sizes, heights, color=colour, linewidth=width, label=f"{curve.num_chars:,}")
        if chosen:
            height = curve.alp_EK[row, choice.size - curve.num_chars]
            panel.plot([choice.size], [height], "o", color=colour, markersize=7)
    panel.axvline(choice.size, color=_GREY, linewidth=0.8, linestyle="--")
    is_left = 2 * choice.size <= sum(panel.get_xlim())
    panel.annotate(
        f"{'given' if choice.knee is None else 'knee'}: {choice.size:,}",
        (choice.size, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(5 if is_left else -5, 0),
        textcoords="offset points",
        ha="left" if is_left else "right",
        color=_GREY,
    )
    panel.set_xlabel("added pieces, single characters included")
    panel.set_ylabel("ALP: average log probability (nats per document)")
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.grid(color="#dddddd", linewidth=0.5)
    panel.set_axisbelow(True)
