"""Distinct segments of symbols and how often each occurs: a hash table in flat arrays.

Equal segments are kept once. A table holds one range of hashes; several threads fill one range
each from the same text, and where memory is short there are more ranges than threads, one after
the other. So nothing has to be merged, and what comes out is the same however it was divided.

Shapes: G segments, M symbols of all segments, H hash places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..jit import jit

__all__ = ["NUM_HASHES", "SegmentTable", "count_segments", "write_cells"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint32 = npt.NDArray[np.uint32]

NUM_HASHES = 1 << 32
_MOST_COUNT = int(np.iinfo(np.int32).max)
_LEAST_SEGMENTS, _LEAST_SYMBOLS = 1 << 12, 1 << 15


class _Arrays(NamedTuple):
    symbols_M: Int32
    """The segments, one after the other."""
    start_G: Int64
    """Where each begins, and where the last one ends."""
    count_G: Int64
    hash_G: Uint32
    slots_H: Int32
    """Hash to segment, by linear probing; -1 is free."""
    sizes: Int64
    """Segments and symbols so far."""


class SegmentTable:
    """Counts the segments whose hash is in one range."""

    def __init__(self, low: int = 0, high: int = NUM_HASHES) -> None:
        self.low, self.high = low, high
        self._arrays = _Arrays(
            symbols_M=np.empty(_LEAST_SYMBOLS, np.int32),
            start_G=np.zeros(_LEAST_SEGMENTS + 1, np.int64),
            count_G=np.empty(_LEAST_SEGMENTS, np.int64),
            hash_G=np.empty(_LEAST_SEGMENTS, np.uint32),
            slots_H=np.full(2 * _LEAST_SEGMENTS, -1, np.int32),
            sizes=np.zeros(2, np.int64),
        )

    @property
    def num_segments(self) -> int:
        """Distinct segments."""
        return int(self._arrays.sizes[0])

    @property
    def num_symbols(self) -> int:
        """Symbols of the distinct segments."""
        return int(self._arrays.sizes[1])

    @property
    def size_bytes(self) -> int:
        """Memory that the arrays have touched."""
        per_segment = 20 + 4 * len(self._arrays.slots_H) / max(1, self.num_segments)
        return int(4 * self.num_symbols + per_segment * self.num_segments)

    def add(self, symbols: Int32) -> None:
        """Count segments that stand one after the other, a BARRIER behind each."""
        done = 0
        while (done := count_segments(self._arrays, symbols, done, self.low, self.high)) < len(
            symbols
        ):
            self._grow(len(symbols) - done)

    def cells(self) -> Int32:
        """Give the segments as cells: symbol and count, a BARRIER behind each segment.

        A count beyond int32 gives the segment more than once.
        """
        count_G = self._arrays.count_G[: self.num_segments]
        times_G = (count_G - 1) // _MOST_COUNT + 1
        lengths_G = np.diff(self._arrays.start_G[: self.num_segments + 1])
        cells_N2 = np.empty((int((times_G * (lengths_G + 1)).sum()), 2), np.int32)
        write_cells(self._arrays, cells_N2, _MOST_COUNT)
        return cells_N2

    def _grow(self, num_symbols: int) -> None:
        """Make room; each array is let go before the next one is copied."""
        used_G, used_M = self.num_segments, self.num_symbols
        room_G = 2 * len(self._arrays.count_G)
        room_M = 2 * len(self._arrays.symbols_M) + num_symbols
        for name, used, room in (
            ("symbols_M", used_M, room_M),
            ("start_G", used_G + 1, room_G + 1),
            ("count_G", used_G, room_G),
            ("hash_G", used_G, room_G),
        ):
            array = getattr(self._arrays, name)
            longer = np.empty(room, array.dtype)  # untouched memory costs nothing
            longer[:used] = array[:used]
            self._arrays = self._arrays._replace(**{name: longer})
            del array
        self._arrays = self._arrays._replace(slots_H=np.full(2 * room_G, -1, np.int32))
        _enter_all(self._arrays)


@jit
def _enter_all(table: _Arrays) -> None:
    """Enter all segments, known to be distinct, into an empty hash table."""
    mask = len(table.slots_H) - 1
    for g in range(table.sizes[0]):
        place = np.int64(table.hash_G[g]) & mask
        while table.slots_H[place] >= 0:
            place = (place + 1) & mask
        table.slots_H[place] = g


@jit
def _is_segment(table: _Arrays, g: int, symbols: Int32, begin: int, end: int) -> bool:
    start = table.start_G[g]
    if table.start_G[g + 1] - start != end - begin:
        return False
    same = True
    for i in range(end - begin):
        same = same and table.symbols_M[start + i] == symbols[begin + i]
    return same


@jit
def count_segments(table: _Arrays, symbols: Int32, begin: int, low: int, high: int) -> int:
    """Count segments from `begin` on whose hash is in [low, high); stop where room runs out.

    Returns:
        Where to go on.
    """
    mask = len(table.slots_H) - 1
    while begin < len(symbols):
        key, end = np.uint64(0xCBF29CE484222325), begin
        while symbols[end] >= 0:
            key = (key ^ np.uint64(symbols[end])) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
            end += 1
        # Low bits find the slot, high bits the range; so those of one range spread over all slots.
        hashed = np.int64(key >> np.uint64(32))
        if low <= hashed < high:
            short = np.uint32(key & np.uint64(0xFFFFFFFF))
            place = np.int64(short) & mask
            g = table.slots_H[place]
            while g >= 0 and not (
                table.hash_G[g] == short and _is_segment(table, g, symbols, begin, end)
            ):
                place = (place + 1) & mask
                g = table.slots_H[place]
            if g < 0:
                g, start = table.sizes[0], table.sizes[1]
                if g == len(table.count_G) or start + end - begin > len(table.symbols_M):
                    return begin
                table.symbols_M[start : start + end - begin] = symbols[begin:end]
                table.slots_H[place], table.hash_G[g], table.count_G[g] = g, short, 0
                table.start_G[g + 1] = start + end - begin
                table.sizes[0], table.sizes[1] = g + 1, start + end - begin
            table.count_G[g] += 1
        begin = end + 1
    return begin


@jit
def write_cells(table: _Arrays, cells_N2: Int32, most: int) -> None:
    """Write symbols and counts of all segments, a BARRIER behind each."""
    p = 0
    for g in range(table.sizes[0]):
        left = table.count_G[g]
        while left > 0:
            for i in range(table.start_G[g], table.start_G[g + 1]):
                cells_N2[p, 0], cells_N2[p, 1] = table.symbols_M[i], min(left, most)
                p += 1
            cells_N2[p, 0], cells_N2[p, 1] = -1, 0
            p += 1
            left -= most
