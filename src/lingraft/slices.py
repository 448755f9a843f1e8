"""One long text in slices: encoded by themselves, their ids end to end are those of the text.

Without patterns a text may be cut where no piece reaches across. With patterns it is split into
pre-tokens from its beginning to its end, as always, and the pre-tokens are dealt out to slices:
where one ends may depend on all that stands before it, and on the character after it.

Shapes: P code points, U pieces read as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .characters import decode_points
from .cutting import Cuts
from .partcache import SLACK
from .rulesets import Machine
from .splitting import split_begin, split_rest

__all__ = ["Slice", "can_slice", "slice_text"]

Int32 = npt.NDArray[np.int32]

_PART_CHARS = 16
"""About how many characters a pre-token has, at most."""
_NONE = np.empty(0, np.int32)


class Slice(NamedTuple):
    """Part of a text."""

    text: str
    """Its characters; "" where its pre-tokens are known."""
    goes_on: bool = False
    """Whether more of the text stands before it."""
    is_prepared: bool = False
    """Whether its characters went through the tokenizer's normaliser."""
    points_P: Int32 = _NONE
    """Its code points, and those that follow it."""
    bounds: Int32 = _NONE
    """Where each of its pre-tokens ends."""


def can_slice(machine: Machine) -> bool:
    """Whether the slices of a text, as `slice_text` cuts it, stand for the text.

    They do not where texts without patterns are looked up whole, nor where a pattern drops text:
    such a text is its library's.
    """
    program = machine.program
    if len(program.ends_L):
        return not program.drops_L.any()
    return not machine.cuts.whole.used[0]


def slice_text(machine: Machine, text: str, size: int) -> Iterator[Slice]:
    """Cut a text into slices of about `size` characters.

    Args:
        machine: A tokenizer that `can_slice`.
        text: As it was prepared.
        size: Characters, 1 or more.
    """
    assert can_slice(machine), "the slices would not stand for the text"
    by = _by_parts if len(machine.program.ends_L) else _by_cuts
    return by(machine, text, size)


def _by_cuts(machine: Machine, text: str, size: int) -> Iterator[Slice]:
    cuts, begin = machine.cuts, 0
    user = _user_neighbours(cuts)
    while begin < len(text):
        end = min(begin + size, len(text))
        while end < len(text) and _may_join(cuts, user, text[end - 1], text[end]):
            end += 1
        yield Slice(text[begin:end], begin > 0, is_prepared=True)
        begin = end


def _by_parts(machine: Machine, text: str, size: int) -> Iterator[Slice]:
    program = machine.program
    points_P, end = _decode(machine.cuts, text, size)
    begin, room = 0, np.empty(size // _PART_CHARS + 3, np.int32)
    while begin < end:
        num, after = split_begin(program, points_P, begin, end, room)
        bounds = np.empty(after - begin, np.int32)
        bounds[:num] = room[:num] - begin
        num = split_rest(program, points_P[begin:], bounds, num)
        yield Slice("", begin > 0, True, points_P[begin:], bounds[:num].copy())
        begin = after


def _decode(cuts: Cuts, text: str, size: int) -> tuple[Int32, int]:
    """Give the code points of a text, with slack after them, and where they end."""
    points_P = np.zeros(len(text) + 1 + SLACK, np.int32)
    end, prefix = 0, cuts.prefix
    for begin in range(0, len(text), size):
        content_N = np.frombuffer(text[begin : begin + size].encode(), np.uint8)
        ends_1 = np.array([len(content_N)], np.int64)
        decode_points(cuts.space, prefix, content_N, ends_1, points_P[end:])
        end, prefix = end + int(ends_1[0]), 0
    return points_P, end


def _may_join(cuts: Cuts, user: set[tuple[int, int]], left: str, right: str) -> bool:
    """Whether two neighbouring characters may come to stand in one piece."""
    a, b = (cuts.space if char == " " else ord(char) for char in (left, right))
    row, column = int(cuts.class_P[a]), int(cuts.class_P[b])
    return (a, b) in user or bool(cuts.together_CB[row, column >> 3] >> (column & 7) & 1)


def _user_neighbours(cuts: Cuts) -> set[tuple[int, int]]:
    """Give the points that stand side by side in a piece that is read out of text as it stands."""
    ends, points = [0, *cuts.user_ends_U.tolist()], cuts.user_points_M.tolist()
    return {pair for begin, end in pairwise(ends) for pair in pairwise(points[begin:end])}
