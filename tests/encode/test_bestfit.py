"""Best-fit packing: every piece once, no bin too full, as few bins as the algorithm finds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lingraft.encode.bestfit import Bins, pack_best_fit


def pack(sizes: list[int], capacity: int) -> tuple[Bins, list[list[int]]]:
    bins = pack_best_fit(np.array(sizes, np.int64), capacity)
    return bins, [part.tolist() for part in np.split(bins.pieces_N, bins.ends_B[:-1])]


def first_fit(sizes: list[int], capacity: int) -> int:
    rooms: list[int] = []
    for size in sizes:
        for number, room in enumerate(rooms):
            if room >= size:
                rooms[number] -= size
                break
        else:
            rooms.append(capacity - size)
    return len(rooms)


def best_fit_decreasing(sizes: list[int], capacity: int) -> list[int]:
    """Give the room left in each bin, by the definition."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else capacity) - size)
    return sorted(rooms)


SIZES = st.integers(1, 24).flatmap(
    lambda capacity: st.tuples(
        st.lists(st.integers(1, capacity), min_size=1, max_size=60), st.just(capacity)
    )
)


def test_a_piece_goes_into_the_fullest_bin_that_has_room() -> None:
    # 7 opens a bin, 6 another; 3 fits both and goes where 3 are left; 2 and 2 fill the other.
    assert pack([2, 7, 6, 3, 2], 10)[1] == [[0, 2, 4], [1, 3]]


@given(SIZES)
def test_every_piece_is_packed_once_and_no_bin_is_too_full(case: tuple[list[int], int]) -> None:
    sizes, capacity = case
    _, bins = pack(sizes, capacity)
    assert sorted(piece for pieces in bins for piece in pieces) == list(range(len(sizes)))
    assert all(pieces and sum(sizes[p] for p in pieces) <= capacity for pieces in bins)


@given(SIZES)
def test_it_is_best_fit_decreasing(case: tuple[list[int], int]) -> None:
    sizes, capacity = case
    rooms = sorted(capacity - sum(sizes[p] for p in pieces) for pieces in pack(sizes, capacity)[1])
    assert rooms == best_fit_decreasing(sizes, capacity)


def test_it_needs_no_more_bins_than_first_fit_and_fills_them() -> None:
    rng = np.random.default_rng(17)
    sizes = np.minimum(rng.lognormal(4, 1, 3_000).astype(np.int64) + 1, 512).tolist()
    bins, _ = pack(sizes, 512)
    assert len(bins.ends_B) <= first_fit(sizes, 512)
    assert sum(sizes) / (512 * len(bins.ends_B)) > 0.999


@given(SIZES)
def test_pieces_rise_inside_a_bin_and_bins_stand_in_the_order_of_their_first(
    case: tuple[list[int], int],
) -> None:
    _, bins = pack(*case)
    assert all(pieces == sorted(pieces) for pieces in bins)
    firsts = [pieces[0] for pieces in bins]
    assert firsts == sorted(firsts)


def test_no_pieces_need_no_bin() -> None:
    bins = pack_best_fit(np.empty(0, np.int64), 8)
    assert (len(bins.pieces_N), len(bins.ends_B)) == (0, 0)
