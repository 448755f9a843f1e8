"""SentencePiece BPE, compiled: text is cut where no piece reaches across, and parts are looked up.

Two neighbouring characters that stand together in no piece never join. So text falls into *parts*
that are encoded by themselves, with the same result as the whole, and most parts have been seen
before: a table of parts already encoded does the rest. What is new is merged as sentencepiece does
it: the best score first, the leftmost of equals.

Source of the merge order: sentencepiece, src/bpe_model.cc. Cutting and the table are ours.

Shapes: C characters that stand in pieces of two or more, H hash places, E parts in the cache,
N bytes of text, D documents, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .jit import jit

__all__ = ["Cache", "Rules", "encode_documents", "find_pair", "new_cache", "pair_table"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Uint64 = npt.NDArray[np.uint64]

_SPACE_MARK = 0x2581
_NO_RULE = 1 << 30
_SHORT = 48
"""Parts up to this length are merged by looking at all pairs; longer ones with a heap."""


class Rules(NamedTuple):
    """A tokenizer as arrays."""

    number_of_point: Int32
    """A small number for each character that stands in a piece of two or more; 0 for others."""
    together_CB: UInt8
    """Bit (a, b): characters a and b stand together, in this order, in some piece."""
    id_of_point: Int32
    """Id of the character's own piece; -1: it is spelled in bytes."""
    byte_ids: Int32
    keys_H: Uint64
    """(left, right) of each rule, by linear probing; all bits set: free. A symbol is an id, or
    the number of ids plus a code point for a character without a piece."""
    joined_H2: Int32
    """The id that the rule makes, and its rank: lower ranks go first."""
    num_ids: int
    has_prefix: bool
    """Whether a text that is not empty begins with a space mark of its own."""


class Cache(NamedTuple):
    """Parts that were encoded, and their ids; cleared when it is full."""

    slots_H: Int32
    hash_E: npt.NDArray[np.uint32]
    points_end_E: Int64
    ids_end_E: Int64
    points_M: Int32
    ids_M: Int32
    sizes: Int64
    """Parts so far."""


def new_cache(num_parts: int) -> Cache:
    """Make room for this many parts, of eight characters on average."""
    return Cache(
        slots_H=np.full(1 << (2 * num_parts).bit_length(), -1, np.int32),
        hash_E=np.zeros(num_parts, np.uint32),
        points_end_E=np.zeros(num_parts + 1, np.int64),
        ids_end_E=np.zeros(num_parts + 1, np.int64),
        points_M=np.zeros(8 * num_parts, np.int32),
        ids_M=np.zeros(8 * num_parts, np.int32),
        sizes=np.zeros(1, np.int64),
    )


def pair_table(rows: Sequence[tuple[int, ...]]) -> tuple[Uint64, Int32]:
    """Put (left, right, value, rank) into open addressing; a free key has all bits set.

    Returns:
        Keys, and value and rank at the same places; `find_pair` tells where.
    """
    size = 1 << max(4, (4 * len(rows)).bit_length())
    keys_H = np.full(size, np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64)
    values_H2 = np.zeros((size, 2), np.int32)
    for left, right, value, rank in rows:
        place = find_pair(keys_H, left, right)
        keys_H[place] = left << 32 | right
        values_H2[place] = value, rank
    return keys_H, values_H2


@jit
def find_pair(keys_H: Uint64, left: int, right: int) -> int:
    """Give the place where the pair is, or would be."""
    mask = np.uint64(len(keys_H) - 1)
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    mixed = (key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    place = (mixed >> np.uint64(32)) & mask
    while keys_H[place] != key and keys_H[place] != np.uint64(0xFFFFFFFFFFFFFFFF):
        place = (place + np.uint64(1)) & mask
    return int(np.int64(place))


@jit
def _rank(rules: Rules, left: int, right: int) -> int:
    place = find_pair(rules.keys_H, left, right)
    if rules.keys_H[place] == np.uint64(0xFFFFFFFFFFFFFFFF):
        return _NO_RULE
    return int(rules.joined_H2[place, 1])


@jit
def _joined(rules: Rules, left: int, right: int) -> int:
    return int(rules.joined_H2[find_pair(rules.keys_H, left, right), 0])


@jit
def _merge_short(rules: Rules, symbols: Int32, ranks: Int32, num: int) -> int:
    """Join the symbols of a part in place; give how many are left."""
    for i in range(num - 1):
        ranks[i] = _rank(rules, symbols[i], symbols[i + 1])
    while num > 1:
        best = 0
        for i in range(1, num - 1):
            if ranks[i] < ranks[best]:
                best = i
        if ranks[best] == _NO_RULE:
            break
        symbols[best] = _joined(rules, symbols[best], symbols[best + 1])
        for i in range(best + 1, num - 1):
            symbols[i] = symbols[i + 1]
            ranks[i] = ranks[i + 1]
        num -= 1
        if best > 0:
            ranks[best - 1] = _rank(rules, symbols[best - 1], symbols[best])
        if best < num - 1:
            ranks[best] = _rank(rules, symbols[best], symbols[best + 1])
    return num


@jit
def _push(heap: Int64, size: int, key: int) -> int:
    i = size
    while i > 0 and heap[(i - 1) // 2] > key:
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = key
    return size + 1


@jit
def _pop(heap: Int64, size: int) -> int:
    """Take the least key off; the caller has read it from the top."""
    size -= 1
    key, i = heap[size], 0
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = key
    return size


@jit
def _merge_long(rules: Rules, symbols: Int32, num: int) -> int:
    """Join the symbols of a long part in place; give how many are left."""
    after, before = np.arange(1, num + 1), np.arange(-1, num - 1)
    heap, size = np.empty(3 * num, np.int64), 0
    for i in range(num - 1):
        rank = _rank(rules, symbols[i], symbols[i + 1])
        if rank != _NO_RULE:
            size = _push(heap, size, int((np.int64(rank) << 32) | i))
    while size > 0:
        key = heap[0]
        size = _pop(heap, size)
        i, rank = key & 0xFFFFFFFF, key >> 32
        j = after[i]
        if symbols[i] < 0 or j >= num or _rank(rules, symbols[i], symbols[j]) != rank:
            continue  # one of the two was joined to something else meanwhile
        symbols[i] = _joined(rules, symbols[i], symbols[j])
        symbols[j] = -1
        after[i] = after[j]
        if after[i] < num:
            before[after[i]] = i
            rank = _rank(rules, symbols[i], symbols[after[i]])
            if rank != _NO_RULE:
                size = _push(heap, size, int((np.int64(rank) << 32) | i))
        if before[i] >= 0:
            rank = _rank(rules, symbols[before[i]], symbols[i])
            if rank != _NO_RULE:
                size = _push(heap, size, int((np.int64(rank) << 32) | before[i]))
    kept = 0
    for i in range(num):
        if symbols[i] >= 0:
            symbols[kept] = symbols[i]
            kept += 1
    return kept


@jit
def _write_bytes(rules: Rules, point: int, ids_T: Int32, t: int) -> int:
    """Spell a character in bytes."""
    if point < 0x80:
        ids_T[t] = rules.byte_ids[point]
        return t + 1
    if point < 0x800:
        ids_T[t] = rules.byte_ids[0xC0 | point >> 6]
        ids_T[t + 1] = rules.byte_ids[0x80 | (point & 0x3F)]
        return t + 2
    if point < 0x10000:
        ids_T[t] = rules.byte_ids[0xE0 | point >> 12]
        ids_T[t + 1] = rules.byte_ids[0x80 | (point >> 6 & 0x3F)]
        ids_T[t + 2] = rules.byte_ids[0x80 | (point & 0x3F)]
        return t + 3
    ids_T[t] = rules.byte_ids[0xF0 | point >> 18]
    ids_T[t + 1] = rules.byte_ids[0x80 | (point >> 12 & 0x3F)]
    ids_T[t + 2] = rules.byte_ids[0x80 | (point >> 6 & 0x3F)]
    ids_T[t + 3] = rules.byte_ids[0x80 | (point & 0x3F)]
    return t + 4


@jit
def _encode_part(rules: Rules, points: Int32, num: int, ids_T: Int32, t: int) -> int:
    """Encode a part that was not seen before; give the end of its ids."""
    symbols = np.empty(num, np.int32)
    for i in range(num):
        id = rules.id_of_point[points[i]]
        symbols[i] = id if id >= 0 else rules.num_ids + points[i]
    if num <= _SHORT:
        left = _merge_short(rules, symbols, np.empty(num, np.int32), num)
    else:
        left = _merge_long(rules, symbols, num)
    for i in range(left):
        if symbols[i] < rules.num_ids:
            ids_T[t] = symbols[i]
            t += 1
        else:
            t = _write_bytes(rules, symbols[i] - rules.num_ids, ids_T, t)
    return t


@jit
def _look_up(
    rules: Rules, cache: Cache, points: Int32, num: int, key: int, ids_T: Int32, t: int
) -> int:
    """Write the ids of a part, from the cache where it is there; give their end."""
    mask = len(cache.slots_H) - 1
    short = np.uint32(key & 0xFFFFFFFF)
    place = (key >> 20) & mask
    part = cache.slots_H[place]
    while part >= 0:
        start = cache.points_end_E[part]
        if cache.hash_E[part] == short and cache.points_end_E[part + 1] - start == num:
            same = True
            for i in range(num):
                same = same and cache.points_M[start + i] == points[i]
            if same:
                for i in range(cache.ids_end_E[part], cache.ids_end_E[part + 1]):
                    ids_T[t] = cache.ids_M[i]
                    t += 1
                return t
        place = (place + 1) & mask
        part = cache.slots_H[place]
    end = _encode_part(rules, points, num, ids_T, t)
    if num <= _SHORT:
        _remember(cache, points, num, short, place, ids_T, t, end)
    return end


@jit
def _remember(
    cache: Cache,
    points: Int32,
    num: int,
    short: np.uint32,
    place: int,
    ids_T: Int32,
    t: int,
    end: int,
) -> None:
    part = cache.sizes[0]
    start, first = cache.points_end_E[part], cache.ids_end_E[part]
    is_full = (
        part + 1 >= len(cache.hash_E)
        or start + num > len(cache.points_M)
        or first + end - t > len(cache.ids_M)
    )
    if is_full:  # begin anew: what is frequent comes back at once
        cache.slots_H[:] = -1
        cache.sizes[0] = 0
        return
    cache.points_M[start : start + num] = points[:num]
    cache.ids_M[first : first + end - t] = ids_T[t:end]
    cache.points_end_E[part + 1] = start + num
    cache.ids_end_E[part + 1] = first + end - t
    cache.hash_E[part] = short
    cache.slots_H[place] = part
    cache.sizes[0] += 1


@jit
def encode_documents(
    rules: Rules,
    cache: Cache,
    content_N: UInt8,
    ends_D: Int64,
    points: Int32,
    ids_T: Int32,
    id_ends_D: Int64,
) -> int:
    """Encode UTF-8 documents that stand one after the other.

    Args:
        rules: The tokenizer.
        cache: Parts seen before; changed.
        content_N: The bytes, valid UTF-8.
        ends_D: Where each document ends.
        points: Room for the longest document's characters, and one more.
        ids_T: Room for the ids: as many as bytes, and one a document.
        id_ends_D: Gets where the ids of each document end.

    Returns:
        The number of ids.
    """
    t = i = 0
    for d in range(len(ends_D)):
        num, key, before = 0, np.uint64(0xCBF29CE484222325), 0
        end = ends_D[d]
        pending = rules.has_prefix and i < end
        while i < end or pending:
            if pending:
                point, pending = _SPACE_MARK, False
            else:
                byte = int(np.int64(content_N[i]))
                if byte < 0x80:
                    point = byte if byte != 0x20 else _SPACE_MARK
                    i += 1
                elif byte < 0xE0:
                    point = (byte & 0x1F) << 6 | (content_N[i + 1] & 0x3F)
                    i += 2
                elif byte < 0xF0:
                    point = (byte & 0x0F) << 12 | (content_N[i + 1] & 0x3F) << 6
                    point |= content_N[i + 2] & 0x3F
                    i += 3
                else:
                    point = (byte & 0x07) << 18 | (content_N[i + 1] & 0x3F) << 12
                    point |= (content_N[i + 2] & 0x3F) << 6 | (content_N[i + 3] & 0x3F)
                    i += 4
            number = rules.number_of_point[point]
            if num > 0 and not (rules.together_CB[before, number >> 3] >> (number & 7) & 1):
                t = _flush(rules, cache, points, num, int(np.int64(key >> np.uint64(1))), ids_T, t)
                num, key = 0, np.uint64(0xCBF29CE484222325)
            points[num] = point
            num += 1
            key = (key ^ np.uint64(point)) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
            before = number
        if num > 0:
            t = _flush(rules, cache, points, num, int(np.int64(key >> np.uint64(1))), ids_T, t)
        id_ends_D[d] = t
    return t


@jit
def _flush(
    rules: Rules, cache: Cache, points: Int32, num: int, key: int, ids_T: Int32, t: int
) -> int:
    """Write the ids of the part that ends here."""
    if num == 1:
        id = rules.id_of_point[points[0]]
        if id < 0:
            return _write_bytes(rules, points[0], ids_T, t)
        ids_T[t] = id
        return t + 1
    return _look_up(rules, cache, points, num, key, ids_T, t)
