"""Knee and choice on curves made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lingraft.errors import InputError, UsageError
from lingraft.vocab.alp import Curve, Float64
from lingraft.vocab.choose import choose_vocabulary, find_knee, mean_curves


def curve(num_chars: int, *rows: Sequence[float] | Float64) -> Curve:
    alp_EK = np.array(rows, float)
    return Curve(num_chars, alp_EK, np.zeros(alp_EK.shape, np.int64))


def bent(num_chars: int, corner: int, end: int, steep: float = 10.0) -> Curve:
    """Rise by `steep` a piece up to `corner` and by 1 after it."""
    sizes = np.arange(num_chars, end + 1)
    return curve(num_chars, np.where(sizes < corner, steep * (sizes - corner), sizes - corner))


def test_each_text_is_scaled_over_all_curves_before_the_mean() -> None:
    means = mean_curves([curve(0, [-10, 0], [-400, -200]), curve(1, [-5], [0])])
    assert [m.tolist() for m in means] == [[0.0, 0.75], [0.75]]


def test_a_text_that_no_vocabulary_changes_weighs_nothing() -> None:
    assert mean_curves([curve(0, [-2, -1], [-7, -7])])[0].tolist() == [0.0, 0.5]


def test_the_knee_is_where_the_curve_bends() -> None:
    assert choose_vocabulary([bent(0, 20, 49)], None, None, 1.0).knee == 20


def test_jitter_at_single_sizes_is_no_knee() -> None:
    smooth = bent(0, 400, 1960)
    jagged = curve(0, smooth.alp_EK[0] + np.where(np.arange(1961) % 7 == 3, 12.0, 0.0))
    knee = choose_vocabulary([jagged], None, None, 1.0).knee
    assert knee == 400


def test_the_best_curve_at_the_knee_is_taken() -> None:
    low, high = bent(0, 20, 49), bent(5, 20, 49, steep=5.0)
    choice = choose_vocabulary([low, high], None, None, 1.0)
    assert (choice.size, choice.num_chars, choice.knee) == (20, 0, 20)
    better = curve(5, high.alp_EK[0] + 1)
    assert choose_vocabulary([low, better], None, None, 1.0).num_chars == 5


def test_a_curve_that_does_not_reach_the_size_is_not_taken() -> None:
    short = curve(2, [100.0, 101.0])  # sizes 2 and 3
    assert choose_vocabulary([bent(0, 20, 49), short], 20, None, 1.0).num_chars == 0


def test_the_number_of_characters_can_be_forced() -> None:
    choice = choose_vocabulary([bent(0, 20, 49), bent(5, 30, 49)], None, 5, 1.0)
    assert (choice.num_chars, choice.knee) == (5, 30)


def test_a_forced_size_has_no_knee() -> None:
    choice = choose_vocabulary([bent(0, 20, 49), bent(5, 20, 49)], 7, 5, 1.0)
    assert (choice.size, choice.num_chars, choice.knee) == (7, 5, None)


def test_the_envelope_may_have_a_gap_between_curves() -> None:
    curves = [curve(0, [0.0, 8.0, 9.0]), curve(10, [9.5, 9.8, 10.0])]
    assert find_knee(curves, mean_curves(curves), 1.0) == 2


@pytest.mark.parametrize("num_chars", [None, 5])
def test_a_size_that_no_curve_has_is_refused(num_chars: int | None) -> None:
    with pytest.raises(UsageError, match=r"vocab\.size = 60: no curve has this size") as caught:
        choose_vocabulary([bent(0, 20, 49), bent(5, 20, 49)], 60, num_chars, 1.0)
    assert "5 characters: 5 to 49" in str(caught.value)


@pytest.mark.parametrize("heights", [[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [0.0]])
def test_curves_without_a_knee_are_refused_with_the_way_out(heights: list[float]) -> None:
    with pytest.raises(InputError, match="has no knee") as caught:
        choose_vocabulary([curve(0, heights)], None, None, 1.0)
    assert "Set vocab.size to a number" in str(caught.value)
