"""Optimizers by name, and their state as named tensors, whoever wrote them.

`adamw` is torch's fused one, its two moments in float32: 8 bytes a parameter. The others are
bitsandbytes' and take that package: `adamw-8bit` keeps the moments in a byte each, by blocks of
numbers that share a scale; `paged-adamw` and `paged-adamw-8bit` let a GPU's driver move the state
to the machine's memory where the card is full.

Sources: AdamW, Loshchilov & Hutter 2017 (arXiv 1711.05101); 8-bit states, Dettmers et al. 2021
(2110.02861); paged ones, Dettmers et al. 2023 (2305.14314).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Group", "OptimizerName", "load_state", "make_optimizer", "state_of"]

OptimizerName = Literal["adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit"]
_CLASSES = {
    "adamw-8bit": "AdamW8bit",
    "paged-adamw": "PagedAdamW32bit",
    "paged-adamw-8bit": "PagedAdamW8bit",
}


class Group(NamedTuple):
    """Parameters that share a peak learning rate; names are unique over all groups."""

    name: str
    parameters: dict[str, torch.nn.Parameter]
    lr: float
    weight_decay: float


def make_optimizer(name: OptimizerName, groups: Sequence[Group], beta2: float) -> Any:
    """Make the optimizer of all groups, in their order.

    Raises:
        MissingPackageError: It is one of bitsandbytes', which is not installed.
        UsageError: It is a paged one, and the parameters are not on a GPU.
    """
    import torch

    names = [name for group in groups for name in group.parameters]
    assert len(names) == len(set(names)), "a parameter name is in two groups"
    dtypes = {p.dtype for group in groups for p in group.parameters.values()}
    assert dtypes == {torch.float32}, f"trained parameters are float32, got {dtypes}"
    slots = [
        {"params": list(g.parameters.values()), "lr": g.lr, "weight_decay": g.weight_decay}
        for g in groups
    ]
    betas = (0.9, beta2)
    if name == "adamw":
        # The fused kernel takes one pass over memory and exists for float parameters everywhere.
        return torch.optim.AdamW(slots, betas=betas, fused=True)
    if name.startswith("paged") and any(p.device.type == "cpu" for s in slots for p in s["params"]):  # type: ignore[attr-defined]
        raise UsageError(
            f"train.optimizer = '{name}', but what is trained is not on a GPU.",
            effect="There is no memory to page from; bitsandbytes would go on without.",
            way_out="Take 'adamw-8bit', which keeps as small a state, or 'adamw'.",
        )
    try:
        import bitsandbytes
    except ImportError as error:
        raise MissingPackageError(
            f"train.optimizer = '{name}' needs the package bitsandbytes: {error}.",
            way_out="pip install bitsandbytes, or take 'adamw'.",
        ) from None
    return getattr(bitsandbytes.optim, _CLASSES[name])(slots, betas=betas)


def state_of(optimizer: Any, parameter: torch.nn.Parameter) -> tuple[int, dict[str, torch.Tensor]]:
    """Give the steps that a parameter took, and its state's tensors by name."""
    import torch

    state = optimizer.state.get(parameter) or {}  # none where no gradient ever came
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor) and k != "step"}
    return int(state["step"]) if state else 0, tensors


def load_state(
    optimizer: Any,
    parameter: torch.nn.Parameter,
    steps_taken: int,
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Put back what `state_of` gave."""
    import torch

    if hasattr(optimizer, "init_state"):  # bitsandbytes: its buffers may be paged ones
        _init_state(optimizer, parameter)
        state = optimizer.state[parameter]
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
        state["step"] = steps_taken
        return
    device = parameter.device
    # The fused kernel wants its count as float32, on the parameter's device.
    count = torch.tensor(float(steps_taken), device=device)
    kept = {name: tensor.to(device) for name, tensor in tensors.items()}
    optimizer.state[parameter] = {"step": count, **kept}


def _init_state(optimizer: Any, parameter: torch.nn.Parameter) -> None:
    for g, slot in enumerate(optimizer.param_groups):
        for p, found in enumerate(slot["params"]):
            if found is parameter:
                optimizer.init_state(slot, parameter, g, p)
                return
    raise AssertionError("a parameter that the optimizer does not have")
