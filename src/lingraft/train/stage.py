"""Train adapters and embeddings on the mixture, with a validation of every set."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter

from ..errors import InputError, UsageError
from ..losses import linear_cross_entropy
from ..mixture import Batch, Mixture, MixtureRow
from ..models import ModelFolder, TensorEntry, write_shard
from ..parts import parse_part
from ..progress import Progress
from ..rows import IGNORE, Int64
from ..scoring import score_docs
from ..settings import StageSettings
from ..shards import open_tokens
from ..store import Artefact, Draft, write_json, write_text
from ..training import Group, LoopPlan, StepLog, fit
from .adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_config, adapter_tensors
from .build import Built, build
from .settings import LaunchSettings, MixedPart, TrainFacts, TrainSettings

__all__ = ["run"]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> TrainFacts:
    """Train, and write the adapter, the curve and TensorBoard's files.

    Raises:
        UsageError: More processes are asked for than this version trains in.
        InputError: The model or the token files cannot be used.
    """
    assert isinstance(settings, TrainSettings), "train.run got another stage's settings"
    device = _choose_device(settings.launch)
    built = build(
        ModelFolder(inputs["embed"].path),
        settings.lora,
        quantize=settings.quantize,
        dtype=settings.dtype,
        seed=draft.seed,
        device=device,
    )
    if device.type == "cuda":
        built.recompute_activations()
    draft.note(_describe(built, device))
    draft.set_aside("tensorboard/*")
    trainer = _Trainer(settings, built, inputs["encode"], draft.seed, device)
    for line in trainer.mixture.table().splitlines():
        draft.note(line)
    with _Curve(draft.path) as curve:
        if not curve.rows:
            curve.put(trainer.first_row(draft))

        def on_step(step: int, log: StepLog) -> None:
            curve.put(trainer.row(step + 1, log, curve.rows[step]["tokens"]))

        losses = fit(trainer.groups(), trainer.plan(), trainer.backward, draft, on_step)
        rows = curve.finish(len(losses))
    _write_adapter(built, settings, draft.path / "adapter")
    return _facts(built, trainer.mixture.rows(), losses, rows)


def _choose_device(launch: LaunchSettings) -> torch.device:
    launch.refuse_many()
    if torch.cuda.is_available():
        return torch.device("cuda")
    if launch.gpus_per_node:
        raise UsageError(
            "train.launch.gpus_per_node = 1, but torch finds no GPU here.",
            way_out="Train on the CPU: --set train.launch.gpus_per_node=0.",
        )
    return torch.device("cpu")


def _describe(built: Built, device: torch.device) -> str:
    roles = ", ".join(
        f"{role} {count.found}/{count.expected}" for role, count in built.roles.items()
    )
    lora, embed = _count(built.lora), _count(built.embed)
    return (
        f"on {device.type}: {built.frozen_parameters:,} frozen parameters at "
        f"{built.bits_per_frozen_parameter:.3f} bits; trained: {lora:,} of adapters ({roles}), "
        f"{embed:,} of embed_tokens and lm_head"
    )


def _count(parameters: Mapping[str, torch.nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())


@dataclass(frozen=True)
class _ValidSet:
    """Validation documents of one set: their ids, and their sizes in UTF-8 bytes."""

    docs: list[npt.NDArray[np.int64]]
    sizes_bytes: list[int]


class _Trainer:
    """One run's data, model and settings."""

    def __init__(
        self,
        settings: TrainSettings,
        built: Built,
        encode: Artefact,
        seed: int,
        device: torch.device,
    ) -> None:
        self._settings, self._built, self._device = settings, built, device
        names = dict.fromkeys(parse_part(part).name for part in settings.mixture)
        self.mixture = Mixture(
            {name: open_tokens(encode.file(f"{name}-train.npy")) for name in names},
            settings.mixture,
            settings.seq_len,
            seed,
            total_tokens=settings.total_tokens,
            documents=settings.documents,
        )
        self._valid = {name: _open_valid(encode, name, settings.eval_docs) for name in names}
        self._batch_size = settings.micro_batch_size * settings.accumulation
        self._steps = settings.max_steps or self.mixture.steps_per_pass(self._batch_size)

    def groups(self) -> list[Group]:
        """Adapters, and embeddings with a rate of their own."""
        s = self._settings
        return [
            Group("lora", self._built.lora, s.lr, s.weight_decay),
            Group("embed", self._built.embed, s.embed_lr or s.lr, s.weight_decay),
        ]

    def plan(self) -> LoopPlan:
        """What the loop needs to know."""
        s = self._settings
        return LoopPlan(
            steps=self._steps,
            warmup_frac=s.warmup_frac,
            schedule=s.schedule,
            max_grad_norm=s.max_grad_norm,
            beta2=s.adam_beta2,
            checkpoint_every=s.checkpoint_every,
            tokens_per_step=self._batch_size * s.seq_len,
            label="train",
        )

    def backward(self, step: int) -> float:
        """Forward and backward of one step; return its mean loss over all its targets."""
        batch = self.mixture.batch(step, self._batch_size)
        num_targets = _num_targets(batch.labels)
        self._built.model.train()
        total = 0.0
        for start in range(0, self._batch_size, self._settings.micro_batch_size):
            rows = slice(start, start + self._settings.micro_batch_size)
            micro = Batch(*(array_BL[rows] for array_BL in batch))
            # Micro-batches count by their targets, so that the split does not change the step.
            share = _num_targets(micro.labels) / max(num_targets, 1)
            loss = self._loss(micro) * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _loss(self, batch: Batch) -> torch.Tensor:
        model = self._built.model
        ids, labels, positions = (torch.from_numpy(array).to(self._device) for array in batch)
        # Without a cache and a mask, positions that begin anew keep documents apart, see `rows`.
        hidden = model.model(
            input_ids=ids, position_ids=positions, use_cache=False
        ).last_hidden_state
        return linear_cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, labels.flatten())

    def validate(self, progress: Progress | None = None) -> dict[str, float]:
        """Bits per byte of every set."""
        model = self._built.model
        return {
            name: score_docs(model, v.docs, v.sizes_bytes, self._settings.seq_len, progress).bpb
            for name, v in self._valid.items()
        }

    def first_row(self, draft: Draft) -> dict[str, Any]:
        """The curve's row before step 0."""
        num_docs = sum(len(valid.docs) for valid in self._valid.values())
        with draft.progress("validate", num_docs, "docs") as progress:
            return {"step": 0, "tokens": 0, "valid": self.validate(progress)}

    def row(self, number: int, log: StepLog, former_tokens: int) -> dict[str, Any]:
        """The curve's row after `number` steps, validated where it is due."""
        labels_BL = self.mixture.batch(log.step, self._batch_size).labels
        row = {
            "step": number,
            "loss": log.loss,
            "lr": log.lr,
            "tokens": former_tokens + _num_targets(labels_BL),
        }
        if number % self._settings.eval_every == 0 or number == self._steps:
            row["valid"] = self.validate()
        return row


def _num_targets(labels_BL: Int64) -> int:
    return int((labels_BL != IGNORE).sum())


def _open_valid(encode: Artefact, name: str, max_docs: int) -> _ValidSet:
    tokens = open_tokens(encode.file(f"{name}-valid.npy"))
    sizes = np.load(encode.file(f"{name}-valid.bytes.npy"), allow_pickle=False)
    if not tokens.num_docs:
        raise InputError(
            f"{encode.path}: set '{name}' has no validation documents; expected one or more.",
            effect="Nobody would see what training does to it.",
            way_out="Raise corpus.valid_frac, or take the set out of train.mixture.",
        )
    count = min(max_docs, tokens.num_docs)
    return _ValidSet([tokens.doc(n) for n in range(count)], sizes[:count].tolist())


class _Curve:
    """`curve.jsonl`, row n after n steps, and the same numbers for TensorBoard.

    After a kill, steps since the last checkpoint come again: a row replaces itself and all
    that followed it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "curve.jsonl"
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None
        text = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        *lines, partial = text.split("\n")
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._is_whole = not partial

    def __enter__(self) -> _Curve:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer:
            self._writer.close()

    def put(self, row: dict[str, Any]) -> None:
        """Write row `row["step"]` as the last one."""
        step = row["step"]
        appends = self._is_whole and len(self.rows) == step
        self.rows = [*self.rows[:step], row]
        self._refuse_gap(step)
        if appends:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        else:
            write_text(self._path, "".join(map(_line, self.rows)))
            self._is_whole = True
        self._show(row)

    def finish(self, steps: int) -> list[dict[str, Any]]:
        """Give all rows, from 0 to `steps`."""
        self._refuse_gap(steps)
        return self.rows

    def _refuse_gap(self, last: int) -> None:
        if [row["step"] for row in self.rows] != list(range(last + 1)):
            raise InputError(
                f"{self._path}: rows are missing before step {last}; expected one a step.",
                way_out="The draft was damaged: delete its folder and run again.",
            )

    def _show(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=row["step"])
        scalars = {"train/loss": row["loss"]} if "loss" in row else {}
        scalars |= {f"lr/{name}": rate for name, rate in row.get("lr", {}).items()}
        scalars |= {f"valid_bpb/{name}": bpb for name, bpb in row.get("valid", {}).items()}
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, row["step"])


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _write_adapter(built: Built, settings: TrainSettings, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    tensors = adapter_tensors(built.pairs, built.embed)
    entries = [TensorEntry(name, "F32", tuple(t.shape)) for name, t in tensors.items()]
    write_shard(folder / ADAPTER_WEIGHTS, entries, lambda entry: tensors[entry.name])
    write_json(folder / ADAPTER_CONFIG, adapter_config(settings.lora))


def _facts(
    built: Built, mixture: list[MixtureRow], losses: list[float], rows: list[dict[str, Any]]
) -> TrainFacts:
    tenth = math.ceil(len(losses) / 10)
    lora, embed = _count(built.lora), _count(built.embed)
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
        frozen_parameters=built.frozen_parameters,
        lora_modules=sum(count.found for count in built.roles.values()),
        lora_modules_expected=sum(count.expected for count in built.roles.values()),
        bits_per_frozen_parameter=built.bits_per_frozen_parameter,
        first_loss=sum(losses[:tenth]) / tenth,
        final_loss=sum(losses[-tenth:]) / tenth,
        valid_bpb_start=rows[0]["valid"],
        valid_bpb_end=rows[-1]["valid"],
    )
