"""Two encodings of a text: the same, a coarsening, or neither."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lingraft.tokenizer.replay import compare_encodings

SIZES_V = np.array([1, 1, 2, 3, 2], np.int64)
"""Bytes of ids 0 to 4."""


def compared(base: list[list[int]], extended: list[list[int]]) -> tuple[list[bool], list[bool]]:
    one, other = ([np.array(ids, np.int32) for ids in batch] for batch in (base, extended))
    found = compare_encodings(one, other, SIZES_V, SIZES_V)
    return found.same_D.tolist(), found.coarser_D.tolist()


def test_equal_ids_are_the_same_and_a_coarsening() -> None:
    assert compared([[0, 1], [], [2]], [[0, 1], [], [2]]) == ([True] * 3, [True] * 3)


def test_joined_neighbours_are_a_coarsening() -> None:
    assert compared([[0, 1], [0, 2, 1]], [[2], [3, 1]]) == ([False, False], [True, True])


def test_a_token_that_ends_elsewhere_breaks_the_base_up() -> None:
    assert compared([[2, 1], [0, 1]], [[0, 2], [0, 1]]) == ([False, True], [False, True])


def test_another_id_for_the_same_bytes_is_no_coarsening() -> None:
    assert compared([[2]], [[4]]) == ([False], [False])


def test_a_text_of_another_length_is_no_coarsening() -> None:
    assert compared([[0], [0], [1]], [[0, 1], [], [1]])[1] == [False, False, True]


def test_no_texts_give_no_results() -> None:
    assert compared([], []) == ([], [])


@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=6))
def test_splitting_tokens_is_seen_from_the_other_side(batch: list[list[int]]) -> None:
    """Taken apart into bytes, the base is finer than anything; the reverse only where equal."""
    apart = [[0] * int(SIZES_V[ids].sum()) for ids in batch]
    coarse = [[id if SIZES_V[id] > 1 else 0 for id in ids] for ids in batch]
    assert all(compared(apart, coarse)[1])
    backwards = compared(coarse, apart)
    assert backwards[0] == backwards[1] == [a == b for a, b in zip(coarse, apart, strict=True)]
