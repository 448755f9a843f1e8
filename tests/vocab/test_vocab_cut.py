"""Cutting: never at a place that a rule could join across, and always where none may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.vocab.alphabet import ALONE, CLASS_SHIFT, IS_SYMBOL, STARTS_WORD
from lingraft.vocab.bpe import CutText, Rules, train_rules
from lingraft.vocab.cut import count_codes, cut_codes, new_sketch, sketch_pairs
from lingraft.vocab.table import SegmentTable

Int32 = npt.NDArray[np.int32]
Codes = list[int]

LEFT_ONLY, DIGIT, HAN, LATIN = 4, 5, 6, 7
FLAGS_C = np.full(8, IS_SYMBOL, np.uint8)
FLAGS_C[LEFT_ONLY] |= STARTS_WORD
FLAGS_C[DIGIT] |= ALONE
FLAGS_C[HAN] |= 1 << CLASS_SHIFT
FLAGS_C[LATIN] |= 2 << CLASS_SHIFT
ALL_C = np.arange(8, dtype=np.int32)
"""Symbol of each code: the code itself."""


def sketch_of(codes: Codes, size: int = 1 << 16) -> npt.NDArray[np.uint32]:
    sketch = np.zeros(size, np.uint32)
    sketch_pairs(np.array(codes, np.int32), sketch, 0, size)
    return sketch


def cut(
    codes: Codes,
    threshold: int,
    sketch: npt.NDArray[np.uint32] | None = None,
    symbol_C: Int32 = ALL_C,
) -> list[Codes]:
    room = np.empty(len(codes) + len(codes) // 2 + 2, np.int32)
    if sketch is None:
        sketch = sketch_of(codes)
    num = cut_codes(np.array(codes, np.int32), symbol_C, FLAGS_C, sketch, threshold, room)
    return split(room[:num].tolist())


def split(symbols: Codes) -> list[Codes]:
    assert not symbols or symbols[-1] == -1, "a BARRIER stands behind every segment"
    segments: list[Codes] = [[]]
    for symbol in symbols:
        if symbol < 0:
            segments.append([])
        else:
            segments[-1].append(symbol)
    return segments[:-1]


def may_join(left: int, right: int) -> bool:
    """The rules of `alphabet`, told apart from the code under test."""
    return DIGIT not in (left, right) and right != LEFT_ONLY and {left, right} != {HAN, LATIN}


def test_text_is_cut_where_neighbours_meet_too_rarely() -> None:
    codes = [0, 1, 2, -1, 0, 1, 3, -1]
    assert cut(codes, 2) == [[0, 1], [0, 1]]
    assert cut(codes, 1) == [[0, 1, 2], [0, 1, 3]]
    assert cut(codes, 3) == []


def test_text_is_cut_at_barriers_and_single_symbols_are_left_out() -> None:
    assert cut([-1, 0, -1, 1, 2, -1, 3, -1], 0) == [[1, 2]]


def test_what_may_not_join_is_cut_apart() -> None:
    codes = [0, LEFT_ONLY, 1, DIGIT, 2, 3, HAN, LATIN, 0, HAN, -1]
    assert cut(codes, 0) == [[LEFT_ONLY, 1], [2, 3, HAN], [LATIN, 0, HAN]]


def test_a_character_that_no_vocabulary_adds_cuts() -> None:
    symbol_C = np.array([0, 1, -1, 2, 3, 4, 5, 6], np.int32)
    assert cut([0, 1, 2, 3, 0, -1], 0, symbol_C=symbol_C) == [[0, 1], [2, 0]]


def test_codes_are_counted_without_barriers() -> None:
    counts_C = np.zeros(4, np.int64)
    count_codes(np.array([1, -1, 3, 1, -1], np.int32), counts_C)
    assert counts_C.tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(("num_codes", "bits"), [(0, 16), (1 << 20, 19), (1 << 40, 26)])
def test_a_sketch_has_a_counter_for_every_four_codes(num_codes: int, bits: int) -> None:
    assert len(new_sketch(num_codes)) == 1 << bits


def test_a_full_counter_stays_full() -> None:
    sketch = np.full(2, 0xFFFFFFFE, np.uint32)
    sketch_pairs(np.array([0, 1, 0, 1, 0, 1, -1] * 2, np.int32), sketch, 0, 2)
    assert set(sketch.tolist()) <= {0xFFFFFFFE, 0xFFFFFFFF}
    assert max(sketch.tolist()) == 0xFFFFFFFF


TEXTS = st.lists(st.integers(-1, 7), max_size=80).map(lambda codes: [*codes, -1])
SIZES = st.sampled_from([2, 4, 64, 1 << 16])


@given(TEXTS, SIZES)
@settings(deadline=None)
def test_the_sketch_never_counts_too_few(codes: Codes, size: int) -> None:
    """Text cut at the true number of a pair keeps every place of the pair."""
    sketch = sketch_of(codes, size)
    met = Counter(pair for pair in pairwise(codes) if min(pair) >= 0)
    for pair, times in met.items():
        if may_join(*pair):
            kept = cut([*pair, -1], times, sketch)
            assert kept == [list(pair)]


@given(TEXTS, st.lists(st.integers(0, 64), max_size=4))
@settings(deadline=None)
def test_ranges_of_counters_add_up_to_the_sketch(codes: Codes, inner: list[int]) -> None:
    bounds = [0, *sorted(inner), 64]
    sketch = np.zeros(64, np.uint32)
    for low, high in pairwise(bounds):
        sketch_pairs(np.array(codes, np.int32), sketch, low, high)
    assert sketch.tolist() == sketch_of(codes, 64).tolist()


@given(TEXTS, SIZES, st.integers(0, 5))
@settings(deadline=None)
def test_cuts_are_where_they_must_be_and_nowhere_that_a_rule_could_be(
    codes: Codes, size: int, threshold: int
) -> None:
    met = Counter(pairwise(codes))
    segments = cut(codes, threshold, sketch_of(codes, size))
    kept = Counter(pair for segment in segments for pair in pairwise(segment))
    assert all(may_join(*pair) for pair in kept)
    for (left, right), times in met.items():
        if min(left, right) >= 0 and may_join(left, right) and times >= threshold:
            assert kept[left, right] == times


def train(segments: Sequence[Int32], threshold: int) -> Rules:
    """Learn from the first text, count in the second."""
    cells, bounds = [np.array([[-1, 0]], np.int32)], []
    for flat in segments:
        table = SegmentTable()
        table.add(flat)
        cells.append(table.cells())
        bounds.append(sum(map(len, cells)))
    text = CutText(np.concatenate(cells), np.array(bounds), "stuvwxyz", np.zeros(8, np.int32))
    return train_rules(text, {0: 30}, max_chars=9, min_count=max(1, threshold))[0]


@given(TEXTS, TEXTS, SIZES, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_rules_are_the_same_from_cut_and_from_whole_text(
    codes: Codes, evaluation: Codes, size: int, threshold: int
) -> None:
    """Evaluation text is cut at the counts of the training text, as nothing joins there either."""
    sketch = sketch_of(codes, size)
    found = []
    for depth in (0, threshold):
        flat = [
            np.array([s for seg in cut(text, depth, sketch) for s in (*seg, -1)], np.int32)
            for text in (codes, evaluation)
        ]
        found.append(train(flat, threshold))
    whole, shorter = found
    assert whole.left_K.tolist() == shorter.left_K.tolist()
    assert whole.right_K.tolist() == shorter.right_K.tolist()
    assert whole.joins_KW.tolist() == shorter.joins_KW.tolist()
