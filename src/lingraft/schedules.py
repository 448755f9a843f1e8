"""Learning rates along a run, as shares of the peak.

All begin with a warm-up in a straight line. `cosine` and `linear` then fall to `floor`; `wsd`
(warm-up, stable, decay) stays at its peak and falls only at the end, as 1 - sqrt of what is done
of the fall, so that a run can be made longer without being made anew; `constant` never falls.
A floor above 0 is reached in the last step. One of 0 is reached after it, as transformers'
schedules do: at a rate of 0 a step would train nothing.

Sources: the cosine, Loshchilov & Hutter 2016 (arXiv 1608.03983); WSD, MiniCPM, Hu et al. 2024
(2404.06395); its 1 - sqrt form, Hägele et al. 2024 (2405.18392).
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["Schedule", "share_of_peak"]

Schedule = Literal["cosine", "linear", "wsd", "constant"]


def share_of_peak(
    step: int,
    steps: int,
    *,
    schedule: Schedule,
    warmup_frac: float,
    decay_frac: float = 0.1,
    floor: float = 0.1,
) -> float:
    """Give the rate of a step, as a share of the peak.

    Args:
        step: From 0 to `steps` - 1.
        steps: Of the whole run.
        schedule: The shape.
        warmup_frac: Share of the steps in which the rate climbs.
        decay_frac: Share of the steps in which the rate of `wsd` falls.
        floor: Where it ends: in the last step, or, if 0, one step after it.

    Returns:
        A number above 0, 1 at the peak.
    """
    warmup_steps = round(warmup_frac * steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    begin = max(steps - round(decay_frac * steps) - 1, warmup_steps)
    first = begin if schedule == "wsd" else warmup_steps
    last = steps - 1 if floor else steps
    done_frac = max(step - first, 0) / max(last - first, 1)
    match schedule:
        case "cosine":
            left_frac = 0.5 * (1 + math.cos(math.pi * done_frac))
        case "linear":
            left_frac = 1 - done_frac
        case "wsd":
            left_frac = 1 - math.sqrt(done_frac)
    return floor + (1 - floor) * left_frac
