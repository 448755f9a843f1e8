"""One training run's data, model and settings: what the loop calls, and what it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import LingraftError, UsageError
from ..losses import linear_cross_entropy
from ..mixture import Batch
from ..progress import Progress
from ..ranks import Ranks
from ..rows import IGNORE, Int64
from ..scoring import NotFiniteError, score_docs
from ..store import Draft
from ..training import IS_KEPT, LESS_MEMORY, Group, LoopPlan, StepLog, telling_of_memory
from .audit import audit_gradients
from .build import Built
from .data import Data, ValidSet, describe_stretch
from .guarding import Guard
from .loads import Loads
from .phases import Phase, group_parameters
from .settings import TrainSettings
from .varlen import model_inputs

__all__ = ["Trainer"]

_LESS_IN_VALIDATION = (
    "Validation takes 8,192 tokens at a time, or one sequence where train.seq_len is more. It does "
    "not look at train.micro_batch_size, so that all runs validate alike. Give it more room: "
    f"lower {LESS_MEMORY}. A run with other settings begins anew, from step 0."
)


class Trainer:
    """What the loop needs of one run."""

    def __init__(
        self,
        settings: TrainSettings,
        built: Built,
        data: Data,
        phases: Sequence[Phase],
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        """Join model and data.

        Raises:
            UsageError: A step's sequences cannot be divided between the processes.
        """
        self._settings, self._built, self._data = settings, built, data
        self._phases, self._device, self._ranks = phases, device, ranks
        self.batch_size = settings.batch_size
        self._last = phases[-1].first + phases[-1].steps
        if self.batch_size % ranks.count:
            raise UsageError(
                f"a step of {self.batch_size} sequences cannot be divided between {ranks.count} "
                "processes.",
                way_out="Make train.micro_batch_size x train.accumulation a multiple of it.",
            )
        own, size = self.batch_size // ranks.count, settings.micro_batch_size
        if settings.router_aux_loss and own % size:
            raise UsageError(
                f"a process's {own} of the {self.batch_size} sequences of a step are no whole "
                f"micro-batches of {size}.",
                effect="train.router_aux_loss, a loss of whole micro-batches, would be another.",
                way_out=f"Start a number of processes that divides {self.batch_size} / {size}.",
            )
        self._loads = Loads(built.model)
        self._targets: dict[int, int] = {}
        self._guard: Guard | None = None
        self._draft: Draft | None = None

    def groups(self, phase: Phase) -> list[Group]:
        """What a phase trains, and how fast."""
        return group_parameters(self._built, self._settings, phase)

    def plan(self, number: int, known_steps: int) -> LoopPlan:
        """What the loop needs to know of a phase, where the curve has this many steps' rows."""
        s, phase = self._settings, self._phases[number]
        label = "train" if len(self._phases) == 1 else f"train, phase {number + 1}"
        return LoopPlan(
            steps=phase.steps,
            warmup_frac=s.warmup_frac,
            schedule=s.schedule,
            decay_frac=s.decay_frac,
            floor=s.min_lr_frac,
            optimizer=s.optimizer,
            max_grad_norm=s.max_grad_norm,
            beta2=s.adam_beta2,
            checkpoint_every=s.checkpoint_every,
            keep_checkpoints=s.keep_checkpoints,
            tokens_per_step=self.batch_size * s.seq_len,
            label=label,
            folder=f"phase-{number + 1}",
            first_step=phase.first,
            known_steps=known_steps - phase.first,
            is_last=number + 1 == len(self._phases),
        )

    def later_folders(self, step: int) -> list[str]:
        """Name the checkpoints' folders of the phases after the one that a step belongs to."""
        return [f"phase-{n + 1}" for n, p in enumerate(self._phases) if p.first > step]

    def backward(self, step: int) -> float:
        """Forward and backward of this process's share of a step; its share of the mean loss."""
        batch = self._data.batch(self._phases, step, self.batch_size)
        self._targets = {step: _num_targets(batch.labels)}
        own = self.batch_size // self._ranks.count
        place = slice(self._ranks.rank * own, (self._ranks.rank + 1) * own)
        mine = Batch(*(array_BL[place] for array_BL in batch))
        text_BL = self._data.text(self._phases, step, self.batch_size)[place]
        self._built.model.train()
        self._loads.clear()
        total = 0.0
        for start in range(0, own, self._settings.micro_batch_size):
            rows = slice(start, start + self._settings.micro_batch_size)
            micro = Batch(*(array_BL[rows] for array_BL in mine))
            # Micro-batches count by their targets, so that the split does not change the step.
            share = _num_targets(micro.labels) / max(self._targets[step], 1)
            loss, aux = self._loss(micro, text_BL[rows])
            (loss + aux).mul(share).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) * share
        is_second = any(step == phase.first + 1 for phase in self._phases)
        if is_second and math.isfinite(total):  # what is not finite, the loop tells with its cause
            self._audit(step, mine)
        return total

    def _loss(
        self, batch: Batch, text_BL: npt.NDArray[np.bool_]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean nats of a micro-batch, and the loss of its routers, weighted."""
        model = self._built.model
        labels = torch.from_numpy(batch.labels).to(self._device)
        inputs = model_inputs(self._settings.attention, batch, self._device)
        text_N = torch.from_numpy(text_BL).to(self._device).flatten()
        self._loads.begin((labels != IGNORE).flatten(), text_N)
        # Without a cache and a mask, positions that begin anew keep documents apart, see `rows`.
        hidden = model.model(**inputs, use_cache=False).last_hidden_state
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, labels.flatten())
        weight = self._settings.router_aux_loss
        if not weight or not self._loads.num_layers:
            return loss, loss.new_zeros(())
        return loss, weight * self._loads.balance_loss(model.config.num_experts_per_tok)

    def _audit(self, step: int, batch: Batch) -> None:
        counted = batch.labels != IGNORE
        inputs, labels = (
            torch.from_numpy(np.unique(a[counted])) for a in (batch.inputs, batch.labels)
        )
        told = audit_gradients(
            step,
            self._built,
            self._loads.counts(),
            inputs,
            labels,
            dropout=self._settings.lora.dropout,
        )
        if self._draft:
            self._draft.note(told)

    def describe(self, step: int) -> str:
        """Tell which documents a step reads."""
        stretches = self._data.stretches(self._phases, step, self.batch_size)
        return ", ".join(f"{name} documents {describe_stretch(s)}" for name, s in stretches)

    def validate(
        self,
        step: int,
        progress: Progress | None = None,
        pause: Callable[[], None] = lambda: None,
    ) -> dict[str, dict[str, float]]:
        """Bits per byte, and nats per token, of every set after `step` steps.

        NaN where the model's logits are not finite. `pause` is called before each set, in all
        processes; by a process on its own before each batch, too.

        Each process reckons them, on hardware that may differ, and all take the first one's: what
        the guard decides by them must be the same everywhere.
        """
        scores = {}
        for name, valid in self._data.valid.items():
            pause()
            place = f"validation after step {step}, of '{name}'"
            with telling_of_memory(place, IS_KEPT if step else "", _LESS_IN_VALIDATION):
                scores[name] = self._score(valid, progress, pause)
        return {
            "valid": {name: self._of_first(bpb) for name, (bpb, _) in scores.items()},
            "valid_nats": {name: self._of_first(nats) for name, (_, nats) in scores.items()},
        }

    def _score(
        self, valid: ValidSet, progress: Progress | None, pause: Callable[[], None]
    ) -> tuple[float, float]:
        """Bits per byte, and nats per token, of a set; NaN where they are no numbers."""
        # A process that meets NaN does fewer batches, so between them processes cannot agree.
        before_batch = pause if self._ranks.count == 1 else lambda: None
        try:
            score = score_docs(
                self._built.model,
                valid.docs,
                valid.sizes_bytes,
                self._settings.seq_len,
                progress,
                before_batch=before_batch,
            )
        except NotFiniteError:  # told by whoever knows the step and its rates
            return math.nan, math.nan
        return score.bpb, score.nats / score.total_tokens

    def _of_first(self, number: float) -> float:
        return self._ranks.sum_number(number if self._ranks.is_first else 0.0)

    def first_row(self, draft: Draft, pause: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """The curve's row before step 0."""
        num_docs = sum(len(valid.docs) for valid in self._data.valid.values())
        with draft.progress("validate", num_docs, "docs") as progress:
            row = {"step": 0, "tokens": 0, **self.validate(0, progress, pause)}
        _check_valid(row, "The expanded model, before any training, gives this: look at its rows.")
        return row

    def start(self, rows: Sequence[Mapping[str, Any]], draft: Draft) -> None:
        """Begin, or go on, with the rows of the curve so far."""
        self._draft = draft
        self._guard = Guard(self._settings.guard, self._data.raises, rows, draft.note)

    def row(self, number: int, log: StepLog, former_tokens: int) -> dict[str, Any]:
        """The curve's row after `number` steps, validated and guarded where it is due."""
        row: dict[str, Any] = {
            "step": number,
            "loss": log.loss,
            "grad_norm": log.grad_norm,
            "lr": log.lr,
            "tokens": former_tokens + self._targets[log.step],
        }
        if number % self._settings.eval_every == 0 or number == self._last:
            row |= self.validate(number)
            rates = ", ".join(f"{name} {rate:.2g}" for name, rate in log.lr.items())
            _check_valid(
                row,
                f"Learning rates were: {rates}. Lower them (lr), or lengthen the warm-up "
                "(warmup_frac); a run with other settings begins anew, from step 0.",
            )
            if loads := self._loads.told(self._ranks):
                row["experts"] = loads
        if self._guard:
            self._guard.judge(row, is_last=number == self._last)
        return row

    def stop_if_asked(self) -> None:
        """End training where the guard asked for it at the last row.

        Raises:
            GuardStopError: It did.
        """
        if self._guard:
            self._guard.stop_if_asked()


def _check_valid(row: Mapping[str, Any], way_out: str) -> None:
    wrong = [f"'{n}' {bpb}" for n, bpb in row["valid"].items() if not math.isfinite(bpb)]
    if wrong:
        raise LingraftError(
            f"validation after step {row['step']}: {', '.join(wrong)} bits per byte; expected "
            "finite numbers.",
            effect=f"The model predicts nothing{f' any more. {IS_KEPT}' if row['step'] else '.'}",
            way_out=way_out,
        )


def _num_targets(labels_BL: Int64) -> int:
    return int((labels_BL != IGNORE).sum())
