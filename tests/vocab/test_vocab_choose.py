"""Gain rule, knee and choice on curves made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lingraft.errors import InputError, UsageError
from lingraft.vocab.alp import Curve, EvalFacts
from lingraft.vocab.choose import best_envelope, choose_vocabulary, find_knee

EVALS = [EvalFacts("a", 1, 1, 1, 0, 1, 0, -1.0)]  # one document of one byte: ALP is per byte


def curve(
    num_chars: int, *rows: Sequence[float] | npt.NDArray[Any], start: int | None = None
) -> Curve:
    alp_EK = np.array(rows, float)
    begin = num_chars if start is None else start
    return Curve(
        num_chars, begin, alp_EK, np.zeros(alp_EK.shape, np.int64), np.zeros(len(rows), np.int64)
    )


def bent(num_chars: int, corner: int, end: int, steep: float = 10.0) -> Curve:
    """Rise by `steep` a piece up to `corner` and by 1 after it."""
    sizes = np.arange(num_chars, end + 1)
    return curve(num_chars, np.where(sizes < corner, steep * (sizes - corner), sizes - corner))


def cut(one: Curve, end: int) -> Curve:
    stop = max(1, end - one.start + 1)
    return replace(one, alp_EK=one.alp_EK[:, :stop], tokens_EK=one.tokens_EK[:, :stop])


PER_PIECE = 1000.0  # min_gain for a price of 1 a piece


def test_the_size_after_which_no_stretch_pays_is_chosen() -> None:
    """Gains 5, 3, 1, 4, 1: at a price of 2, pieces 3 and 4 add 5 together, and pay."""
    choice = choose_vocabulary([curve(0, [0, 5, 8, 9, 13, 14])], EVALS, min_gain=2 * PER_PIECE)
    assert (choice.size, choice.rule) == (4, "gain")


def test_of_sizes_that_pay_the_same_the_smallest_is_chosen() -> None:
    """After size 1 each piece adds just what it costs."""
    choice = choose_vocabulary([curve(0, [0, 5, 7, 9])], EVALS, min_gain=2 * PER_PIECE)
    assert choice.size == 1


def test_of_counts_that_are_the_same_the_fewest_characters_are_chosen() -> None:
    curves = [curve(1, [5.0, 7.0, 7.5]), curve(0, [0.0, 5.0, 7.0, 7.5])]
    assert choose_vocabulary(curves, EVALS, min_gain=PER_PIECE).num_chars == 0


def test_texts_weigh_the_same_whatever_the_length_of_their_documents() -> None:
    """1 nat on a document of 10 bytes weighs as much as 10 nats on one of 100."""
    evals = [replace(EVALS[0], num_bytes=10), replace(EVALS[0], num_bytes=100)]
    envelope = best_envelope([curve(0, [-1.0, 0.0], [-10.0, 0.0])], evals)
    assert envelope.alp_P.tolist() == pytest.approx([-0.1, 0.0])


@st.composite
def jittered(draw: st.DrawFn) -> tuple[list[Curve], float]:
    """Two concave curves with jitter, and a price."""
    num_sizes = draw(st.integers(30, 120))
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    gains = np.sort(rng.exponential(1.0, num_sizes))[::-1]
    smooth = np.concatenate([[0.0], np.cumsum(gains)])
    low = curve(0, smooth + rng.normal(0, 0.3, num_sizes + 1))
    high = curve(10, smooth[10:] - 0.5 + rng.normal(0, 0.3, num_sizes - 9))
    return [low, high], draw(st.floats(0.05, 2.0)) * PER_PIECE


@given(jittered(), st.integers(0, 120))
@settings(max_examples=200, deadline=None)
def test_the_choice_is_the_same_for_every_maximum_beyond_it(
    case: tuple[list[Curve], float], beyond: int
) -> None:
    curves, min_gain = case
    whole = choose_vocabulary(curves, EVALS, min_gain=min_gain)
    end = max(whole.size + beyond, 10)
    part = choose_vocabulary([cut(c, end) for c in curves], EVALS, min_gain=min_gain)
    assert (part.size, part.num_chars) == (whole.size, whole.num_chars)


@given(jittered(), st.integers(11, 100))
@settings(max_examples=100, deadline=None)
def test_searching_further_changes_the_choice_only_for_something_further_out(
    case: tuple[list[Curve], float], end: int
) -> None:
    curves, min_gain = case
    assume(end < curves[0].end)
    part = choose_vocabulary([cut(c, end) for c in curves], EVALS, min_gain=min_gain)
    whole = choose_vocabulary(curves, EVALS, min_gain=min_gain)
    assert whole.size == part.size or whole.size > end


@given(jittered())
@settings(max_examples=100, deadline=None)
def test_no_stretch_after_the_choice_pays_and_every_stretch_before_does(
    case: tuple[list[Curve], float],
) -> None:
    curves, min_gain = case
    size = choose_vocabulary(curves, EVALS, min_gain=min_gain).size
    envelope = best_envelope(curves, EVALS)
    gains = (envelope.alp_P - envelope.alp_P[size]) - (envelope.sizes_P - size) * min_gain / 1000
    assert gains.max() <= 1e-9


def test_a_curve_that_pays_to_the_end_says_that_more_may_be_chosen() -> None:
    choice = choose_vocabulary([bent(0, 20, 49)], EVALS, min_gain=0.5 * PER_PIECE)
    assert (choice.size, choice.at_end) == (49, True)
    assert "still pays where the search ended, at 49 pieces" in choice.reasons[1]
    assert "a larger maximum size may choose more" in choice.reasons[1]


def test_rules_that_ran_out_while_they_paid_say_that_only_more_text_helps() -> None:
    choice = choose_vocabulary([bent(0, 20, 49)], EVALS, min_gain=0.5 * PER_PIECE, max_size=50)
    assert (choice.size, choice.at_end, choice.exhausted) == (49, True, True)
    assert choice.reasons[1].endswith(
        "but no pair is left that joins often enough beyond 49 pieces: more text may choose more, "
        "a larger maximum size cannot."
    )
    assert "size may choose more" not in " ".join(choice.reasons)


@pytest.mark.parametrize("how", [{"min_gain": 5 * PER_PIECE}, {"size": 30}, {"rule": "knee"}])
def test_rules_that_ran_out_beyond_the_choice_say_that_a_larger_size_adds_none(
    how: dict[str, Any],
) -> None:
    choice = choose_vocabulary([bent(0, 20, 49)], EVALS, max_size=60, **how)
    assert choice.exhausted
    assert choice.reasons[1] == (
        "No pair is left that joins often enough beyond 49 pieces: a larger maximum size adds none."
    )


@pytest.mark.parametrize(
    ("max_size", "num_chars", "exhausted"),
    [(None, None, False), (49, None, False), (50, None, True), (49, 5, True), (49, 0, False)],
)
def test_only_where_every_curve_that_counts_ends_early_have_the_rules_run_out(
    max_size: int | None, num_chars: int | None, exhausted: bool
) -> None:
    """The curve of 0 characters goes to 49, that of 5 to 40."""
    curves = [bent(0, 20, 49), bent(5, 20, 40)]
    choice = choose_vocabulary(curves, EVALS, num_chars=num_chars, max_size=max_size)
    assert choice.exhausted == exhausted
    assert ("o pair is left" in " ".join(choice.reasons)) == exhausted


def test_jitter_at_the_very_end_does_not_hide_that_the_curve_still_pays() -> None:
    rising = np.arange(3001.0)
    rising[-1] -= 5
    choice = choose_vocabulary([curve(0, rising)], EVALS, min_gain=0.5 * PER_PIECE)
    assert (choice.size, choice.at_end) == (2999, True)


def test_a_choice_at_the_smallest_size_says_that_fewer_may_do() -> None:
    choice = choose_vocabulary([bent(5, 20, 49)], EVALS, min_gain=20 * PER_PIECE)
    assert (choice.size, choice.at_end) == (5, False)
    assert "5 is the smallest size searched" in choice.reasons[1]


def test_the_reasons_tell_what_a_thousand_pieces_add_on_both_sides() -> None:
    """0.005 for 1,000 up to 2,000 pieces, then 0.003."""
    sizes = np.arange(5001)
    rises = np.where(sizes <= 2000, 5e-6 * sizes, 0.01 + 3e-6 * (sizes - 2000))
    choice = choose_vocabulary([curve(0, rises - 2)], EVALS, min_gain=0.004)
    assert choice.reasons[:2] == (
        "2,000 pieces, by min_gain: the last 1,000 add 0.0050 nats per byte and the next 1,000 "
        "add 0.0030 nats per byte; min_gain is 0.004 for 1,000.",
        "0 single characters, the best of the counts searched: ALP -1.9900 nats per byte at "
        "2,000 pieces.",
    )


def test_a_stretch_shorter_than_a_thousand_tells_its_rate() -> None:
    choice = choose_vocabulary([curve(0, [0.0, 1.0, 1.1])], EVALS, min_gain=500)
    assert choice.reasons[0].startswith(
        "1 pieces, by min_gain: the last 1 add 1.0000 nats per byte (1000.0000 for 1,000) and "
        "the next 1 add 0.1000 nats per byte (100.0000 for 1,000)"
    )


def test_every_count_is_told_with_what_it_has_at_the_size() -> None:
    curves = [curve(0, [0.0, 5.0, 5.5, 5.6]), curve(1, [5.2, 5.6]), curve(3, [5.7])]
    choice = choose_vocabulary(curves, EVALS, size=2)
    assert [(c.num_chars, c.start, c.end, c.alp_per_byte) for c in choice.counts] == [
        (0, 0, 3, 5.5), (1, 1, 2, 5.6), (3, 3, 3, None),
    ]  # fmt: skip
    assert "0 have 5.5000; 3 have no such size." in choice.reasons[1]


def test_a_curve_counts_from_its_start_not_from_its_characters() -> None:
    """2 characters take 6 pieces on a byte-level base."""
    choice = choose_vocabulary([curve(2, [0.0, 1.0], start=6)], EVALS, size=7)
    assert (choice.size, choice.num_chars) == (7, 2)
    with pytest.raises(UsageError, match="2 characters: 6 to 7"):
        choose_vocabulary([curve(2, [0.0, 1.0], start=6)], EVALS, size=5)


def test_a_single_size_is_chosen_as_it_is() -> None:
    choice = choose_vocabulary([curve(0, [-1.0])], EVALS)
    assert (choice.size, choice.knee, choice.at_end) == (0, None, False)
    assert "no other size was searched" in choice.reasons[0]


def test_the_knee_is_where_the_curve_bends() -> None:
    assert choose_vocabulary([bent(0, 20, 49)], EVALS, rule="knee").size == 20


def test_the_knee_is_reported_beside_a_choice_by_gain_and_beside_a_given_size() -> None:
    gain = choose_vocabulary([bent(0, 20, 49)], EVALS, min_gain=0.5 * PER_PIECE)
    by_hand = choose_vocabulary([bent(0, 20, 49)], EVALS, size=7)
    assert (gain.size, gain.knee, by_hand.size, by_hand.knee, by_hand.rule) == (
        49, 20, 7, 20, "given",
    )  # fmt: skip
    assert gain.reasons[-1].startswith("Kneedle puts the knee at 20 pieces (sensitivity 1)")


def test_a_higher_sensitivity_passes_over_a_slight_knee() -> None:
    envelope = best_envelope([bent(0, 20, 49, steep=1.5)], EVALS)
    assert (find_knee(envelope, 1.0), find_knee(envelope, 1000.0)) == (20, None)


def test_jitter_at_single_sizes_is_no_knee() -> None:
    smooth = bent(0, 400, 1960)
    jagged = curve(0, smooth.alp_EK[0] + np.where(np.arange(1961) % 7 == 3, 12.0, 0.0))
    assert choose_vocabulary([jagged], EVALS, rule="knee").size == 400


def test_the_best_curve_at_the_knee_is_taken() -> None:
    low, high = bent(0, 20, 49), bent(5, 20, 49, steep=5.0)
    choice = choose_vocabulary([low, high], EVALS, rule="knee")
    assert (choice.size, choice.num_chars) == (20, 0)
    better = curve(5, high.alp_EK[0] + 1)
    assert choose_vocabulary([low, better], EVALS, size=20).num_chars == 5


def test_a_curve_that_does_not_reach_the_size_is_not_taken() -> None:
    short = curve(2, [100.0, 101.0])  # sizes 2 and 3
    assert choose_vocabulary([bent(0, 20, 49), short], EVALS, size=20).num_chars == 0


def test_a_given_count_is_chosen_by_its_own_curve() -> None:
    choice = choose_vocabulary([bent(0, 20, 49), bent(5, 30, 49)], EVALS, rule="knee", num_chars=5)
    assert (choice.num_chars, choice.size) == (5, 30)
    assert "5 single characters, as given" in choice.reasons[1]


def test_the_envelope_may_have_a_gap_between_curves() -> None:
    curves = [curve(0, [0.0, 8.0, 9.0]), curve(10, [9.5, 9.8, 10.0])]
    envelope = best_envelope(curves, EVALS)
    assert envelope.sizes_P.tolist() == [0, 1, 2, 10, 11, 12]
    assert find_knee(envelope, 1.0) == 2


@pytest.mark.parametrize("num_chars", [None, 5])
def test_a_size_that_no_curve_has_is_refused(num_chars: int | None) -> None:
    with pytest.raises(UsageError, match="size = 60: no curve has this size") as caught:
        choose_vocabulary([bent(0, 20, 49), bent(5, 20, 49)], EVALS, size=60, num_chars=num_chars)
    assert "5 characters: 5 to 49" in str(caught.value)


def test_a_count_that_was_not_searched_is_refused() -> None:
    with pytest.raises(UsageError, match=r"num_chars = 7: no curve .*\(0, 5 were searched\)"):
        choose_vocabulary([bent(0, 20, 49), bent(5, 20, 49)], EVALS, num_chars=7)


@pytest.mark.parametrize("heights", [[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [0.0]])
def test_curves_without_a_knee_are_refused_by_the_knee_rule_alone(heights: list[float]) -> None:
    with pytest.raises(InputError, match="has no knee") as caught:
        choose_vocabulary([curve(0, heights)], EVALS, rule="knee")
    assert "give a size" in str(caught.value)
    choice = choose_vocabulary([curve(0, heights)], EVALS)
    assert choice.reasons[-1].startswith("Kneedle finds no knee")


@pytest.mark.parametrize(("curves", "evals", "min_gain"), [
    ([], EVALS, 1.0), ([bent(0, 2, 4)], [], 1.0), ([bent(0, 2, 4)], EVALS, -1.0),
])  # fmt: skip
def test_nothing_to_choose_from_is_our_mistake(
    curves: list[Curve], evals: list[EvalFacts], min_gain: float
) -> None:
    with pytest.raises(AssertionError):
        choose_vocabulary(curves, evals, min_gain=min_gain)


def test_rules_that_ran_out_are_told_apart_from_a_range_that_was_too_short() -> None:
    evals = [EvalFacts("x", 1, 100, 100, 0, 100, 0, -200.0)]
    alp_EK = np.array([[-200.0 + 10.0 * k for k in range(11)]])
    curve = Curve(0, 0, alp_EK, np.zeros((1, 11), np.int64), np.zeros(1, np.int64))
    short = choose_vocabulary([curve], evals, max_size=10)
    assert short.at_end
    assert not short.exhausted
    ended = choose_vocabulary([curve], evals, max_size=11)
    assert ended.exhausted
    assert ended.at_end
    assert any("a larger maximum size cannot" in reason for reason in ended.reasons)
