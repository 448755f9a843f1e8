"""Byte pair encoding over weighted segments, exact, with joins counted for every text.

Each rule joins the pair that would make the most joins in the training text. What counts is
joins, not places side by side: "aaa" holds one join of (a, a). Ties go to the piece that sorts
first by code point, then to the shorter left part. No number of a symbol decides anything.

A pair may join if its piece has at most `max_chars` characters and is no piece already. These
conditions act here and not afterwards: a rule taken out later would leave others that need it.
(In a fixed order of rules, text between two edges has one spelling whatever stands around it.
So a piece cannot come up again through other parts, unless the base holds a piece that its own
rules never reach; the condition is for that.)

How it works: every pair of neighbours has a slot with its weight and the list of places where
it stands, left to right. A rule walks its list; each join takes two neighbouring pairs out of
their lists and puts two in. Weights of existing pairs only fall, so a heap whose entries are
corrected when they reach the top finds the next rule. Work is proportional to joins.

Sources: P. Gage 1994; R. Sennrich, B. Haddow, A. Birch 2016, arXiv 1508.07909. Lists of places
and the lazy heap are common in trainers; counting joins and the kernel are ours.

Shapes: N positions, G segments, W weights, S symbols, K rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .kernel import (
    SLOTS,
    Pairs,
    Pieces,
    Places,
    enter_names,
    enter_pairs,
    fill_heap,
    is_full,
    learn,
    meet_all,
)
from .segments import BARRIER, Int32, Int64

__all__ = ["Rules", "compile_kernel", "train_rules"]

_FIRST_SLOTS = 1 << 16
_CHUNK_RULES = 200
"""Rules between two reports of progress."""


@dataclass(frozen=True)
class Rules:
    """Merge rules in the order of learning; rule k makes symbol S + k of S initial symbols."""

    left_K: Int32
    right_K: Int32
    joins_KW: Int64
    """Joins of each rule: in the training text (column 0), then in each evaluation text."""

    def __len__(self) -> int:
        return len(self.left_K)


def train_rules(
    symbols_N: Int32,
    segment_N: Int32,
    weights_GW: Int64,
    texts: Sequence[str],
    *,
    max_rules: int,
    max_chars: int,
    min_count: int,
    on_rules: Callable[[int], None] = lambda number: None,
) -> Rules:
    """Learn merge rules.

    Args:
        symbols_N: Symbols of all segments, a BARRIER before, between and after them.
        segment_N: Segment of each position.
        weights_GW: Weights of the segments; column 0 chooses the rules, all are counted.
        texts: Text of each symbol; all of these are pieces already, whether they occur or not.
        max_rules: Stop after so many rules.
        max_chars: Longest piece that a rule may make.
        min_count: Fewest joins of a rule.
        on_rules: Called with the number of rules learned since the last call.

    Returns:
        The rules; fewer than `max_rules` if no pair is left that may join.
    """
    assert symbols_N[0] == symbols_N[-1] == BARRIER, "a barrier must stand at both ends"
    assert max_chars < 2**15, "spans are stored in 16 bits"
    pieces = _new_pieces(texts, max_rules, max_chars)
    places = _new_places(symbols_N, segment_N, weights_GW)
    pairs = _new_pairs(_FIRST_SLOTS)
    begin = 0
    while (begin := meet_all(places, pairs, pieces, max_chars, begin)) < len(symbols_N) - 1:
        pairs = _grow(pairs, pieces)
    fill_heap(pairs, pieces, min_count)
    out_KR = np.zeros((max_rules, 2 + weights_GW.shape[1]), np.int64)
    done, todo = 0, max_rules
    while done < todo:
        target = min(done + _CHUNK_RULES, todo)
        reached = learn(places, pairs, pieces, out_KR, done, target, max_chars, min_count)
        on_rules(reached - done)
        if reached < target and not is_full(pairs, pieces):
            todo = reached  # no pair is left
        elif reached < target:
            pairs = _grow(pairs, pieces)
        done = reached
    out_KR = out_KR[:done]
    return Rules(out_KR[:, 0].astype(np.int32), out_KR[:, 1].astype(np.int32), out_KR[:, 2:])


def compile_kernel() -> None:
    """Compile the kernel, or load it from numba's cache: some seconds once, then none."""
    symbols_N = np.array([BARRIER, 0, 0, BARRIER], np.int32)
    zeros_N, weights_GW = np.zeros(4, np.int32), np.ones((1, 1), np.int64)
    train_rules(symbols_N, zeros_N, weights_GW, "a", max_rules=1, max_chars=2, min_count=1)


def _new_pieces(texts: Sequence[str], max_rules: int, max_chars: int) -> Pieces:
    num_symbols = len(texts) + max_rules
    width = max([max_chars, *map(len, texts)])
    pieces = Pieces(
        chars_SC=np.zeros((num_symbols, width), np.int32),
        length_S=np.zeros(num_symbols, np.int32),
        hash_H=np.full(_power_of_two(2 * num_symbols + 2), -1, np.int32),
        sizes=np.zeros(3, np.int64),
    )
    for symbol, text in enumerate(texts):
        pieces.chars_SC[symbol, : len(text)] = [ord(char) for char in text]
        pieces.length_S[symbol] = len(text)
    enter_names(pieces, len(texts))
    return pieces


def _new_places(symbols_N: Int32, segment_N: Int32, weights_GW: Int64) -> Places:
    num = len(symbols_N)
    return Places(
        symbol_N=symbols_N.astype(np.int32),  # a copy: joins write here
        span_N=np.ones(num, np.int16),
        segment_N=np.ascontiguousarray(segment_N, np.int32),
        slot_N=np.full(num, -1, np.int32),
        before_N=np.full(num, -1, np.int32),
        after_N=np.full(num, -1, np.int32),
        weights_GW=np.ascontiguousarray(weights_GW, np.int64),
    )


def _new_pairs(size: int) -> Pairs:
    return Pairs(
        left_P=np.zeros(size, np.int32),
        right_P=np.zeros(size, np.int32),
        weight_P=np.zeros(size, np.int64),
        head_P=np.full(size, -1, np.int32),
        tail_P=np.full(size, -1, np.int32),
        heap_P=np.zeros(size, np.int32),
        bound_P=np.zeros(size, np.int64),
        hash_H=np.full(_power_of_two(2 * size), -1, np.int32),
    )


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _grow(pairs: Pairs, pieces: Pieces) -> Pairs:
    """Make room for more pairs: at least as many as one more rule can bring."""
    size = len(pairs.left_P)
    grown = _new_pairs(max(2 * size, size + 4 * len(pieces.length_S) + 4))
    for field, array in zip(Pairs._fields[:-1], pairs[:-1], strict=True):
        getattr(grown, field)[:size] = array
    enter_pairs(grown, int(pieces.sizes[SLOTS]))
    return grown
