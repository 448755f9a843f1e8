from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_samples import DOCS, NUM_BASE, SPELLINGS, added, tiny_llama, token_folder

from lingraft.embed.learned import Spelled, hidden_states, input_rows, output_rows
from lingraft.embed.mean import mean_rows
from lingraft.embed.probe import (
    Candidate,
    Curve,
    HeldOut,
    Point,
    ProbePlan,
    choose,
    grow,
    probe,
    run_candidate,
)
from lingraft.errors import LingraftError, UsageError
from lingraft.mixture import Mixture
from lingraft.scoring import score_docs

PLAN = ProbePlan(row_steps=6, all_steps=0, batch_size=2, seq_len=8, row_lr=0.1, max_tokens=32)
HELD_OUT = {"zh": HeldOut([np.array(doc) for doc in DOCS], np.array([20, 21]))}


def grown(model: Any, scale: float = 1.0) -> Any:
    rows = mean_rows(input_rows(model), added(), "input", 17) * scale
    tied = input_rows(model) is output_rows(model)
    heads = None if tied else mean_rows(output_rows(model), added(), "output", 17) * scale
    return grow(model, NUM_BASE, (rows, heads))


def mixture(folder: Path) -> Mixture:
    return Mixture(token_folder(folder), ["1:zh"], PLAN.seq_len, 17)


def test_a_grown_model_reads_old_ids_as_before() -> None:
    model = tiny_llama()
    bigger = grown(model)
    ids = torch.tensor([[1, 4, 2, 0]])
    states = hidden_states(bigger, input_ids=ids)
    assert torch.equal(hidden_states(model, input_ids=ids), states)
    assert torch.equal(output_rows(model), output_rows(bigger)[:NUM_BASE])
    # A taller matrix product may round its last bits otherwise, so logits are compared so:
    torch.testing.assert_close(model(ids).logits, bigger(ids).logits[..., :NUM_BASE])
    assert bigger(ids).logits.shape[-1] == bigger.config.vocab_size == NUM_BASE + len(SPELLINGS)
    assert len(input_rows(model)) == NUM_BASE


def test_rows_of_padding_are_left_out() -> None:
    model = tiny_llama(vocab_size=8)
    rows = torch.ones(4, 16)
    bigger = grow(model, NUM_BASE, (rows, rows * 2))
    assert torch.equal(input_rows(bigger)[NUM_BASE:], rows)
    assert torch.equal(output_rows(bigger)[NUM_BASE:], rows * 2)


def test_a_tied_model_stays_tied() -> None:
    bigger = grown(tiny_llama(tie_word_embeddings=True))
    assert input_rows(bigger) is output_rows(bigger)


@pytest.mark.parametrize(
    ("tied", "heads", "message"),
    [(True, True, "made for a tied model"), (False, False, "there are no head rows")],
)
def test_head_rows_must_fit_the_model(tied: bool, heads: bool, message: str) -> None:
    rows = torch.ones(4, 16)
    with pytest.raises(UsageError, match=message):
        grow(tiny_llama(tie_word_embeddings=tied), NUM_BASE, (rows, rows if heads else None))


@pytest.mark.parametrize("tied", [False, True])
def test_while_rows_move_alone_the_base_stays_bit_for_bit(tmp_path: Path, tied: bool) -> None:
    model = grown(tiny_llama(tie_word_embeddings=tied))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    points = run_candidate(model, NUM_BASE, mixture(tmp_path), HELD_OUT, PLAN)
    for name, value in model.state_dict().items():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(value[:NUM_BASE], before[name][:NUM_BASE])
            assert not torch.equal(value[NUM_BASE:], before[name][NUM_BASE:])
        else:
            assert torch.equal(value, before[name])
    assert [point.step for point in points] == [0, 6]
    assert points[1].bpb["zh"] < points[0].bpb["zh"]


def test_then_everything_moves(tmp_path: Path) -> None:
    model = grown(tiny_llama())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = ProbePlan(**{**vars(PLAN), "all_steps": 2, "body_lr": 1e-3})
    points = run_candidate(model, NUM_BASE, mixture(tmp_path), HELD_OUT, plan)
    assert all(not torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert [point.step for point in points] == [0, 6, 8]
    assert points[0].loss is None
    assert math.isfinite(points[1].loss or math.nan)


def test_the_score_at_step_0_is_that_of_the_untouched_model(tmp_path: Path) -> None:
    model = grown(tiny_llama())
    expected = score_docs(model, *HELD_OUT["zh"], PLAN.max_tokens).bpb
    points = run_candidate(model, NUM_BASE, mixture(tmp_path), HELD_OUT, PLAN)
    assert points[0].bpb == {"zh": expected}


def test_the_base_s_own_spelling_can_be_scored_beside() -> None:
    own = [Spelled(SPELLINGS, NUM_BASE).write_out(np.array(doc))[0] for doc in DOCS]
    score = score_docs(tiny_llama(), own, HELD_OUT["zh"].sizes_bytes, 32)
    assert score.total_tokens == sum(map(len, own)) - 2


def test_a_run_out_of_time_keeps_the_points_it_has(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    model = grown(tiny_llama())
    points = run_candidate(
        model,
        NUM_BASE,
        mixture(tmp_path),
        HELD_OUT,
        ProbePlan(**{**vars(PLAN), "eval_every": 1}),
        out_of_time=lambda: next(asked),
    )
    assert [point.step for point in points] == [0, 1, 2]


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    model = grown(tiny_llama(), scale=math.inf)
    held_out: dict[str, HeldOut] = {}
    with pytest.raises(LingraftError, match="step 0 of the probe: the loss is nan"):
        run_candidate(model, NUM_BASE, mixture(tmp_path), held_out, PLAN)


def test_the_probe_gives_the_same_curves_again_and_takes_the_lowest(tmp_path: Path) -> None:
    model, text = tiny_llama(), mixture(tmp_path)
    near = mean_rows(input_rows(model), added(), "input", 17)
    head = mean_rows(output_rows(model), added(), "output", 17)
    rows = {"mean": (near, head), "far": (near * 30, head * 30)}
    candidates = [Candidate("far", "far"), Candidate("mean", "mean")]

    def tried() -> list[Curve]:
        made = lambda candidate: rows[candidate.method]  # noqa: E731
        return probe(model, NUM_BASE, candidates, made, text, HELD_OUT, PLAN)

    once, again = tried(), tried()
    assert [c.points[-1].bpb for c in once] == [c.points[-1].bpb for c in again]
    assert choose(once, "zh") == Candidate("mean", "mean")
    assert str(candidates[1]) == "mean/mean"
    assert str(Candidate("mean")) == "mean"


def test_a_candidate_that_was_stopped_early_cannot_win() -> None:
    def curve(name: str, *bpb: float) -> Curve:
        points = [Point(step, {"zh": value}, None, 0.0) for step, value in enumerate(bpb)]
        return Curve(Candidate(name), points)

    curves = [curve("short", 3.0, 0.5), curve("a", 4.0, 2.0, 1.0), curve("b", 2.0, 2.0, 1.5)]
    assert choose(curves, "zh") == Candidate("a")
