"""More of a language that is being forgotten: what is read, when, and after a kill."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artefacts import SEED
from training_runs import KilledError, curve, settings, train

from lingraft.rows import IGNORE
from lingraft.store import Artefact
from lingraft.train.data import Data, Raise
from lingraft.train.guarding import Guard, GuardStopError
from lingraft.train.phases import plan_phases
from lingraft.train.settings import GuardSettings, PhaseSettings

REPLAY = GuardSettings(set="high", max_rise=1e-4, action="replay", replay_frac=0.25)


def open_data(inputs: dict[str, Artefact], *raises: Raise, **changes: Any) -> Data:
    data = Data(settings(guard=REPLAY, **changes), inputs["encode"], SEED)
    data.raises += raises
    return data


def read(data: Data, steps: range, batch_size: int) -> list[list[tuple[str, Any]]]:
    phases = plan_phases(settings(), 12)
    return [data.stretches(phases, step, batch_size) for step in steps]


def test_a_share_of_each_step_is_of_the_guarded_set(inputs: dict[str, Artefact]) -> None:
    steps = read(open_data(inputs, Raise(2, 0.25), Raise(5, 0.5)), range(8), 4)
    assert [[name for name, _ in step].count("high") for step in steps] == [0, 0, 1, 1, 1, 2, 2, 2]


def test_a_share_below_one_sequence_is_taken_every_few_steps(inputs: dict[str, Artefact]) -> None:
    # A tenth of 2 sequences: the 1st to 4th step have none whole, the 5th completes one.
    steps = read(open_data(inputs, Raise(0, 0.1)), range(12), 2)
    assert [n for n, step in enumerate(steps) if step[-1][0] == "high"] == [4, 9]


def test_the_mixture_goes_on_where_it_was_and_skips_nothing(inputs: dict[str, Artefact]) -> None:
    data = open_data(inputs, Raise(2, 0.25), Raise(5, 0.5))
    found = [row for step in read(data, range(8), 4) for row in step if row[0] != "high"]
    assert len(found) == 2 * 4 + 3 * 3 + 3 * 2
    assert found == data.mixture.stretches(0, len(found))


def test_the_guarded_set_is_read_whole_before_any_of_it_comes_again(
    inputs: dict[str, Artefact],
) -> None:
    # 12 documents of 22 ids are 17 windows of 16.
    steps = read(open_data(inputs, Raise(0, 0.5)), range(12), 4)
    replayed = Counter(s.start for step in steps for name, s in step if name == "high")
    assert sum(replayed.values()) == 24
    assert sorted(Counter(replayed.values()).items()) == [(1, 10), (2, 7)]


def test_what_is_counted_is_what_was_read(inputs: dict[str, Artefact]) -> None:
    data = open_data(inputs, Raise(1, 0.1), Raise(7, 0.3))
    phases = plan_phases(settings(), 12)
    for steps in (1, 6, 7, 12):
        names = [name for step in read(data, range(steps), 3) for name, _ in step]
        assert data.num_replayed(phases, steps, 3) == names.count("high")


def test_a_batch_holds_the_stretches_that_are_told(inputs: dict[str, Artefact]) -> None:
    """A full window is 17 ids: 16 that are read, and one after each that is to be told.

    BOS, id 1, begins a document: nothing before it tells it.
    """
    data = open_data(inputs, Raise(0, 0.5))
    phases = plan_phases(settings(), 12)
    seen = set()
    for step in range(8):
        batch, stretches = data.batch(phases, step, 4), data.stretches(phases, step, 4)
        for inputs_L, labels_L, (_, stretch) in zip(*batch[:2], stretches, strict=True):
            ids = np.asarray(stretch.file.ids)[stretch.start : stretch.stop].tolist()
            targets = [IGNORE if id_ == 1 else id_ for id_ in ids[1:]]
            if len(ids) == 17:
                assert inputs_L.tolist() == ids[:16]
                assert labels_L.tolist() == targets
            else:
                assert inputs_L.tolist() == ids + [0] * (16 - len(ids))
                assert labels_L.tolist() == targets + [IGNORE] * (17 - len(ids))
            seen.add(len(ids))
    assert seen == {17, 8, 4}  # 264 ids of a set end in 8, the 132 of half of one in 4


def test_phases_with_mixtures_of_their_own_give_their_share_too(
    inputs: dict[str, Artefact],
) -> None:
    phases = [
        PhaseSettings(trains=["lora"], frac=0.5),
        PhaseSettings(trains=["lora"], mixture=["1:en"]),
    ]
    data = open_data(inputs, Raise(4, 0.5), phases=phases)
    planned = plan_phases(settings(phases=phases), 12)
    for step in (6, 11):  # the second phase
        assert [n for n, _ in data.stretches(planned, step, 2)] == ["en", "high"]
    assert data.stretches(planned, 4, 2)[0] == data.mixture.stretches(8, 1)[0]


def test_a_raise_is_told_in_curve_facts_and_log(
    inputs: dict[str, Artefact], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s = settings(guard=REPLAY, lr=3e-2, eval_every=1, max_steps=3, micro_batch_size=4)
    with caplog.at_level("INFO", "lingraft"):
        artefact = train(tmp_path, inputs, s)
    shares = [(row["step"], row["replay"]) for row in curve(artefact) if "replay" in row]
    assert shares == [(1, {"high": 0.25})]
    assert artefact.facts["replay"] == [{"step": 1, "frac": 0.25}]
    assert artefact.facts["replayed_sequences"] == 2  # a quarter of 4, in two steps
    assert "from now on 25% of the sequences are of it" in caplog.text


def test_the_share_is_raised_at_each_validation_until_its_most() -> None:
    raises: list[Raise] = []
    told: list[str] = []
    settings_ = REPLAY.model_copy(update={"replay_frac": 0.1, "most_replay": 0.25})
    guard = Guard(settings_, raises, [row_of(0, 1.0)], told.append)
    for step in range(1, 6):
        guard.judge(row_of(step, 1.0 if step == 3 else 1.1), is_last=False)
    assert raises == [Raise(1, 0.1), Raise(2, 0.2), Raise(4, 0.25)]
    assert "25% of the sequences are of it, the most that is allowed" in told[-1]


def test_the_guarded_language_gets_better_by_it(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    ends = []
    for action in ("warn", "replay"):
        guard = REPLAY.model_copy(update={"action": action})
        s = settings(guard=guard, lr=3e-2, max_steps=12, micro_batch_size=4)
        ends.append(train(tmp_path / action, inputs, s).facts["valid_bpb_end"]["high"])
    assert ends[1] < ends[0]


@pytest.mark.parametrize("step", [4, 5, 7])
def test_a_run_killed_after_a_raise_goes_on_to_the_same_bits(
    inputs: dict[str, Artefact], tmp_path: Path, kill_after: dict[str, int], step: int
) -> None:
    # Raised after step 4; checkpoints after 2, 4, ..., so some lie behind the raise.
    s = settings(guard=REPLAY, lr=3e-2, eval_every=2, max_steps=9, micro_batch_size=4)
    alone = train(tmp_path / "alone", inputs, s)
    assert alone.facts["replay"] == [{"step": 4, "frac": 0.25}]
    kill_after["step"] = step
    with pytest.raises(KilledError):
        train(tmp_path / "killed", inputs, s)
    kill_after["step"] = -1
    again = train(tmp_path / "killed", inputs, s)
    assert again.manifest.digest == alone.manifest.digest
    assert again.facts == alone.facts


def row_of(step: int, bpb: float) -> dict[str, Any]:
    return {"step": step, "valid": {"high": bpb}}


def test_what_was_decided_later_is_forgotten_when_a_step_comes_again() -> None:
    raises: list[Raise] = []
    rows = [row_of(0, 1.0), {**row_of(4, 2.0), "replay": {"high": 0.25}}]
    guard = Guard(REPLAY, raises, rows, lambda _: None)
    assert raises == [Raise(4, 0.25)]
    guard.judge({"step": 3}, is_last=False)
    assert raises == []


def test_nothing_is_raised_for_steps_that_do_not_come() -> None:
    raises: list[Raise] = []
    told: list[str] = []
    guard = Guard(REPLAY, raises, [row_of(0, 1.0)], told.append)
    row = row_of(6, 2.0)
    guard.judge(row, is_last=True)
    assert (raises, "replay" in row, len(told)) == ([], False, 1)


@pytest.mark.parametrize("is_last", [False, True])
def test_a_run_is_stopped_only_where_steps_are_left(is_last: bool) -> None:
    told: list[str] = []
    stop = GuardSettings(set="high", max_rise=1e-4, action="stop")
    guard = Guard(stop, [], [row_of(0, 1.0)], told.append)
    guard.judge(row_of(6, 2.0), is_last=is_last)
    assert len(told) == 1
    with nullcontext() if is_last else pytest.raises(GuardStopError):
        guard.stop_if_asked()


def test_a_run_that_did_all_its_steps_was_not_stopped(
    inputs: dict[str, Artefact], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = GuardSettings(set="high", max_rise=1e-4, action="stop")
    s = settings(guard=stop, lr=3e-2, max_steps=4)
    with caplog.at_level("INFO", "lingraft"):
        artefact = train(tmp_path, inputs, s)
    assert (artefact.facts["steps"], artefact.facts["stopped_by_guard"]) == (4, False)
    assert "WARNING: 'high' is at" in caplog.text
