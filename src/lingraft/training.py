"""The training loop of every stage that trains: AdamW, a schedule, checkpoints, resume.

A step is a function of the parameters, the optimizer's moments and (seed, step) alone: torch
is seeded anew before each step, so a run killed at any moment and started again ends with the
same bits as one that was left alone. A checkpoint is a safetensors file (parameters and moments)
and then a JSON file (losses), each written beside, synced and renamed; the JSON makes it
complete, and only then the former one goes.

Sources: AdamW, Loshchilov & Hutter 2017 (arXiv 1711.05101); the cosine, 2016 (1608.03983).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import safe_open

from .errors import InputError, LingraftError
from .models import TensorEntry, write_shard
from .store import Draft, write_json

__all__ = ["Group", "LoopPlan", "StepLog", "fit", "learning_rate"]

_MOMENTS = ("exp_avg", "exp_avg_sq")
_FLOOR = 0.1
"""Where the cosine ends, as a share of the peak."""


class Group(NamedTuple):
    """Parameters that share a peak learning rate; names are unique over all groups."""

    name: str
    parameters: dict[str, torch.nn.Parameter]
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class LoopPlan:
    """How long and how fast."""

    steps: int
    warmup_frac: float = 0.05
    """Share of the steps in which the rate climbs to its peak, in a straight line."""
    schedule: Literal["cosine", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    """Gradients of all groups together are scaled down to this length."""
    beta2: float = 0.999
    checkpoint_every: int = 100
    tokens_per_step: int = 1
    """For the rate that progress shows."""
    label: str = "train"


class StepLog(NamedTuple):
    """One step that is done; steps count from 0."""

    step: int
    loss: float
    lr: dict[str, float]
    """Learning rate of each group in this step."""
    grad_norm: float
    """Before clipping."""


def learning_rate(step: int, plan: LoopPlan) -> float:
    """Give the share of the peak learning rate at `step`: in (0, 1].

    Warm-up ends at 1; the cosine ends at a tenth in the last step.
    """
    warmup_steps = round(plan.warmup_frac * plan.steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if plan.schedule == "constant":
        return 1.0
    done_frac = (step - warmup_steps) / max(plan.steps - 1 - warmup_steps, 1)
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done_frac))


def fit(
    groups: Sequence[Group],
    plan: LoopPlan,
    backward: Callable[[int], float],
    draft: Draft,
    on_step: Callable[[int, StepLog], None] = lambda step, log: None,
) -> list[float]:
    """Train in place; go on from the newest checkpoint in `draft.scratch` if there is one.

    Args:
        groups: What is trained. Parameters must lie on their device already.
        plan: Steps and rates.
        backward: Runs forward and backward of a whole step (all micro-batches), adding to
            `.grad`, and returns its mean loss in nats.
        draft: Seed, place of the checkpoints, and progress.
        on_step: Called after each step, before the checkpoint that covers it. After a kill,
            steps since the last checkpoint are done again and called again, with equal values:
            a consumer must take a second call for a step as a replacement of the first.

    Returns:
        Loss of every step, those before a resume included.

    Raises:
        LingraftError: The loss or the gradients are no longer finite.
        InputError: The checkpoint is not one of this model.
    """
    optimizer = _optimizer(groups, plan)
    losses = _restore(groups, optimizer, draft.scratch)
    done, per_step = len(losses), plan.tokens_per_step
    parameters = [p for group in groups for p in group.parameters.values()]
    with draft.progress(plan.label, plan.steps * per_step, "tokens", done * per_step) as progress:
        for step in range(done, plan.steps):
            _seed(draft.seed, step)
            rates = _set_rates(groups, optimizer, learning_rate(step, plan))
            optimizer.zero_grad(set_to_none=True)
            loss = backward(step)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm))
            _check_finite(step, loss, norm, rates)
            optimizer.step()
            losses.append(loss)
            on_step(step, StepLog(step, loss, rates, norm))
            if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.steps:
                _save(groups, optimizer, losses, draft.scratch)
            progress.advance(per_step, f"loss {loss:.3f}")
    return losses


def _optimizer(groups: Sequence[Group], plan: LoopPlan) -> torch.optim.AdamW:
    names = [name for group in groups for name in group.parameters]
    assert len(names) == len(set(names)), "a parameter name is in two groups"
    dtypes = {p.dtype for group in groups for p in group.parameters.values()}
    assert dtypes == {torch.float32}, f"trained parameters are float32, got {dtypes}"
    # The fused kernel takes one pass over memory and exists for float parameters everywhere.
    return torch.optim.AdamW(
        [
            {"params": list(g.parameters.values()), "lr": g.lr, "weight_decay": g.weight_decay}
            for g in groups
        ],
        betas=(0.9, plan.beta2),
        fused=True,
    )


def _seed(seed: int, step: int) -> None:
    """Seed torch by a hash, so that neighbouring seeds and steps share nothing."""
    mixed = hashlib.sha256(f"{seed} {step}".encode()).digest()
    torch.manual_seed(int.from_bytes(mixed[:8], "little"))


def _set_rates(
    groups: Sequence[Group], optimizer: torch.optim.AdamW, share: float
) -> dict[str, float]:
    rates = {group.name: group.lr * share for group in groups}
    for group, slot in zip(groups, optimizer.param_groups, strict=True):
        slot["lr"] = rates[group.name]
    return rates


def _check_finite(step: int, loss: float, norm: float, rates: dict[str, float]) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    shown = ", ".join(f"{name} {rate:.2g}" for name, rate in rates.items())
    raise LingraftError(
        f"step {step}: loss {loss}, gradient norm {norm}; expected finite numbers.",
        effect=f"Every parameter would become NaN. Learning rates were: {shown}.",
        way_out="Lower the learning rate (lr), or lengthen the warm-up (warmup_frac).",
    )


def _save(
    groups: Sequence[Group], optimizer: torch.optim.AdamW, losses: list[float], folder: Path
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    steps_taken: dict[str, int] = {}
    for group in groups:
        for name, parameter in group.parameters.items():
            tensors[f"parameter:{name}"] = parameter
            state = optimizer.state.get(parameter, {})  # none where no gradient ever came
            steps_taken[name] = int(state["step"]) if state else 0
            tensors.update({f"{m}:{name}": state[m] for m in _MOMENTS if state})
    entries = [TensorEntry(name, "F32", tuple(tensor.shape)) for name, tensor in tensors.items()]
    stem = f"checkpoint-{len(losses):08d}"
    write_shard(folder / f"{stem}.safetensors", entries, lambda entry: tensors[entry.name])
    # The JSON makes the checkpoint complete, so it comes last.
    write_json(folder / f"{stem}.json", {"steps_taken": steps_taken, "losses": losses})
    for path in sorted(folder.glob("checkpoint-*")):
        if path.name not in (f"{stem}.json", f"{stem}.safetensors"):
            path.unlink()


def _restore(groups: Sequence[Group], optimizer: torch.optim.AdamW, folder: Path) -> list[float]:
    """Load the newest checkpoint; give the losses of the steps that it covers."""
    found = sorted(folder.glob("checkpoint-*.json"))
    if not found:
        return []
    about = json.loads(found[-1].read_text(encoding="utf-8"))
    parameters = {name: p for group in groups for name, p in group.parameters.items()}
    if about["steps_taken"].keys() != parameters.keys():
        raise InputError(
            f"{found[-1]}: a checkpoint of other parameters than the {len(parameters)} here.",
            way_out="Delete it, and the stage starts from its beginning.",
        )
    with safe_open(found[-1].with_suffix(".safetensors"), "pt") as file, torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(f"parameter:{name}"))
            if taken := about["steps_taken"][name]:
                # The fused kernel wants its count as float32, on the parameter's device.
                count = torch.tensor(float(taken), device=parameter.device)
                moments = {m: file.get_tensor(f"{m}:{name}") for m in _MOMENTS}
                optimizer.state[parameter] = {
                    "step": count,
                    **{m: tensor.to(parameter.device) for m, tensor in moments.items()},
                }
    losses: list[float] = about["losses"]
    return losses
