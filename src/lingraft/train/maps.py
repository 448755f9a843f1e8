"""A linear map with its adapter, and a norm, each as one step of autograd.

What `experts` does for a whole block, done for the maps of attention: only the input is kept,
the frozen weight is unpacked in both directions, dropout comes from a seed. A norm whose weight
is frozen keeps its input alone.

Shapes: N rows, I inputs, O outputs, R rank, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from .experts import Frozen, product32, steps_for
from .steps import Dropout

__all__ = ["adapted_map", "frozen_norm", "fuse_norms"]


def adapted_map(
    x_NI: torch.Tensor,
    frozen: Frozen,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
    dropout: Dropout,
    steps: ModuleType | None = None,
) -> torch.Tensor:
    """Give x Wᵀ + scale * dropout(x) Aᵀ Bᵀ, in x's dtype.

    Args:
        x_NI: Inputs.
        frozen: One matrix (O, I).
        a_RI: Float32 master.
        b_OR: Float32 master.
        scale: Of the adapter: alpha / rank.
        dropout: On the adapter's input.
        steps: `steps` or `kernels`; as the device wants it by default.
    """
    arguments = (x_NI, a_RI, b_OR, frozen, scale, dropout, steps or steps_for(x_NI))
    out = _AdaptedMap.apply(*arguments)  # type: ignore[no-untyped-call]
    return cast(torch.Tensor, out)


def frozen_norm(
    x_NW: torch.Tensor, weight_W: torch.Tensor, epsilon: float, steps: ModuleType | None = None
) -> torch.Tensor:
    """Give weight * x / RMS(x); the weight gets no gradient."""
    out = _FrozenNorm.apply(  # type: ignore[no-untyped-call]
        x_NW, weight_W, epsilon, steps or steps_for(x_NW)
    )
    return cast(torch.Tensor, out)


def fuse_norms(model: nn.Module) -> int:
    """Let a GPU compute each frozen RMSNorm of a transformers model in one pass.

    Returns:
        Number of norms that are fused.
    """
    norms = [m for m in model.modules() if hasattr(m, "variance_epsilon")]
    for norm in norms:
        norm.forward = partial(_norm, norm, norm.forward)
    return len(norms)


def _norm(module: Any, plain: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Any:
    weight = module.weight
    if not x.is_cuda or weight.requires_grad or x.dtype != weight.dtype:
        return plain(x)
    rows = x.reshape(-1, x.shape[-1])
    return frozen_norm(rows, weight, module.variance_epsilon).view(x.shape)


class _AdaptedMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NI: torch.Tensor,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        frozen: Frozen,
        scale: float,
        dropout: Dropout,
        steps: Any,
    ) -> torch.Tensor:
        ctx.save_for_backward(x_NI, a_RI, b_OR)
        ctx.frozen, ctx.scale, ctx.dropout, ctx.steps = frozen, scale, dropout, steps
        weight = x_NI.new_empty(len(b_OR), x_NI.shape[1])
        frozen.unpack_into(0, weight)
        a = (a_RI * scale).to(x_NI.dtype)
        narrow = steps.drop(x_NI, dropout) @ a.t()
        return (x_NI @ weight.t()).addmm_(narrow, b_OR.to(x_NI.dtype).t())

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[Any, ...]:
        x_NI, a_RI, b_OR = ctx.saved_tensors
        (of_y,) = outer
        of_y = of_y.contiguous()
        a, b = (a_RI * ctx.scale).to(x_NI.dtype), b_OR.to(x_NI.dtype)
        dropped = ctx.steps.drop(x_NI, ctx.dropout)
        low = of_y @ b
        of_a, of_b = torch.empty_like(a_RI), torch.empty_like(b_OR)
        product32(of_y.t(), dropped @ a.t(), of_b)
        product32(low.t(), dropped, of_a, ctx.scale)
        del dropped
        weight = x_NI.new_empty(len(b_OR), x_NI.shape[1])
        ctx.frozen.unpack_into(0, weight)
        of_x = of_y @ weight
        ctx.steps.add_adapter(of_x, low, a, ctx.dropout)
        return of_x, of_a, of_b, None, None, None, None


class _FrozenNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NW: torch.Tensor, weight_W: torch.Tensor, epsilon: float, steps: Any
    ) -> torch.Tensor:
        ctx.save_for_backward(x_NW, weight_W)
        ctx.epsilon, ctx.steps = epsilon, steps
        return cast(torch.Tensor, steps.norm(x_NW, weight_W, epsilon))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[Any, ...]:
        x_NW, weight_W = ctx.saved_tensors
        of_x = ctx.steps.norm_backward(x_NW, weight_W, ctx.epsilon, outer[0].contiguous())
        return of_x, None, None, None
