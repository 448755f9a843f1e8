"""Tokens of every tokenizer as bars: one panel a text."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Literal

from .efficiency import Efficiency, EfficiencyRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

__all__ = ["draw_bars"]

_FIRST, _OTHERS = "#7f7f7f", "#0072B2"
_INK = "#222222"
_PANEL_WIDTH, _BAR_HEIGHT, _FRAME_HEIGHT, _DPI = 6.4, 0.32, 1.1, 150  # inches x 3, dots an inch
_MOST_COLUMNS = 3
_ROOM_FOR_LABELS = 1.65  # of the longest bar


def draw_bars(table: Efficiency, format: Literal["svg", "png"] = "svg") -> bytes:
    """Draw a panel for each text: a bar for each tokenizer, its tokens and what it saves.

    Equal values give equal bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(len(table.texts), _MOST_COLUMNS)
    rows = -(-len(table.texts) // columns)
    height = _BAR_HEIGHT * len(table.tokenizers) + _FRAME_HEIGHT
    # Without the salt and with a date, ids inside the file would differ from run to run.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "lingraft"
        mpl.rcParams["svg.fonttype"] = "none"
        figure = Figure(figsize=(_PANEL_WIDTH * columns, height * rows), layout="constrained")
        for number, text in enumerate(table.texts):
            panel = figure.add_subplot(rows, columns, number + 1)
            _draw_panel(panel, table.rows_of(text.name), text.name)
        content = io.BytesIO()
        nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[format]
        with warnings.catch_warnings():  # a name may hold characters that no font here has
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(content, format=format, dpi=_DPI, metadata=nothing)
    return content.getvalue()


def _draw_panel(panel: Axes, rows: list[EfficiencyRow], title: str) -> None:
    places = list(range(len(rows)))
    tokens = [row.tokens for row in rows]
    panel.barh(places, tokens, color=[_FIRST, *[_OTHERS] * (len(rows) - 1)], height=0.72)
    for place, row in zip(places, rows, strict=True):
        panel.annotate(
            _label(row, is_first=place == 0),
            (row.tokens, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    panel.set_yticks(places, [row.tokenizer for row in rows], fontsize=8, parse_math=False)
    panel.invert_yaxis()  # the first tokenizer on top
    panel.set_xlim(0, max(1, *tokens) * _ROOM_FOR_LABELS)
    panel.xaxis.set_major_locator(_few_ticks())
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.tick_params(axis="x", labelsize=8)
    panel.set_xlabel("tokens (fewer is better)", fontsize=9)
    panel.set_title(title, fontsize=11, color=_INK, parse_math=False)
    panel.grid(axis="x", color="#e4e4e4", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _few_ticks() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, integer=True)


def _label(row: EfficiencyRow, *, is_first: bool) -> str:
    if is_first or row.saved_frac is None:
        return f"{row.tokens:,}"
    if row.tokens_frac == 1:
        return f"{row.tokens:,}  (the same)"
    word = "fewer" if row.saved_frac >= 0 else "more"
    return f"{row.tokens:,}  ({abs(row.saved_frac):.1%} {word})"
