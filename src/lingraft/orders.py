"""Orders that are computed where they are needed, and never stored.

`Shuffle` is a permutation of range(n) by a key: a Feistel network over the smallest near-square
that holds n, walked again where it leaves range(n). `Interleave` spreads several sequences evenly
over one: which comes at a place, and how many of it came before, by integer arithmetic alone.
Both cost the same at any place, in memory and in time.

The lag of a sequence, how far it is from its exact share of a prefix, is below one place with up
to four sequences and below 1.7 with any number: two neighbours at a node share its places with a
lag of at most 1/2, and what the node lags is divided between them by weight. So a sequence of
weight w lags less than (1 + w/v_1 + w/v_2 + ...) / 2, over the nodes v above it without the root:
less than 1 at two levels. Below those the lightest are joined first, so that v_i/w is at least
1, 2, 3, 5, 8, ...: less than (1 + 2.36) / 2. (Rules that keep every lag below one for any number
are known, as Tijdeman's for the chairman assignment problem, 1980; they go place by place.)

Sources: Black and Rogaway 2002, "Ciphers with arbitrary finite domains" (generalised Feistel,
cycle walking); the mixing of bits, Steele, Lea and Flood 2014 (SplitMix64).
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Interleave", "Shuffle"]

_ROUNDS = 8
_BITS64 = (1 << 64) - 1


class Shuffle:
    """A permutation of range(n) that depends on a key alone."""

    def __init__(self, n: int, key: str) -> None:
        """Prepare it.

        Args:
            n: Length, 1 or more.
            key: Any text; other keys give permutations that have nothing in common with this.
        """
        assert n > 0, "nothing to shuffle"
        self._n = n
        self._width = math.isqrt(n - 1) + 1
        self._height = -(-n // self._width)
        digest = hashlib.shake_256(key.encode()).digest(8 * _ROUNDS)
        self._keys = [
            int.from_bytes(digest[at : at + 8], "little") for at in range(0, 8 * _ROUNDS, 8)
        ]

    def __call__(self, index: int) -> int:
        """Give what stands at a place; `index` in range(n)."""
        index = self._step(index)
        while index >= self._n:  # comes back into range(n), as a permutation has only cycles
            index = self._step(index)
        return index

    def _step(self, index: int) -> int:
        """Permute range(width * height)."""
        width, height = self._width, self._height
        right, left = divmod(index, width)
        for key in self._keys:
            left, right = right, (left + _mix(right ^ key)) % width
            width, height = height, width
        return right * width + left  # an even number of rounds: left counts up to width again


def _mix(bits: int) -> int:
    """Scatter 64 bits."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _BITS64
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _BITS64
    return bits ^ (bits >> 31)


_Node: TypeAlias = "int | tuple[_Node, _Node, int, int]"
"""The number of a sequence; or two nodes, the weight of the first, and that of both."""


class Interleave:
    """Several sequences spread over one that is as long as all of them."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """Prepare it; each length is 1 or more."""
        assert min(lengths, default=0) > 0, f"cannot spread sequences of {lengths}"
        self._root = _join_all(lengths)

    def __call__(self, place: int) -> tuple[int, int]:
        """Give which sequence has a place, and how many of its own came before."""
        node = self._root
        while not isinstance(node, int):
            first, second, weight, both = node
            before = _nearest(place * weight, both)
            if _nearest((place + 1) * weight, both) > before:
                node, place = first, before
            else:
                node, place = second, place - before
        return node, place


def _join_all(lengths: Sequence[int]) -> _Node:
    """Join sequences to a tree: the lightest two again and again, the last four as two pairs."""
    # The second entry keeps heapq from comparing nodes.
    nodes: list[tuple[int, int, _Node]] = [(n, which, which) for which, n in enumerate(lengths)]
    heapq.heapify(nodes)
    for number in range(len(lengths), 2 * len(lengths) - 4):
        heapq.heappush(nodes, _join(heapq.heappop(nodes), heapq.heappop(nodes), number))
    nodes.sort()
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        alone = nodes[len(nodes) // 2 * 2 :]
        nodes = [*(_join(first, second, 0) for first, second in pairs), *alone]
    return nodes[0][2]


def _join(
    first: tuple[int, int, _Node], second: tuple[int, int, _Node], number: int
) -> tuple[int, int, _Node]:
    both = first[0] + second[0]
    return both, number, (first[2], second[2], first[0], both)


def _nearest(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
