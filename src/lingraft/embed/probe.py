"""Choose a method by trial: train each for a few steps, keep the one that reads best after.

The loss at step 0 says little: a row can be far from where it belongs and learn fast, or near and
stay. So each candidate gets the same short training on the same text in the same order, and is
judged by bits per byte on held-out text after it. All curves are kept.

New rows alone are trained first; base rows get no gradient and stay bit for bit. Then, if asked,
all parameters.

Shapes: V base rows, N new pieces, D model width, B sequences of L tokens.
Source: the 50-step probe, Joshi et al. 2026 (arXiv 2608.03494); that new rows are trained alone,
and that held-out text decides, is ours.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..errors import LingraftError, UsageError
from ..losses import linear_cross_entropy
from ..mixture import Mixture
from ..progress import Reporter, SilentReporter
from ..scoring import score_docs
from .learned import hidden_states, input_rows, output_rows, root_mean_square

__all__ = [
    "Candidate",
    "Curve",
    "HeldOut",
    "Point",
    "ProbePlan",
    "choose",
    "grow",
    "probe",
    "run_candidate",
]


class Candidate(NamedTuple):
    """Methods of the two matrices; a tied model has only the first."""

    method: str
    head_method: str | None = None

    def __str__(self) -> str:
        return self.method if self.head_method is None else f"{self.method}/{self.head_method}"


@dataclass(frozen=True)
class ProbePlan:
    """How long and how fast a candidate is trained."""

    row_steps: int = 50
    """Steps in which new rows alone move."""
    all_steps: int = 0
    """Steps after them in which everything does."""
    batch_size: int = 8
    seq_len: int = 128
    row_lr: float = 0.01
    """Peak step of a number of new rows, as a share of the root mean square of base rows."""
    body_lr: float = 2e-4
    """Peak learning rate of everything, once all parameters move."""
    eval_every: int = 0
    """Steps between evaluations; 0: at 0, after the rows' steps, and at the end."""
    max_tokens: int = 512
    """Longest context of the evaluation."""

    @property
    def steps(self) -> int:
        """All steps."""
        return self.row_steps + self.all_steps

    def evaluated(self, step: int) -> bool:
        """Whether held-out text is scored when `step` steps are done."""
        fixed = step in (0, self.row_steps, self.steps)
        return fixed or bool(self.eval_every and step % self.eval_every == 0)


class HeldOut(NamedTuple):
    """Documents that are scored and never trained on."""

    docs_ids: Sequence[npt.NDArray[np.int64]]
    sizes_bytes: npt.NDArray[Any]


class Point(NamedTuple):
    """A candidate at one moment."""

    step: int
    bpb: dict[str, float]
    """Bits per byte of each held-out set."""
    loss: float | None
    """Nats a token of the last training step; None before the first."""
    time_s: float
    """Since the candidate's start, evaluations left out."""


class Curve(NamedTuple):
    """What became of a candidate."""

    candidate: Candidate
    points: list[Point]


Rows = tuple[torch.Tensor, torch.Tensor | None]
"""Input rows (N, D) and head rows (N, D); no head rows in a tied model."""


def grow(base: Any, num_base: int, rows: Rows) -> Any:
    """Copy a model, and give the copy new rows behind its first `num_base` ones, in float32.

    Args:
        base: A transformers causal LM; its own rows of padding are left out.
        num_base: V.
        rows: The new ones.

    Raises:
        UsageError: Head rows are given for a tied model, or none for another.
    """
    input_ND, output_ND = rows
    tied = base.get_output_embeddings().weight is base.get_input_embeddings().weight
    if tied != (output_ND is None):
        raise UsageError(
            "head rows were made for a tied model." if tied else "there are no head rows.",
            effect="One matrix would have no rows of its own for new pieces.",
            way_out="Give --head-method for untied models only.",
        )
    model = copy.deepcopy(base).float()
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    embed.weight = _longer(input_rows(base), num_base, input_ND)
    head.weight = (
        embed.weight if output_ND is None else _longer(output_rows(base), num_base, output_ND)
    )
    embed.num_embeddings = head.out_features = len(embed.weight)
    model.config.get_text_config().vocab_size = len(embed.weight)
    return model


def _longer(rows: torch.Tensor, num_base: int, rows_ND: torch.Tensor) -> torch.nn.Parameter:
    both = [rows[:num_base].detach().float(), rows_ND.to(rows.device, torch.float32)]
    return torch.nn.Parameter(torch.cat(both))


def run_candidate(
    model: Any,
    num_base: int,
    mixture: Mixture,
    held_out: Mapping[str, HeldOut],
    plan: ProbePlan,
    *,
    tell: Callable[[Point], None] = lambda point: None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> list[Point]:
    """Train a grown model in place and score it on the way.

    Args:
        model: From `grow`, on its device.
        num_base: V.
        mixture: What is trained on; its order is the same for every candidate.
        held_out: What is scored, by name.
        plan: Steps and rates.
        tell: Called with each point at once.
        out_of_time: Asked before each step; if it says so, the run ends with the points it has.

    Raises:
        LingraftError: The loss is no longer finite.
    """
    points: list[Point] = []
    trainer = _Trainer(model, num_base, mixture, plan)
    trained_s = 0.0
    for step in range(plan.steps + 1):
        if plan.evaluated(step):
            bpb = {
                name: score_docs(model, *docs, plan.max_tokens).bpb
                for name, docs in held_out.items()
            }
            points.append(Point(step, bpb, trainer.loss, trained_s))
            tell(points[-1])
        if step == plan.steps or out_of_time():
            break
        begin_s = time.perf_counter()
        trainer.step(step)
        trained_s += time.perf_counter() - begin_s
    return points


class _Trainer:
    """Trains new rows alone, then all parameters."""

    def __init__(self, model: Any, num_base: int, mixture: Mixture, plan: ProbePlan) -> None:
        self._model, self._num_base, self._mixture, self._plan = model, num_base, mixture, plan
        self.loss: float | None = None
        self._optimizer: torch.optim.AdamW | None = None
        self._hooks: list[Any] = []
        embed, head = input_rows(model), output_rows(model)
        self._matrices = [embed] if head is embed else [embed, head]

    def step(self, step: int) -> None:
        """Do one step, seeded by nothing: dropout is off, the order is the mixture's."""
        rows_only = step < self._plan.row_steps
        if step in (0, self._plan.row_steps):
            self._optimizer = self._begin(rows_only=rows_only)
        optimizer = self._optimizer
        assert optimizer is not None, "steps begin at 0"
        first, count = (
            (0, self._plan.row_steps) if rows_only else (self._plan.row_steps, self._plan.all_steps)
        )
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _share(step - first, count)
        optimizer.zero_grad(set_to_none=True)
        loss = self._backward(step)
        self.loss = float(loss)
        if not math.isfinite(self.loss):
            raise LingraftError(
                f"step {step} of the probe: the loss is {self.loss}; expected a finite number.",
                effect="The candidate could not be judged.",
                way_out="Lower row_lr or body_lr.",
            )
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(moved, 1.0)
        optimizer.step()

    def _begin(self, *, rows_only: bool) -> torch.optim.AdamW:
        """Start an optimizer. Base rows whose gradient is always zero are not moved by it."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self._model.parameters():
            parameter.requires_grad_(not rows_only)
        groups: list[dict[str, Any]]
        if rows_only:
            groups = []
            for rows in self._matrices:
                rows.requires_grad_(True)
                hook = rows.register_hook(self._added_only)  # type: ignore[no-untyped-call]
                self._hooks.append(hook)
                peak = self._plan.row_lr * root_mean_square(rows[: self._num_base].detach())
                groups.append({"params": [rows], "peak": peak})
        else:
            parameters = [p for p in self._model.parameters() if p.requires_grad]
            groups = [{"params": parameters, "peak": self._plan.body_lr}]
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def _added_only(self, grad_VD: torch.Tensor) -> torch.Tensor:
        grad_VD = grad_VD.clone()
        grad_VD[: self._num_base] = 0
        return grad_VD

    def _backward(self, step: int) -> torch.Tensor:
        batch = self._mixture.batch(step, self._plan.batch_size)
        device = self._matrices[0].device
        inputs, labels, positions = (torch.from_numpy(part).to(device) for part in batch)
        states = hidden_states(self._model, input_ids=inputs, position_ids=positions)
        if device.type == "cuda":  # what the head computes in; its rows stay float32
            states = states.to(torch.bfloat16)
        loss = linear_cross_entropy(states.flatten(0, 1), self._matrices[-1], labels.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def _share(step: int, count: int) -> float:
    """Warm up over a tenth of the steps, then fall in a straight line to a tenth."""
    warmup = max(count // 10, 1)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 1 - 0.9 * (step - warmup) / max(count - warmup, 1)


def probe(
    base: Any,
    num_base: int,
    candidates: Sequence[Candidate],
    rows_of: Callable[[Candidate], Rows],
    mixture: Mixture,
    held_out: Mapping[str, HeldOut],
    plan: ProbePlan,
    reporter: Reporter | None = None,
) -> list[Curve]:
    """Run every candidate, one at a time.

    Args:
        base: The base model.
        num_base: V.
        candidates: What is tried.
        rows_of: Makes the rows of a candidate.
        mixture: What is trained on.
        held_out: What is scored.
        plan: Steps and rates.
        reporter: Told of the progress.

    Raises:
        UsageError: Rows do not fit the model.
    """
    curves = []
    with (reporter or SilentReporter()).task("probe", len(candidates), "methods") as progress:
        for candidate in candidates:
            model = grow(base, num_base, rows_of(candidate))
            points = run_candidate(model, num_base, mixture, held_out, plan)
            curves.append(Curve(candidate, points))
            shown = ", ".join(f"{name} {bpb:.3f}" for name, bpb in points[-1].bpb.items())
            progress.advance(1, f"{candidate}: {shown}")
    return curves


def choose(curves: Sequence[Curve], name: str) -> Candidate:
    """Give the candidate with the fewest bits per byte of a held-out set at the end.

    The first one wins a tie; one that did not come to the end of the others cannot win.
    """
    last = max(curve.points[-1].step for curve in curves)
    whole = [curve for curve in curves if curve.points[-1].step == last]
    return min(whole, key=lambda curve: curve.points[-1].bpb[name]).candidate
