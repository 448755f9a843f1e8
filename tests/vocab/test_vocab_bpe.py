"""Merge rules: hand-made cases, and equality with a trainer that recounts everything."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.vocab import bpe
from lingraft.vocab.bpe import Rules, compile_kernel, train_rules
from lingraft.vocab.segments import BARRIER

Learned = list[tuple[str, str, tuple[int, ...]]]


def learn(
    segments: Sequence[Sequence[str]],
    weights: Sequence[Sequence[int]],
    texts: Sequence[str],
    max_rules: int = 10,
    max_chars: int = 16,
    min_count: int = 2,
) -> Learned:
    """Run the kernel on segments of texts; "|" is a barrier."""
    number = {text: s for s, text in enumerate(texts)} | {"|": BARRIER}
    symbols, places = [BARRIER], [0]
    for g, segment in enumerate(segments):
        symbols += [*(number[text] for text in segment), BARRIER]
        places += [g] * (len(segment) + 1)
    rules = train_rules(
        np.array(symbols, np.int32),
        np.array(places, np.int32),
        np.array(weights, np.int64).reshape(len(segments), -1),
        texts,
        max_rules=max_rules,
        max_chars=max_chars,
        min_count=min_count,
    )
    return spelled(rules, texts)


def spelled(rules: Rules, texts: Sequence[str]) -> Learned:
    known, learned = list(texts), []
    for left, right, joins in zip(rules.left_K, rules.right_K, rules.joins_KW, strict=True):
        learned.append((known[left], known[right], tuple(joins.tolist())))
        known.append(known[left] + known[right])
    return learned


def learn_naively(
    segments: Sequence[Sequence[str]],
    weights: Sequence[Sequence[int]],
    texts: Sequence[str],
    max_rules: int,
    max_chars: int,
    min_count: int,
) -> Learned:
    """Learn the same rules by counting every pair again before every rule."""
    work, known = [list(s) for s in segments], set(texts)
    learned: Learned = []
    while len(learned) < max_rules:
        pairs = sorted({pair for s in work for pair in pairwise(s) if "|" not in pair})
        options = []
        for left, right in pairs:
            joins = [joined(s, left, right)[1] for s in work]
            count = sum(n * w[0] for n, w in zip(joins, weights, strict=True))
            fits = len(left + right) <= max_chars and left + right not in known
            if fits and count >= min_count:
                options.append((-count, left + right, len(left), left, right))
        if not options:
            break
        *_, left, right = min(options)
        totals = [0] * len(weights[0])
        for g, segment in enumerate(work):
            work[g], number = joined(segment, left, right)
            totals = [t + number * w for t, w in zip(totals, weights[g], strict=True)]
        known.add(left + right)
        learned.append((left, right, tuple(totals)))
    return learned


def joined(segment: Sequence[str], left: str, right: str) -> tuple[list[str], int]:
    """Join a pair from left to right; give the segment and the number of joins."""
    out: list[str] = []
    i = number = 0
    while i < len(segment):
        if list(segment[i : i + 2]) == [left, right]:
            out.append(left + right)
            number += 1
            i += 2
        else:
            out.append(segment[i])
            i += 1
    return out, number


def test_the_pair_with_most_joins_goes_first() -> None:
    assert learn(["abc", "bc"], [[2], [3]], "abc") == [("b", "c", (5,)), ("a", "bc", (2,))]


def test_aaa_holds_one_join_and_aaaa_two() -> None:
    assert learn(["aaa"], [[5]], "a", max_rules=1) == [("a", "a", (5,))]
    assert learn(["aaaa"], [[5]], "a") == [("a", "a", (10,)), ("aa", "aa", (5,))]


def test_overlapping_places_do_not_count_as_joins() -> None:
    """(a, a) stands in 4 places but joins 2 times only: (b, c), with 3, goes first."""
    rules = learn(["aaaaa", "bc"], [[1], [3]], "abc", max_rules=2)
    assert rules == [("b", "c", (3,)), ("a", "a", (2,))]


def test_ties_go_to_the_piece_that_sorts_first_by_code_point() -> None:
    rules = learn(["丙丁", "甲乙", "乙甲"], [[4], [4], [4]], "丁丙乙甲", max_rules=3)
    assert [left + right for left, right, _ in rules] == ["丙丁", "乙甲", "甲乙"]


def test_equal_pieces_of_other_parts_tie_by_the_shorter_left_part() -> None:
    segments = [["ab", "c"], ["a", "bc"]]
    assert learn(segments, [[3], [3]], ["ab", "c", "a", "bc"]) == [("a", "bc", (3,))]


def test_nothing_joins_across_a_barrier() -> None:
    assert learn(["a|b", "b"], [[9], [9]], "ab") == []


def test_a_piece_is_never_longer_than_allowed() -> None:
    rules = learn(["abcd"], [[5]], "abcd", max_chars=2)
    assert [left + right for left, right, _ in rules] == ["ab", "cd"]


def test_a_piece_that_exists_already_is_not_made_again() -> None:
    assert learn(["ab", "cd"], [[9], [2]], ["a", "b", "c", "d", "ab"]) == [("c", "d", (2,))]


def test_a_rule_needs_the_fewest_joins_allowed() -> None:
    assert learn(["ab", "cd"], [[3], [2]], "abcd", min_count=3) == [("a", "b", (3,))]


def test_texts_of_weight_zero_choose_nothing_and_are_counted() -> None:
    rules = learn(["ab", "cd", "abab"], [[2, 0], [0, 9], [0, 4]], "abcd")
    assert rules == [("a", "b", (2, 8))]


def test_no_rules_asked_for_are_no_rules() -> None:
    assert learn(["ab"], [[5]], "ab", max_rules=0) == []


def test_the_numbers_of_symbols_decide_nothing() -> None:
    segments, weights = ["abcabc", "bca", "cab"], [[1], [2], [2]]
    orders = ["abc", "cba", "bca"]
    assert len({str(learn(segments, weights, order)) for order in orders}) == 1


def test_progress_counts_every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "_CHUNK_RULES", 2)
    told: list[int] = []
    symbols = np.array([-1, 0, 1, 2, 3, -1], np.int32)
    rules = train_rules(
        symbols, np.zeros(6, np.int32), np.array([[7]]), "abcd",
        max_rules=9, max_chars=9, min_count=2, on_rules=told.append,
    )  # fmt: skip
    assert (len(rules), told) == (3, [2, 1])


def test_the_kernel_can_be_compiled_ahead() -> None:
    compile_kernel()


TEXTS = ["a", "b", "c", "ab", "bca"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], list[list[int]]]:
    """Draw segments of pieces, some that overlap others in text, with two weights."""
    symbol = st.sampled_from([*TEXTS[: draw(st.integers(1, 5))], "|"])
    segments = draw(st.lists(st.lists(symbol, min_size=1, max_size=14), min_size=1, max_size=6))
    weight = st.lists(st.integers(0, 4), min_size=2, max_size=2)
    return segments, [draw(weight) for _ in segments]


@given(tables(), st.integers(1, 12), st.integers(2, 9), st.integers(2, 4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_rules_and_joins_equal_those_of_a_trainer_that_recounts(
    table: tuple[list[list[str]], list[list[int]]],
    max_rules: int,
    max_chars: int,
    min_count: int,
    crowded: bool,
) -> None:
    limits = (max_rules, max_chars, min_count)
    with pytest.MonkeyPatch.context() as patch:
        if crowded:  # room for pairs runs out at once, and again
            patch.setattr(bpe, "_FIRST_SLOTS", 1)
        assert learn(*table, TEXTS, *limits) == learn_naively(*table, TEXTS, *limits)
