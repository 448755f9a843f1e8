"""What training knows: arrays of symbols, pairs and places, and the heap that orders rules.

All state lives in arrays, so the caller can stop between rules, show progress, make more room,
copy the state to go on in two ways, and keep arrays on disk. See `bpe` for the order of rules.

Shapes: N positions, W columns of counts, P pairs, A places in lists, S symbols, C characters,
H hash places, B neighbours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..jit import jit

__all__ = [
    "HEAP",
    "PAIRS",
    "PLACES",
    "STATUS",
    "SYMBOLS",
    "Int32",
    "Int64",
    "State",
    "char_of",
    "enter_names",
    "find_name",
    "name_next",
    "pop",
    "push",
    "sift_down",
    "squeeze",
]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

SYMBOLS, PAIRS, HEAP, PLACES, STATUS = 0, 1, 2, 3, 4
"""Places in `State.sizes`."""


class State(NamedTuple):
    """Everything that training knows."""

    cells_N2: Int32
    """The symbol at each position (BARRIER between segments), and its segment's count."""
    bounds_W: Int64
    """Where the positions of each column of counts end; column 0 is the training text."""
    left_P: Int32
    right_P: Int32
    key_P: npt.NDArray[np.uint64]
    """First three characters of the joined text: settles most ties."""
    begin_P: Int64
    length_P: Int64
    """Where the pair's places stand in `places_A`, in reading order."""
    heap_P: Int32
    """Pairs, the best one first."""
    bound_P: Int64
    """Of the heap's entries: joins are at most this."""
    places_A: npt.NDArray[np.unsignedinteger[Any]]
    chars_SC: Int32
    """Text of each symbol: code points, 0 after the end."""
    length_S: Int32
    span_S: Int32
    """Positions that a symbol fills."""
    need_S: Int32
    """How many single characters must be added for this symbol to exist."""
    names_H: Int32
    """Text to symbol, by linear probing; -1 is free."""
    found_B3: Int64
    """Room for the neighbours that one rule meets: symbol, place, count."""
    tally_S4: Int64
    """Room to group them: count, number, where to write, and the symbols that were met."""
    sizes: Int64


@jit
def char_of(s: State, left: int, right: int, i: int) -> int:
    """Character i of left + right, 0 after the end."""
    length = s.length_S[left]
    if i < length:
        return int(s.chars_SC[left, i])
    if i - length < s.length_S[right]:
        return int(s.chars_SC[right, i - length])
    return 0


@jit
def find_name(s: State, symbol: int) -> int:
    """Give the place in the hash table of names where the symbol's text is, or would be."""
    mask = np.uint64(len(s.names_H) - 1)
    length = s.length_S[symbol]
    key = np.uint64(0xCBF29CE484222325)
    for i in range(length):
        key = (key ^ np.uint64(s.chars_SC[symbol, i])) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(32)
    place = key & mask
    while True:
        other = s.names_H[place]
        if other < 0:
            return int(np.int64(place))
        same = s.length_S[other] == length
        for i in range(length):
            same = same and s.chars_SC[other, i] == s.chars_SC[symbol, i]
        if same:
            return int(np.int64(place))
        place = (place + np.uint64(1)) & mask


@jit
def enter_names(s: State, begin: int, end: int) -> None:
    """Enter the texts of symbols `begin` to `end`: no rule may make these again."""
    for symbol in range(begin, end):
        s.names_H[find_name(s, symbol)] = symbol


@jit
def name_next(s: State, left: int, right: int) -> bool:
    """Write left + right as the text of the next symbol; tell whether no piece has it yet."""
    symbol = s.sizes[SYMBOLS]
    length = s.length_S[left] + s.length_S[right]
    for i in range(length):
        s.chars_SC[symbol, i] = char_of(s, left, right, i)
    s.length_S[symbol] = length
    return bool(s.names_H[find_name(s, symbol)] < 0)


@jit
def _is_before(s: State, i: int, j: int) -> bool:
    """Tell whether entry i of the heap goes before entry j: the one order of rules."""
    if s.bound_P[i] != s.bound_P[j]:
        return bool(s.bound_P[i] > s.bound_P[j])
    x, y = s.heap_P[i], s.heap_P[j]
    if s.key_P[x] != s.key_P[y]:
        return bool(s.key_P[x] < s.key_P[y])
    a, b, c, d = s.left_P[x], s.right_P[x], s.left_P[y], s.right_P[y]
    for k in range(3, s.length_S[a] + s.length_S[b]):
        u, v = char_of(s, a, b, k), char_of(s, c, d, k)
        if u != v:
            return u < v
    if s.length_S[a] + s.length_S[b] < s.length_S[c] + s.length_S[d]:
        return True
    return bool(s.length_S[a] < s.length_S[c])


@jit
def _swap(s: State, i: int, j: int) -> None:
    s.heap_P[i], s.heap_P[j] = s.heap_P[j], s.heap_P[i]
    s.bound_P[i], s.bound_P[j] = s.bound_P[j], s.bound_P[i]


@jit
def sift_down(s: State, i: int) -> None:
    """Move an entry of the heap down until none below goes before it."""
    size = s.sizes[HEAP]
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _is_before(s, child + 1, child):
            child += 1
        if not _is_before(s, child, i):
            return
        _swap(s, i, child)
        i = child


@jit
def push(s: State, pair: int, bound: int) -> None:
    """Put a pair on the heap."""
    i = s.sizes[HEAP]
    s.heap_P[i], s.bound_P[i] = pair, bound
    s.sizes[HEAP] += 1
    while i > 0 and _is_before(s, i, (i - 1) // 2):
        _swap(s, i, (i - 1) // 2)
        i = (i - 1) // 2


@jit
def pop(s: State) -> None:
    """Take the first pair off the heap."""
    s.sizes[HEAP] -= 1
    _swap(s, 0, s.sizes[HEAP])
    sift_down(s, 0)


@jit
def squeeze(s: State, live_P: Int64, number_P: Int32) -> None:
    """Move the pairs of the heap, and their places, to the front of their arrays.

    Args:
        s: The state; changed in place.
        live_P: Pairs of the heap, in order. Pairs stand in the order of their places.
        number_P: Room for the new number of every pair.
    """
    end = np.int64(0)
    for i in range(len(live_P)):
        pair = live_P[i]
        number_P[pair] = i
        s.left_P[i], s.right_P[i], s.key_P[i] = s.left_P[pair], s.right_P[pair], s.key_P[pair]
        begin, length = s.begin_P[pair], s.length_P[pair]
        s.begin_P[i], s.length_P[i] = end, length
        for j in range(length):
            s.places_A[end + j] = s.places_A[begin + j]
        end += length
    for i in range(s.sizes[HEAP]):
        s.heap_P[i] = number_P[s.heap_P[i]]
    s.sizes[PAIRS], s.sizes[PLACES] = len(live_P), end
