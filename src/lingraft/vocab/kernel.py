"""The compiled part of byte pair encoding: lists of places, slots of pairs, the heap of rules.

Only arrays come in, and all state lives in them, so the caller can stop between rules, show
progress, make more room and go on. See `bpe` for the idea and the order of rules.

Shapes: N positions, G segments, W weights, P slots, S symbols, C characters, H hash places,
K rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from .segments import Int32, Int64

__all__ = [
    "HEAP",
    "SLOTS",
    "SYMBOLS",
    "Pairs",
    "Pieces",
    "Places",
    "enter_names",
    "enter_pairs",
    "fill_heap",
    "is_full",
    "learn",
    "meet_all",
]

_F = TypeVar("_F", bound=Callable[..., Any])


class Places(NamedTuple):
    """The text. A symbol fills `span` positions; its first one holds it and its pair."""

    symbol_N: Int32
    span_N: npt.NDArray[np.int16]  # at the first and at the last position
    segment_N: Int32
    slot_N: Int32  # slot of the pair that starts here, or -1
    before_N: Int32  # the list of places of that slot, both ways
    after_N: Int32
    weights_GW: Int64


class Pairs(NamedTuple):
    """One slot for each pair ever seen."""

    left_P: Int32
    right_P: Int32
    weight_P: Int64  # in the training text, overlapping places too
    head_P: Int32
    tail_P: Int32
    heap_P: Int32  # slots, the best one first
    bound_P: Int64  # of the heap's entries: joins are at most this
    hash_H: Int32  # (left, right) -> slot, by linear probing; -1 is free


class Pieces(NamedTuple):
    """Texts of the symbols."""

    chars_SC: Int32  # code points, 0 after the end
    length_S: Int32
    hash_H: Int32  # text -> symbol, by linear probing; -1 is free
    sizes: Int64  # how many SYMBOLS, SLOTS and entries of the HEAP there are


SYMBOLS, SLOTS, HEAP = 0, 1, 2
"""Places in `Pieces.sizes`."""


def _jit(function: _F) -> _F:
    """Compile when first called; the machine code is kept on disk, and threads run freely."""
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled


@_jit
def is_full(pairs: Pairs, pieces: Pieces) -> bool:
    """Tell whether one more rule might not fit: it meets each symbol, itself too, on two sides."""
    return bool(len(pairs.left_P) - pieces.sizes[SLOTS] < 2 * pieces.sizes[SYMBOLS] + 2)


@_jit
def _find_pair(pairs: Pairs, left: int, right: int) -> int:
    """Give the place in the hash table where the pair is, or would be."""
    mask = np.uint64(len(pairs.hash_H) - 1)
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    place = (key >> np.uint64(32)) & mask
    while True:
        slot = pairs.hash_H[place]
        if slot < 0 or (pairs.left_P[slot] == left and pairs.right_P[slot] == right):
            return int(np.int64(place))
        place = (place + np.uint64(1)) & mask


@_jit
def enter_pairs(pairs: Pairs, num_slots: int) -> None:
    """Enter the first slots into an empty hash table."""
    for slot in range(num_slots):
        pairs.hash_H[_find_pair(pairs, pairs.left_P[slot], pairs.right_P[slot])] = slot


@_jit
def _char(pieces: Pieces, left: int, right: int, i: int) -> int:
    """Character i of left + right, 0 after the end."""
    length = pieces.length_S[left]
    if i < length:
        return int(pieces.chars_SC[left, i])
    if i - length < pieces.length_S[right]:
        return int(pieces.chars_SC[right, i - length])
    return 0


@_jit
def _find_name(pieces: Pieces, symbol: int) -> int:
    """Give the place in the hash table of names where the symbol's text is, or would be."""
    mask = np.uint64(len(pieces.hash_H) - 1)
    length = pieces.length_S[symbol]
    key = np.uint64(0xCBF29CE484222325)
    for i in range(length):
        key = (key ^ np.uint64(pieces.chars_SC[symbol, i])) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(32)
    place = key & mask
    while True:
        other = pieces.hash_H[place]
        if other < 0:
            return int(np.int64(place))
        same = pieces.length_S[other] == length
        for i in range(length):
            same = same and pieces.chars_SC[other, i] == pieces.chars_SC[symbol, i]
        if same:
            return int(np.int64(place))
        place = (place + np.uint64(1)) & mask


@_jit
def enter_names(pieces: Pieces, num_symbols: int) -> None:
    """Enter the texts of the first symbols; these are the pieces there are."""
    for symbol in range(num_symbols):
        pieces.hash_H[_find_name(pieces, symbol)] = symbol
    pieces.sizes[SYMBOLS] = num_symbols


@_jit
def _name_next(pieces: Pieces, left: int, right: int) -> bool:
    """Write left + right as the text of the next symbol; tell whether no piece has it yet."""
    symbol = pieces.sizes[SYMBOLS]
    length = pieces.length_S[left] + pieces.length_S[right]
    for i in range(length):
        pieces.chars_SC[symbol, i] = _char(pieces, left, right, i)
    pieces.length_S[symbol] = length
    return bool(pieces.hash_H[_find_name(pieces, symbol)] < 0)


@_jit
def _is_before(pairs: Pairs, pieces: Pieces, i: int, j: int) -> bool:
    """Tell whether entry i of the heap goes before entry j: the one order of rules."""
    if pairs.bound_P[i] != pairs.bound_P[j]:
        return bool(pairs.bound_P[i] > pairs.bound_P[j])
    a, b = pairs.left_P[pairs.heap_P[i]], pairs.right_P[pairs.heap_P[i]]
    c, d = pairs.left_P[pairs.heap_P[j]], pairs.right_P[pairs.heap_P[j]]
    for k in range(pieces.length_S[a] + pieces.length_S[b]):
        x, y = _char(pieces, a, b, k), _char(pieces, c, d, k)
        if x != y:
            return x < y
    if pieces.length_S[a] + pieces.length_S[b] < pieces.length_S[c] + pieces.length_S[d]:
        return True
    return bool(pieces.length_S[a] < pieces.length_S[c])


@_jit
def _swap(pairs: Pairs, i: int, j: int) -> None:
    pairs.heap_P[i], pairs.heap_P[j] = pairs.heap_P[j], pairs.heap_P[i]
    pairs.bound_P[i], pairs.bound_P[j] = pairs.bound_P[j], pairs.bound_P[i]


@_jit
def _sift_down(pairs: Pairs, pieces: Pieces, i: int) -> None:
    size = pieces.sizes[HEAP]
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _is_before(pairs, pieces, child + 1, child):
            child += 1
        if not _is_before(pairs, pieces, child, i):
            return
        _swap(pairs, i, child)
        i = child


@_jit
def _push(pairs: Pairs, pieces: Pieces, slot: int) -> None:
    i = pieces.sizes[HEAP]
    pairs.heap_P[i], pairs.bound_P[i] = slot, pairs.weight_P[slot]
    pieces.sizes[HEAP] += 1
    while i > 0 and _is_before(pairs, pieces, i, (i - 1) // 2):
        _swap(pairs, i, (i - 1) // 2)
        i = (i - 1) // 2


@_jit
def _pop(pairs: Pairs, pieces: Pieces) -> None:
    pieces.sizes[HEAP] -= 1
    _swap(pairs, 0, pieces.sizes[HEAP])
    _sift_down(pairs, pieces, 0)


@_jit
def fill_heap(pairs: Pairs, pieces: Pieces, min_count: int) -> None:
    """Put every pair that could become a rule on the heap."""
    for slot in range(pieces.sizes[SLOTS]):
        if pairs.weight_P[slot] >= min_count:
            _push(pairs, pieces, slot)


@_jit
def _meet(places: Places, pairs: Pairs, pieces: Pieces, max_chars: int, p: int) -> None:
    """Put the pair that starts at p into the list of its slot, at the end."""
    left, right = places.symbol_N[p], places.symbol_N[p + places.span_N[p]]
    if left < 0 or right < 0 or pieces.length_S[left] + pieces.length_S[right] > max_chars:
        return
    place = _find_pair(pairs, left, right)
    slot = pairs.hash_H[place]
    if slot < 0:
        slot = pieces.sizes[SLOTS]
        pieces.sizes[SLOTS] += 1
        pairs.hash_H[place] = slot
        pairs.left_P[slot], pairs.right_P[slot] = left, right
    tail = pairs.tail_P[slot]
    if tail < 0:
        pairs.head_P[slot] = p
    else:
        places.after_N[tail] = p
    places.before_N[p], places.after_N[p], places.slot_N[p] = tail, -1, slot
    pairs.tail_P[slot] = p
    pairs.weight_P[slot] += places.weights_GW[places.segment_N[p], 0]


@_jit
def _part(places: Places, pairs: Pairs, p: int) -> None:
    """Take the pair that starts at p, if it is in a list, out of it."""
    slot = places.slot_N[p]
    if slot < 0:
        return
    before, after = places.before_N[p], places.after_N[p]
    if before < 0:
        pairs.head_P[slot] = after
    else:
        places.after_N[before] = after
    if after < 0:
        pairs.tail_P[slot] = before
    else:
        places.before_N[after] = before
    places.slot_N[p] = -1
    pairs.weight_P[slot] -= places.weights_GW[places.segment_N[p], 0]


@_jit
def meet_all(places: Places, pairs: Pairs, pieces: Pieces, max_chars: int, begin: int) -> int:
    """Enter the pairs of the text from position `begin` on; stop where slots run out."""
    for p in range(begin, len(places.symbol_N) - 1):
        if pieces.sizes[SLOTS] == len(pairs.left_P):
            return p
        _meet(places, pairs, pieces, max_chars, p)
    return len(places.symbol_N) - 1


@_jit
def _count_joins(places: Places, pairs: Pairs, slot: int) -> int:
    """Joins that the slot's pair would make; (a, a) overlaps itself in "aaa"."""
    if pairs.left_P[slot] != pairs.right_P[slot]:
        return int(pairs.weight_P[slot])
    joins, p = 0, pairs.head_P[slot]
    while p >= 0:
        joins += places.weights_GW[places.segment_N[p], 0]
        following = places.after_N[p]
        if following == p + places.span_N[p]:
            following = places.after_N[following]
        p = following
    return joins


@_jit
def _choose_slot(places: Places, pairs: Pairs, pieces: Pieces, min_count: int) -> int:
    """Take the next rule's slot from the heap and write its piece's name; -1 if none is left."""
    while pieces.sizes[HEAP] > 0:
        slot = pairs.heap_P[0]
        joins = _count_joins(places, pairs, slot)
        if joins < min_count:
            _pop(pairs, pieces)
        elif joins < pairs.bound_P[0]:
            pairs.bound_P[0] = joins
            _sift_down(pairs, pieces, 0)
        else:
            _pop(pairs, pieces)
            if _name_next(pieces, pairs.left_P[slot], pairs.right_P[slot]):
                return int(slot)
    return -1


@_jit
def _join(
    places: Places, pairs: Pairs, pieces: Pieces, max_chars: int, p: int, symbol: int
) -> None:
    """Join the pair that starts at p; its neighbours on both sides now meet the new symbol."""
    q = p + places.span_N[p]
    left = p - places.span_N[p - 1]
    _part(places, pairs, left)
    _part(places, pairs, p)
    _part(places, pairs, q)
    span = places.span_N[p] + places.span_N[q]
    places.symbol_N[p] = symbol
    places.span_N[p], places.span_N[p + span - 1] = span, span
    _meet(places, pairs, pieces, max_chars, left)
    _meet(places, pairs, pieces, max_chars, p)


@_jit
def learn(
    places: Places,
    pairs: Pairs,
    pieces: Pieces,
    out_KR: Int64,
    begin: int,
    end: int,
    max_chars: int,
    min_count: int,
) -> int:
    """Learn rules `begin` to `end`; stop where no pair is left or slots might run out."""
    for k in range(begin, end):
        if is_full(pairs, pieces):
            return k
        slot = _choose_slot(places, pairs, pieces, min_count)
        if slot < 0:
            return k
        symbol, first = pieces.sizes[SYMBOLS], pieces.sizes[SLOTS]
        pieces.sizes[SYMBOLS] += 1
        pieces.hash_H[_find_name(pieces, symbol)] = symbol
        out_KR[k, 0], out_KR[k, 1] = pairs.left_P[slot], pairs.right_P[slot]
        while pairs.head_P[slot] >= 0:
            p = pairs.head_P[slot]
            for w in range(places.weights_GW.shape[1]):
                out_KR[k, 2 + w] += places.weights_GW[places.segment_N[p], w]
            _join(places, pairs, pieces, max_chars, p, symbol)
        for found in range(first, pieces.sizes[SLOTS]):
            if pairs.weight_P[found] >= min_count:
                _push(pairs, pieces, found)
    return end
