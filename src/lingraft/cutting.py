"""Texts to ids, compiled: text is cut where no piece reaches across, and parts are looked up.

Two neighbouring characters that stand together in no piece never join. So text falls into *parts*
that are encoded by themselves, with the same result as the whole, and most parts have been seen
before: a table of parts already encoded does the rest. Before that, patterns may split the text
into pre-tokens, and pieces that are read out of it as they stand may.

Shapes: C classes of characters, B bytes of a row of them, N bytes of text, D documents, H places
of rules, T tokens, U pieces read as they stand, P code points, Q parts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .characters import SPACE_MARK, decode_points, write_bytes
from .jit import jit, jit_inline
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
)
from .splitting import Program, split_points

__all__ = ["Cuts", "encode_documents"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Uint64 = npt.NDArray[np.uint64]

_SHORT = 48
"""Longest part that is remembered."""
_BORDER_PART = -2
_MOST_IDS = (1 << 21) - 1


class Cuts(NamedTuple):
    """What a tokenizer does before its merge rules, as arrays."""

    space: int
    """Code point that a space becomes."""
    prefix: int
    """A space before a text that is not empty: 0 never, 1 always, 2 unless it begins with one."""
    class_P: Int32
    """A small number for each character that stands beside another in some piece; 0: others."""
    together_CB: UInt8
    """Bit (a, b): characters of classes a and b stand together, in this order, in some piece."""
    id_P: Int32
    """Id of the character alone; -1: it has several, or none."""
    byte_ids: Int32
    num_ids: int
    bytes_merge: bool
    """Whether bytes are the symbols that merge; else characters, and a character without a piece
    of its own is spelled in bytes at the end."""
    user_first_P: Int32
    """First of the pieces read as they stand that begin with the character; -1: none does. Empty
    where there is no such piece."""
    user_points_M: Int32
    user_ends_U: Int64
    """Sorted by points, so that those with one beginning stand together, the shortest first."""
    user_ids_U: Int32
    whole: Cache
    """Pre-tokens that are a piece though the merge rules do not make it."""


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
def _find_user(
    first_P: Int32, points_M: Int32, ends_U: Int64, points: Int32, i: int, end: int
) -> int:
    """Give the longest piece read as it stands that begins at points[i]; -1: none."""
    low, high, found = int(first_P[points[i]]), len(ends_U), -1
    size = 0
    while 0 <= low < high and i + size < end:
        # Of low..high, which share `size` points, keep those whose next point is the text's.
        first, last = low, high
        for bound in range(2):
            left, right = low, high
            while left < right:
                middle = (left + right) // 2
                start = ends_U[middle - 1] if middle > 0 else 0
                has_next = start + size < ends_U[middle]
                point = points_M[start + size] if has_next else -1
                if point < points[i + size] + bound:
                    left = middle + 1
                else:
                    right = middle
            if bound == 0:
                first = left
            else:
                last = left
        low, high = first, last
        size += 1
        if low < high and ends_U[low] - (ends_U[low - 1] if low > 0 else 0) == size:
            found = low
    return found


@jit_inline
def _push(parts: Parts, num: int, end: int, id: int) -> int:
    """Write a part that ends at `end`; give how many there are."""
    parts.ends_Q[num], parts.ids_Q[num] = end, id
    return num + 1


@jit
def _cut(
    cuts: Cuts,
    points: Int32,
    bounds: Int32,
    num: int,
    whole_ids: Int32,
    has_borders: bool,
    parts: Parts,
) -> int:
    """Cut pieces of text into parts; give how many there are."""
    class_P, together_CB, id_P = cuts.class_P, cuts.together_CB, cuts.id_P
    user_first_P, user_points_M = cuts.user_first_P, cuts.user_points_M
    user_ends_U, user_ids_U = cuts.user_ends_U, cuts.user_ids_U
    num_parts = i = 0
    for n in range(num):
        end, start, before = int(bounds[n]), i, 0
        if len(whole_ids) > 0 and whole_ids[n] >= 0:
            num_parts = _push(parts, num_parts, end, whole_ids[n])
            i = start = end
        while i < end:
            kind, user = int(class_P[points[i]]), -1
            joins = i > start and together_CB[before, kind >> 3] >> (kind & 7) & 1
            if len(user_first_P) > 0 and user_first_P[points[i]] >= 0:
                user = _find_user(user_first_P, user_points_M, user_ends_U, points, i, end)
            if i > start and (user >= 0 or not joins):
                id = int(id_P[points[start]]) if i - start == 1 else -1
                num_parts = _push(parts, num_parts, i, id)
                start = i
            if user >= 0:
                i += int(user_ends_U[user] - (user_ends_U[user - 1] if user > 0 else 0))
                num_parts = _push(parts, num_parts, i, user_ids_U[user])
                start = i
                continue
            before = kind
            i += 1
        if end > start:
            id = int(id_P[points[start]]) if end - start == 1 else -1
            num_parts = _push(parts, num_parts, end, id)
        if has_borders:
            num_parts = _push(parts, num_parts, end, _BORDER_PART)
    return int(num_parts)


@jit
def _find_whole(whole: Cache, points: Int32, bounds: Int32, num: int) -> Int32:
    """Give the id of each pre-token that is a piece though no merge rule makes it; or -1."""
    ids = np.full(num if whole.used[0] > 0 else 0, -1, np.int32)
    slots_H, parts_M = whole.slots_H, whole.parts_M
    begin = 0
    for n in range(len(ids)):
        end = int(bounds[n])
        key = hash_part(points, begin, end)
        found = find_part(slots_H, parts_M, points, begin, end, key)
        if found >= 0:
            ids[n] = parts_M[found]
        begin = end
    return ids


@jit
def _look_up(
    rules_H2: Uint64,
    cuts: Cuts,
    cache: Cache,
    points: Int32,
    parts: Parts,
    num: int,
    ends_D: Int64,
    ids_T: Int32,
    id_ends_D: Int64,
) -> int:
    """Write the ids of all parts, and where those of each document end; give how many."""
    ends_Q, ids_Q, short_S2, space = parts.ends_Q, parts.ids_Q, cache.short_S2, cuts.space
    t = d = begin = 0
    for n in range(num):
        end = int(ends_Q[n])
        while ends_D[d] < end:  # empty documents, and the one that ended
            id_ends_D[d] = t
            d += 1
        if ids_Q[n] != -1:
            ids_T[t] = max(ids_Q[n], -1)
            t += 1
            begin = end
            continue
        key = pack_part(points, begin, end, space)
        value = np.uint64(0)
        if key != np.uint64(0):
            place = find_short(short_S2, key)
            if short_S2[place, 0] != np.uint64(0):
                value = short_S2[place, 1]
        if value == np.uint64(0):
            t = _look_up_long(rules_H2, cuts, cache, points, begin, end, key, ids_T, t)
        while value != np.uint64(0):
            ids_T[t] = np.int32(np.int64(value & np.uint64(0x1FFFFF)) - 1)
            value >>= np.uint64(21)
            t += 1
        begin = end
    id_ends_D[d:] = t
    return int(t)


@jit
def _look_up_long(
    rules_H2: Uint64,
    cuts: Cuts,
    cache: Cache,
    points: Int32,
    begin: int,
    end: int,
    short_key: np.uint64,
    ids_T: Int32,
    t: int,
) -> int:
    """Write the ids of a part that is long, or new; give their end."""
    key = hash_part(points, begin, end)
    found = find_part(cache.slots_H, cache.parts_M, points, begin, end, key)
    if found >= 0:
        for k in range(cache.parts_M[found - (end - begin) - 1]):
            ids_T[t] = cache.parts_M[found + k]
            t += 1
        return t
    after = _encode_part(rules_H2, cuts, points, begin, end, ids_T, t)
    if short_key != np.uint64(0) and after - t <= MAX_SHORT_IDS and cuts.num_ids < _MOST_IDS:
        place = find_short(cache.short_S2, short_key)
        remember_short(cache, short_key, place, ids_T, t, after)
    elif end - begin <= _SHORT:
        remember_part(cache, points, begin, end, key, -1 - found, ids_T, t, after)
    return after


@jit
def encode_documents(
    rules_H2: Uint64,
    cuts: Cuts,
    program: Program,
    cache: Cache,
    content_N: UInt8,
    ends_D: Int64,
    num_points: int,
    has_borders: bool,
    id_ends_D: Int64,
) -> Int32:
    """Encode UTF-8 documents that stand one after the other.

    Args:
        rules_H2: The merge rules, as `merging.rule_table` gives them.
        cuts: What comes before them.
        program: Patterns that split a text into pre-tokens; it may have none.
        cache: Parts seen before; changed.
        content_N: The bytes, valid UTF-8.
        ends_D: Where each document ends; used up.
        num_points: Characters of all documents.
        has_borders: Whether -1 stands after each pre-token.
        id_ends_D: Gets where the ids of each document end; -1 where they are to be encoded by the
            tokenizer's library.

    Returns:
        The ids of all documents.
    """
    most = num_points + len(ends_D)
    points = np.empty(most, np.int32)
    decode_points(cuts.space, cuts.prefix, content_N, ends_D, points)
    num = len(ends_D)
    bounds = np.empty(most if len(program.ends_L) > 0 else num, np.int32)
    bounds[:num] = ends_D
    if len(program.ends_L) > 0:
        num = split_points(program, points, bounds, num)
        if num < 0:
            id_ends_D[:] = -1
            return np.empty(0, np.int32)
    whole_ids = _find_whole(cuts.whole, points, bounds, num)
    room = most + num if has_borders else most
    parts = Parts(np.empty(room, np.int32), np.empty(room, np.int32))
    borders = num if has_borders else 0
    num = _cut(cuts, points, bounds, num, whole_ids, has_borders, parts)
    # At most an id a byte; but ▁ has three bytes where it is no piece, the space it was has one.
    widest = 3 if cuts.space == SPACE_MARK and cuts.id_P[SPACE_MARK] < 0 else 1
    ids_T = np.empty(widest * len(content_N) + 3 * len(ends_D) + borders, np.int32)
    num = _look_up(rules_H2, cuts, cache, points, parts, num, ends_D, ids_T, id_ends_D)
    return ids_T[:num].copy()
