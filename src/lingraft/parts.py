"""The parts of a mixture, as they stand in a recipe: `RATIO:SET`.

Source of the form: HIT-SCIR/Chinese-Mixtral-8x7B scripts/train.sh (fbc7143), which takes
the head of the file instead of a fair share, and refuses ratios above 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Part", "parse_part"]


class Part(NamedTuple):
    """One part of a mixture: `ratio` passes over the set `name`."""

    ratio: float
    name: str


def parse_part(text: str) -> Part:
    """Read `RATIO:SET`.

    >>> parse_part("0.1:SkyPile-150B-2023")
    Part(ratio=0.1, name='SkyPile-150B-2023')

    Raises:
        ValueError: There is no colon, no name, or the ratio is not a positive number.
    """
    head, colon, name = text.partition(":")
    try:
        ratio = float(head)
    except ValueError:
        ratio = math.nan
    if not colon or not name or not 0 < ratio < math.inf:
        raise ValueError(f"'{text}' is not RATIO:SET with a positive ratio, as '0.1:NAME'.")
    return Part(ratio, name)
