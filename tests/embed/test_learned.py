from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from learned_samples import AB, ABC, BOS, CA, NUM_BASE, SPELLINGS, added, tiny_llama, token_folder
from token_files import token_file, write_folder

from lingraft.embed.learned import (
    RowAdam,
    Spelled,
    Text,
    find_snippets,
    output_rows,
    pad_ids,
    start_rows,
)
from lingraft.errors import InputError, LingraftError, UsageError

SPELLED = Spelled(SPELLINGS, NUM_BASE)


def test_extended_ids_written_out_are_the_base_ids_of_the_same_text() -> None:
    base, ends = SPELLED.write_out(np.array([1, ABC, 0, CA, AB]))
    assert base.tolist() == [1, 2, 3, 4, 0, 5, 2, 2, 3]
    assert ends.tolist() == [0, 3, 4, 6, 8]


def test_without_new_pieces_a_text_is_written_out_as_it_is() -> None:
    base, ends = Spelled([], NUM_BASE).write_out(np.array([1, 4, 0]))
    assert (base.tolist(), ends.tolist()) == ([1, 4, 0], [0, 1, 2])


def test_snippets_hold_their_piece_and_stay_inside_its_document() -> None:
    file = token_file([1, 0, 0, AB, 4, 4], [1, CA, 3], [1, 0, AB, 0])
    snippets = find_snippets([file], SPELLED, 9, 17, before=1, after=1)
    found = sorted((s.piece, s.place, s.ids_L.tolist()) for s in snippets)
    assert found == [(0, 1, [0, AB, 0]), (0, 1, [0, AB, 4]), (2, 1, [1, CA, 3])]


def test_bos_is_put_before_a_snippet_that_does_not_begin_with_it() -> None:
    file = token_file([1, 0, 0, AB, 4, 4], [1, CA, 3])
    snippets = find_snippets([file], SPELLED, 9, 17, before=1, after=0, bos_id=BOS)
    found = sorted((s.place, s.ids_L.tolist()) for s in snippets)
    assert found == [(1, [1, CA]), (2, [1, 0, AB])]


def test_a_piece_gets_no_more_snippets_than_asked_and_a_rare_one_fewer() -> None:
    file = token_file(*[[1, AB, 0]] * 20, [1, CA, 0])
    pieces = [s.piece for s in find_snippets([file, file], SPELLED, 5, 17)]
    assert (pieces.count(0), pieces.count(2)) == (5, 2)


def test_a_seed_decides_the_snippets_and_their_order() -> None:
    file = token_file(*[[1, 0, AB, n % 6, CA] for n in range(50)])

    def drawn(seed: int) -> list[list[int]]:
        return [s.ids_L.tolist() for s in find_snippets([file], SPELLED, 4, seed, after=2)]

    assert drawn(17) == drawn(17)
    assert drawn(17) != drawn(18)


def test_snippets_with_a_piece_that_has_no_spelling_are_left_out() -> None:
    spelled = Spelled([(2, 3), ()], NUM_BASE)
    file = token_file([1, NUM_BASE, NUM_BASE + 1], [1, NUM_BASE, 0])
    snippets = find_snippets([file], spelled, 9, 17)
    assert [s.ids_L.tolist() for s in snippets] == [[1, NUM_BASE, 0]]


def test_text_without_new_pieces_is_refused() -> None:
    with pytest.raises(InputError, match="none of the 4 new pieces"):
        find_snippets([token_file([1, 0, 3])], SPELLED, 5, 17)


def test_ids_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="holds the id 10; expected less than 10"):
        find_snippets([token_file([1, NUM_BASE + 4])], SPELLED, 5, 17)


def test_a_token_folder_gives_its_training_files_and_bos(tmp_path: Path) -> None:
    text = Text.open(token_folder(tmp_path, times=3), added())
    assert [file.num_docs for file in text.files] == [6]
    assert text.bos_id == BOS
    assert len(list(text.documents())) == 6
    assert len(list(text.documents(max_tokens=33))) == 3


def test_drawn_stretches_are_stretches_of_documents(tmp_path: Path) -> None:
    text = Text.open(token_folder(tmp_path), added())
    docs = [text.files[0].doc(n).tolist() for n in range(2)]
    for snippet in text.draw(50, 17, length=4):
        ids = snippet.ids_L.tolist()
        ids = ids if ids in ([1], docs[0][:4], docs[1][:4]) else ids[1:]
        assert any(ids == doc[n : n + len(ids)] for doc in docs for n in range(len(doc)))


def test_a_folder_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ids of a tokenizer of 10; expected 7"):
        Text.open(token_folder(tmp_path), added([(2, 3)]))


def test_without_training_files_all_are_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"zh": [[1, AB]], "more": [[1, CA]]}, vocab_size=10)
    assert len(Text.open(folder, added()).files) == 2


def test_a_folder_without_text_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"zh-train": [], "zh-valid": [[1, AB]]}, vocab_size=10)
    with pytest.raises(InputError, match="no tokens to learn from"):
        Text.open(folder, added())


def test_adam_moves_only_rows_with_a_gradient_and_counts_their_own_steps() -> None:
    rows = torch.zeros(3, 2)
    adam = RowAdam(rows, lr=0.1)
    for _ in range(5):
        adam.step(torch.tensor([[1.0, -1.0], [0, 0], [0, 0]]))
    # A constant gradient moves by the rate a step: the first of row 1 is a whole step, too.
    adam.step(torch.tensor([[0.0, 0.0], [0.01, 0.01], [0, 0]]))
    expected = torch.tensor([[-0.5, 0.5], [-0.1, -0.1], [0, 0]])
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)


def test_with_a_floor_a_row_of_small_gradients_moves_little() -> None:
    rows = torch.zeros(2, 1)
    RowAdam(rows, lr=0.1, floor=1.0).step(torch.tensor([[1.0], [0.01]]))
    # Second moments 1 and 1e-4, mean 0.50005: steps of 1 / sqrt(1.50005) and 0.01 / sqrt(0.50015).
    expected = torch.tensor([[-0.081648], [-0.0014140]])
    torch.testing.assert_close(rows, expected, atol=1e-6, rtol=1e-4)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    with pytest.raises(LingraftError, match="gradient of the new rows is nan"):
        RowAdam(torch.zeros(1, 1), 0.1).step(torch.tensor([[float("nan")]]))


def test_a_head_with_a_bias_is_refused() -> None:
    model = tiny_llama()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(NUM_BASE))
    with pytest.raises(InputError, match="head has a bias"):
        output_rows(model)


def test_ids_of_several_lengths_are_padded_behind() -> None:
    assert pad_ids([np.array([3, 4]), np.array([5])]).tolist() == [[3, 4], [5, 0]]


def test_training_starts_from_a_method_that_needs_nothing_else() -> None:
    base = torch.eye(NUM_BASE)
    rows = start_rows("mean", base, added(), "input", 17)
    torch.testing.assert_close(rows[0], (base[2] + base[3]) / 2)
    with pytest.raises(UsageError, match="start = 'focus': this method needs auxiliary"):
        start_rows("focus", base, added(), "input", 17)
