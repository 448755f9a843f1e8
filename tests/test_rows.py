"""Stretches of token files as rows: labels, positions, and where documents begin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_files import token_file

from lingraft.errors import UsageError
from lingraft.rows import IGNORE, Documents, Stretch, Windows, check_rows, fill_row
from lingraft.shards import TokenFile

THREE = token_file([1, 2, 3, 4], [5, 6], [7, 8, 9])


def row(
    stretches: list[Stretch], length: int, documents: Documents = "isolated"
) -> tuple[list[int], list[int], list[int]]:
    inputs, labels, positions = (
        np.zeros(length, int),
        np.full(length, IGNORE),
        np.empty(length, int),
    )
    fill_row(stretches, documents, inputs, labels, positions)
    return inputs.tolist(), labels.tolist(), positions.tolist()


def test_isolated_documents_begin_at_position_0_and_are_not_predicted() -> None:
    inputs, labels, positions = row([Stretch(THREE, 0, 9)], 8)
    assert inputs == [1, 2, 3, 4, 5, 6, 7, 8]
    assert labels == [2, 3, 4, IGNORE, 6, IGNORE, 8, 9]
    assert positions == [0, 1, 2, 3, 0, 1, 0, 1]


def test_joined_documents_predict_each_other_and_count_through() -> None:
    _, labels, positions = row([Stretch(THREE, 0, 9)], 8, "joined")
    assert labels == [2, 3, 4, 5, 6, 7, 8, 9]
    assert positions == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_row_that_begins_inside_a_document_counts_from_0() -> None:
    # Beyond the length that the model knows there would be no position to count from.
    assert row([Stretch(THREE, 2, 7)], 4) == ([3, 4, 5, 6], [4, IGNORE, 6, IGNORE], [0, 1, 0, 1])


def test_a_document_that_begins_right_after_the_row_is_not_predicted() -> None:
    assert row([Stretch(THREE, 1, 5)], 3)[1] == [3, 4, IGNORE]
    assert row([Stretch(THREE, 1, 5)], 3, "joined")[1] == [3, 4, 5]


def test_what_fills_a_row_up_has_no_label_and_is_a_document_of_its_own() -> None:
    assert row([Stretch(THREE, 6, 9)], 6) == (
        [7, 8, 9, 0, 0, 0],
        [8, 9, IGNORE, IGNORE, IGNORE, IGNORE],
        [0, 1, 2, 0, 1, 2],
    )


def test_empty_documents_change_nothing() -> None:
    file = token_file([1, 2], [], [], [3, 4], [])
    assert row([Stretch(file, 0, 4)], 4) == ([1, 2, 3, 4], [2, IGNORE, 4, IGNORE], [0, 1, 0, 1])


def test_each_stretch_of_a_row_begins_another_document() -> None:
    other = token_file([20, 21], [22])
    stretches = [Stretch(THREE, 1, 3), Stretch(other, 0, 3)]
    assert row(stretches, 6) == (
        [2, 3, 20, 21, 22, 0],
        [3, IGNORE, 21, IGNORE, IGNORE, IGNORE],
        [0, 1, 0, 1, 0, 0],
    )
    assert row(stretches, 6, "joined")[1] == [3, 20, 21, 22, IGNORE, IGNORE]


def test_ids_of_32_bits_are_read_whole() -> None:
    file = TokenFile(np.array([70_000, 4_000_000_000], np.uint32), np.array([2], np.uint64))
    assert row([Stretch(file, 0, 2)], 2)[:2] == ([70_000, 4_000_000_000], [4_000_000_000, IGNORE])


@given(st.integers(0, 60), st.integers(1, 9))
def test_windows_predict_every_token_but_the_first_once(end: int, stride: int) -> None:
    windows = Windows(token_file(range(end)), end, stride)
    stretches = [windows[n] for n in range(len(windows))]
    assert [n for s in stretches for n in range(s.start + 1, s.stop)] == list(range(1, end))
    assert all(2 <= s.stop - s.start <= stride + 1 for s in stretches)
    assert windows.num_filled == sum(s.stop - s.start for s in stretches)


@pytest.mark.parametrize("seq_len", [-1, 0, 1])
def test_rows_without_a_target_are_refused(seq_len: int) -> None:
    with pytest.raises(UsageError, match=f"seq_len = {seq_len}; expected 2 or more"):
        check_rows(seq_len, "isolated")


def test_an_unknown_word_for_documents_is_refused() -> None:
    with pytest.raises(UsageError, match=r"documents = 'mixed'; expected one of isolated, joined"):
        check_rows(2, "mixed")
