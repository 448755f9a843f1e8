"""Parts of text that were encoded before, and their ids: two tables of bounded size.

A part is a run of code points. Looking up costs what fetching memory costs, so what belongs
together stands together: a short part (three characters, or nine of ASCII) is its own key, and its
ids stand beside it. Longer parts are found by a hash. When a table is full it begins anew: what is
frequent comes back at once, and memory stays what it is.

Shapes: S places of short parts, H of longer ones, M numbers of all longer parts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .jit import jit, jit_inline

__all__ = [
    "MAX_SHORT_IDS",
    "Cache",
    "find_part",
    "find_short",
    "hash_part",
    "new_cache",
    "pack_part",
    "remember_part",
    "remember_short",
]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]

MAX_SHORT_IDS = 3
"""Most ids of a part in the table of short ones: 21 bits each."""
_WIDE, _NARROW = 3, 9
_NUMBERS = 16
"""Numbers that a longer part takes on average, generously."""


class Cache(NamedTuple):
    """Parts that were encoded, and their ids."""

    short_S2: Uint64
    """The part itself, by linear probing, and its ids plus 1, the first lowest; 0: free."""
    slots_H: Uint64
    """Upper half: of the hash; lower half: where the part begins, plus 1; 0: free."""
    parts_M: Int32
    """For each part how many points and ids it has, the points, the ids."""
    used: Int64
    """How many longer parts there are, how many numbers they take; how many short parts."""


def new_cache(num_parts: int) -> Cache:
    """Make room for this many short parts, and as many longer ones."""
    places = 1 << (2 * num_parts - 1).bit_length()
    return Cache(
        short_S2=np.zeros((places, 2), np.uint64),
        slots_H=np.zeros(places, np.uint64),
        parts_M=np.zeros(_NUMBERS * num_parts, np.int32),
        used=np.zeros(3, np.int64),
    )


@jit_inline
def pack_part(points: Int32, begin: int, end: int, space: int) -> np.uint64:
    """Give the key of a short part, no other part's; 0 where it is none.

    `space` is the code point of a space, which counts as ASCII whatever it is.
    """
    key = np.uint64(0)
    if end - begin <= _WIDE:
        for i in range(begin, end):
            key = key << np.uint64(21) | np.uint64(points[i] + 1)
    elif end - begin < _NARROW or (end - begin == _NARROW and points[begin] >= 0x20):
        # No two lengths give the same key: a 1 stands before the characters, and of nine, which
        # leave no room for it, the first is at least 0x20.
        key = np.uint64(1)
        i = begin
        while i < end:
            point = 0x20 if points[i] == space else points[i]
            if point >= 0x80 or (point == 0x20 and points[i] != space):
                key, i = np.uint64(0), end
            else:
                key = key << np.uint64(7) | np.uint64(point)
                i += 1
        if key != np.uint64(0):
            key |= np.uint64(1) << np.uint64(63)
    return key


@jit_inline
def find_short(short_S2: Uint64, key: np.uint64) -> int:
    """Give the place where a short part is, or would be."""
    mask = np.uint64(len(short_S2) - 1)
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    place = (mixed >> np.uint64(32)) & mask
    while short_S2[place, 0] != key and short_S2[place, 0] != np.uint64(0):
        place = (place + np.uint64(1)) & mask
    return int(np.int64(place))


@jit
def remember_short(
    cache: Cache, key: np.uint64, place: int, ids_T: Int32, first_id: int, end_id: int
) -> None:
    """Put a short part and its ids ids_T[first_id:end_id] where `find_short` found it missing."""
    if 2 * cache.used[2] >= len(cache.short_S2):
        cache.short_S2[:] = 0
        cache.used[2] = 0
        return
    value = np.uint64(0)
    for i in range(end_id - 1, first_id - 1, -1):
        value = value << np.uint64(21) | np.uint64(ids_T[i] + 1)
    cache.short_S2[place, 0], cache.short_S2[place, 1] = key, value
    cache.used[2] += 1


@jit_inline
def hash_part(points: Int32, begin: int, end: int) -> np.uint64:
    """Give a hash of a part."""
    key = np.uint64(0xCBF29CE484222325)
    for i in range(begin, end):
        mixed = (key ^ np.uint64(points[i])) * np.uint64(0x9E3779B97F4A7C15)
        key = mixed ^ (mixed >> np.uint64(29))
    return key


@jit_inline
def find_part(
    slots_H: Uint64, parts_M: Int32, points: Int32, begin: int, end: int, key: np.uint64
) -> int:
    """Give where the ids of points[begin:end] begin; -1 - place where it would be put.

    How many ids there are stands `end - begin + 1` numbers before them.
    """
    mask = len(slots_H) - 1
    place = int(np.int64(key >> np.uint64(11))) & mask
    slot = slots_H[place]
    found = -1
    while slot != np.uint64(0) and found < 0:
        if slot >> np.uint64(32) == key >> np.uint64(32):
            start = int(np.int64(slot & np.uint64(0xFFFFFFFF))) + 1
            if parts_M[start - 2] == end - begin:
                i = begin
                while i < end and parts_M[start + i - begin] == points[i]:
                    i += 1
                if i == end:
                    found = start + end - begin
        if found < 0:
            place = (place + 1) & mask
            slot = slots_H[place]
    return found if found >= 0 else -1 - place


@jit
def remember_part(
    cache: Cache,
    points: Int32,
    begin: int,
    end: int,
    key: np.uint64,
    place: int,
    ids_T: Int32,
    first_id: int,
    end_id: int,
) -> None:
    """Put a part and its ids ids_T[first_id:end_id] where `find_part` found it missing."""
    num, start = cache.used[0], cache.used[1]
    ids = start + 2 + end - begin
    after = ids + end_id - first_id
    if 2 * num >= len(cache.slots_H) or after > len(cache.parts_M):
        cache.slots_H[:] = 0
        cache.used[:2] = 0
        return
    cache.parts_M[start] = end - begin
    cache.parts_M[start + 1] = end_id - first_id
    cache.parts_M[start + 2 : ids] = points[begin:end]
    cache.parts_M[ids:after] = ids_T[first_id:end_id]
    cache.slots_H[place] = (key >> np.uint64(32) << np.uint64(32)) | np.uint64(start + 1)
    cache.used[0], cache.used[1] = num + 1, after
