from __future__ import annotations

import json
import math
import os
import re
import signal
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from os import truncate
from pathlib import Path

import pytest
import torch

from lingraft.errors import InputError, LingraftError, StoppedError
from lingraft.manifest import Identity
from lingraft.progress import LineReporter, SilentReporter
from lingraft.store import Draft, open_draft
from lingraft.training import Group, LoopPlan, StepLog, fit, learning_rate, memory_told


def _draft(folder: Path, seed: int = 17) -> Draft:
    identity = Identity(stage="train", stage_version=1, settings={}, seed=seed, inputs={})
    return open_draft(folder / "60-train", identity, SilentReporter(), resumable=True)


class _Task:
    """Fit a small map through dropout: every step needs torch's generator."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.model = torch.nn.Linear(6, 3)
        for parameter in self.model.parameters():
            parameter.data.normal_(generator=generator)
        self.steps: list[int] = []
        weight, bias = self.model.parameters()
        self.groups = [
            Group("weight", {"weight": weight}, 0.1, 0.01),
            Group("bias", {"bias": bias}, 0.05, 0.0),
        ]

    def backward(self, step: int) -> float:
        self.steps.append(step)
        x = torch.randn(5, 6)
        loss: torch.Tensor = (self.model(torch.dropout(x, 0.5, True)) - x[:, :3]).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def values(self) -> list[float]:
        return [v for p in self.model.parameters() for v in p.detach().flatten().tolist()]


PLAN = LoopPlan(steps=12, checkpoint_every=4)


class _KilledError(Exception):
    """Stands in for SIGKILL."""


def _run_until(folder: Path, stop: int) -> None:
    def on_step(step: int, log: StepLog) -> None:
        if step == stop:
            raise _KilledError

    task = _Task()
    with pytest.raises(_KilledError):
        fit(task.groups, PLAN, task.backward, _draft(folder), on_step)


@pytest.mark.parametrize("stop", [0, 2, 3, 4, 7, 9, 11])
def test_a_killed_run_ends_with_the_bits_of_one_left_alone(tmp_path: Path, stop: int) -> None:
    alone, again = _Task(), _Task()
    losses = fit(alone.groups, PLAN, alone.backward, _draft(tmp_path / "alone"))
    _run_until(tmp_path / "killed", stop)
    assert fit(again.groups, PLAN, again.backward, _draft(tmp_path / "killed")) == losses
    assert again.values() == alone.values()


def test_a_run_killed_twice_goes_on_from_the_newest_checkpoint(tmp_path: Path) -> None:
    alone, again = _Task(), _Task()
    fit(alone.groups, PLAN, alone.backward, _draft(tmp_path / "alone"))
    _run_until(tmp_path / "killed", 5)
    _run_until(tmp_path / "killed", 9)
    fit(again.groups, PLAN, again.backward, _draft(tmp_path / "killed"))
    assert again.steps == [8, 9, 10, 11]
    assert again.values() == alone.values()


def test_a_checkpoint_without_its_json_is_passed_over(tmp_path: Path) -> None:
    _run_until(tmp_path, 5)
    scratch = _draft(tmp_path).scratch
    (scratch / "checkpoint-00000008.safetensors").write_bytes(b"half")
    (scratch / "checkpoint-00000008.json.partial").write_bytes(b"half")
    task = _Task()
    fit(task.groups, PLAN, task.backward, _draft(tmp_path))
    assert task.steps[0] == 4


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_checkpoints_are_kept(tmp_path: Path, keep: int) -> None:
    task, draft = _Task(), _draft(tmp_path)
    fit(task.groups, replace(PLAN, keep_checkpoints=keep), task.backward, draft)
    steps = (4, 8, 12)[-keep:]
    assert sorted(p.name for p in draft.scratch.iterdir()) == [
        f"checkpoint-{step:08d}.{ending}" for step in steps for ending in ("json", "safetensors")
    ]


def test_no_checkpoints_are_written_where_none_are_wanted(tmp_path: Path) -> None:
    task, draft = _Task(), _draft(tmp_path)
    fit(task.groups, replace(PLAN, checkpoint_every=0), task.backward, draft)
    assert not list(draft.scratch.iterdir())


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)


def _replace(stem: Path, found: str, by: str) -> None:
    path = stem.with_suffix(".json")
    text = path.read_text()
    assert found in text
    path.write_text(text.replace(found, by))


def _copy_former(stem: Path) -> None:
    """As if the file of step 8 lay under the name of step 12."""
    for ending in (".json", ".safetensors"):
        former = stem.with_name("checkpoint-00000008").with_suffix(ending)
        stem.with_suffix(ending).write_bytes(former.read_bytes())


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": lambda stem: _flip(stem.with_suffix(".safetensors")),
    "its end": lambda stem: truncate(stem.with_suffix(".safetensors"), 99),
    "the weights": lambda stem: stem.with_suffix(".safetensors").unlink(),
    "the JSON": lambda stem: stem.with_suffix(".json").write_text("{"),
    "a key": lambda stem: stem.with_suffix(".json").write_text('{"losses": []}'),
    "a key's name": lambda stem: _replace(stem, '"losses"', '"lossez"'),
    "a step's name": lambda stem: _replace(stem, '"weight": 12', '"weighs": 12'),
    "a digit": lambda stem: _replace(stem, '"weight": 12', '"weight": 13'),
    "its number": _copy_former,
    "all but a list": lambda stem: stem.with_suffix(".json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan = replace(PLAN, keep_checkpoints=2)
    alone, again = _Task(), _Task()
    losses = fit(alone.groups, plan, alone.backward, _draft(tmp_path / "alone"))
    first = _Task()
    fit(first.groups, plan, first.backward, _draft(tmp_path / "hurt"))
    DAMAGE[damage](_draft(tmp_path / "hurt").scratch / "checkpoint-00000012")
    with caplog.at_level("INFO", "lingraft"):
        assert fit(again.groups, plan, again.backward, _draft(tmp_path / "hurt")) == losses
    assert again.steps == [8, 9, 10, 11]
    assert again.values() == alone.values()
    assert "checkpoint-00000012 is damaged" in caplog.text


def test_where_every_checkpoint_is_damaged_the_run_begins_anew(tmp_path: Path) -> None:
    first, again = _Task(), _Task()
    fit(first.groups, PLAN, first.backward, _draft(tmp_path))
    _flip(_draft(tmp_path).scratch / "checkpoint-00000012.safetensors")
    fit(again.groups, PLAN, again.backward, _draft(tmp_path))
    assert again.steps == list(range(12))
    assert again.values() == first.values()


def test_a_checkpoint_that_was_written_wrongly_is_refused(tmp_path: Path) -> None:
    task = _Task()
    fit(task.groups, PLAN, task.backward, _draft(tmp_path))
    stem = _draft(tmp_path).scratch / "checkpoint-00000012"
    about = json.loads(stem.with_suffix(".json").read_text())
    stem.with_suffix(".safetensors").write_bytes(b"nothing of the kind")
    about |= {"size_bytes": 19, "crc32": zlib.crc32(b"nothing of the kind")}
    del about["about_crc32"]
    about["about_crc32"] = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    stem.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="Delete it"):
        fit(task.groups, PLAN, task.backward, _draft(tmp_path))


def test_sigterm_ends_the_run_with_a_checkpoint_and_it_goes_on(tmp_path: Path) -> None:
    alone, stopped, again = _Task(), _Task(), _Task()
    fit(alone.groups, PLAN, alone.backward, _draft(tmp_path / "alone"))

    def backward(step: int) -> float:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return stopped.backward(step)

    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="after step 5") as caught:
        fit(stopped.groups, PLAN, backward, _draft(tmp_path / "stopped"))
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is former
    fit(again.groups, PLAN, again.backward, _draft(tmp_path / "stopped"))
    assert again.steps == [6, 7, 8, 9, 10, 11]
    assert again.values() == alone.values()


@pytest.mark.parametrize("is_last", [True, False])
def test_sigterm_in_the_last_step_stops_a_run_that_has_more_loops(
    tmp_path: Path, is_last: bool
) -> None:
    task, again = _Task(), _Task()

    def backward(step: int) -> float:
        if step == 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return task.backward(step)

    plan = replace(PLAN, is_last=is_last)
    if is_last:  # nothing is left to do but to end
        assert len(fit(task.groups, plan, backward, _draft(tmp_path))) == 12
    else:
        with pytest.raises(StoppedError, match="after step 11"):
            fit(task.groups, plan, backward, _draft(tmp_path))
    assert len(fit(again.groups, plan, again.backward, _draft(tmp_path))) == 12
    assert again.steps == []


def test_a_thread_that_gets_no_signals_trains_all_the_same(tmp_path: Path) -> None:
    task, losses = _Task(), []
    thread = threading.Thread(
        target=lambda: losses.extend(fit(task.groups, PLAN, task.backward, _draft(tmp_path)))
    )
    thread.start()
    thread.join()
    assert len(losses) == 12


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nmore"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_lack_of_memory_says_what_to_lower(tmp_path: Path, error: Exception) -> None:
    def backward(step: int) -> float:
        raise error

    with pytest.raises(LingraftError) as caught:
        fit(_Task().groups, PLAN, backward, _draft(tmp_path))
    for told in (
        "memory ran out",
        "Lower train.micro_batch_size",
        "the run goes on, and the result stays the same but for rounding and dropout's masks",
        "A run with other settings begins anew",
    ):
        assert told in str(caught.value)


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    def backward(step: int) -> float:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        fit(_Task().groups, PLAN, backward, _draft(tmp_path))


def test_loops_follow_each_other_with_folders_and_numbers_of_their_own(tmp_path: Path) -> None:
    seen: list[int] = []
    for again in range(2):
        task = _Task()
        for number, first in enumerate((0, 12)):
            plan = replace(PLAN, folder=f"phase-{number}", first_step=first)
            fit(task.groups, plan, task.backward, _draft(tmp_path), lambda n, _: seen.append(n))
        assert task.steps == ([] if again else list(range(24)))
    assert seen == list(range(24))


def test_a_finished_run_repeats_nothing(tmp_path: Path) -> None:
    first, second = _Task(), _Task()
    losses = fit(first.groups, PLAN, first.backward, _draft(tmp_path))
    assert fit(second.groups, PLAN, second.backward, _draft(tmp_path)) == losses
    assert second.steps == []
    assert second.values() == first.values()


def test_every_step_is_logged_with_its_rates(tmp_path: Path) -> None:
    task, logs = _Task(), []
    plan = LoopPlan(steps=3, warmup_frac=0, schedule="constant")
    losses = fit(
        task.groups, plan, task.backward, _draft(tmp_path), lambda _, log: logs.append(log)
    )
    assert [log.step for log in logs] == [0, 1, 2]
    assert [log.loss for log in logs] == losses
    assert all(log.lr == {"weight": 0.1, "bias": 0.05} and log.grad_norm > 0 for log in logs)


def test_the_live_line_tells_step_loss_and_memory(tmp_path: Path) -> None:
    task, lines = _Task(), list[str]()
    draft = replace(_draft(tmp_path), reporter=LineReporter(lines.append, every_s=0.0))
    losses = fit(task.groups, LoopPlan(steps=2, tokens_per_step=5), task.backward, draft)
    assert re.search(rf"10/10 tokens.*step 2, loss {losses[1]:.3f}, memory \d+\.\d GB", lines[-1])


def test_a_gpus_memory_is_told_now_and_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 12_340_000_000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 47_600_000_000)
    assert memory_told(torch.device("cuda")) == "GPU 12.3 GB, most 47.6 GB"


def test_a_process_memory_is_told_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = torch.zeros(60_000_000).sum()  # 240 MB
    told = float(memory_told(torch.device("cpu")).split()[1])
    assert found == 0
    assert 0.2 <= told < 100  # a KiB taken for a byte would be off by 1,000


def test_the_first_step_of_adamw_moves_by_the_learning_rate(tmp_path: Path) -> None:
    """Adam's first step is lr * sign(gradient); decay takes lr * 0.01 of the value first."""
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))

    def backward(step: int) -> float:
        p.grad = torch.tensor([0.3, -0.4])
        return 1.0

    plan = LoopPlan(steps=1, warmup_frac=0, schedule="constant")
    fit([Group("all", {"p": p}, 0.1, 0.01)], plan, backward, _draft(tmp_path))
    expected = [1 * (1 - 0.1 * 0.01) - 0.1, -2 * (1 - 0.1 * 0.01) + 0.1]
    assert p.tolist() == pytest.approx(expected, abs=1e-6)


def test_another_seed_trains_otherwise(tmp_path: Path) -> None:
    one, two = _Task(), _Task()
    fit(one.groups, PLAN, one.backward, _draft(tmp_path / "one", 17))
    fit(two.groups, PLAN, two.backward, _draft(tmp_path / "two", 18))
    assert one.values() != two.values()


def test_a_parameter_without_gradient_survives_a_checkpoint(tmp_path: Path) -> None:
    def groups(task: _Task) -> list[Group]:
        return [*task.groups, Group("idle", {"idle": torch.nn.Parameter(torch.ones(2))}, 0.1, 0.1)]

    first, second = _Task(), _Task()
    fit(groups(first), PLAN, first.backward, _draft(tmp_path))
    fit(resumed := groups(second), PLAN, second.backward, _draft(tmp_path))
    assert resumed[-1].parameters["idle"].tolist() == [1, 1]


def test_a_loss_that_is_not_finite_stops_with_a_way_out(tmp_path: Path) -> None:
    task = _Task()
    with pytest.raises(
        LingraftError,
        match=r"step 2: loss nan.*It read documents of step 2[\s\S]*other settings begins anew",
    ):
        fit(
            task.groups,
            PLAN,
            lambda step: math.nan if step == 2 else task.backward(step),
            _draft(tmp_path),
            describe=lambda step: f"documents of step {step}",
        )


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    task = _Task()
    fit(task.groups, PLAN, task.backward, _draft(tmp_path))
    other = [Group("other", {"other": torch.nn.Parameter(torch.ones(2))}, 0.1, 0.0)]
    with pytest.raises(InputError, match="other parameters than the 1 here"):
        fit(other, PLAN, task.backward, _draft(tmp_path))


def test_a_parameter_in_two_groups_is_our_mistake(tmp_path: Path) -> None:
    task = _Task()
    with pytest.raises(AssertionError, match="in two groups"):
        fit([task.groups[0], task.groups[0]], PLAN, task.backward, _draft(tmp_path))


def test_the_rate_climbs_to_its_peak_and_falls_to_a_tenth() -> None:
    plan = LoopPlan(steps=11, warmup_frac=0.2)  # 2 steps of warm-up; the middle of the rest is 6
    rates = [learning_rate(step, plan) for step in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 0.55, 0.1])


def test_a_constant_rate_stays_at_its_peak() -> None:
    plan = LoopPlan(steps=4, warmup_frac=0.25, schedule="constant")
    assert [learning_rate(step, plan) for step in range(4)] == [0.5, 1, 1, 1]


@pytest.mark.parametrize("stopped", [True, False])
def test_checkpoints_of_other_settings_are_thrown_away_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stopped: bool
) -> None:
    if stopped:
        _run_until(tmp_path, 5)
    else:
        _draft(tmp_path)  # nothing in it is worth a word
    with caplog.at_level("INFO", "lingraft"):
        _draft(tmp_path)
        assert "WARNING" not in caplog.text
        draft = _draft(tmp_path, seed=18)
    assert ("its checkpoints are of other settings" in caplog.text) is stopped
    assert not list(draft.scratch.iterdir())
