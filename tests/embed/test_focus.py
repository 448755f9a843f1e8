from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from learned_samples import NUM_BASE, SPELLINGS, added

from lingraft.embed.focus import focus_rows, sparsemax
from lingraft.embed.mean import mean_rows
from lingraft.errors import InputError

BASE_VD = torch.arange(NUM_BASE * 3.0).reshape(NUM_BASE, 3)
SIZE = NUM_BASE + len(SPELLINGS)


def vectors(**of: list[float]) -> np.ndarray:
    """Vectors by id; the others have none."""
    table = np.zeros((SIZE, 3), np.float32)
    for name, values in of.items():
        table[int(name[1:])] = values
    return table


def test_sparsemax_is_the_nearest_distribution() -> None:
    # Worked out by hand: thresholds 0.15 (two of three stay) and -1/3 (all stay equal).
    scores = torch.tensor([[0.8, 0.5, -0.2], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.65, 0.35, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(sparsemax(scores), expected)


def test_a_row_is_the_weighted_mean_of_its_nearest_base_rows() -> None:
    table = vectors(_2=[1, 0, 0], _3=[0, 1, 0], _4=[0, 0, 1], _6=[0.8, 0.6, 0])
    rows = focus_rows(BASE_VD, added(), "input", 17, auxiliary_VA=table)
    # Cosines 0.8 and 0.6: the threshold is (1.4 - 1) / 2 = 0.2, the weights 0.6 and 0.4.
    torch.testing.assert_close(rows[0], 0.6 * BASE_VD[2] + 0.4 * BASE_VD[3])


def test_a_low_temperature_takes_the_nearest_alone() -> None:
    table = vectors(_2=[1, 0, 0], _3=[0, 1, 0], _6=[0.8, 0.6, 0])
    rows = focus_rows(BASE_VD, added(), "input", 17, auxiliary_VA=table, temperature=0.01)
    torch.testing.assert_close(rows[0], BASE_VD[2])


def test_a_piece_without_a_vector_takes_the_mean_and_is_counted() -> None:
    notes: Counter[str] = Counter()
    table = vectors(_2=[1, 0, 0], _6=[0, 1, 0])
    rows = focus_rows(BASE_VD, added(), "input", 17, auxiliary_VA=table, notes=notes)
    torch.testing.assert_close(rows[1:], mean_rows(BASE_VD, added(), "input", 17)[1:])
    assert notes == {"mean_instead": 3}


def test_many_equal_neighbours_all_count() -> None:
    num_base = 400
    base = torch.randn(num_base, 2, generator=torch.Generator().manual_seed(1))
    table = np.ones((num_base + 1, 2), np.float32)
    rows = focus_rows(base, added([(2, 3)], num_base), "input", 17, auxiliary_VA=table)
    torch.testing.assert_close(rows[0], base.mean(dim=0))


def test_vectors_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="9 auxiliary vectors; expected 10"):
        focus_rows(BASE_VD, added(), "input", 17, auxiliary_VA=vectors(_2=[1, 0, 0])[1:])


def test_a_space_without_base_pieces_is_refused() -> None:
    with pytest.raises(InputError, match="no base piece has an auxiliary vector"):
        focus_rows(BASE_VD, added(), "input", 17, auxiliary_VA=vectors(_6=[1, 0, 0]))
