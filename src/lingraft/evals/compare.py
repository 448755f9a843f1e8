"""How sure a difference between two models is: a paired bootstrap over items.

Both models answered the same items, and most items are hard for both or easy for both. So items
are drawn anew, with replacement, for both at once, and the difference of the scores of each draw is
taken; the interval holds its middle 95%. It is narrower than what the two standard errors suggest.

The score is the mean of all items, or a weighted mean of the means of subjects; then items are
drawn within each subject, because the subjects are given.

Shapes: N items, R draws, K values that a difference takes.
Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentiles);
Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation (paired).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import VerifyError

__all__ = ["compare_items"]

_EDGES = (0.025, 0.975)
_CELLS = 1 << 22
"""Counts that are held at once."""

Values = Mapping[tuple[str, int], float]


def compare_items(
    base: Values,
    other: Values,
    *,
    resamples: int,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Compare two models item by item.

    Args:
        base: Value of each item, by task and number, for the base.
        other: For the other model.
        resamples: R.
        seed: Decides the draws.
        weights: What the mean of each task counts in the score, 1 together; None: the score is the
            mean of all items.

    Returns:
        `value` (other less base), `low` and `high` (None where one item, of all or of a subject
        that has a weight, has no spread), `num_better` and `num_worse` items.

    Raises:
        VerifyError: The two were not asked the same items.
    """
    if base.keys() != other.keys():
        odd = next(iter(base.keys() ^ other.keys()))
        raise VerifyError(
            f"item {odd[1]} of {odd[0]} was asked of one model and not of the other.",
            effect="The difference would not be one of the models.",
            way_out="Evaluate anew with --redo.",
        )
    differences_N = np.array([other[item] - base[item] for item in base])
    rng = np.random.default_rng(seed)
    if weights is None:
        value = float(differences_N.mean())
        means_R = _draw_means(differences_N, resamples, rng)
    else:
        value, means_R = _weigh(base, differences_N, weights, resamples, rng)
    low, high = (None, None) if means_R is None else np.quantile(means_R, _EDGES).tolist()
    return {
        "value": value,
        "low": low,
        "high": high,
        "num_better": int((differences_N > 0).sum()),
        "num_worse": int((differences_N < 0).sum()),
    }


def _weigh(
    base: Values, differences_N: Any, weights: Mapping[str, float], resamples: int, rng: Any
) -> tuple[float, Any]:
    """Give the weighted mean of subjects, and that of R draws within each; None: no spread."""
    tasks_N = np.array([task for task, _ in base])
    of_task = {task: differences_N[tasks_N == task] for task in weights}
    value = sum(weight * float(of_task[task].mean()) for task, weight in weights.items())
    means_R: Any = 0.0
    for task, weight in weights.items():
        drawn_R = _draw_means(of_task[task], resamples, rng)
        if drawn_R is None:
            return value, None
        means_R = means_R + weight * drawn_R
    return value, means_R


def _draw_means(differences_N: Any, resamples: int, rng: Any) -> Any:
    """Draw how often each value occurs, which is all that the mean of a draw depends on.

    Returns:
        R means; None: there is one item alone, or no draw.
    """
    num_items = len(differences_N)
    if num_items < 2 or not resamples:
        return None
    values_K, counts_K = np.unique(differences_N, return_counts=True)
    step = max(_CELLS // len(values_K), 1)
    means = [
        rng.multinomial(num_items, counts_K / num_items, size=min(step, resamples - start))
        @ values_K
        / num_items
        for start in range(0, resamples, step)
    ]
    return np.concatenate(means)
