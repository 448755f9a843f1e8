"""ALP over the number of added pieces: one panel an evaluation text, one line a curve."""

from __future__ import annotations

import io
from collections.abc import Sequence

from .alp import Curve
from .choose import Choice

__all__ = ["plot_curves"]

_PANEL_WIDTH, _HEIGHT = 5.6, 4.6  # inches
_MOST_POINTS = 400
# Okabe and Ito's colours: told apart by most colour-blind readers, too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")


def plot_curves(
    curves: Sequence[Curve], names: Sequence[str], choice: Choice, tokens_per_char: Sequence[str]
) -> str:
    """Draw the curves as SVG; equal values give equal text.

    Args:
        curves: One for each number of single characters.
        names: Evaluation texts, in the order of the curves' rows.
        choice: The vocabulary to mark.
        tokens_per_char: What to say below each panel's name.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A fixed salt and no date: the ids inside the file would differ from run to run.
    style = {"svg.hashsalt": "lingraft", "svg.fonttype": "none", "font.size": 9.5}
    with mpl.rc_context({**mpl.rcParamsDefault, **style, "backend": "svg"}):
        figure = Figure(figsize=(_PANEL_WIDTH * len(names), _HEIGHT), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for row, (panel, name, note) in enumerate(zip(panels, names, tokens_per_char, strict=True)):
            _draw_panel(panel, row, curves, choice)
            panel.set_title(f"{name}\n{note}", fontsize=10.5)
        panels[0].legend(title="Single characters", loc="lower right", frameon=False)
        content = io.StringIO()
        FigureCanvasSVG(figure).print_svg(content, metadata={"Date": None, "Creator": None})
    return content.getvalue()
