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

from .characters import SPACE_MARK, decode_points
from .jit import jit, jit_inline
from .lookup import Parts, look_up
from .partcache import NARROW, SLACK, WIDE, Cache, find_part, hash_part
from .splitting import Program, split_points

__all__ = ["Cuts", "encode_documents", "encode_parts"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Uint64 = npt.NDArray[np.uint64]

_BORDER_PART = -2


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
def _cut_plain(cuts: Cuts, points: Int32, bounds: Int32, num: int, parts: Parts) -> int:
    """Cut as `_cut` does where nothing is read as it stands; most characters cost no branch.

    A short pre-token is a part as it is: looking it up costs less than cutting it.
    """
    class_P, together_CB, id_P = cuts.class_P, cuts.together_CB, cuts.id_P
    ends_Q, ids_Q = parts.ends_Q, parts.ids_Q
    is_split = num > 0 and cuts.bytes_merge
    num_parts = i = 0
    for n in range(num):
        end = int(bounds[n])
        if i >= end:
            continue
        id, before = id_P[points[i]], np.int64(class_P[points[i]])
        if is_split and (end - i <= WIDE or (end - i <= NARROW and points[end - 1] < 0x80)):
            id = id if end - i == 1 else np.int32(-1)
            i = end
        else:
            i += 1
        while i < end:
            kind = np.int64(class_P[points[i]])
            joins = np.int64(together_CB[before, kind >> 3] >> (kind & 7) & 1)
            ends_Q[num_parts], ids_Q[num_parts] = i, id
            num_parts += 1 - int(joins)
            id = np.int32(id_P[points[i]] | -joins)  # -1 once there are two characters
            before = kind
            i += 1
        ends_Q[num_parts], ids_Q[num_parts] = end, id
        num_parts += 1
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
    points = np.empty(most + SLACK, np.int32)
    decode_points(cuts.space, cuts.prefix, content_N, ends_D, points)
    num_points = int(ends_D[-1])  # without the prefixes that there was room for
    points[num_points : num_points + SLACK] = 0  # read, and shifted out again
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
    if has_borders or len(whole_ids) > 0 or len(cuts.user_first_P) > 0:
        num = _cut(cuts, points, bounds, num, whole_ids, has_borders, parts)
    else:
        num = _cut_plain(cuts, points, bounds, num, parts)
    # At most an id a byte; but ▁ has three bytes where it is no piece, the space it was has one.
    widest = 3 if cuts.space == SPACE_MARK and cuts.id_P[SPACE_MARK] < 0 else 1
    most_ids = widest * len(content_N) + 3 * len(ends_D) + borders
    return look_up(rules_H2, cuts, cache, points, parts, num, ends_D, most_ids, id_ends_D)


@jit
def encode_parts(rules_H2: Uint64, cuts: Cuts, cache: Cache, points: Int32, bounds: Int32) -> Int32:
    """Encode pre-tokens that follow each other; see `encode_documents`.

    Args:
        rules_H2: The merge rules.
        cuts: What comes before them.
        cache: Parts seen before; changed.
        points: Code points of the pre-tokens, and `partcache.SLACK` more, whatever they are.
        bounds: Where each pre-token ends; one or more.
    """
    num, size = len(bounds), int(bounds[len(bounds) - 1])
    whole_ids = _find_whole(cuts.whole, points, bounds, num)
    parts = Parts(np.empty(size, np.int32), np.empty(size, np.int32))
    if len(whole_ids) > 0 or len(cuts.user_first_P) > 0:
        num = _cut(cuts, points, bounds, num, whole_ids, False, parts)
    else:
        num = _cut_plain(cuts, points, bounds, num, parts)
    ends_D, id_ends_D = np.full(1, size, np.int64), np.zeros(1, np.int64)
    return look_up(rules_H2, cuts, cache, points, parts, num, ends_D, 4 * size + 3, id_ends_D)
