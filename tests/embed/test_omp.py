from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from byte_tokenizers import byte_level
from learned_samples import NUM_BASE, SPELLINGS, added, tiny_llama

from lingraft.embed.added import Added
from lingraft.embed.mean import mean_rows
from lingraft.embed.omp import donor_vectors, longest_number, omp_rows, pursue
from lingraft.errors import InputError, UsageError
from lingraft.store import write_json

BASE_VD = torch.arange(NUM_BASE * 3.0).reshape(NUM_BASE, 3)


def test_a_combination_of_few_atoms_is_found_again() -> None:
    generator = torch.Generator().manual_seed(2)
    atoms = torch.randn(40, 24, generator=generator)
    target = 2.0 * atoms[7] - 0.5 * atoms[31]
    places, weights = pursue(target[None], atoms, 5)
    dense = torch.zeros(40).index_add_(0, places[0], weights[0])
    torch.testing.assert_close(dense.nonzero().flatten(), torch.tensor([7, 31]))
    torch.testing.assert_close(dense[[7, 31]], torch.tensor([2.0, -0.5]), atol=1e-4, rtol=1e-4)


def test_the_coefficients_are_those_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(4)
    atoms, targets = (torch.randn(n, 12, generator=generator) for n in (30, 6))
    places, weights = pursue(targets, atoms, 4)
    for row, target in enumerate(targets):
        chosen = atoms[places[row]]
        best = torch.linalg.lstsq(chosen.t(), target[:, None]).solution.flatten()
        torch.testing.assert_close(weights[row], best, atol=1e-4, rtol=1e-4)
        assert len(set(places[row].tolist())) == 4


def test_atoms_that_add_nothing_get_no_weight() -> None:
    atoms = torch.tensor([[1.0, 0], [2, 0], [3, 0]])
    places, weights = pursue(torch.tensor([[1.0, 1.0]]), atoms, 3)
    assert (weights != 0).sum() == 1
    torch.testing.assert_close((weights @ atoms[places[0]]), torch.tensor([[1.0, 0.0]]))


def test_the_coefficients_are_used_on_the_base_rows() -> None:
    table = np.zeros((NUM_BASE + len(SPELLINGS), 2), np.float32)
    table[2], table[3], table[6] = [1, 0], [0, 7], [3, -4]  # their lengths do not matter
    notes: Counter[str] = Counter()
    rows = omp_rows(BASE_VD, added(), "input", 17, auxiliary_VA=table, num_atoms=2, notes=notes)
    torch.testing.assert_close(rows[0], 0.6 * BASE_VD[2] - 0.8 * BASE_VD[3])
    torch.testing.assert_close(rows[1:], mean_rows(BASE_VD, added(), "input", 17)[1:])
    assert notes == {"mean_instead": 3}


def test_without_a_space_there_is_no_pursuit() -> None:
    with pytest.raises(UsageError, match="neither auxiliary vectors nor a donor"):
        omp_rows(BASE_VD, added(), "input", 17)


def donor_folder(folder: Path, merges: list[tuple[bytes, bytes]]) -> Path:
    """A donor on bytes that joins what `merges` says."""
    tiny_llama(vocab_size=256 + len(merges), hidden_size=8).save_pretrained(folder)
    write_json(folder / "tokenizer.json", byte_level(merges))
    return folder


def byte_pieces(*pieces: bytes, base: tuple[bytes, ...] = (b"a", b"b", b"c", b"7")) -> Added:
    """New pieces over a base of single letters."""
    spellings = [tuple(base.index(bytes([byte])) for byte in piece) for piece in pieces]
    return Added(
        num_base=len(base),
        texts=[piece.decode() for piece in pieces],
        pieces=list(pieces),
        kinds=["spelled"] * len(pieces),
        spellings=spellings,
        text_spellings=spellings,
        parents=[None] * len(pieces),
        base_pieces=list(base),
    )


def test_a_donor_gives_the_rows_of_equal_bytes(tmp_path: Path) -> None:
    folder = donor_folder(tmp_path, [(b"a", b"b")])
    rows = tiny_llama(vocab_size=257, hidden_size=8).get_input_embeddings().weight.numpy()
    vectors = donor_vectors(folder, byte_pieces(b"ab", b"abc"))
    np.testing.assert_allclose(vectors[0], rows[ord("a")])
    np.testing.assert_allclose(vectors[4], rows[256])
    # The donor writes abc as ab c: the mean of the two.
    np.testing.assert_allclose(vectors[5], (rows[256] + rows[ord("c")]) / 2, rtol=1e-6)


def test_rows_from_a_donor_need_no_auxiliary_vectors(tmp_path: Path) -> None:
    folder, base = donor_folder(tmp_path, [(b"a", b"b")]), torch.eye(4)
    rows = omp_rows(base, byte_pieces(b"ab"), "input", 17, donor=folder, num_atoms=4)
    vectors = donor_vectors(folder, byte_pieces(b"ab"))
    np.testing.assert_allclose(
        np.linalg.norm(rows[0].numpy() @ vectors[:4] - vectors[4]),
        np.linalg.norm(vectors[4] - vectors[:4].T @ np.linalg.lstsq(vectors[:4].T, vectors[4])[0]),
        rtol=1e-4,
    )


def test_other_digit_groups_of_a_donor_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "lingraft"):
        donor_vectors(donor_folder(tmp_path, [(b"7", b"7")]), byte_pieces(b"ab"))
    assert "up to 2 digits as one piece, the base up to 1" in caplog.text


def test_equal_digit_groups_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    donor_vectors(donor_folder(tmp_path, [(b"a", b"b")]), byte_pieces(b"ab"))
    assert not caplog.text
    assert longest_number([b"a1", b"12", b"345x"]) == 2


def test_a_donor_without_common_pieces_is_refused(tmp_path: Path) -> None:
    folder = donor_folder(tmp_path, [(b"a", b"b")])
    strange = replace(byte_pieces(b"ab"), base_pieces=[b"", b"", b"", b""])
    with pytest.raises(InputError, match="none of the donor's pieces is a piece of the base"):
        donor_vectors(folder, strange)
