"""How sure a difference between two models is: a paired bootstrap over items.

Both models answered the same items, and most items are hard for both or easy for both. So items
are drawn anew, with replacement, for both at once, and the mean difference of each draw is taken;
the interval holds its middle 95%. It is narrower than what the two standard errors suggest.

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


def compare_items(base: Values, other: Values, *, resamples: int, seed: int) -> dict[str, Any]:
    """Compare two models item by item.

    Args:
        base: Value of each item for the base.
        other: For the other model.
        resamples: R.
        seed: Decides the draws.

    Returns:
        `value` (other less base), `low` and `high` (None where one item has no spread),
        `num_better` and `num_worse` items.

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
    low, high = _interval(differences_N, resamples, seed)
    return {
        "value": float(differences_N.mean()),
        "low": low,
        "high": high,
        "num_better": int((differences_N > 0).sum()),
        "num_worse": int((differences_N < 0).sum()),
    }


def _interval(differences_N: Any, resamples: int, seed: int) -> tuple[float | None, float | None]:
    """Draw how often each value occurs, which is all that the mean of a draw depends on."""
    num_items = len(differences_N)
    if num_items < 2 or not resamples:
        return None, None
    values_K, counts_K = np.unique(differences_N, return_counts=True)
    rng = np.random.default_rng(seed)
    step = max(_CELLS // len(values_K), 1)
    means = [
        rng.multinomial(num_items, counts_K / num_items, size=min(step, resamples - start))
        @ values_K
        / num_items
        for start in range(0, resamples, step)
    ]
    low, high = np.quantile(np.concatenate(means), _EDGES).tolist()
    return low, high
