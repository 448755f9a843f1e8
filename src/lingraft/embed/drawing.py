"""Pictures of a survey: the matrix, norms by script, the map; equal values give equal bytes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .diagnostics import Heat, NormGroup, RowMap, Survey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heat", "draw_map", "draw_norms"]

_BASE, _ADDED, _INK, _GREY = "#56606e", "#D55E00", "#222222", "#666666"
_DPI = 130


def draw_heat(survey: Survey) -> bytes:
    """Draw the matrix in blocks, base rows above, new rows below a line (PNG)."""

    def draw(axes: Axes) -> None:
        heat: Heat = survey.heat
        limit = max(float(np.quantile(np.abs(heat.blocks), 0.99)), 1e-6)
        image = axes.imshow(
            heat.blocks, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit,
            interpolation="nearest", extent=(0, 1, survey.num_base + survey.num_added, 0),
        )  # fmt: skip
        axes.axhline(survey.num_base, color=_ADDED, linewidth=1.4)
        axes.set_xticks([])
        axes.set_xlabel("numbers of a row, in order")
        axes.set_ylabel("id")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_title(f"{survey.name}: new rows below the line", fontsize=11, color=_INK)
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label("mean of a block, in standard deviations", color=_GREY)

    return _picture(draw, (8.0, 5.4), "png")


def draw_norms(survey: Survey) -> bytes:
    """Draw the norms of each group: one row each, every tenth quantile shaded (SVG)."""
    groups = survey.groups

    def draw(axes: Axes) -> None:
        for place, group in enumerate(groups):
            _draw_group(axes, place, group)
        axes.set_yticks(range(len(groups)))
        axes.set_yticklabels([_label(group) for group in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("Euclidean norm of a row; bar: middle half, line: 5% to 95%")
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(f"{survey.name}: norms by script", fontsize=11, color=_INK)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)

    return _picture(draw, (8.0, 1.5 + 0.42 * len(groups)), "svg")


def draw_map(survey: Survey) -> bytes:
    """Draw base and new rows in the base's two largest directions (SVG)."""

    def draw(axes: Axes) -> None:
        rows: RowMap = survey.row_map
        for points, colour, label in (
            (rows.base_S2, _BASE, f"base rows ({len(rows.base_S2):,} of {survey.num_base:,})"),
            (rows.added_S2, _ADDED, f"new rows ({len(rows.added_S2):,} of {survey.num_added:,})"),
        ):
            axes.scatter(
                points[:, 0], points[:, 1], s=7, c=colour, alpha=0.45, linewidths=0,
                label=label, rasterized=True,
            )  # fmt: skip
        first, second = rows.explained
        axes.set_xlabel(f"first direction of base rows: {first:.1%} of their variance")
        axes.set_ylabel(f"second: {second:.1%}")
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(f"{survey.name}: base and new rows", fontsize=11, color=_INK)
        axes.legend(loc="best", framealpha=0.9, markerscale=2)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)

    return _picture(draw, (8.0, 5.6), "svg")


def _label(group: NormGroup) -> str:
    return f"{'new' if group.is_added else 'base'}: {group.name} ({len(group.norms):,})"


def _draw_group(axes: Axes, place: int, group: NormGroup) -> None:
    colour = _ADDED if group.is_added else _BASE
    low, first, middle, third, high = (group.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
    axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
    axes.barh(place, max(third - first, 0), left=first, height=0.5, color=colour, alpha=0.45)
    axes.plot([middle, middle], [place - 0.25, place + 0.25], color=colour, linewidth=2.4)
    axes.annotate(
        f"{middle:.3g}", (high, place), xytext=(5, 0), textcoords="offset points",
        va="center", fontsize=9, color=_GREY,
    )  # fmt: skip


def _picture(draw: Any, size: tuple[float, float], format: Literal["svg", "png"]) -> bytes:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without the salt and with a date, ids inside the file would differ from run to run.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "lingraft"
        mpl.rcParams["svg.fonttype"] = "none"
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        content = io.BytesIO()
        nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[format]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            figure.savefig(content, format=format, dpi=_DPI, metadata=nothing)
    return content.getvalue()
