"""Processes that train one model together: which of them this one is, and what they share.

`torchrun` starts them and tells each its place by environment variables (RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT); whoever sets the same variables may start them as well, as
SLURM's srun does with a few lines of shell. Each process works on its share of a step's sequences,
gradients are summed, and every process takes the same step. Only the first one writes files.

Nothing that is trained on depends on the number of processes: a step's sequences are a function
of its number, and a checkpoint of one number of processes is one of any other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from .errors import UsageError

__all__ = ["ONE", "Ranks", "join_ranks", "local_rank"]

_BUCKET_ITEMS = 1 << 25


_TIMEOUT = timedelta(days=7)  # the first process may prepare data while the others wait


@dataclass
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    has_begun: bool = False
    """Whether all processes have begun to train."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and tells the user."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes; where one has none, it counts as zero."""
        if self.count == 1:
            return
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        has = has.to(parameters[0].device)
        dist.all_reduce(has, dist.ReduceOp.MAX)
        wanted = [p for p, is_there in zip(parameters, has.tolist(), strict=True) if is_there]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(wanted):
            grads = [p.grad for p in bucket if p.grad is not None]
            flat = torch.cat([grad.flatten() for grad in grads])
            dist.all_reduce(flat)
            parts = torch.split(flat, [grad.numel() for grad in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view_as(grad))

    def sum_number(self, number: float) -> float:
        """Add up a number of all processes."""
        if self.count == 1:
            return number
        total = torch.tensor([number], dtype=torch.float64, device=_device())
        dist.all_reduce(total)
        return float(total.item())

    def sum_counts(self, counts: torch.Tensor) -> torch.Tensor:
        """Add up whole numbers of all processes."""
        if self.count == 1:
            return counts
        total = counts.to(_device(), copy=True)
        dist.all_reduce(total)
        return total

    def copy_first(self, parameters: Sequence[torch.Tensor]) -> None:
        """Give every process the values of the first one."""
        if self.count == 1:
            return
        with torch.no_grad():
            for parameter in parameters:
                dist.broadcast(parameter.data, 0)

    def begin(self) -> None:
        """The first process lets the others begin, too; see `await_begin`."""
        if self.is_first and self.count > 1:
            self.sum_number(1.0)
            self.has_begun = True

    def await_begin(self) -> bool:
        """Wait for the first process; tell whether there is something to train."""
        return self.sum_number(0.0) > 0

    def cancel(self) -> None:
        """The first process tells the others that there is nothing to train."""
        if self.count > 1 and not self.has_begun:
            self.sum_number(0.0)

    def wait(self) -> None:
        """Let every process come to here."""
        if self.count > 1:
            self.sum_number(0.0)  # a barrier that knows the device


ONE = Ranks()
"""A process on its own."""
_joined: list[Ranks] = []
"""What `join_ranks` gave and has not taken back: one within it is the same."""


@contextmanager
def join_ranks(
    device: torch.device, environment: Mapping[str, str] = os.environ
) -> Iterator[Ranks]:
    """Find the other processes, as the environment tells; alone where it tells of none.

    Inside another call, gives what that one gave.

    Raises:
        UsageError: The environment tells half of it.
    """
    if _joined:
        yield _joined[0]
        return
    if "WORLD_SIZE" not in environment or environment["WORLD_SIZE"] == "1":
        yield ONE
        return
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in environment]
    if missing:
        raise UsageError(
            f"WORLD_SIZE = {environment['WORLD_SIZE']}, but {', '.join(missing)} not set.",
            effect="The processes would wait for each other without end.",
            way_out="Start them with torchrun --nproc_per_node N -m lingraft train RECIPE.",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_TIMEOUT)
    _joined.append(Ranks(dist.get_rank(), dist.get_world_size()))
    try:
        yield _joined[0]
    finally:
        _joined.clear()
        dist.destroy_process_group()


def local_rank() -> int:
    """Give the place of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _device() -> torch.device:
    is_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if is_gpu else torch.device("cpu")


def _buckets(
    parameters: Sequence[torch.nn.Parameter],
) -> Iterator[list[torch.nn.Parameter]]:
    bucket: list[torch.nn.Parameter] = []
    items = 0
    for parameter in parameters:
        bucket.append(parameter)
        items += parameter.numel()
        if items >= _BUCKET_ITEMS:
            yield bucket
            bucket, items = [], 0
    if bucket:
        yield bucket
