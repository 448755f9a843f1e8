"""Which of the vocabularies: the size where more pieces stop paying, then the best curve there.

Evaluation texts differ in length, so their ALPs cannot be averaged as they are: each is scaled
to [0, 1] over all curves and sizes, then the mean is taken. The best that can be had at a size
is the upper envelope of the mean curves; its knee is the size, and the number of single
characters whose curve is highest there is taken. A knee is where the gain of one more piece
falls below the mean gain over the range searched: it moves with the largest size.

Source: Kneedle, V. Satopää, J. Albrecht, D. Irwin, B. Raghavan 2011, as `kneed` implements it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError
from .alp import Curve, Float64
from .segments import Int64

__all__ = ["Choice", "choose_vocabulary", "find_knee", "mean_curves"]

_KNEE_POINTS = 50
"""Kneedle's patience is its sensitivity times the spacing of points: at every single size it
would take the first jitter for a knee."""


@dataclass(frozen=True)
class Choice:
    """A vocabulary: its number of added pieces, and of single characters among them."""

    size: int
    num_chars: int
    knee: int | None
    """Size at the knee; None where the size was given."""


def choose_vocabulary(
    curves: Sequence[Curve], size: int | None, num_chars: int | None, sensitivity: float
) -> Choice:
    """Choose size and number of single characters.

    Args:
        curves: One for each number of single characters.
        size: Number of added pieces, or None for the knee.
        num_chars: Number of single characters, or None for the best at that size.
        sensitivity: Kneedle's S.

    Raises:
        UsageError: No curve, or not the one asked for, reaches the size asked for.
        InputError: The curves have no knee.
    """
    means = mean_curves(curves)
    open_to = [i for i, curve in enumerate(curves) if num_chars in (None, curve.num_chars)]
    assert open_to, f"no curve of {num_chars} characters"
    knee = None
    if size is None:
        size = knee = find_knee(
            [curves[i] for i in open_to], [means[i] for i in open_to], sensitivity
        )
    reaching = [i for i in open_to if curves[i].has(size)]
    if not reaching:
        raise _no_curve([curves[i] for i in open_to], size)
    best = max(reaching, key=lambda i: means[i][size - curves[i].num_chars])
    return Choice(size, curves[best].num_chars, knee)


def mean_curves(curves: Sequence[Curve]) -> list[Float64]:
    """Scale each evaluation text to [0, 1] over all curves; give each curve's mean."""
    low_E1 = np.min([c.alp_EK.min(1, keepdims=True) for c in curves], axis=0)
    high_E1 = np.max([c.alp_EK.max(1, keepdims=True) for c in curves], axis=0)
    range_E1 = np.where(high_E1 > low_E1, high_E1 - low_E1, 1.0)
    return [((c.alp_EK - low_E1) / range_E1).mean(axis=0) for c in curves]


def find_knee(curves: Sequence[Curve], means: Sequence[Float64], sensitivity: float) -> int:
    """Find the knee of the upper envelope.

    Raises:
        InputError: There is none.
    """
    from kneed import KneeLocator

    sizes, heights = _envelope(curves, means)
    places = np.unique(np.linspace(0, len(sizes) - 1, _KNEE_POINTS).round().astype(int))
    sizes, heights = sizes[places], heights[places]
    knee = None
    if len(sizes) > 2 and heights.max() > heights.min():
        with warnings.catch_warnings():  # kneed warns where it finds none; we raise
            warnings.simplefilter("ignore")
            knee = KneeLocator(
                sizes, heights, S=sensitivity, curve="concave", direction="increasing"
            ).knee
    if knee is None:
        raise InputError(
            f"vocab: the mean ALP from {sizes[0]:,} to {sizes[-1]:,} added pieces has no knee "
            f"(knee_sensitivity = {sensitivity:g}).",
            effect="No size stands out, so none is chosen.",
            way_out="Set vocab.size to a number, lower vocab.knee_sensitivity, or raise "
            "vocab.max_pieces.",
        )
    return int(knee)


def _envelope(curves: Sequence[Curve], means: Sequence[Float64]) -> tuple[Int64, Float64]:
    """Give the sizes that any curve has, and the highest mean at each."""
    first, last = min(c.num_chars for c in curves), max(c.end for c in curves)
    heights = np.full(last - first + 1, -np.inf)
    for curve, mean in zip(curves, means, strict=True):
        part = heights[curve.num_chars - first : curve.end - first + 1]
        np.maximum(part, mean, out=part)
    reached = np.isfinite(heights)  # a curve may end before the next one begins
    return np.arange(first, last + 1)[reached], heights[reached]


def _no_curve(curves: Sequence[Curve], size: int) -> UsageError:
    spans = "; ".join(f"{c.num_chars:,} characters: {c.num_chars:,} to {c.end:,}" for c in curves)
    return UsageError(
        f"vocab.size = {size:,}: no curve has this size ({spans} added pieces).",
        effect="There is no vocabulary of this size to choose.",
        way_out="A curve begins at its count in vocab.char_counts and ends at vocab.max_pieces, or "
        "where no pair is left that vocab.min_count allows.",
    )
