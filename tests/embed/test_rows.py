"""First rows of new pieces."""

import pytest
import torch

from lingraft.embed.mean import mean_rows
from lingraft.embed.normal import normal_rows
from lingraft.errors import InputError

BASE_VD = torch.tensor([[0, 0], [2, 0], [0, 4]], dtype=torch.float16)


def test_a_row_is_the_mean_of_its_spelling() -> None:
    assert mean_rows(BASE_VD, [[1, 2], [2]]).tolist() == [[1, 2], [0, 4]]


def test_a_part_that_comes_twice_counts_twice() -> None:
    assert mean_rows(BASE_VD, [[1, 1, 2, 0]]).tolist() == [[1, 1]]


@pytest.mark.parametrize("spelling", [[], [3], [-1]])
def test_a_spelling_the_base_cannot_read_is_refused(spelling: list[int]) -> None:
    with pytest.raises(InputError, match="new piece 1"):
        mean_rows(BASE_VD, [[0], spelling])


def test_sums_run_in_float32() -> None:
    big_VD = torch.full((4, 1), 60_000, dtype=torch.float16)  # the sum of 4 overflows float16
    assert mean_rows(big_VD, [[0, 1, 2, 3]]).tolist() == [[60_000]]


def test_normal_rows_have_the_asked_spread_and_repeat_by_seed() -> None:
    base_VD = torch.zeros((3, 64))
    rows_ND = normal_rows(base_VD, 500, 0.02, seed=1)
    assert rows_ND.shape == (500, 64)
    assert rows_ND.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(rows_ND, normal_rows(base_VD, 500, 0.02, seed=1))
    assert not torch.equal(rows_ND, normal_rows(base_VD, 500, 0.02, seed=2))
