"""How sure a difference is: a paired bootstrap over documents.

Two models read the same documents, and what one finds hard the other does too. So documents are
drawn anew, with replacement, for both at once, and the difference of the pooled figures is taken
of each draw. The interval holds its middle 95%.

Shapes: D documents, R draws.
Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentiles);
Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation (paired).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "bits_difference"]

_CELLS = 1 << 22
"""Counts that are held at once."""
_SHARE = 0.95


class Difference(NamedTuple):
    """Bits per byte of a model less those of the base."""

    bpb: float
    low: float | None
    """Lower end of the interval; None: one document has no spread."""
    high: float | None


def bits_difference(
    base_nats_D: npt.NDArray[Any],
    nats_D: npt.NDArray[Any],
    sizes_bytes_D: npt.NDArray[Any],
    *,
    resamples: int,
    seed: int,
) -> Difference:
    """Give the difference and its 95% interval.

    Args:
        base_nats_D: What each document costs the base.
        nats_D: What it costs the other model.
        sizes_bytes_D: UTF-8 bytes of each.
        resamples: R.
        seed: Decides the draws.
    """
    num_docs = len(nats_D)
    more_D = (nats_D - base_nats_D) / math.log(2)
    difference = math.fsum(more_D) / float(sizes_bytes_D.sum())
    if num_docs < 2 or not resamples:
        return Difference(difference, None, None)
    rng = np.random.default_rng(seed)
    both_D2 = np.stack([more_D, sizes_bytes_D], 1).astype(np.float64)
    found = []
    step = max(_CELLS // num_docs, 1)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        counts_RD = rng.multinomial(num_docs, np.full(num_docs, 1 / num_docs), size=rows)
        sums_R2 = counts_RD @ both_D2
        found.append(sums_R2[:, 0] / sums_R2[:, 1])
    edges = ((1 - _SHARE) / 2, (1 + _SHARE) / 2)
    low, high = np.quantile(np.concatenate(found), edges).tolist()
    return Difference(difference, low, high)
