"""Parts of text that were encoded before, and their ids: two tables of bounded size.

A part is a run of code points. Looking up costs what fetching memory costs, so what belongs
together stands together: a short part (six characters, or eighteen of ASCII) is its own key, two
numbers of 64 bits, and its ids stand beside it. Where its places are taken, a newcomer pushes out
the last. Longer parts are found by a hash; when their table is full it begins anew: what is
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
    "NARROW",
    "SLACK",
    "WIDE",
    "Cache",
    "find_part",
    "find_short",
    "hash_part",
    "new_cache",
    "pack_part",
    "remember_part",
    "remember_short",
    "short_place",
]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]

MAX_SHORT_IDS = 3
"""Most ids of a part in the table of short ones: 21 bits each."""
WIDE, NARROW = 3, 9
"""How many characters fit into a number: of any kind, or of ASCII."""
_WAYS = 4
"""Places that a key may have; they lie side by side."""
SLACK = 2 * NARROW
"""How many points behind the last one are read."""
_NUMBERS = 16
"""Numbers that a longer part takes on average, generously."""


class Cache(NamedTuple):
    """Parts that were encoded, and their ids."""

    short_S4: Uint64
    """The part itself in two numbers, then its ids plus 1, the first lowest; 0: free. The fourth
    number only makes a place a power of two."""
    slots_H: Uint64
    """Upper half: of the hash; lower half: where the part begins, plus 1; 0: free."""
    parts_M: Int32
    """For each part how many points and ids it has, the points, the ids."""
    used: Int64
    """How many longer parts there are, and how many numbers they take."""


def new_cache(num_parts: int) -> Cache:
    """Make room for this many short parts, and as many longer ones."""
    places = max(_WAYS, 1 << (2 * num_parts - 1).bit_length())
    return Cache(
        short_S4=np.zeros((places, 4), np.uint64),
        slots_H=np.zeros(places, np.uint64),
        parts_M=np.zeros(_NUMBERS * num_parts, np.int32),
        used=np.zeros(2, np.int64),
    )


@jit_inline
def _pack_wide(points: Int32, begin: int, size: int) -> np.uint64:
    """Put one to three characters into a number, never 0."""
    # All three places are read, whatever stands there, and those behind the end shifted out.
    one, two, three = points[begin], points[begin + 1], points[begin + 2]
    key = np.uint64(one + 1) << np.uint64(42) | np.uint64(two + 1) << np.uint64(21)
    return (key | np.uint64(three + 1)) >> np.uint64(21 * (WIDE - size))


@jit_inline
def _pack_narrow(points: Int32, begin: int, size: int, space: int) -> np.uint64:
    """Put one to nine characters of ASCII into a number with the upper bit; 0 if one is none.

    No two lengths give the same number: a 1 stands before the characters, and of nine, which
    leave no room for it, the first must be at least 0x20.
    """
    key, strange = np.uint64(1), np.int32(0)
    for i in range(NARROW):  # always nine steps: a branch guessed wrongly costs more
        point = points[begin + i]
        if point == space:
            point = np.int32(0x20)
        elif point == 0x20:
            point = np.int32(0x80)
        if i < size:
            key = key << np.uint64(7) | np.uint64(point)
            strange |= point
    if size == NARROW and points[begin] < 0x20:
        strange = np.int32(0x80)
    return key | np.uint64(1) << np.uint64(63) if strange < 0x80 else np.uint64(0)


@jit_inline
def pack_part(points: Int32, begin: int, end: int, space: int) -> tuple[np.uint64, np.uint64]:
    """Give the key of a short part, no other part's; the first number is 0 where it is none.

    `space` is the code point of a space, which counts as ASCII whatever it is. SLACK more points
    than the part has must be there to read.
    """
    size = end - begin
    first, second = np.uint64(0), np.uint64(0)
    if size <= WIDE:
        first = _pack_wide(points, begin, size)
    else:
        if size <= NARROW:
            first = _pack_narrow(points, begin, size, space)
        elif size <= 2 * NARROW:
            first = _pack_narrow(points, begin, NARROW, space)
            second = _pack_narrow(points, begin + NARROW, size - NARROW, space)
            if second == np.uint64(0):
                first = second
        if first == np.uint64(0) and size <= 2 * WIDE:
            first = _pack_wide(points, begin, WIDE)
            second = _pack_wide(points, begin + WIDE, size - WIDE)
    return first, second


@jit_inline
def short_place(first: np.uint64, second: np.uint64, size: int) -> int:
    """Give where the group of places begins that a key may have in a table of `size` places."""
    mixed = (first ^ second * np.uint64(0xC2B2AE3D27D4EB4F)) * np.uint64(0x9E3779B97F4A7C15)
    return int(np.int64(mixed >> np.uint64(32) & np.uint64(size - 1))) & ~(_WAYS - 1)


@jit_inline
def find_short(short_S4: Uint64, first: np.uint64, second: np.uint64, place: int) -> int:
    """Give the place where a short part is, or would be put; `place` is its `short_place`.

    What would be put there may have to push out another one.
    """
    last = place + _WAYS - 1
    while (
        place < last
        and short_S4[place, 0] != np.uint64(0)
        and (short_S4[place, 0] != first or short_S4[place, 1] != second)
    ):
        place += 1
    return place


@jit
def remember_short(
    cache: Cache,
    first: np.uint64,
    second: np.uint64,
    place: int,
    ids_T: Int32,
    first_id: int,
    end_id: int,
) -> None:
    """Put a short part and its ids ids_T[first_id:end_id] where `find_short` did not find it.

    The last place of a group is given to one newcomer after the other; what came first, and so
    is likely to be frequent, keeps the others.
    """
    value = np.uint64(0)
    for i in range(end_id - 1, first_id - 1, -1):
        value = value << np.uint64(21) | np.uint64(ids_T[i] + 1)
    cache.short_S4[place, 0], cache.short_S4[place, 1] = first, second
    cache.short_S4[place, 2] = value


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
        cache.used[:] = 0
        return
    cache.parts_M[start] = end - begin
    cache.parts_M[start + 1] = end_id - first_id
    cache.parts_M[start + 2 : ids] = points[begin:end]
    cache.parts_M[ids:after] = ids_T[first_id:end_id]
    cache.slots_H[place] = (key >> np.uint64(32) << np.uint64(32)) | np.uint64(start + 1)
    cache.used[0], cache.used[1] = num + 1, after
