"""The training loop of every stage that trains: optimizer, schedule, checkpoints, resume.

A step is a function of the parameters, the optimizer's state and (seed, step) alone: torch is
seeded anew before each step, so a run killed at any moment and started again ends with the same
bits as one that was left alone, on one device. Checkpoints are `checkpoints.py`'s.

SIGTERM, which a cluster sends before it takes a machine away, ends the run after the step that
it came in, with a checkpoint.
"""

from __future__ import annotations

import hashlib
import math
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import torch

from .checkpoints import Checkpoints
from .errors import LingraftError, StoppedError
from .optimizers import Group, OptimizerName, make_optimizer
from .ranks import ONE, Ranks
from .schedules import Schedule, share_of_peak
from .store import Draft

__all__ = ["Group", "LoopPlan", "StepLog", "fit", "learning_rate", "memory_told"]

_BEGINS_ANEW = "A run with other settings begins anew, from step 0: its checkpoints are its own."


@dataclass(frozen=True)
class LoopPlan:
    """How long and how fast."""

    steps: int
    warmup_frac: float = 0.05
    """Share of the steps in which the rate climbs to its peak, in a straight line."""
    schedule: Schedule = "cosine"
    decay_frac: float = 0.1
    """Share of the steps in which the rate of schedule `wsd` falls."""
    floor: float = 0.1
    """Where the rate ends, as a share of its peak."""
    optimizer: OptimizerName = "adamw"
    max_grad_norm: float = 1.0
    """Gradients of all groups together are scaled down to this length."""
    beta2: float = 0.999
    checkpoint_every: int = 100
    """Steps between checkpoints, the last step included; 0: none at all."""
    keep_checkpoints: int = 1
    tokens_per_step: int = 1
    """For the rate that progress shows."""
    label: str = "train"
    folder: str = ""
    """Of the checkpoints, inside the draft's scratch."""
    first_step: int = 0
    """The run's number of the first step, where this loop is not the run's first."""
    known_steps: int | None = None
    """Steps of this loop that the curve has rows of: a checkpoint of more is passed over. None:
    there is no curve."""
    is_last: bool = True
    """Whether the run ends with this loop; otherwise SIGTERM in its last step stops the run."""


class StepLog(NamedTuple):
    """One step that is done; steps count from 0."""

    step: int
    loss: float
    lr: dict[str, float]
    """Learning rate of each group in this step."""
    grad_norm: float
    """Before clipping."""


def learning_rate(step: int, plan: LoopPlan) -> float:
    """Give the share of the peak learning rate at a step of the loop: in (0, 1]."""
    return share_of_peak(
        step,
        plan.steps,
        schedule=plan.schedule,
        warmup_frac=plan.warmup_frac,
        decay_frac=plan.decay_frac,
        floor=plan.floor,
    )


def fit(
    groups: Sequence[Group],
    plan: LoopPlan,
    backward: Callable[[int], float],
    draft: Draft,
    on_step: Callable[[int, StepLog], None] = lambda step, log: None,
    *,
    ranks: Ranks = ONE,
    describe: Callable[[int], str] = lambda step: "",
    before_checkpoint: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train in place; go on from the newest checkpoint in `draft.scratch` if there is one.

    Args:
        groups: What is trained. Parameters must lie on their device already.
        plan: Steps and rates.
        backward: Runs forward and backward of a whole step (all micro-batches), adding to
            `.grad`, and returns its mean loss in nats. With several processes, it does this
            process's share, so that gradients and losses add up to those of the step.
        draft: Seed, place of the checkpoints, and progress.
        on_step: Called after each step, before the checkpoint that covers it. After a kill,
            steps since the last checkpoint are done again and called again, with equal values:
            a consumer must take a second call for a step as a replacement of the first.
        ranks: The processes that train together.
        describe: Tells what a step reads, for messages.
        before_checkpoint: Puts what `on_step` kept on the disk, in the process that writes.

    Returns:
        Loss of every step, those before a resume included.

    Raises:
        LingraftError: The loss or the gradients are no longer finite, or memory ran out.
        StoppedError: SIGTERM came; everything up to here is in a checkpoint.
        InputError: The checkpoint is not one of this model.
    """
    optimizer = make_optimizer(plan.optimizer, groups, plan.beta2)
    parameters = [p for group in groups for p in group.parameters.values()]
    ranks.copy_first(parameters)
    checkpoints = Checkpoints(draft.scratch / plan.folder, plan.keep_checkpoints, draft.note)
    losses = checkpoints.restore(groups, optimizer, plan.known_steps)
    done, per_step = len(losses), plan.tokens_per_step
    progress_of = draft.progress(plan.label, plan.steps * per_step, "tokens", done * per_step)
    with progress_of as progress, _Termination() as termination:
        for local in range(done, plan.steps):
            step = plan.first_step + local
            _seed(draft.seed, step, ranks)
            rates = _set_rates(groups, optimizer, learning_rate(local, plan))
            log = _take_step(step, optimizer, plan, backward, parameters, rates, ranks, describe)
            losses.append(log.loss)
            on_step(step, log)
            is_asked = bool(ranks.sum_number(float(termination.is_asked)))
            if ranks.is_first and (_is_due(local, plan) or is_asked):
                before_checkpoint()
                checkpoints.save(groups, optimizer, losses)
            if is_asked and not (plan.is_last and local + 1 == plan.steps):
                ranks.wait()
                raise _stopped(step)
            progress.advance(per_step, _told(log, parameters[0].device))
    ranks.wait()
    return losses


def _told(log: StepLog, device: torch.device) -> str:
    return f"step {log.step + 1:,}, loss {log.loss:.3f}, {memory_told(device)}"


def memory_told(device: torch.device) -> str:
    """Tell a GPU's memory in use and its most so far, or the most that this process had."""
    if device.type == "cuda":
        now, most = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
        return f"GPU {now / 1e9:.1f} GB, most {most / 1e9:.1f} GB"
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): KiB on Linux
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"memory {most / 1e9:.1f} GB at most"


def _take_step(
    step: int,
    optimizer: Any,
    plan: LoopPlan,
    backward: Callable[[int], float],
    parameters: Sequence[torch.nn.Parameter],
    rates: dict[str, float],
    ranks: Ranks,
    describe: Callable[[int], str],
) -> StepLog:
    """Forward, backward, and a step of the optimizer; of all processes together."""
    with _telling_of_memory(step):
        optimizer.zero_grad(set_to_none=True)
        loss = ranks.sum_number(backward(step))
        ranks.sum_gradients(parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm))
        _check_finite(step, loss, norm, rates, describe)
        optimizer.step()
    return StepLog(step, loss, rates, norm)


def _is_due(local: int, plan: LoopPlan) -> bool:
    every = plan.checkpoint_every
    return every > 0 and ((local + 1) % every == 0 or local + 1 == plan.steps)


def _seed(seed: int, step: int, ranks: Ranks) -> None:
    """Seed torch by a hash, so that neighbouring seeds and steps share nothing."""
    place = f" {ranks.rank}" if ranks.rank else ""
    mixed = hashlib.sha256(f"{seed} {step}{place}".encode()).digest()
    torch.manual_seed(int.from_bytes(mixed[:8], "little"))


def _set_rates(groups: Sequence[Group], optimizer: Any, share: float) -> dict[str, float]:
    rates = {group.name: group.lr * share for group in groups}
    for group, slot in zip(groups, optimizer.param_groups, strict=True):
        slot["lr"] = rates[group.name]
    return rates


def _check_finite(
    step: int, loss: float, norm: float, rates: dict[str, float], describe: Callable[[int], str]
) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    shown = ", ".join(f"{name} {rate:.2g}" for name, rate in rates.items())
    batch = describe(step)
    read = f" It read {batch}." if batch else ""
    raise LingraftError(
        f"step {step}: loss {loss}, gradient norm {norm}; expected finite numbers.{read}",
        effect=f"Every parameter would become NaN. Learning rates were: {shown}. "
        "The checkpoint before this step is kept for the same settings.",
        way_out="Lower the learning rate (lr), or lengthen the warm-up (warmup_frac); "
        "if it is always this step, look at what it read. " + _BEGINS_ANEW,
    )


def _stopped(step: int) -> StoppedError:
    return StoppedError(
        f"stopped by SIGTERM after step {step}; a checkpoint holds everything up to here.",
        way_out="Run the same command again to go on.",
    )


class _Termination:
    """Notices SIGTERM, where this is the thread that gets signals; puts the handler back."""

    def __init__(self) -> None:
        self.is_asked = False
        self._former: Any = None

    def __enter__(self) -> _Termination:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True


@contextmanager
def _telling_of_memory(step: int) -> Iterator[None]:
    """Turn a lack of memory into a message that says what to lower."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        is_lack = isinstance(error, torch.OutOfMemoryError)
        if not is_lack and "can't allocate memory" not in str(error):
            raise
        raise LingraftError(
            f"step {step}: memory ran out: {str(error).splitlines()[0]}",
            effect="The checkpoint before this step is kept for the same settings.",
            way_out="Lower train.micro_batch_size and raise train.accumulation as much; the "
            "result stays the same but for rounding, dropout's masks, and "
            "train.router_aux_loss where it is above 0. Then lower train.seq_len or "
            "train.lora.rank, take train.optimizer = 'adamw-8bit', or train.rows = 'added'. "
            + _BEGINS_ANEW,
        ) from error
