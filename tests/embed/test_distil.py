from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_samples import (
    AB,
    ABC,
    CA,
    DOCS,
    NUM_BASE,
    SPELLINGS,
    added,
    save_llama,
    tiny_llama,
    token_folder,
)
from token_files import write_folder

from lingraft.embed.distil import distil_rows, state_error, student_view
from lingraft.embed.headdistil import HeadTeacher, event_divergence
from lingraft.embed.learned import (
    Snippet,
    Spelled,
    hidden_states,
    input_rows,
    output_rows,
    read_snippets,
)
from lingraft.embed.mean import mean_rows
from lingraft.embed.spelltrie import Endings, SpellTrie
from lingraft.errors import UsageError

SPELLED = Spelled(SPELLINGS, NUM_BASE)
IDS = np.array([1, 4, AB, 0, ABC, CA])


def view_of(place: int, share: float) -> Any:
    generator = np.random.default_rng(3)
    return student_view(Snippet(0, place, IDS), SPELLED, share, generator)


def test_with_share_0_the_student_sees_one_new_id() -> None:
    view = view_of(place=2, share=0)
    assert view.ids_L.tolist() == [1, 4, AB, 0, 2, 3, 4, 5, 2]
    # The teacher reads 1 4 2 3 0 2 3 4 5 2; it has read AB at its place 3.
    assert view.ends_L.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert view.first == 2


def test_with_share_1_the_student_sees_every_new_id() -> None:
    view = view_of(place=4, share=1)
    assert view.ids_L.tolist() == IDS.tolist()
    assert view.ends_L.tolist() == [0, 1, 3, 4, 7, 9]
    assert view.first == 2


def test_the_error_compares_states_where_both_have_read_the_same_text() -> None:
    model, rows = tiny_llama(), torch.randn(4, 16, generator=torch.Generator().manual_seed(7))
    snippets = [Snippet(0, 2, IDS), Snippet(0, 1, np.array([1, AB, 3]))]
    reading = read_snippets(model, SPELLED, snippets)
    views = [student_view(s, SPELLED, 1.0, np.random.default_rng(3)) for s in snippets]
    error = state_error(model, rows, NUM_BASE, reading, views)
    both = torch.cat([input_rows(model), rows])
    students, teachers = [], []
    for view, (base, _) in zip(views, reading.texts, strict=True):
        states = hidden_states(model, inputs_embeds=both[torch.from_numpy(view.ids_L)][None])[0]
        students.append(states[view.first :])
        states = hidden_states(model, input_ids=torch.from_numpy(base)[None])[0]
        teachers.append(states[view.ends_L[view.first :]])
    student, teacher = torch.cat(students), torch.cat(teachers)
    expected = (student - teacher).square().mean() / teacher.square().mean()
    torch.testing.assert_close(error, expected)


def errors(model: Any, rows: torch.Tensor) -> float:
    snippets = [Snippet(-1, 0, np.array(doc)) for doc in DOCS]
    reading = read_snippets(model, SPELLED, snippets)
    views = [student_view(s, SPELLED, 1.0, np.random.default_rng(3)) for s in snippets]
    return float(state_error(model, rows, NUM_BASE, reading, views))


@pytest.mark.parametrize(("share", "bound"), [(1.0, 0.5), (0.0, 0.8)])
def test_training_lowers_the_error_and_leaves_the_base_alone(
    tmp_path: Path, share: float, bound: float
) -> None:
    folder, tokens = save_llama(tmp_path / "model"), token_folder(tmp_path / "tokens")
    model = tiny_llama()
    base_VD = input_rows(model).clone()
    rows = distil_rows(
        base_VD, added(), "input", 17, model=folder, tokens=tokens, share=share, per_piece=60
    )
    start = mean_rows(base_VD, added(), "input", 17)
    assert errors(model, rows) < bound * errors(model, start)
    assert torch.equal(base_VD, input_rows(model))


def test_one_seed_gives_one_result(tmp_path: Path) -> None:
    folder, tokens = save_llama(tmp_path / "model"), token_folder(tmp_path / "tokens")
    base_VD = input_rows(tiny_llama())

    def made(seed: int) -> bytes:
        rows = distil_rows(
            base_VD, added(), "input", seed, model=folder, tokens=tokens, share=0.5, per_piece=4
        )
        return rows.numpy().tobytes()

    assert made(17) == made(17)
    assert made(17) != made(18)


def test_a_piece_that_the_text_does_not_show_keeps_its_start(tmp_path: Path) -> None:
    docs = [[1, AB, 0, 4, ABC]] * 20
    tokens = write_folder(tmp_path / "tokens", {"zh-train": docs}, vocab_size=10)
    base_VD = input_rows(tiny_llama())
    folder = save_llama(tmp_path / "model")
    rows = distil_rows(base_VD, added(), "input", 17, model=folder, tokens=tokens, per_piece=4)
    start = mean_rows(base_VD, added(), "input", 17)
    assert torch.equal(rows[2:], start[2:])
    assert not torch.equal(rows[0], start[0])


def test_the_rows_of_a_tied_model_are_made_for_its_head_too(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model", tie_word_embeddings=True)
    tokens = token_folder(tmp_path / "tokens")
    base_VD = input_rows(tiny_llama())
    by_default, alone, weighted = (
        distil_rows(
            base_VD,
            added(),
            "input",
            17,
            model=folder,
            tokens=tokens,
            per_piece=60,
            head_weight=weight,
        )
        for weight in (None, 0.0, 1.0)
    )
    assert torch.equal(by_default, weighted)
    # 0.160 with the states alone, 0.098 with both.
    assert head_error(alone) > 1.3 * head_error(weighted)


def head_error(rows: torch.Tensor) -> float:
    """Divergence of the head's events in a tied model."""
    model, trie = tiny_llama(tie_word_embeddings=True), SpellTrie(SPELLINGS)
    teacher = HeadTeacher(trie, Endings(trie), "cpu")
    reading = read_snippets(model, SPELLED, [Snippet(-1, 0, np.array(doc)) for doc in DOCS])
    events = teacher.events(reading, output_rows(model))
    return float(event_divergence(events, teacher, rows[torch.from_numpy(trie.order_S)]))


def test_the_head_s_loss_of_an_untied_model_is_refused(tmp_path: Path) -> None:
    folder, tokens = save_llama(tmp_path / "model"), token_folder(tmp_path / "tokens")
    with pytest.raises(UsageError, match=r"head_weight = 1\.0, but the model's head has rows"):
        distil_rows(
            input_rows(tiny_llama()),
            added(),
            "input",
            17,
            model=folder,
            tokens=tokens,
            head_weight=1.0,
        )
