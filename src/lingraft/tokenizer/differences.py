"""Where two encodings of one text part, shown piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Side", "cut_text", "first_difference", "show_sides"]

_SHOWN = 8
"""Pieces shown from a little before the first difference on."""
_LONGEST = 200


class Side(NamedTuple):
    """One of two encodings."""

    name: str
    ids: Sequence[int]


def first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    """Give the place of the first id that differs; the shorter length where one goes on."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def show_sides(
    left: Side,
    right: Side,
    piece: Callable[[int], str],
    right_piece: Callable[[int], str] | None = None,
) -> list[str]:
    """Show both encodings, a line each, from two pieces before they part.

    Args:
        left: One encoding.
        right: The other.
        piece: Gives the piece of an id.
        right_piece: The same for the other, where it is another vocabulary.
    """
    start = max(0, first_difference(left.ids, right.ids) - 2)
    return [
        f"{side.name}, from token {start}: "
        + " | ".join(_visible(spelled(int(id))) for id in side.ids[start : start + _SHOWN])
        for side, spelled in ((left, piece), (right, right_piece or piece))
    ]


def _visible(piece: str) -> str:
    return piece if piece.isprintable() else repr(piece)[1:-1]


def cut_text(text: str) -> str:
    """Spell a text so that every character of it can be seen; a long one is cut."""
    shown = repr(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}... ({len(text)} characters)"
