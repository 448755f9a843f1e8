"""Orders that are computed: permutations that look like chance, and even interleaving."""

import math
from collections import Counter
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.orders import Interleave, Shuffle


def excess(counts: Counter[tuple[int, ...]] | Counter[int], num_cells: int) -> float:
    """Give chi-square, less its mean, in its standard deviations."""
    expected = counts.total() / num_cells
    missing = num_cells - len(counts)
    chi = sum((n - expected) ** 2 / expected for n in counts.values()) + missing * expected
    return (chi - (num_cells - 1)) / math.sqrt(2 * (num_cells - 1))


@pytest.mark.parametrize("n", [*range(1, 130), 256, 257, 1_000, 1_023])
def test_every_place_is_taken_once(n: int) -> None:
    assert sorted(map(Shuffle(n, "key"), range(n))) == list(range(n))


@given(st.integers(1, 10**12), st.text(), st.data())
def test_a_large_range_is_not_left_and_two_places_differ(
    n: int, key: str, data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5, unique=True))
    found = {Shuffle(n, key)(place) for place in places}
    assert len(found) == len(places)
    assert 0 <= min(found) <= max(found) < n


@pytest.mark.parametrize("n", [2, 3, 4])
def test_all_orders_of_a_few_are_equally_likely(n: int) -> None:
    counts = Counter(tuple(map(Shuffle(n, f"17 {key}"), range(n))) for key in range(3_000))
    assert set(counts) == set(permutations(range(n)))
    assert abs(excess(counts, len(counts))) < 3


@pytest.mark.parametrize("place", [0, 1, 25, 49])
def test_what_stands_at_a_place_looks_like_chance(place: int) -> None:
    counts = Counter(Shuffle(50, f"17 {key}")(place) for key in range(2_000))
    assert abs(excess(counts, 50)) < 3


def test_neighbours_have_nothing_to_do_with_each_other() -> None:
    shuffles = (Shuffle(50, f"17 {key}") for key in range(2_000))
    counts = Counter((shuffle(8) - shuffle(7)) % 50 for shuffle in shuffles)
    assert 0 not in counts
    assert abs(excess(counts, 49)) < 3


def test_keys_that_differ_a_little_share_no_more_than_chance() -> None:
    first, second = Shuffle(10_000, "17 0 0 0"), Shuffle(10_000, "17 0 0 1")
    same = sum(first(n) == second(n) for n in range(10_000))
    assert same < 10  # one is expected


def test_two_sequences_of_three_to_one_alternate() -> None:
    # Shares of 6 and 2 in 8 places: the second stands in the middle of each half.
    places = [Interleave([6, 2])(place) for place in range(8)]
    assert [which for which, _ in places] == [0, 1, 0, 0, 0, 1, 0, 0]
    assert [before for which, before in places if which == 0] == [0, 1, 2, 3, 4, 5]


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 60), st.just(1)), min_size=1, max_size=12))
def test_every_prefix_holds_each_sequences_share(lengths: list[int]) -> None:
    interleave, total = Interleave(lengths), sum(lengths)
    counts = [0] * len(lengths)
    largest = Fraction(0)
    for place in range(total):
        which, before = interleave(place)
        assert before == counts[which]
        counts[which] += 1
        lags = [n - Fraction((place + 1) * m, total) for n, m in zip(counts, lengths, strict=True)]
        largest = max(largest, *map(abs, lags))
    assert counts == lengths
    assert largest < (1 if len(lengths) <= 4 else Fraction(17, 10))
