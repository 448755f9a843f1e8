"""ALP along the rules: by hand, and against a recount at every size."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.vocab.alp import Curve, EvalFacts, alp_per_byte, trace_alp


def curve(num_chars: int, start: int, num_sizes: int) -> Curve:
    values = np.zeros((1, num_sizes))
    return Curve(num_chars, start, values, values.astype(np.int64), np.zeros(1, np.int64))


def test_alp_is_the_mean_over_documents_of_the_log_probability_of_their_tokens() -> None:
    """a b a b: 4 tokens of probability 1/2; then ab ab: one token type, of probability 1."""
    trace = trace_alp([], [2, 2], [0], [1], [2], num_docs=2)
    assert trace.tolist() == pytest.approx([4 * math.log(1 / 2) / 2, 0.0])


def test_a_rule_that_joins_a_symbol_with_itself_takes_two_of_it() -> None:
    """a a a x -> aa a x."""
    trace = trace_alp([1], [3], [0], [0], [1], num_docs=1)
    before = 3 * math.log(3 / 4) + math.log(1 / 4)
    assert trace.tolist() == pytest.approx([before, 3 * math.log(1 / 3)])


def test_a_rule_can_join_what_an_earlier_one_made() -> None:
    """a b c x -> ab c x -> abc x."""
    trace = trace_alp([1], [1, 1, 1], [0, 3], [1, 2], [1, 1], num_docs=1)
    assert trace.tolist() == pytest.approx(
        [4 * math.log(1 / 4), 3 * math.log(1 / 3), 2 * math.log(1 / 2)]
    )


def test_a_rule_that_joins_nothing_in_the_text_leaves_alp_as_it_is() -> None:
    trace = trace_alp([1], [3, 1], [0], [1], [0], num_docs=1)
    assert trace[0] == trace[1]


def test_a_text_without_rules_has_one_value() -> None:
    assert trace_alp([], [1, 1], [], [], [], 1).tolist() == pytest.approx([2 * math.log(1 / 2)])


@pytest.mark.parametrize(
    ("joins", "docs", "message"),
    [([4], 1, "more of a symbol"), ([1, 1], 1, "a left, a right"), ([1], 0, "over documents")],
)
def test_joins_that_cannot_be_are_our_mistake(joins: list[int], docs: int, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        trace_alp([], [3, 5], [0], [1], joins, docs)


def recount(counts: list[int], num_docs: int) -> float:
    """Follow the definition on exact products."""
    total = sum(counts)
    terms = [c * (math.log(c) - math.log(total)) for c in counts if c]
    return math.fsum(terms) / num_docs


Rule = tuple[int, int, int]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], list[int], list[Rule]]:
    """Counts and rules that are possible: no rule joins more than there is."""
    fixed = draw(st.lists(st.integers(0, 10**6), max_size=4))
    live = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
    counts, rules = list(live), []
    for _ in range(draw(st.integers(0, 30))):
        left = draw(st.integers(0, len(live) - 1))
        right = draw(st.integers(0, len(live) - 1))
        most = live[left] // 2 if left == right else min(live[left], live[right])
        joined = draw(st.integers(0, most))
        live[left] -= joined
        live[right] -= joined
        live.append(joined)
        rules.append((left, right, joined))
    return fixed, counts, rules


def all_counts(fixed: list[int], counts: list[int], rules: list[Rule]) -> list[list[int]]:
    live, states = [*counts], [[*fixed, *counts]]
    for left, right, joined in rules:
        live[left] -= joined
        live[right] -= joined
        live.append(joined)
        states.append([*fixed, *live])
    return states


@given(histories(), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_every_size_equals_a_recount(
    history: tuple[list[int], list[int], list[Rule]], num_docs: int
) -> None:
    fixed, counts, rules = history
    left, right, joins = zip(*rules, strict=True) if rules else ((), (), ())
    trace = trace_alp(fixed, counts, left, right, joins, num_docs)
    for value, state in zip(trace.tolist(), all_counts(*history), strict=True):
        total = sum(state)
        # The two great terms cancel where one token is nearly the whole text.
        scale = total * math.log(total) / num_docs if total else 0.0
        assert value == pytest.approx(recount(state, num_docs), rel=1e-12, abs=1e-15 * scale * 8)


def test_nothing_adds_up_over_45_000_rules() -> None:
    rng = np.random.default_rng(17)
    num_symbols, num_rules = 6_000, 45_000
    live = (4e6 / np.arange(1, num_symbols + 1)).astype(np.int64)
    fixed, counts = rng.integers(1, 90_000, 300), live.copy()
    live = np.concatenate([live, np.zeros(num_rules, np.int64)])
    left, right = np.zeros((2, num_rules), np.int64)
    joins = np.zeros(num_rules, np.int64)
    for k in range(num_rules):
        a, b = rng.integers(0, num_symbols + k, 2)
        most = live[a] // 2 if a == b else min(live[a], live[b])
        joined = int(most * 0.3)
        live[a] -= joined
        live[b] -= joined
        live[num_symbols + k] = joined
        left[k], right[k], joins[k] = a, b, joined
    trace = trace_alp(fixed, counts, left, right, joins, 1_000)
    expected = recount([*fixed.tolist(), *live.tolist()], 1_000)
    assert abs(Fraction(trace[-1]) / Fraction(expected) - 1) < 1e-13


def test_a_curve_starts_at_the_pieces_that_need_no_rule() -> None:
    one = curve(3, 5, 5)
    assert (one.end, one.has(4), one.has(5), one.has(9), one.has(10)) == (
        9, False, True, True, False,
    )  # fmt: skip


def test_a_sample_of_sizes_holds_both_ends_and_the_size_asked_for() -> None:
    one = curve(10, 10, 91)
    assert one.sample(4, 37) == [10, 37, 55, 100]
    assert one.sample(4, 7) == [10, 40, 70, 100]
    assert len(one.sample(400)) == 91


def test_alp_per_byte_shares_a_document_among_its_bytes() -> None:
    """2 documents of 10 bytes in all: -8 nats a document are -16 nats, over 10 bytes."""
    facts = EvalFacts("x", 2, 4, 10, 0, 12, 0, -9.0)
    one = Curve(0, 0, np.array([[-8.0]]), np.array([[6]]), np.array([0]))
    assert alp_per_byte(one, [facts]).tolist() == [[-1.6]]
