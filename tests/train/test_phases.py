"""How a run's steps are divided, and what each phase trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pico import save_llama, save_mixtral

from lingraft.errors import UsageError
from lingraft.train.build import Built, build
from lingraft.train.phases import (
    Phase,
    count_steps,
    count_trained,
    cut_phases,
    group_parameters,
    needs_border,
    plan_phases,
)
from lingraft.train.settings import LoraSettings, PhaseSettings, TrainSettings


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**{"mixture": ["1:zh"], "lr": 0.1, **changes})


def phase(*trains: Any, frac: float | None = None, **changes: Any) -> PhaseSettings:
    return PhaseSettings(trains=list(trains), frac=frac, **changes)


def model(folder: Path, *, tied: bool = False, **rows: Any) -> Built:
    save = save_llama if tied else save_mixtral
    targets: Any = ["q_proj"]
    return build(
        save(folder, tie_word_embeddings=tied),
        LoraSettings(rank=2, targets=targets),
        quantize="none",
        dtype="float32",
        seed=1,
        device=torch.device("cpu"),
        **{"num_base": 290, **rows},
    )


def planned(s: TrainSettings, steps: int) -> list[tuple[list[str], int, int]]:
    return [(list(p.settings.trains), p.first, p.steps) for p in plan_phases(s, steps)]


def test_the_reference_trains_all_at_once() -> None:
    assert planned(settings(), 7) == [(["lora", "added", "base"], 0, 7)]


def test_rows_first_trains_added_rows_for_a_tenth() -> None:
    assert planned(settings(phases="rows-first"), 40) == [
        (["added"], 0, 4),
        (["lora", "added", "base"], 4, 36),
    ]


def test_eeve_has_seven_phases() -> None:
    found = planned(settings(phases="eeve"), 100)
    assert [(first, steps) for _, first, steps in found] == [
        (0, 10), (10, 10), (20, 10), (30, 10), (40, 10), (50, 40), (90, 10),
    ]  # fmt: skip
    assert found[0][0] == ["added-input"]
    assert found[-1][0] == ["lora"]


@pytest.mark.parametrize(
    ("rows", "trains"),
    [
        ("all", ["lora", "added", "base"]),
        ("added", ["lora", "added"]),
        ("none", ["lora"]),
    ],
)
def test_a_preset_trains_what_rows_lets_it(rows: str, trains: list[str]) -> None:
    assert planned(settings(rows=rows), 7) == [(trains, 0, 7)]


def test_a_preset_with_nothing_left_says_what_it_would_have_trained() -> None:
    assert planned(settings(rows="none", phases="rows-first"), 40)[0][0] == ["added"]


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ("added", "base"),
        ("added", "base-input"),
        ("none", "added"),
        ("none", "base"),
        ("none", "added-output"),
    ],
)
def test_a_part_that_rows_leaves_out_is_refused(rows: str, part: str) -> None:
    with pytest.raises(ValueError, match=f"trains {part}, which train.rows = '{rows}' leaves out"):
        settings(rows=rows, phases=[phase("lora", part)])


def test_tokens_of_a_phase_without_a_mixture_are_refused() -> None:
    with pytest.raises(ValueError, match="total_tokens, which is of its own mixture"):
        settings(phases=[phase("lora", total_tokens=5)])


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_settings_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        settings(lr=value)
    with pytest.raises(ValueError, match="finite"):
        LoraSettings(alpha=value)


def test_phases_are_cut_where_a_run_ended() -> None:
    phases = plan_phases(settings(phases="rows-first"), 40)
    assert [p.told for p in cut_phases(phases, 40)] == [p.told for p in phases]
    assert [p.steps for p in cut_phases(phases, 9)] == [4, 5]
    assert [p.steps for p in cut_phases(phases, 4)] == [4]
    assert [p.steps for p in cut_phases(phases, 3)] == [3]


def test_what_some_phase_trains_is_counted_once(tmp_path: Path) -> None:
    built = model(tmp_path)  # 290 base rows of 300, width 32; q_proj of 2 layers, rank 2
    lora = sum(p.numel() for p in built.lora.values())
    s = settings()
    plans = [Phase(phase("lora"), 0, 1), Phase(phase("lora", "added-input"), 1, 1)]
    assert count_trained(built, s, plans[:1]) == (lora, 0)
    assert count_trained(built, s, plans) == (lora, 10 * 32)
    both = [*plans, Phase(phase("base", "added"), 2, 1)]
    assert count_trained(built, s, both) == (lora, 2 * 300 * 32)


def test_shares_that_round_leave_no_step_out() -> None:
    s = settings(phases=[phase("lora", frac=0.5), phase("added", frac=0.5)])
    assert [(first, steps) for _, first, steps in planned(s, 5)] == [(0, 2), (2, 3)]


def test_a_phase_may_be_as_long_as_its_tokens() -> None:
    # A step is 2 x 16 tokens: 65 of them take 3 steps.
    phases = [phase("added", tokens=65), phase("lora", frac=0.5), phase("base")]
    s = settings(phases=phases, micro_batch_size=2, seq_len=16)
    assert [(first, steps) for _, first, steps in planned(s, 10)] == [(0, 3), (3, 5), (8, 2)]
    with pytest.raises(UsageError, match=r"shares come to 1\.5"):
        plan_phases(s, 3)


def test_a_phase_has_a_share_or_tokens() -> None:
    with pytest.raises(ValueError, match="both frac and tokens"):
        settings(phases=[phase("lora", frac=0.5, tokens=100)])


@pytest.mark.parametrize(
    ("fracs", "message"),
    [
        ([0.5, 0.4], "shares come to 0.9, and 0 phases"),
        ([0.5, 0.6], "shares come to 1.1"),
        ([0.7, None, None], "2 phases have none"),
    ],
)
def test_shares_that_are_not_the_whole_are_refused(fracs: list[Any], message: str) -> None:
    s = settings(phases=[phase("lora", frac=frac) for frac in fracs])
    with pytest.raises(UsageError, match=message):
        plan_phases(s, 10)


def test_a_phase_without_a_step_is_refused() -> None:
    with pytest.raises(UsageError, match=r"3 steps in 2 phases come to \[0, 3\]"):
        plan_phases(settings(phases="rows-first"), 3)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, False),
        ({"rows": "added"}, True),
        ({"added_lr": 0.1}, True),
        ({"phases": "rows-first"}, True),
        ({"phases": [phase("lora")]}, False),
        ({"phases": [phase("lora", "added", "base", added_lr=0.1)]}, True),
        ({"phases": [phase("lora", "base-input", "added-input")]}, False),
        ({"phases": [phase("base-output", "added-input")]}, True),
    ],
)
def test_a_border_is_needed_where_some_rows_go_without_others(
    changes: dict[str, Any], wanted: bool
) -> None:
    s = settings(**changes)
    assert needs_border(s, plan_phases(s, 100)) is wanted


def names(built: Built, s: TrainSettings, *trains: Any, **changes: Any) -> dict[str, list[str]]:
    groups = group_parameters(built, s, Phase(phase(*trains, **changes), 0, 1))
    return {group.name: list(group.parameters) for group in groups}


EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def test_only_what_a_phase_trains_asks_for_gradients(tmp_path: Path) -> None:
    built = model(tmp_path)
    assert names(built, settings(), "added-output", "base-output") == {
        "embed": [HEAD],
        "added": [f"{HEAD}.added"],
    }
    wanted = {id(built.embed[HEAD]), id(built.added[f"{HEAD}.added"])}
    assert {id(p) for p in built.model.parameters() if p.requires_grad} == wanted
    assert names(built, settings(), "added") == {"added": [f"{EMBED}.added", f"{HEAD}.added"]}
    assert not built.embed[HEAD].requires_grad
    found = names(built, settings(), "lora", "added", "base")
    assert list(found) == ["lora", "embed", "added"]
    assert len(found["lora"]) == 2 * 2


def test_a_tied_matrix_is_trained_by_either_of_its_sides(tmp_path: Path) -> None:
    built = model(tmp_path, tied=True)
    for side in ("added-input", "added-output", "added"):
        assert names(built, settings(), side) == {"added": [f"{EMBED}.added"]}


def test_rates_come_from_the_phase_or_from_the_nearest_setting(tmp_path: Path) -> None:
    built = model(tmp_path)

    def rates(s: TrainSettings, **changes: Any) -> list[float]:
        plan = Phase(phase("lora", "added", "base", **changes), 0, 1)
        return [group.lr for group in group_parameters(built, s, plan)]

    assert rates(settings()) == [0.1, 0.1, 0.1]
    assert rates(settings(embed_lr=0.2)) == [0.1, 0.2, 0.2]
    assert rates(settings(embed_lr=0.2, added_lr=0.3)) == [0.1, 0.2, 0.3]
    assert rates(settings(embed_lr=0.2, added_lr=0.3), lr=0.4) == [0.4, 0.4, 0.4]
    assert rates(settings(embed_lr=0.2, added_lr=0.3), lr=0.4, added_lr=0.5) == [0.4, 0.4, 0.5]
    assert rates(settings(added_lr=0.3), embed_lr=0.6) == [0.1, 0.6, 0.6]


def test_a_phase_that_would_train_nothing_is_refused(tmp_path: Path) -> None:
    built = model(tmp_path, rows="none", num_base=None)
    with pytest.raises(UsageError, match="of which this run has nothing"):
        names(built, settings(rows="none"), "added", "base")


def shared_steps(s: TrainSettings, steps: int) -> int:
    return sum(p.steps for p in plan_phases(s, steps) if not p.settings.mixture)


@pytest.mark.parametrize("pass_steps", [5, 6, 13, 100])
@pytest.mark.parametrize(
    "phases",
    [
        "reference",
        [phase("added", frac=0.2), phase("lora")],
        [phase("added", frac=0.3, mixture=["1:high"]), phase("lora")],
        [phase("added", tokens=200, mixture=["1:high"]), phase("lora")],
        [phase("added", tokens=200, mixture=["1:high"]), phase("lora", frac=0.1), phase("added")],
        [phase("added", frac=0.3, mixture=["1:high"]), phase("lora", frac=0.7)],
        [phase("added", mixture=["1:high"]), phase("lora", frac=0.3)],
        [phase("added", mixture=["1:high"]), phase("lora", tokens=60), phase("lora", frac=0.3)],
    ],
)
def test_a_pass_is_of_the_phases_without_a_mixture_of_their_own(
    phases: Any, pass_steps: int
) -> None:
    """Sequences of 16, 2 a step; with one step fewer it would be no pass, or no plan."""
    s = settings(phases=phases, seq_len=16, micro_batch_size=2)
    steps = count_steps(s, pass_steps)
    assert shared_steps(s, steps) - pass_steps in (0, 1)
    try:
        fewer = shared_steps(s, steps - 1)
    except UsageError:
        fewer = 0
    assert fewer < pass_steps
    if all(p.settings.mixture is None for p in plan_phases(s, steps)):
        assert steps == pass_steps


@pytest.mark.parametrize(
    "phases",
    [
        [phase("lora", mixture=["1:high"])],
        [phase("added", mixture=["1:high"]), phase("lora", tokens=60)],
        [phase("added", frac=1.0, mixture=["1:high"]), phase("lora")],
    ],
)
def test_a_pass_that_no_share_of_the_steps_reads_is_refused(phases: Any) -> None:
    with pytest.raises(UsageError, match=r"max_steps = 0 is one pass(.|\n)*Set train.max_steps"):
        count_steps(settings(phases=phases, seq_len=16, micro_batch_size=2), 6)


def test_what_a_phase_does_not_train_has_no_gradient_in_memory(tmp_path: Path) -> None:
    built = model(tmp_path)
    s = settings(phases=[phase("lora", "added", "base", frac=0.5), phase("lora")])
    first, second = plan_phases(s, 4)
    for group in group_parameters(built, s, first):
        for parameter in group.parameters.values():
            parameter.grad = torch.ones_like(parameter)
    group_parameters(built, s, second)
    assert [p.grad for p in [*built.embed.values(), *built.added.values()]] == [None] * 4
    assert all(p.grad is not None for p in built.lora.values())
