from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from artefacts import SEED, make_artefact
from pico import SIZES, save_mixtral
from safetensors.torch import load_file, save_file
from training_runs import KilledError, curve, open_train_draft, settings, train, write_index

from lingraft.errors import InputError, LingraftError, StoppedError, UsageError
from lingraft.manifest import Facts
from lingraft.models import ModelFolder, load_causal_lm
from lingraft.ranks import Ranks
from lingraft.shards import write_tokens
from lingraft.store import Artefact
from lingraft.train import stage
from lingraft.train.data import Data
from lingraft.train.phases import plan_phases
from lingraft.train.settings import (
    GuardSettings,
    LaunchSettings,
    LoraSettings,
    PhaseSettings,
    TrainFacts,
)
from lingraft.train.trainer import Trainer


@pytest.fixture(scope="module")
def trained(inputs: dict[str, Artefact], tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return train(tmp_path_factory.mktemp("trained"), inputs, settings())


def test_the_curve_has_a_row_a_step_and_validations_where_they_are_due(trained: Artefact) -> None:
    rows = curve(trained)
    assert [row["step"] for row in rows] == list(range(7))
    assert [row["step"] for row in rows if "valid" in row] == [0, 4, 6]
    assert list(rows[6]["valid"]) == ["zh", "en"]
    assert set(rows[1]) == {"step", "loss", "grad_norm", "lr", "tokens"}
    assert all(row["grad_norm"] > 0 for row in rows[1:])


def test_tokens_count_targets_and_not_padding(trained: Artefact) -> None:
    # 12 documents of 22 ids: 264 ids in 17 windows, 16 x 16 + 7 targets; half of en: 8 x 16 + 3.
    # 26 windows in 6 steps of 2: at most 32 targets each, less in the two short windows, and one
    # less in each window where a document begins, which no other predicts.
    tokens = [row["tokens"] for row in curve(trained)]
    steps = [after - before for before, after in pairwise(tokens)]
    assert all(step in (32, 31, 30, 16 + 7, 15 + 7, 16 + 3, 15 + 3, 7 + 3) for step in steps)
    assert trained.facts["total_tokens"] == tokens[-1]


@pytest.mark.parametrize(("documents", "targets"), [("joined", 394), ("isolated", 394 - 11 - 5)])
def test_a_pass_counts_every_target_once(
    inputs: dict[str, Artefact], tmp_path: Path, documents: str, targets: int
) -> None:
    # 263 of zh and 131 of half of en; isolated, 11 and 5 begins of documents are no targets.
    s = settings(max_steps=0, micro_batch_size=13, documents=documents)
    assert train(tmp_path, inputs, s).facts["total_tokens"] == targets


def test_isolated_documents_train_otherwise_than_joined_ones(
    inputs: dict[str, Artefact], trained: Artefact, tmp_path: Path
) -> None:
    joined = train(tmp_path, inputs, settings(documents="joined"))
    assert curve(joined)[1]["loss"] != curve(trained)[1]["loss"]
    assert joined.facts["mixture"] == trained.facts["mixture"]


def test_facts_tell_what_the_mixture_comes_to(trained: Artefact) -> None:
    assert trained.facts["mixture"] == [
        {"part": "1:zh", "total_tokens": 264, "epochs": 1.0, "share": 2 / 3},
        {"part": "0.5:en", "total_tokens": 132, "epochs": 0.5, "share": 1 / 3},
    ]


def test_weights_and_budgets_are_trained_on(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    weights = settings(mixture=["75%:zh", "25%:en"], total_tokens=400, max_steps=1)
    parts = train(tmp_path / "a", inputs, weights).facts["mixture"]
    assert [part["total_tokens"] for part in parts] == [300, 100]
    budgets = settings(mixture=["300 tokens:zh", "0.1K tokens:en"], max_steps=1)
    parts = train(tmp_path / "b", inputs, budgets).facts["mixture"]
    assert [part["total_tokens"] for part in parts] == [300, 100]


def test_weights_without_a_total_are_refused() -> None:
    with pytest.raises(ValueError, match="'75%:zh' is a share of total_tokens"):
        settings(mixture=["75%:zh", "25%:en"])


def test_training_lowers_the_loss_of_every_set(trained: Artefact) -> None:
    facts = TrainFacts.model_validate(trained.facts)
    assert facts.final_loss < facts.first_loss
    for name in ("zh", "en"):
        assert facts.valid_bpb_end[name] < facts.valid_bpb_start[name]


def test_facts_count_what_is_trained(trained: Artefact) -> None:
    facts = TrainFacts.model_validate(trained.facts)
    assert facts.lora_modules == facts.lora_modules_expected == 2 * (4 + 4 * 3)
    assert facts.embed_parameters == 2 * 300 * 32
    assert facts.trainable_parameters == facts.lora_parameters + facts.embed_parameters
    assert 4.1 < facts.bits_per_frozen_parameter < 4.2


def test_tensorboard_files_are_there_and_outside_the_digest(trained: Artefact) -> None:
    assert list((trained.path / "tensorboard").glob("events.out.tfevents.*"))
    assert all("tensorboard" not in entry.path for entry in trained.manifest.files)


def test_the_same_run_twice_has_the_same_digest(
    inputs: dict[str, Artefact], trained: Artefact, tmp_path: Path
) -> None:
    assert train(tmp_path, inputs, settings()).manifest.digest == trained.manifest.digest


@pytest.mark.parametrize("step", [0, 1, 3, 4, 6])
def test_a_killed_run_goes_on_and_gives_the_same_bits(
    inputs: dict[str, Artefact],
    trained: Artefact,
    tmp_path: Path,
    kill_after: dict[str, int],
    step: int,
) -> None:
    kill_after["step"] = step
    with pytest.raises(KilledError):
        train(tmp_path, inputs, settings())
    kill_after["step"] = -1
    assert train(tmp_path, inputs, settings()).manifest.digest == trained.manifest.digest


def test_a_run_killed_after_its_last_step_only_writes_the_adapter(
    inputs: dict[str, Artefact],
    trained: Artefact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_write_adapter", die)
        with pytest.raises(KilledError):
            train(tmp_path, inputs, settings())
    monkeypatch.setattr(Trainer, "backward", die)
    assert train(tmp_path, inputs, settings()).manifest.digest == trained.manifest.digest


def test_a_half_written_row_is_written_again(
    inputs: dict[str, Artefact], trained: Artefact, tmp_path: Path, kill_after: dict[str, int]
) -> None:
    kill_after["step"] = 3
    with pytest.raises(KilledError):
        train(tmp_path, inputs, settings())
    path = open_train_draft(tmp_path, settings()).path / "curve.jsonl"
    path.write_text(path.read_text()[:-9])
    kill_after["step"] = -1
    assert train(tmp_path, inputs, settings()).manifest.digest == trained.manifest.digest


def test_splitting_a_step_into_micro_batches_does_not_change_it(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    no_dropout = LoraSettings(rank=4, alpha=8.0, dropout=0.0)
    whole = train(tmp_path / "a", inputs, settings(micro_batch_size=4, lora=no_dropout))
    split = train(tmp_path / "b", inputs, settings(accumulation=2, lora=no_dropout))
    for a, b in zip(curve(whole)[1:], curve(split)[1:], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["tokens"] == b["tokens"]


def test_embeddings_have_a_rate_of_their_own(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    rows = curve(train(tmp_path, inputs, settings(embed_lr=1e-3, max_steps=1, warmup_frac=0.0)))
    assert rows[1]["lr"] == {"lora": 1e-2, "embed": 1e-3}


def test_one_pass_over_the_mixture_is_the_default(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    facts = train(tmp_path, inputs, settings(max_steps=0, micro_batch_size=8)).facts
    # 17 windows of zh and 9 of half of en.
    assert facts["steps"] == 4


def test_adapter_matrices_are_float32_and_move(trained: Artefact) -> None:
    tensors = load_file(trained.file("adapter/adapter_model.safetensors"))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    name = "base_model.model.model.layers.1.block_sparse_moe.experts.3.w2.lora_B.weight"
    assert tensors[name].shape == (32, 4)
    assert any(tensors[name.replace(".3.", f".{e}.")].any() for e in range(4))


def test_only_added_rows_are_trained_and_base_rows_keep_their_bits(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    grown = {**inputs, "embed": with_facts(tmp_path, base_rows=290)}
    s = settings(rows="added", added_lr=2e-2, mixture=["1:zh", "1:high"])
    artefact = train(tmp_path, grown, s)
    assert artefact.facts["embed_parameters"] == 2 * 10 * 32
    assert curve(artefact)[2]["lr"].keys() == {"lora", "added"}
    tensors = load_file(artefact.file("adapter/adapter_model.safetensors"))
    base = ModelFolder(grown["embed"].path)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = tensors[f"base_model.model.{name}"]
        assert torch.equal(rows[:290], base.tensor(name)[:290])
        assert not torch.equal(rows[290:], base.tensor(name)[290:])


class _Grown(Facts):
    base_rows: int


def with_facts(folder: Path, base_rows: int) -> Artefact:
    """The expanded model, with a manifest that tells where the base ends."""

    def fill(path: Path) -> Facts:
        save_mixtral(path)
        return _Grown(base_rows=base_rows)

    return make_artefact(folder / "grown", "40-embed", fill)


def test_a_border_that_nobody_told_is_asked_for(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"does not tell how many rows[\s\S]*--redo embed"):
        train(tmp_path, inputs, settings(rows="added"))


def test_no_rows_leave_the_adapter_without_matrices(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    artefact = train(tmp_path, inputs, settings(rows="none"))
    assert artefact.facts["embed_parameters"] == 0
    tensors = load_file(artefact.file("adapter/adapter_model.safetensors"))
    assert all("lora" in name for name in tensors)
    config = json.loads(artefact.file("adapter/adapter_config.json").read_text())
    assert config["modules_to_save"] is None


PHASES = [
    PhaseSettings(trains=["added", "base"], frac=0.34, lr=5e-3),
    PhaseSettings(trains=["lora"], frac=0.33, mixture=["1:en"]),
    PhaseSettings(trains=["lora", "added", "base"]),
]


def test_phases_train_what_they_say_and_resume_with_the_same_bits(
    inputs: dict[str, Artefact], tmp_path: Path, kill_after: dict[str, int]
) -> None:
    s = settings(phases=PHASES, keep_checkpoints=1)
    alone = train(tmp_path / "alone", inputs, s)
    rates = [set(row["lr"]) for row in curve(alone)[1:]]
    assert rates == [{"embed"}] * 2 + [{"lora"}] * 2 + [{"lora", "embed"}] * 2
    tokens = [row["tokens"] for row in curve(alone)]
    assert alone.facts["phases"] == [
        f"added + base: 2 steps, {tokens[2]} tokens",
        f"lora: 2 steps of 1:en, {tokens[4] - tokens[2]} tokens",
        f"lora + added + base: 2 steps, {tokens[6] - tokens[4]} tokens",
    ]
    for step in (1, 2, 3, 5):
        kill_after["step"] = step
        with pytest.raises(KilledError):
            train(tmp_path / str(step), inputs, s)
        kill_after["step"] = -1
        again = train(tmp_path / str(step), inputs, s)
        assert again.manifest.digest == alone.manifest.digest


def test_a_damaged_checkpoint_of_a_phase_that_was_done_costs_time_alone(
    inputs: dict[str, Artefact], tmp_path: Path, kill_after: dict[str, int]
) -> None:
    """Its last steps are done anew, and what later phases learned from the lost ones goes."""
    s = settings(phases=PHASES)
    alone = train(tmp_path / "alone", inputs, s)
    kill_after["step"] = 6
    with pytest.raises(KilledError):
        train(tmp_path / "hurt", inputs, s)
    kill_after["step"] = -1
    scratch = open_train_draft(tmp_path / "hurt", s).scratch
    assert sorted(p.name for p in scratch.iterdir()) == ["phase-1", "phase-2"]
    (scratch / "phase-1" / "checkpoint-00000002.json").write_text("{")
    again = train(tmp_path / "hurt", inputs, s)
    assert again.manifest.digest == alone.manifest.digest


def test_sigterm_in_the_last_step_of_a_phase_stops_the_run(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = settings(phases=PHASES)
    backward = Trainer.backward

    def asked(self: Trainer, step: int) -> float:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "backward", asked)
        with pytest.raises(StoppedError, match="after step 1"):
            train(tmp_path / "stopped", inputs, s)
    digests = [train(tmp_path / name, inputs, s).manifest.digest for name in ("stopped", "alone")]
    assert digests[0] == digests[1]


def test_facts_count_what_some_phase_trained(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    s = settings(max_steps=2, phases=[PhaseSettings(trains=["lora"])])
    facts = train(tmp_path, inputs, s).facts
    assert facts["embed_parameters"] == 0
    assert facts["trainable_parameters"] == facts["lora_parameters"] > 0


def test_facts_tell_the_phases_that_were_when_the_guard_ended_them(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    guard = GuardSettings(set="high", max_rise=1e-4, action="stop")
    phases = [
        PhaseSettings(trains=["added", "base"], frac=0.6),
        PhaseSettings(trains=["lora"]),
    ]
    s = settings(guard=guard, lr=3e-2, eval_every=3, phases=phases)
    facts = train(tmp_path, inputs, s).facts
    assert (facts["steps"], facts["stopped_by_guard"]) == (3, True)
    assert facts["phases"] == [f"added + base: 3 steps, {facts['total_tokens']} tokens"]
    assert (facts["lora_parameters"], facts["embed_parameters"]) == (0, 2 * 300 * 32)


def test_a_preset_tells_the_parts_that_rows_left(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    facts = train(tmp_path, inputs, settings(rows="none", max_steps=2)).facts
    assert facts["phases"] == [f"lora: 2 steps, {facts['total_tokens']} tokens"]


def test_a_phase_with_a_mixture_of_its_own_begins_it_and_the_others_go_on(
    inputs: dict[str, Artefact],
) -> None:
    s = settings(phases=PHASES)
    data = Data(s, inputs["encode"], SEED)
    phases = plan_phases(s, 6)
    read = [data.stretches(phases, step, 2) for step in range(6)]
    shared = [data.mixture.stretches(step, 2) for step in range(4)]
    assert [read[step] for step in (0, 1, 4, 5)] == shared
    assert [name for name, _ in read[2] + read[3]] == ["en"] * 4
    with pytest.raises(AssertionError, match="step 6 is in no phase"):
        data.batch(phases, 6, 2)


@pytest.mark.parametrize(("action", "steps"), [("warn", 6), ("stop", 4)])
def test_a_language_that_is_forgotten_is_noticed(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    action: Literal["warn", "stop"],
    steps: int,
) -> None:
    # 'high' is not trained on: whatever zh and en teach makes its ids less probable.
    guard = GuardSettings(set="high", max_rise=1e-4, action=action)
    with caplog.at_level("INFO", "lingraft"):
        artefact = train(tmp_path, inputs, settings(guard=guard, lr=3e-2))
    assert artefact.facts["steps"] == len(curve(artefact)) - 1 == steps
    assert artefact.facts["stopped_by_guard"] is (action == "stop")
    assert "WARNING: 'high' is at" in caplog.text
    assert artefact.file("adapter/adapter_model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore")  # PEFT says it ignored patterns that it applies
def test_the_trained_model_ends_its_documents(tmp_path: Path) -> None:
    """EOS is a target like any other: the reference never showed it to its model."""
    peft = pytest.importorskip("peft")

    def fill_encode(path: Path) -> Facts:
        docs = [[1, 10, 11 + n % 3, 20, 2] for n in range(60)]
        for split in ("train", "valid"):
            write_tokens(path / f"short-{split}.npy", docs, SIZES["vocab_size"])
            np.save(path / f"short-{split}.bytes.npy", np.full(60, 9, np.uint32))
        write_index(path)
        return Facts()

    def fill_embed(path: Path) -> Facts:
        save_mixtral(path)
        return Facts()

    encode = make_artefact(tmp_path, "35-encode", fill_encode)
    embed = make_artefact(tmp_path, "40-embed", fill_embed)
    s = settings(mixture=["4:short"], max_steps=40, eval_every=40)
    artefact = train(tmp_path, {"encode": encode, "embed": embed}, s)
    model = peft.PeftModel.from_pretrained(
        load_causal_lm(embed.path), artefact.path / "adapter"
    ).eval()
    written = model.generate(
        input_ids=torch.tensor([[1, 10, 12]]), max_new_tokens=6, do_sample=False, eos_token_id=2
    )
    assert written.tolist() == [[1, 10, 12, 20, 2]]


def test_a_language_that_is_kept_is_not_spoken_of(
    inputs: dict[str, Artefact], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "lingraft"):
        train(tmp_path, inputs, settings(guard=GuardSettings(set="en", max_rise=0.5)))
    assert "WARNING" not in caplog.text
    assert "gradient audit of step 1: all" in caplog.text


def test_the_routers_loss_is_an_option(
    inputs: dict[str, Artefact], trained: Artefact, tmp_path: Path
) -> None:
    balanced = train(tmp_path, inputs, settings(router_aux_loss=0.1))
    losses = [[row["loss"] for row in curve(a)[1:]] for a in (trained, balanced)]
    assert losses[0][0] == losses[1][0]  # what is told is the loss of the text alone
    assert losses[0][-1] != losses[1][-1]
    loads = curve(trained)[-1]["experts"]
    assert 0 <= loads["least_loaded"] <= 1 <= loads["most_loaded"] <= 4


def test_a_loss_that_is_not_finite_names_the_documents(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = Trainer.backward

    def spoiled(self: Trainer, step: int) -> float:
        loss = backward(self, step)
        return float("nan") if step == 3 else loss

    monkeypatch.setattr(Trainer, "backward", spoiled)
    with pytest.raises(LingraftError, match=r"It read (zh|en) documents \d+(-\d+)?, (zh|en) doc"):
        train(tmp_path, inputs, settings())
    draft = open_train_draft(tmp_path, settings())
    assert [p.stem for p in (draft.scratch / "phase-1").glob("*.json")] == ["checkpoint-00000002"]


def test_a_rate_that_is_too_high_is_told_and_not_taken_for_a_defect(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    """NaN comes in the second step, where gradients are audited."""
    with pytest.raises(LingraftError, match=r"step 1: .*norm nan[\s\S]*rates were: lora 1e\+30"):
        train(tmp_path, inputs, settings(lr=1e30, warmup_frac=0.0, schedule="constant"))


def test_a_base_with_nan_is_told_before_any_training(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    def fill(path: Path) -> Facts:
        save_mixtral(path)
        spoil_row(path, 266)
        return Facts()

    spoiled = {**inputs, "embed": make_artefact(tmp_path, "40-embed", fill)}
    s = settings(guard=GuardSettings(set="high"))  # whose documents hold id 266
    told = r"after step 0: 'high' nan bits per byte[\s\S]*before any training"
    with pytest.raises(LingraftError, match=told) as caught:
        train(tmp_path, spoiled, s)
    assert "checkpoint" not in str(caught.value)


def spoil_row(folder: Path, row: int) -> None:
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if "model.embed_tokens.weight" in tensors:
            tensors["model.embed_tokens.weight"][row] = float("nan")
            save_file(tensors, path, metadata={"format": "pt"})


def test_a_validation_that_is_not_finite_names_set_step_and_rates(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    """The first step is finite, and its rate is far too high."""
    s = settings(lr=1e12, warmup_frac=0.0, schedule="constant", eval_every=1)
    with pytest.raises(LingraftError) as caught:
        train(tmp_path, inputs, s)
    for told in (
        "validation after step 1: 'zh' nan, 'en' nan bits per byte",
        "The checkpoint before this step is kept",
        "Learning rates were: lora 1e+12, embed 1e+12. Lower them (lr)",
    ):
        assert told in str(caught.value)
    assert "--dtype" not in str(caught.value)


def test_the_audit_knows_of_the_adapters_dropout(
    inputs: dict[str, Artefact], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s = settings(lora=LoraSettings(rank=4, alpha=8.0, dropout=0.9999), max_steps=3)
    with caplog.at_level("INFO", "lingraft"):
        train(tmp_path, inputs, s)
    assert "train.lora.dropout = 0.9999 does by chance" in caplog.text


def test_a_step_that_processes_cannot_share_is_refused(inputs: dict[str, Artefact]) -> None:
    s = settings(micro_batch_size=3)
    data = Data(s, inputs["encode"], SEED)
    three: Any = None
    with pytest.raises(UsageError, match="3 sequences cannot be divided between 2 processes"):
        Trainer(s, three, data, plan_phases(s, 6), torch.device("cpu"), Ranks(0, 2))


def test_the_balance_loss_is_of_whole_micro_batches(inputs: dict[str, Artefact]) -> None:
    s = settings(micro_batch_size=4, router_aux_loss=0.01)
    data = Data(s, inputs["encode"], SEED)
    none: Any = None
    with pytest.raises(UsageError, match="2 of the 4 sequences of a step are no whole micro-batc"):
        Trainer(s, none, data, plan_phases(s, 6), torch.device("cpu"), Ranks(0, 2))


def test_more_processes_than_one_are_refused_with_the_way_to_one(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    many = settings(launch=LaunchSettings(nodes=4, gpus_per_node=8))
    with pytest.raises(UsageError, match=r"32 processes(.|\n)*nodes=1(.|\n)*accumulation=32"):
        train(tmp_path, inputs, many)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_asked_for_and_absent_is_refused(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="torch finds no GPU"):
        train(tmp_path, inputs, settings(launch=LaunchSettings(gpus_per_node=1)))


def test_a_set_without_validation_documents_is_refused(
    inputs: dict[str, Artefact], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'empty' has no validation documents"):
        train(tmp_path, inputs, settings(mixture=["1:empty"]))
