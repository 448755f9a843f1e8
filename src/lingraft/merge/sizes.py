"""Sizes of files as people write them."""

from __future__ import annotations

import re

from ..errors import UsageError

__all__ = ["is_size", "parse_size"]

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?$")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Read a size such as `5GB` or `500MB`: decimal units, `GiB` for binary ones.

    Raises:
        UsageError: It is not a size, or not above 0.
    """
    match = _SIZE.match(text.strip().upper())
    size = 0
    if match:
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]])
    if size <= 0:
        raise UsageError(
            f"size '{text}': expected a number above 0 and a unit.", way_out="As 5GB or 500MB."
        )
    return size


def is_size(text: str) -> bool:
    """Tell whether `parse_size` can read a text."""
    try:
        parse_size(text)
    except UsageError:
        return False
    return True
