"""Parts of text to ids, compiled: most of them were seen before.

What costs time here is waiting: for memory, and for branches that were guessed wrongly. So the
work is done in passes over all parts, each of which does one thing without asking much: which
parts have to be looked up; what is found for each; writing down. The ids of a part are a number:
three of 21 bits, the first lowest, each plus 1; a part of more ids has the upper bit, and the
number tells where in a buffer its ids stand and how many they are.

Shapes: H places of rules, T tokens, D documents, Q parts, M parts to look up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from .characters import write_bytes
from .jit import jit
from .merging import merge_symbols
from .partcache import (
    MAX_SHORT_IDS,
    Cache,
    find_part,
    find_short,
    hash_part,
    pack_part,
    remember_part,
    remember_short,
    short_place,
)

if TYPE_CHECKING:
    from .cutting import Cuts

__all__ = ["MOST_IDS", "Parts", "look_up"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]

_ID_SLACK = MAX_SHORT_IDS - 1
"""How many ids behind the last one are written."""
_SHORT = 48
"""Longest part that is remembered."""
MOST_IDS = (1 << 21) - 1
"""An id plus 1 has 21 bits."""
_COUNT_BITS = 30


class Parts(NamedTuple):
    """Parts of a text in order."""

    ends_Q: Int32
    ids_Q: Int32
    """The id where it is known without looking up; else -1; a border between pre-tokens is -2."""


@jit
def _encode_part(
    rules_H2: Uint64, cuts: Cuts, points: Int32, begin: int, end: int, ids_T: Int32, t: int
) -> int:
    """Encode a part that was not seen before; give the end of its ids."""
    if cuts.bytes_merge:
        symbols = np.empty(4 * (end - begin), np.int32)
        num = 0
        for i in range(begin, end):
            num = write_bytes(cuts.byte_ids, points[i], symbols, num)
        num = merge_symbols(rules_H2, symbols, num)
        ids_T[t : t + num] = symbols[:num]
        return t + num
    symbols = np.empty(end - begin, np.int32)
    for i in range(begin, end):
        id = cuts.id_P[points[i]]
        symbols[i - begin] = id if id >= 0 else cuts.num_ids + points[i]
    for i in range(merge_symbols(rules_H2, symbols, end - begin)):
        if symbols[i] < cuts.num_ids:
            ids_T[t] = symbols[i]
            t += 1
        else:
            t = write_bytes(cuts.byte_ids, symbols[i] - cuts.num_ids, ids_T, t)
    return t


@jit
def look_up(
    rules_H2: Uint64,
    cuts: Cuts,
    cache: Cache,
    points: Int32,
    parts: Parts,
    num: int,
    ends_D: Int64,
    most_ids: int,
    id_ends_D: Int64,
) -> Int32:
    """Give the ids of all parts.

    Args:
        rules_H2: The merge rules, as `merging.rule_table` gives them.
        cuts: What comes before them.
        cache: Parts seen before; changed.
        points: Code points of all documents, and `partcache.SLACK` more.
        parts: The parts.
        num: How many there are.
        ends_D: Where the points of each document end.
        most_ids: More ids there cannot be.
        id_ends_D: Gets where the ids of each document end.
    """
    values_Q, left_M = np.empty(num, np.uint64), np.empty(num, np.int32)
    num_left = 0
    for n in range(num):
        id = parts.ids_Q[n]
        values_Q[n] = np.uint64(max(id, np.int32(-1)) + 1)
        left_M[num_left] = n
        num_left += id == -1
    ids_T, spilled_T = np.empty(most_ids + _ID_SLACK, np.int32), np.empty(most_ids, np.int32)
    _find_values(rules_H2, cuts, cache, points, parts, left_M[:num_left], values_Q, spilled_T)
    return _write_ids(parts, num, values_Q, spilled_T, ends_D, ids_T, id_ends_D)


@jit
def _find_values(
    rules_H2: Uint64,
    cuts: Cuts,
    cache: Cache,
    points: Int32,
    parts: Parts,
    left_M: Int32,
    values_Q: Uint64,
    spilled_T: Int32,
) -> None:
    """Look parts up, and encode those that are missing."""
    ends_Q, short_S4, num_left = parts.ends_Q, cache.short_S4, len(left_M)
    keys_M2, places_M = np.empty((num_left, 2), np.uint64), np.empty(num_left, np.int32)
    for m in range(num_left):
        n = left_M[m]
        begin, end = int(ends_Q[n - 1]) if n > 0 else 0, int(ends_Q[n])
        keys_M2[m, 0], keys_M2[m, 1] = pack_part(points, begin, end, cuts.space)
        places_M[m] = short_place(keys_M2[m, 0], keys_M2[m, 1], len(short_S4))
    num_missing = 0
    for m in range(num_left):
        first, second = keys_M2[m, 0], keys_M2[m, 1]
        place = find_short(short_S4, first, second, places_M[m])
        there = first != 0 and short_S4[place, 0] == first and short_S4[place, 1] == second
        values_Q[left_M[m]] = short_S4[place, 2]
        places_M[num_missing] = m  # no place before m is needed any more
        num_missing += not there
    spilled = 0
    for missing in range(num_missing):
        m = places_M[missing]
        n = left_M[m]
        begin, end = int(ends_Q[n - 1]) if n > 0 else 0, int(ends_Q[n])
        count = _encode_long(
            rules_H2, cuts, cache, points, begin, end, keys_M2[m], spilled_T, spilled
        )
        values_Q[n] = (
            np.uint64(1) << np.uint64(63)
            | np.uint64(spilled) << np.uint64(_COUNT_BITS)
            | np.uint64(count)
        )
        spilled += count


@jit
def _write_ids(
    parts: Parts,
    num: int,
    values_Q: Uint64,
    spilled_T: Int32,
    ends_D: Int64,
    ids_T: Int32,
    id_ends_D: Int64,
) -> Int32:
    """Write the ids of all parts, and where those of each document end."""
    ends_Q, mask = parts.ends_Q, np.uint64(0x1FFFFF)
    t = d = 0
    for n in range(num):
        while ends_D[d] < ends_Q[n]:  # empty documents, and the one that ended
            id_ends_D[d] = t
            d += 1
        value = values_Q[n]
        if value >> np.uint64(63):
            at = np.int64((value << np.uint64(1)) >> np.uint64(_COUNT_BITS + 1))
            count = np.int64(value & np.uint64((1 << _COUNT_BITS) - 1))
            for k in range(count):
                ids_T[t + k] = spilled_T[at + k]
            t += int(count)
            continue
        second, third = value >> np.uint64(21) & mask, value >> np.uint64(42)
        ids_T[t] = np.int32(np.int64(value & mask) - 1)
        ids_T[t + 1] = np.int32(np.int64(second) - 1)
        ids_T[t + 2] = np.int32(np.int64(third) - 1)
        t += 1 + int(second != 0) + int(third != 0)
    id_ends_D[d:] = t
    return ids_T[:t].copy()


@jit
def _encode_long(
    rules_H2: Uint64,
    cuts: Cuts,
    cache: Cache,
    points: Int32,
    begin: int,
    end: int,
    key_2: Uint64,
    ids_T: Int32,
    t: int,
) -> int:
    """Write the ids of a part that is long, or new; give how many."""
    key = hash_part(points, begin, end)
    found = find_part(cache.slots_H, cache.parts_M, points, begin, end, key)
    if found >= 0:
        count = np.int64(cache.parts_M[found - (end - begin) - 1])
        for k in range(count):
            ids_T[t + k] = cache.parts_M[found + k]
        return int(count)
    after = _encode_part(rules_H2, cuts, points, begin, end, ids_T, t)
    first, second = key_2[0], key_2[1]
    if first != np.uint64(0) and after - t <= MAX_SHORT_IDS:
        place = short_place(first, second, len(cache.short_S4))
        place = find_short(cache.short_S4, first, second, place)
        # The same part may be missing twice; then the same is written twice.
        remember_short(cache, first, second, place, ids_T, t, after)
    elif end - begin <= _SHORT:
        remember_part(cache, points, begin, end, key, -1 - found, ids_T, t, after)
    return int(after - t)
