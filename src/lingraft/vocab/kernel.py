"""The compiled part of byte pair encoding: lists of places, pairs, and the heap of rules.

Only arrays come in and all state lives in them, so the caller can stop between rules, show
progress, make more room, copy the state to go on in two ways, and keep arrays on disk. See `bpe`
for the idea and the order of rules.

A symbol stands at its first and at its last position; its span is known from the symbol, because
one rule makes it. So a join reads and writes a handful of neighbouring cells. A list of places is
complete when its pair is made: all places of (x, new) come up while the rule of `new` is applied,
and from then on they only become fewer. So nothing is taken out of a list; a place that is no
more what it was is dropped when the pair is next looked at, and pairs that begin below `min_count`
are never stored.

Shapes: N positions, W columns of counts, P pairs, A places in lists, S symbols, C characters,
H hash places, K rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..jit import jit
from .state import (
    HEAP,
    PAIRS,
    PLACES,
    STATUS,
    SYMBOLS,
    Int32,
    Int64,
    State,
    char_of,
    find_name,
    name_next,
    pop,
    push,
    sift_down,
)

__all__ = [
    "DONE",
    "EXHAUSTED",
    "FORK",
    "FULL",
    "Places",
    "fill",
    "learn",
    "most_places",
    "order_places",
]

Places = npt.NDArray[np.unsignedinteger[Any]]

_DEAD = -2  # a position inside a symbol, not at its ends
DONE, EXHAUSTED, FULL, FORK = 0, 1, 2, 3
"""Why `learn` came back (in `sizes[STATUS]`): all rules are learned; no pair is left that joins
often enough; more room is needed before the next rule; the next rule needs a character that not
all counts have."""


@jit
def _new_pair(s: State, left: int, right: int, number: int, bound: int) -> int:
    """Make a pair with room for `number` places; give where they begin."""
    pair, begin = s.sizes[PAIRS], s.sizes[PLACES]
    s.sizes[PAIRS] += 1
    s.sizes[PLACES] += number
    s.left_P[pair], s.right_P[pair] = left, right
    s.begin_P[pair], s.length_P[pair] = begin, number
    key = np.uint64(0)
    for i in range(3):
        key = (key << np.uint64(21)) | np.uint64(char_of(s, left, right, i))
    s.key_P[pair] = key
    push(s, pair, bound)
    return int(begin)


@jit
def _group(
    s: State, first: int, last: int, symbol: int, is_left: bool, max_chars: int, min_count: int
) -> None:
    """Make pairs of `symbol` with the neighbours in `found_B3[first:last]`, in reading order.

    `is_left` tells that the neighbours stand before it. Pairs that are too long or too rare are
    dropped: counts only fall, so they can never become rules.
    """
    num_met = 0
    for i in range(first, last):
        other = s.found_B3[i, 0]
        if s.tally_S4[other, 1] == 0:
            s.tally_S4[num_met, 3] = other
            num_met += 1
        s.tally_S4[other, 0] += s.found_B3[i, 2]
        s.tally_S4[other, 1] += 1
    for j in range(num_met):
        other = s.tally_S4[j, 3]
        left, right = (other, symbol) if is_left else (symbol, other)
        count, number = s.tally_S4[other, 0], s.tally_S4[other, 1]
        s.tally_S4[other, 2] = -1
        if count >= min_count and s.length_S[left] + s.length_S[right] <= max_chars:
            s.tally_S4[other, 2] = _new_pair(s, left, right, number, count)
        s.tally_S4[other, 0] = s.tally_S4[other, 1] = 0
    for i in range(first, last):
        other = s.found_B3[i, 0]
        if s.tally_S4[other, 2] >= 0:
            s.places_A[s.tally_S4[other, 2]] = s.found_B3[i, 1]
            s.tally_S4[other, 2] += 1


@jit
def most_places(cells_N2: Int32, num_S: Int64) -> tuple[int, int]:
    """Count in `num_S` the pairs that begin with each symbol; give their sum and the largest."""
    num_S[:] = 0
    for p in range(len(cells_N2) - 1):
        if cells_N2[p, 0] >= 0 and cells_N2[p + 1, 0] >= 0:
            num_S[cells_N2[p, 0]] += 1
    most = 0
    for num in num_S:  # there may be none, and numpy's max refuses that
        most = max(most, num)
    return num_S.sum(), most


@jit
def order_places(cells_N2: Int32, ends_S: Int64, order_A: Places, first: int, last: int) -> None:
    """Order the places of pairs by the symbol that begins there, for symbols `first` to `last`.

    Args:
        cells_N2: The text.
        ends_S: Where the places of each symbol begin in `order_A`; then, where they end.
        order_A: Room for all of them.
        first: First symbol.
        last: Symbol to stop before.
    """
    for p in range(len(cells_N2) - 1):
        symbol = cells_N2[p, 0]
        if first <= symbol < last and cells_N2[p + 1, 0] >= 0:
            order_A[ends_S[symbol]] = p
            ends_S[symbol] += 1


@jit
def fill(
    s: State,
    ends_S: Int64,
    order_A: Places,
    first: int,
    begin: int,
    last: int,
    max_chars: int,
    min_count: int,
) -> int:
    """Make the pairs that begin with symbol `begin`, and so on; stop where room runs out.

    Args:
        s: The state, with room for all places.
        ends_S: Where the places of each symbol end in `order_A`.
        order_A: From `order_places`.
        first: First symbol that is in `order_A`.
        begin: First symbol to do.
        last: Symbol to stop before.
        max_chars: Longest piece.
        min_count: Rarer pairs are not stored.

    Returns:
        The symbol to go on with.
    """
    for symbol in range(begin, last):
        start = ends_S[symbol - 1] if symbol > first else 0
        end = ends_S[symbol]
        if len(s.left_P) - s.sizes[PAIRS] < min(end - start, len(ends_S)):
            return symbol
        for i in range(start, end):
            p = np.int64(order_A[i])
            s.found_B3[i - start, 0] = s.cells_N2[p + 1, 0]
            s.found_B3[i - start, 1] = p
            s.found_B3[i - start, 2] = s.cells_N2[p, 1] if p < s.bounds_W[0] else 0
        _group(s, 0, end - start, symbol, False, max_chars, min_count)
    return last


@jit
def _recount(s: State, pair: int) -> int:
    """Drop places that are gone; count the joins. (a, a) overlaps itself in "aaa"."""
    left, right = s.left_P[pair], s.right_P[pair]
    begin, span = s.begin_P[pair], s.span_S[left]
    kept, joins, free = begin, np.int64(0), np.int64(0)
    for i in range(begin, begin + s.length_P[pair]):
        p = np.int64(s.places_A[i])
        if s.cells_N2[p, 0] == left and s.cells_N2[p + span, 0] == right:
            s.places_A[kept] = p
            kept += 1
            if p < s.bounds_W[0] and p >= free:
                joins += s.cells_N2[p, 1]
                if left == right:
                    free = p + 2 * span
    s.length_P[pair] = kept - begin
    return int(joins)


@jit
def _choose(s: State, limit: int, split: int, min_count: int) -> int:
    """Take the next rule's pair from the heap and write its name; -1 if there is none."""
    while s.sizes[HEAP] > 0:
        pair = s.heap_P[0]
        need = max(s.need_S[s.left_P[pair]], s.need_S[s.right_P[pair]])
        if need > limit:
            pop(s)
            continue
        joins = _recount(s, pair)
        if joins < min_count:
            pop(s)
        elif joins < s.bound_P[0]:
            s.bound_P[0] = joins
            sift_down(s, 0)
        elif not name_next(s, s.left_P[pair], s.right_P[pair]):
            pop(s)
        elif need > split:
            s.sizes[STATUS] = FORK
            return -1
        else:
            pop(s)
            s.need_S[s.sizes[SYMBOLS]] = need
            return int(pair)
    s.sizes[STATUS] = EXHAUSTED
    return -1


@jit
def _join_all(s: State, pair: int, symbol: int, joins_W: Int64) -> tuple[int, int]:
    """Apply a rule; note the neighbours before from the front of `found_B3`, after from its middle.

    Returns:
        How many neighbours there are before, and after.
    """
    left, right = s.left_P[pair], s.right_P[pair]
    span_left, span_right = s.span_S[left], s.span_S[right]
    num_before, num_after, column = 0, 0, 0
    middle = len(s.found_B3) // 2
    for i in range(s.begin_P[pair], s.begin_P[pair] + s.length_P[pair]):
        p = np.int64(s.places_A[i])
        q = p + span_left
        if s.cells_N2[p, 0] != left or s.cells_N2[q, 0] != right:
            continue  # the place before took its left part: (a, a) in "aaa"
        end = q + span_right
        while p >= s.bounds_W[column]:
            column += 1
        count = np.int64(s.cells_N2[p, 1])
        joins_W[column] += count
        weight = count if column == 0 else 0
        before, after = s.cells_N2[p - 1, 0], s.cells_N2[end, 0]
        s.cells_N2[q - 1, 0] = s.cells_N2[q, 0] = _DEAD
        s.cells_N2[p, 0] = s.cells_N2[end - 1, 0] = symbol
        if before >= 0:
            s.found_B3[num_before, 0] = before
            s.found_B3[num_before, 1] = p - s.span_S[before]
            s.found_B3[num_before, 2] = weight
            num_before += 1
        if after >= 0:
            s.found_B3[middle + num_after, 0] = after
            s.found_B3[middle + num_after, 1] = p
            s.found_B3[middle + num_after, 2] = weight
            num_after += 1
    return num_before, num_after


@jit
def learn(
    s: State,
    out_KR: Int64,
    begin: int,
    end: int,
    limit: int,
    split: int,
    max_chars: int,
    min_count: int,
) -> int:
    """Learn rules `begin` to `end`; give where it stopped, and why in `sizes[STATUS]`.

    Args:
        s: The state; changed in place.
        out_KR: Rows to write: left symbol, right symbol, joins in each column.
        begin: First rule to learn.
        end: Rule to stop before.
        limit: Pairs that need more single characters than this are passed over.
        split: At the first rule that needs more than this, stop before it.
        max_chars: Longest piece.
        min_count: Fewest joins of a rule.
    """
    s.sizes[STATUS] = DONE
    middle = len(s.found_B3) // 2
    for k in range(begin, end):
        room = min(2 * s.sizes[SYMBOLS] + 2, 2 * middle)
        if len(s.left_P) - s.sizes[PAIRS] < room or len(s.places_A) - s.sizes[PLACES] < 2 * middle:
            s.sizes[STATUS] = FULL
            return k
        pair = _choose(s, limit, split, min_count)
        if pair < 0:
            return k
        symbol = s.sizes[SYMBOLS]
        s.sizes[SYMBOLS] += 1
        s.names_H[find_name(s, symbol)] = symbol
        left, right = s.left_P[pair], s.right_P[pair]
        s.span_S[symbol] = s.span_S[left] + s.span_S[right]
        out_KR[k, 0], out_KR[k, 1] = left, right
        num_before, num_after = _join_all(s, pair, symbol, out_KR[k, 2:])
        _group(s, 0, num_before, symbol, True, max_chars, min_count)
        _group(s, middle, middle + num_after, symbol, False, max_chars, min_count)
    return end
