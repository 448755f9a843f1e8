"""The training loop of every stage that trains: optimizer, schedule, checkpoints, resume.

A step is a function of the parameters, the optimizer's state and (seed, step) alone: torch is
seeded anew before each step, so a run killed at any moment and started again ends with the same
bits as one that was left alone, on one device. Checkpoints are `checkpoints.py`'s.

SIGTERM, which a cluster sends before it takes a machine away, ends the run after the step that
it came in, with a checkpoint; before the first step, as soon as nothing is half done. Some clusters
send it twice: the second one changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import torch

from .checkpoints import Checkpoints
from .errors import LingraftError, StoppedError
from .optimizers import Group, OptimizerName, make_optimizer
from .progress import Progress
from .ranks import ONE, Ranks
from .schedules import Schedule, share_of_peak
from .store import Draft

__all__ = [
    "IS_KEPT",
    "LESS_MEMORY",
    "Group",
    "LoopPlan",
    "StepLog",
    "Termination",
    "fit",
    "learning_rate",
    "memory_told",
    "telling_of_memory",
]

_BEGINS_ANEW = "A run with other settings begins anew, from step 0: its checkpoints are its own."
IS_KEPT = "The checkpoint before this step is kept for the same settings."
"""What a run that ends with an error leaves."""
LESS_MEMORY = "train.lora.rank, take train.optimizer = 'adamw-8bit', or train.rows = 'added'"
"""What takes less memory in training, after "Lower "."""
_LESS_IN_A_STEP = (
    "Lower train.micro_batch_size and raise train.accumulation as much: the run goes on, and the "
    "result stays the same but for rounding and dropout's masks (it begins anew where "
    "train.router_aux_loss is above 0). Then lower "
    f"train.seq_len or {LESS_MEMORY}. {_BEGINS_ANEW}"
)
_GO_ON = "Run the same command again to go on."


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
    termination: Termination | None = None,
) -> list[float]:
    """Train in place; go on from the newest checkpoint in `draft.scratch` if there is one.

    Args:
        groups: What is trained. Parameters must lie on their device already.
        plan: Steps and rates.
        backward: Runs forward and backward of a whole step (all micro-batches), adding to
            `.grad`, and returns its mean loss in nats. Of several processes each does its share,
            so that gradients and losses add up to those of the step.
        draft: Seed, place of the checkpoints, and progress.
        on_step: Called after each step, before the checkpoint that covers it. After a kill, steps
            since the last checkpoint come again, with equal values: they replace the first.
        ranks: The processes that train together.
        describe: Tells what a step reads, for messages.
        before_checkpoint: Puts what `on_step` kept on the disk, in the process that writes.
        termination: That of the caller, entered; None: SIGTERM is noticed in this loop alone.

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
    done = len(losses)
    with _progress(draft, plan, done) as progress, _noticing(termination) as asked:
        if done < plan.steps:
            asked.stop_if_asked(ranks, f"before step {plan.first_step + done}")
        for local in range(done, plan.steps):
            _seed(draft.seed, step := plan.first_step + local, ranks)
            rates = _set_rates(groups, optimizer, learning_rate(local, plan))
            log = _take_step(step, optimizer, plan, backward, parameters, rates, ranks, describe)
            losses.append(log.loss)
            on_step(step, log)
            is_asked = bool(ranks.sum_number(float(asked.is_asked)))
            if ranks.is_first and (is_asked or _is_due(local, plan)):
                before_checkpoint()
                checkpoints.save(groups, optimizer, losses)
            if is_asked:
                _stop_after(local, plan, ranks)
            progress.advance(plan.tokens_per_step, _told(log, parameters[0].device))
    ranks.wait()
    return losses


def _progress(draft: Draft, plan: LoopPlan, done: int) -> AbstractContextManager[Progress]:
    per_step = plan.tokens_per_step
    return draft.progress(plan.label, plan.steps * per_step, "tokens", done * per_step)


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
    with telling_of_memory(f"step {step}", IS_KEPT, _LESS_IN_A_STEP):
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
        effect=f"Every parameter would become NaN. Learning rates were: {shown}. {IS_KEPT}",
        way_out="Lower the learning rate (lr), or lengthen the warm-up (warmup_frac); "
        "if it is always this step, look at what it read. " + _BEGINS_ANEW,
    )


def _stop_after(local: int, plan: LoopPlan, ranks: Ranks) -> None:
    if plan.is_last and local + 1 == plan.steps:
        return
    ranks.wait()
    raise StoppedError(
        f"stopped by SIGTERM after step {plan.first_step + local}; a checkpoint holds everything "
        "up to here.",
        way_out=_GO_ON,
    )


class Termination:
    """Notices SIGTERM, where this is the thread that gets signals; puts the handler back.

    The second of two signals changes nothing: a process that torchrun started may get SLURM's own,
    and the one that torchrun hands on.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._former: Any = None

    def __enter__(self) -> Termination:
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

    def stop_if_asked(self, ranks: Ranks, when: str) -> None:
        """End the run where nothing is half done and no step is lost.

        Args:
            ranks: Those that come to here together: where one was asked, all stop.
            when: For the message, as "before step 0".

        Raises:
            StoppedError: SIGTERM came.
        """
        if ranks.sum_number(float(self.is_asked)):
            raise StoppedError(
                f"stopped by SIGTERM {when}; whatever checkpoints there were are kept.",
                way_out=_GO_ON,
            )

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True


def _noticing(termination: Termination | None) -> AbstractContextManager[Termination]:
    return nullcontext(termination) if termination else Termination()


@contextmanager
def telling_of_memory(where: str, effect: str, way_out: str) -> Iterator[None]:
    """Turn a lack of memory into a message that says what to lower.

    Raises:
        LingraftError: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        is_lack = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_lack and "can't allocate memory" not in str(error):
            raise
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise LingraftError(
            f"{where}: memory ran out: {first_line}", effect=effect, way_out=way_out
        ) from error
