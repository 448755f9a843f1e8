"""One step's sequences, split between processes and micro-batches in more ways than one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from artefacts import SEED
from torch.distributed.run import get_args_parser, parse_min_max_nnodes
from training_runs import KilledError, curve, open_train_draft, settings, train

from lingraft.errors import UsageError
from lingraft.mixture import Batch
from lingraft.models import ModelFolder
from lingraft.ranks import ONE
from lingraft.settings import apply_overrides
from lingraft.store import Artefact
from lingraft.train.build import build
from lingraft.train.data import Data
from lingraft.train.phases import plan_phases
from lingraft.train.settings import LaunchSettings, LoraSettings, TrainSettings
from lingraft.train.trainer import Trainer

NO_DROPOUT = LoraSettings(rank=4, alpha=8.0, dropout=0.0)
MANY = LaunchSettings(nodes=4, gpus_per_node=8)


def refusal(launch: LaunchSettings, accumulation: int = 1) -> str:
    with pytest.raises(UsageError) as told:
        launch.refuse_many(accumulation)
    return told.value.way_out


def test_sequences_of_a_step_decide_and_their_split_does_not() -> None:
    splits = [
        settings(launch=LaunchSettings(nodes=2)),
        settings(accumulation=2),
        settings(micro_batch_size=4),
        settings(micro_batch_size=1, accumulation=2, launch=LaunchSettings(gpus_per_node=2)),
    ]
    assert [s.deciding() for s in splits] == [splits[0].deciding()] * 4
    assert splits[0].deciding()["sequences_per_step"] == 4
    assert settings().deciding()["sequences_per_step"] == 2


def test_the_size_of_micro_batches_decides_where_their_loads_have_a_loss() -> None:
    two = settings(accumulation=2, router_aux_loss=0.1)
    assert (
        two.deciding() == settings(launch=LaunchSettings(nodes=2), router_aux_loss=0.1).deciding()
    )
    assert two.deciding() != settings(micro_batch_size=4, router_aux_loss=0.1).deciding()


@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_way_out_of_many_processes_keeps_the_run(accumulation: int) -> None:
    many = settings(launch=MANY, accumulation=accumulation)
    changes = re.findall(r"--set (train\.[\w.]+=\d+)", refusal(MANY, accumulation))
    tree = apply_overrides({"train": many.model_dump()}, changes)
    alone = TrainSettings(**tree["train"])
    alone.launch.refuse_many(alone.accumulation)
    assert alone.deciding() == many.deciding()


def test_the_refusal_tells_a_command_that_starts_as_many() -> None:
    # torchrun's own parser reads it: "on each of the 4 nodes, ..., torchrun ... (under SLURM ...)".
    told = refusal(MANY)
    words = shlex.split(told[told.index("torchrun") : told.index("(under")])[1:]
    asked = get_args_parser().parse_args(words)
    assert parse_min_max_nnodes(asked.nnodes) == (4, 4)
    assert (asked.nproc_per_node, asked.rdzv_backend) == ("8", "c10d")
    assert asked.rdzv_endpoint == "HOST:29500"
    assert (asked.module, asked.training_script) == (True, "lingraft")
    assert asked.training_script_args == ["train", "RECIPE"]
    assert "torchrun --nproc_per_node 8 -m" in refusal(LaunchSettings(gpus_per_node=8))


def test_a_run_for_two_processes_goes_on_in_one(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    kill_after: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    two = settings(launch=LaunchSettings(nodes=2), lora=NO_DROPOUT)
    alone = settings(accumulation=2, lora=NO_DROPOUT)
    whole = train(tmp_path / "whole", inputs, alone)
    kill_after["step"] = 3
    with monkeypatch.context() as patch:
        # What a step reads and does is the same however many processes share it.
        patch.setattr(LaunchSettings, "refuse_many", lambda *_: None)
        with pytest.raises(KilledError):
            train(tmp_path / "moved", inputs, two)
    kill_after["step"] = -1
    with caplog.at_level("INFO", "lingraft"):
        moved = train(tmp_path / "moved", inputs, alone)
    assert "thrown away" not in caplog.text
    assert moved.manifest.identity == whole.manifest.identity
    assert moved.facts["split"] == {"processes": 1, "micro_batch_size": 2}
    for a, b in zip(curve(whole)[1:], curve(moved)[1:], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert (a["tokens"], a["lr"]) == (b["tokens"], b["lr"])


def test_other_sequences_of_a_step_are_another_run(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    kill_after: dict[str, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kill_after["step"] = 3
    with pytest.raises(KilledError):
        train(tmp_path, inputs, settings())
    with caplog.at_level("INFO", "lingraft"):
        open_train_draft(tmp_path, settings(accumulation=2))
    assert "its checkpoints are of other settings" in caplog.text


def test_text_is_what_the_stretches_hold(inputs: dict[str, Artefact]) -> None:
    s = settings(mixture=["1:zh"], micro_batch_size=17, max_steps=1)
    data = Data(s, inputs["encode"], SEED)
    text_BL = data.text(plan_phases(s, 1), 0, 17)
    # 12 documents of 22 ids: 264 ids, of which 16 windows of 16 leave 8.
    assert sorted(text_BL.sum(1).tolist()) == [8] + [16] * 16
    filled = text_BL[text_BL.sum(1) == 8][0]
    assert filled.tolist() == [True] * 8 + [False] * 8


@pytest.mark.parametrize("documents", ["isolated", "joined"])
def test_what_fills_a_row_up_changes_no_gradient(
    inputs: dict[str, Artefact], documents: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = settings(
        mixture=["1:zh"],
        documents=documents,
        micro_batch_size=17,
        max_steps=1,
        router_aux_loss=1.0,
        lora=NO_DROPOUT,
    )
    data, phases = Data(s, inputs["encode"], SEED), plan_phases(s, 1)
    built = build(
        ModelFolder(inputs["embed"].path),
        s.lora,
        quantize="none",
        dtype="float32",
        seed=SEED,
        device=torch.device("cpu"),
    )
    for pair in built.pairs.values():  # so that every A has a gradient
        pair.B.data.normal_(std=0.1, generator=torch.Generator().manual_seed(SEED))
    trainer = Trainer(s, built, data, phases, torch.device("cpu"), ONE)
    plain, text_BL = data.batch(phases, 0, 17), data.text(phases, 0, 17)
    other = plain._replace(inputs=np.where(text_BL, plain.inputs, 299))

    def gradients(batch: Batch) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(data, "batch", lambda *_: batch)
        built.model.zero_grad()
        trainer.backward(0)
        named = [*built.lora.items(), *built.embed.items()]
        return {name: p.grad.clone() for name, p in named if p.grad is not None}

    assert (plain.inputs != other.inputs).sum() == 8
    first, second = gradients(plain), gradients(other)
    assert first.keys() == second.keys()
    for name, grad in first.items():
        torch.testing.assert_close(second[name], grad, rtol=1e-4, atol=1e-7, msg=name)
