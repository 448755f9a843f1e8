"""What callers ask of a search, checked before anything is read."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..streaming import list_names
from .grid import GridOptions

__all__ = ["check_asked", "optional", "read_eval", "whole", "wholes", "words"]

_MOST = 10_000_000
"""Far above any vocabulary; what is above is a slip of the hand."""


def whole(name: str, value: Any, least: int = 0, most: int = _MOST) -> int:
    """Read a whole number; numpy's count, too.

    Raises:
        UsageError: It is none, or outside the limits.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} = {value!r}: expected a whole number.") from None
    if not least <= number <= most:
        raise UsageError(f"{name} = {number:,}: expected {least:,} to {most:,}.")
    return number


def optional(name: str, value: Any, least: int = 0, most: int = _MOST) -> int | None:
    """Read a whole number, or None."""
    return None if value is None else whole(name, value, least, most)


def wholes(name: str, values: Any) -> tuple[int, ...] | None:
    """Read a list of whole numbers, each once, in order; None where there is none.

    Raises:
        UsageError: It is no list, it is empty, or holds something else.
    """
    if values is None:
        return None
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise UsageError(f"{name} = {values!r}: expected a list of whole numbers.")
    numbers = {whole(name, value) for value in values}
    if not numbers:
        raise UsageError(f"{name} is empty.", way_out="Name some, as 1000,2000.")
    return tuple(sorted(numbers))


def words(name: str, values: Any) -> list[str] | None:
    """Read a list of names; None where there is none.

    Raises:
        UsageError: It is no list of texts.
    """
    if values is None:
        return None
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name} = {values!r}: expected a list of names.")
    return list(values) or None


def read_eval(name: str, texts: Any) -> dict[str, list[str]]:
    """Read texts by name.

    Raises:
        UsageError: It is no mapping of names to files.
    """
    if not isinstance(texts, Mapping):
        raise UsageError(f"{name} = {texts!r}: expected a name and files for each text.")
    return {str(key): list_names(f"{name} {key}", files) for key, files in texts.items()}


def check_asked(
    options: GridOptions, size: int | None, num_chars: int | None, eval: Mapping[str, Any]
) -> None:
    """Refuse what no search can give.

    Raises:
        UsageError: There is no text to choose by, or the sizes do not fit together.
    """
    counts, most = options.char_counts, options.max_size
    if not eval:
        raise UsageError(
            "no evaluation text.",
            effect="There would be nothing to choose a vocabulary by.",
            way_out="Name one or more: --eval NAME=FILE.",
        )
    if counts and max(counts) > most:
        raise UsageError(
            f"the largest size, {most:,}, is below the number of single characters, "
            f"{max(counts):,}.",
            effect="The curve of this count would have no size at all.",
            way_out="Raise --max-size, or take smaller counts in --chars.",
        )
    if size is not None and size > most:
        raise UsageError(
            f"size {size:,} is outside 0 to {most:,}.", way_out="Raise --max-size, or lower --size."
        )
    if num_chars is not None and counts and num_chars not in counts:
        raise UsageError(
            f"num-chars {num_chars:,} is none of the counts that are searched "
            f"({', '.join(f'{c:,}' for c in counts)}).",
            way_out="Add it to --chars.",
        )
    fewest = num_chars if num_chars is not None else min(counts or (0,))
    if size is not None and size < fewest:
        raise UsageError(
            f"size {size:,} is below the {fewest:,} single characters that it has to hold.",
            way_out="Raise --size, or take smaller counts in --chars.",
        )
