"""Pieces into bins of equal size by best fit decreasing: nothing is cut, little is left free.

The largest piece goes first, each into the fullest bin that has room for it. Sizes are bounded,
so equal pieces and bins with equal room are moved together: n pieces cost a sort and a few steps
for each size, not a search for each piece.

Sources: best-fit packing of training text, Ding et al. 2024, arXiv 2404.10830; the algorithm,
Johnson 1973, "Near-optimal bin packing algorithms".
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Bins", "pack_best_fit"]

Int64 = npt.NDArray[np.int64]


class Bins(NamedTuple):
    """N pieces in B bins."""

    pieces_N: Int64
    """Numbers of the pieces, bin after bin; inside a bin they rise."""
    ends_B: Int64
    """Where each bin ends in `pieces_N`; bins are in the order of their first pieces."""


def pack_best_fit(sizes_N: Int64, capacity: int) -> Bins:
    """Distribute pieces over as few bins as best fit decreasing finds.

    Args:
        sizes_N: Size of each piece, in [1, capacity].
        capacity: Of a bin.
    """
    if not len(sizes_N):
        return Bins(np.empty(0, np.int64), np.empty(0, np.int64))
    assert sizes_N.min() > 0, "an empty piece has no place"
    assert sizes_N.max() <= capacity, "a piece is larger than a bin"
    bin_of_N = _assign(sizes_N, capacity)
    # Bins get numbers in the order of their first pieces, so that rows stay near the files' order.
    _, first_B = np.unique(bin_of_N, return_index=True)
    number_B = np.empty(len(first_B), np.int64)
    number_B[np.argsort(first_B)] = np.arange(len(first_B))
    bin_of_N = number_B[bin_of_N]
    return Bins(np.argsort(bin_of_N, kind="stable"), np.cumsum(np.bincount(bin_of_N)))


def _assign(sizes_N: Int64, capacity: int) -> Int64:
    """Give the bin of each piece; bins are numbered as they are opened."""
    rooms = _Rooms()
    bin_of_N = np.empty(len(sizes_N), np.int64)
    order_N = np.argsort(-sizes_N, kind="stable")
    sizes, counts = np.unique(sizes_N, return_counts=True)
    at = num_bins = 0
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        left = count
        while left:
            room = rooms.find(size)
            # A bin that has got one of these pieces is the fullest with room, until it is full.
            each = (room or capacity) // size
            wanted = -(-left // each)
            if room:
                bins = rooms.take(room, wanted)
            else:
                room, bins = capacity, list(range(num_bins, num_bins + wanted))
                num_bins += wanted
            placed = min(left, each * len(bins))
            bin_of_N[order_N[at : at + placed]] = np.repeat(bins, each)[:placed]
            last = placed - each * (len(bins) - 1)
            rooms.put(room - each * size, bins[:-1])
            rooms.put(room - last * size, bins[-1:])
            at, left = at + placed, left - placed
    return bin_of_N


class _Rooms:
    """Bins by the room that they have left."""

    def __init__(self) -> None:
        self._bins: defaultdict[int, list[int]] = defaultdict(list)
        self._mask = 0  # bit r is set where a bin has room r

    def find(self, size: int) -> int:
        """Give the least room that holds `size`; 0 where no bin has it."""
        fitting = self._mask >> size
        return size + (fitting & -fitting).bit_length() - 1 if fitting else 0

    def take(self, room: int, wanted: int) -> list[int]:
        """Take up to `wanted` bins of a room."""
        bins = self._bins[room]
        taken = bins[-wanted:]
        del bins[-wanted:]
        if not bins:
            self._mask ^= 1 << room
        return taken

    def put(self, room: int, bins: list[int]) -> None:
        """Put bins back with what is left of their room."""
        if room and bins:
            self._bins[room] += bins
            self._mask |= 1 << room
