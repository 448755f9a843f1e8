"""Train adapters and embeddings on the mixture, with a validation of every set."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch

from ..errors import InputError, LingraftError, StoppedError, UsageError
from ..mixture import MixtureRow
from ..models import ModelFolder, TensorEntry, write_shard
from ..nf4 import Packed
from ..packedcache import Pack
from ..ranks import ONE, Ranks, join_ranks, local_rank
from ..settings import StageSettings
from ..store import Artefact, Draft, write_json
from ..training import StepLog, Termination, fit, telling_of_memory
from .adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_config, adapter_tensors
from .build import Built, build
from .curve import Curve
from .data import Data
from .guarding import GuardStopError
from .packing import build_packed
from .phases import (
    Phase,
    count_steps,
    count_trained,
    cut_phases,
    needs_border,
    plan_phases,
)
from .settings import MixedPart, ReplayRaise, StepSplit, TrainFacts, TrainSettings
from .storage import bytes_per_parameter
from .trackers import Trackers, open_trackers
from .trainer import Trainer
from .varlen import refuse_dropout, require_attention

__all__ = ["run"]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> TrainFacts:
    """Train, and write the adapter, the curve and TensorBoard's files.

    Under torchrun every process calls this with the same arguments; the first one writes.

    Raises:
        UsageError: More processes are asked for than were started, or they cannot share a step, or
            the attention that is asked for cannot train here.
        MissingPackageError: It needs a package that is not installed.
        InputError: The model or the token files cannot be used.
    """
    assert isinstance(settings, TrainSettings), "train.run got another stage's settings"
    device = _choose_device(settings)
    require_attention(settings.attention, device)
    with Termination() as termination, join_ranks(device) as ranks, ExitStack() as stack:
        # Before the others begin: where one does not start, they are told that nobody trains.
        trackers = _open_trackers(settings, draft) if ranks.is_first else None
        if trackers is not None:
            stack.enter_context(trackers)
        ranks.begin()
        return _train(settings, inputs, draft, device, ranks, trackers, termination)


def _train(
    settings: TrainSettings,
    inputs: Mapping[str, Artefact],
    draft: Draft,
    device: torch.device,
    ranks: Ranks,
    trackers: Trackers | None,
    termination: Termination,
) -> TrainFacts:
    data = Data(settings, inputs["encode"], draft.seed)
    steps = settings.max_steps or count_steps(
        settings, data.mixture.steps_per_pass(settings.batch_size)
    )
    phases = plan_phases(settings, steps)
    folder = ModelFolder(inputs["embed"].path)
    data.refuse_other(inputs["encode"], folder)
    refuse_dropout(settings.attention, folder)
    _refuse_idle_router(settings, folder, phases)
    num_base = _num_base(inputs["embed"]) if needs_border(settings, phases) else None
    built = _build(settings, folder, num_base, draft, device, ranks, termination)
    if device.type == "cuda":
        built.recompute_activations()
    trainer = Trainer(settings, built, data, phases, device, ranks)
    draft.note(_describe(built, device, ranks, count_trained(built, settings, phases)))
    stored = bytes_per_parameter(built)
    shown = ", ".join(f"{name} {size:.3f}" for name, size in stored.items())
    draft.note(f"bytes a parameter: {shown}")
    for line in [*data.mixture.table().splitlines(), *(p.told for p in phases if phases[1:])]:
        draft.note(line)
    losses, rows, stopped = _fit_phases(trainer, phases, draft, ranks, trackers, termination)
    if ranks.is_first:
        draft.set_aside("tensorboard/*")
        _write_adapter(built, settings, draft)
    phases = cut_phases(phases, len(losses))
    trained = count_trained(built, settings, phases)
    facts = _facts(built, data.mixture.rows(), losses, rows, phases, trained)
    return facts.model_copy(
        update={
            "bytes_per_parameter": stored,
            "split": StepSplit(processes=ranks.count, micro_batch_size=settings.micro_batch_size),
            "stopped_by_guard": stopped,
            "replay": [ReplayRaise(step=step, frac=frac) for step, frac in data.raises],
            "replayed_sequences": data.num_replayed(phases, len(losses), trainer.batch_size),
        }
    )


def _build(
    settings: TrainSettings,
    folder: ModelFolder,
    num_base: int | None,
    draft: Draft,
    device: torch.device,
    ranks: Ranks,
    termination: Termination,
) -> Built:
    """Build the model; SIGTERM ends it between two packed matrices, and then in all processes."""

    def make(pack: Pack) -> Built:
        def until_asked(name: str, read: Callable[[], torch.Tensor]) -> Packed:
            termination.stop_if_asked(ONE, "while the model was built")
            return pack(name, read)

        return build(
            folder,
            settings.lora,
            quantize=settings.quantize,
            dtype=settings.dtype,
            seed=draft.seed,
            device=device,
            rows=settings.rows,
            num_base=num_base,
            pack=until_asked,
            attention=settings.attention,
        )

    way_out = "Use a machine with more memory, or lower train.lora.rank"
    if settings.quantize == "none":
        way_out = "Set train.quantize = 'nf4', or lower train.lora.rank"
    effect = "Training did not begin; checkpoints are kept for the same settings."
    try:
        with telling_of_memory("building the model", effect, f"{way_out}."):
            built = build_packed(settings, folder, device, draft, ranks, make)
    except LingraftError as error:
        _await_others(ranks, error)
        raise
    _await_others(ranks, None)
    return built


def _await_others(ranks: Ranks, error: LingraftError | None) -> None:
    """Wait until all processes have built, or failed to.

    Raises:
        StoppedError: SIGTERM ended one of them: whatever came of it elsewhere, all are stopped.
    """
    if ranks.sum_number(float(isinstance(error, StoppedError))):
        raise StoppedError(
            "stopped by SIGTERM while the model was built; whatever checkpoints there were are "
            "kept.",
            way_out="Run the same command again to go on.",
        ) from None


def _fit_phases(
    trainer: Trainer,
    phases: list[Phase],
    draft: Draft,
    ranks: Ranks,
    trackers: Trackers | None,
    termination: Termination,
) -> tuple[list[float], list[dict[str, Any]], bool]:
    """Go through the phases; one that is done already only gives its parameters back."""
    losses: list[float] = []
    stopped = False
    with Curve(draft.path, trackers, writes=ranks.is_first, note=draft.note) as curve:
        ranks.wait()  # every process has read what a former run left
        if not curve.rows:
            when = "in the validation before step 0"
            curve.put(trainer.first_row(draft, lambda: termination.stop_if_asked(ranks, when)))
        trainer.start(curve.rows, draft)

        def on_step(step: int, log: StepLog) -> None:
            if ranks.is_first:  # they go on from steps that are done anew, and from lost rows
                for folder in trainer.later_folders(step):
                    shutil.rmtree(draft.scratch / folder, ignore_errors=True)
            row = trainer.row(step + 1, log, curve.tokens(step))
            curve.put(row)
            trainer.stop_if_asked()

        try:
            for number, phase in enumerate(phases):
                losses += fit(
                    trainer.groups(phase),
                    trainer.plan(number, len(curve.rows) - 1),
                    trainer.backward,
                    draft,
                    on_step,
                    ranks=ranks,
                    describe=trainer.describe,
                    before_checkpoint=curve.sync,
                    termination=termination,
                )
        except GuardStopError:
            stopped = True
            losses = [row["loss"] for row in curve.rows[1:]]
        assert len(curve.rows) == len(losses) + 1, "the curve has not a row a step"
        return losses, curve.rows, stopped


def _open_trackers(settings: TrainSettings, draft: Draft) -> Trackers:
    config = {"seed": draft.seed, **settings.model_dump(mode="json")}
    run = draft.final.parent.name
    return open_trackers(settings.trackers, draft.path, draft.scratch, run, config, draft.note)


def _choose_device(settings: TrainSettings) -> torch.device:
    launch = settings.launch
    launch.refuse_many(settings.accumulation)
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    if launch.gpus_per_node:
        raise UsageError(
            f"train.launch.gpus_per_node = {launch.gpus_per_node}, but torch finds no GPU here.",
            way_out="Train on the CPU: --set train.launch.gpus_per_node=0.",
        )
    return torch.device("cpu")


def _refuse_idle_router(settings: TrainSettings, folder: ModelFolder, phases: list[Phase]) -> None:
    """Refuse to train a router that nothing moves.

    The shares of the chosen experts add up to 1, so a lone one's is 1 whatever the router says;
    and where there is one alone, there is no load to balance either.
    """
    if "gate" not in settings.lora.targets or not any("lora" in p.settings.trains for p in phases):
        return
    is_only = folder.config.get("num_local_experts") == 1
    is_lone = folder.config.get("num_experts_per_tok") == 1
    if is_only or (is_lone and not settings.router_aux_loss):
        more = "" if is_only else ", or set train.router_aux_loss above 0"
        raise UsageError(
            f"train.lora.targets names 'gate', and {folder.path} sends a token to one expert"
            f"{', as it has no other' if is_only else ''}.",
            effect="The router's adapters would have no gradient: the one expert's share is 1.",
            way_out=f"Leave 'gate' out{more}.",
        )


def _num_base(embed: Artefact) -> int:
    rows = embed.facts.get("base_rows")
    if rows is None:
        raise InputError(
            f"{embed.path}: its manifest does not tell how many rows are the base's.",
            effect="Base rows and added rows could not be told apart.",
            way_out="Do the stage again: --redo embed.",
        )
    return int(rows)


def _describe(built: Built, device: torch.device, ranks: Ranks, trained: tuple[int, int]) -> str:
    roles = ", ".join(
        f"{role} {count.found}/{count.expected}" for role, count in built.roles.items()
    )
    processes = f", {ranks.count} processes" if ranks.count > 1 else ""
    return (
        f"on {device.type}{processes}: {built.frozen_parameters:,} frozen parameters at "
        f"{built.bits_per_frozen_parameter:.3f} bits; trained: {trained[0]:,} of adapters "
        f"({roles}), {trained[1]:,} of embed_tokens and lm_head"
    )


def _write_adapter(built: Built, settings: TrainSettings, draft: Draft) -> None:
    folder = draft.path / "adapter"
    folder.mkdir(exist_ok=True)
    tensors = adapter_tensors(built.pairs, built.rows)
    entries = [TensorEntry(name, "F32", tuple(t.shape)) for name, t in tensors.items()]
    write_shard(folder / ADAPTER_WEIGHTS, entries, lambda entry: tensors[entry.name])
    config = adapter_config(settings.lora, built.roles, bool(built.rows))
    write_json(folder / ADAPTER_CONFIG, config)


def _facts(
    built: Built,
    mixture: list[MixtureRow],
    losses: list[float],
    rows: list[dict[str, Any]],
    phases: list[Phase],
    trained: tuple[int, int],
) -> TrainFacts:
    tenth = math.ceil(len(losses) / 10)
    lora, embed = trained
    return TrainFacts(
        steps=len(losses),
        mixture=[
            MixedPart(part=r.part, total_tokens=r.total_tokens, epochs=r.epochs, share=r.share)
            for r in mixture
        ],
        total_tokens=rows[-1]["tokens"],
        trainable_parameters=lora + embed,
        lora_parameters=lora,
        embed_parameters=embed,
        phases=[f"{p.told}, {_tokens(p, rows):,} tokens" for p in phases],
        frozen_parameters=built.frozen_parameters,
        lora_modules=sum(count.found for count in built.roles.values()),
        lora_modules_expected=sum(count.expected for count in built.roles.values()),
        bits_per_frozen_parameter=built.bits_per_frozen_parameter,
        first_loss=sum(losses[:tenth]) / tenth,
        final_loss=sum(losses[-tenth:]) / tenth,
        valid_bpb_start=rows[0]["valid"],
        valid_bpb_end=rows[-1]["valid"],
    )


def _tokens(phase: Phase, rows: list[dict[str, Any]]) -> int:
    """Count what a phase trained on, by the rows of the curve."""
    return int(rows[phase.first + phase.steps]["tokens"] - rows[phase.first]["tokens"])
