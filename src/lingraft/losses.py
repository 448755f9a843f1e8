"""Cross-entropy of a large vocabulary without its N x V logits.

The head's product, the loss and both gradients are made chunk by chunk in the forward pass;
what stays in memory is one chunk of logits and the gradients themselves. The softmax is never
divided out: the row sum goes into the narrow side of each product (rows of width D, not V),
so the logits are passed over three times (maximum, exp, sum) and never copied.

Shapes: N positions, V pieces, D model width.
Source of the idea (gradients in the forward pass): Liger-Kernel, arXiv 2410.10989.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from .rows import IGNORE

__all__ = ["linear_cross_entropy"]

_CHUNK = 256  # logits of 57,000 pieces take 58 MB in float32: they stay near the cores
_CHUNKS = {"cuda": 2048}  # a GPU's products want rows
_Pair = tuple[torch.Tensor | None, torch.Tensor | None]


def linear_cross_entropy(
    x_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor, chunk: int = 0
) -> torch.Tensor:
    """Mean cross-entropy of `x_ND @ weight_VD.T` against labels.

    Args:
        x_ND: Last hidden states, any float dtype; products run in it, sums in float32.
        weight_VD: Head rows; cast to x_ND's dtype.
        labels_N: int64 ids in [0, V), or `IGNORE` for a position that does not count.
        chunk: Positions whose logits are held at once; 0: as many as suit the device.

    Returns:
        Mean nats over the labels that count, float32; 0 when none does. Gradients reach
        x_ND and weight_VD where they are wanted; without grad mode only the loss is made.
    """
    assert labels_N.shape == x_ND.shape[:1], f"{labels_N.shape} labels of {x_ND.shape}"
    chunk = chunk or _CHUNKS.get(x_ND.device.type, _CHUNK)
    wants_x = torch.is_grad_enabled() and x_ND.requires_grad
    wants_weight = torch.is_grad_enabled() and weight_VD.requires_grad
    if not (wants_x or wants_weight):
        with torch.no_grad():
            return _loss_and_grads(x_ND, weight_VD, labels_N, chunk, False, False)[0]
    loss = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        x_ND, weight_VD, labels_N, chunk, wants_x, wants_weight
    )
    return cast(torch.Tensor, loss)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        labels_N: torch.Tensor,
        chunk: int,
        wants_x: bool,
        wants_weight: bool,
    ) -> torch.Tensor:
        loss, grads = _loss_and_grads(x_ND, weight_VD, labels_N, chunk, wants_x, wants_weight)
        ctx.save_for_backward(*grads)
        ctx.weight_dtype = weight_VD.dtype
        return loss

    @staticmethod
    def backward(
        ctx: Any, *outer: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None, None]:
        grad_x, grad_weight = ctx.saved_tensors
        if grad_x is not None:
            grad_x = grad_x * outer[0].to(grad_x.dtype)
        if grad_weight is not None:
            grad_weight = (grad_weight * outer[0]).to(ctx.weight_dtype)
        return grad_x, grad_weight, None, None, None, None


def _loss_and_grads(
    x_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    labels_N: torch.Tensor,
    chunk: int,
    wants_x: bool,
    wants_weight: bool,
) -> tuple[torch.Tensor, _Pair]:
    """Loss, and its gradients by x_ND and (in float32) by weight_VD where wanted."""
    dtype = x_ND.dtype
    weight = weight_VD.to(dtype)
    counted = labels_N != IGNORE
    total = counted.sum().clamp_min(1)
    nats = torch.zeros((), dtype=torch.float64, device=x_ND.device)
    grad_x = torch.empty_like(x_ND) if wants_x else None
    grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if wants_weight else None
    buffer = x_ND.new_empty((min(chunk, len(x_ND)), len(weight)))
    for start in range(0, len(x_ND), chunk):
        x, valid = x_ND[start : start + chunk], counted[start : start + chunk]
        labels = labels_N[start : start + chunk].clamp_min(0).unsqueeze(1)
        # In float32 .float() gives the buffer itself, which the next lines then overwrite.
        logits = torch.mm(x, weight.t(), out=buffer[: len(x)]).float()
        top = logits.amax(1, keepdim=True)
        of_label = logits.gather(1, labels) - top
        weights = logits.sub_(top).exp_()
        sums = weights.sum(1, keepdim=True)
        nats += ((sums.log() - of_label).squeeze(1) * valid).sum(dtype=torch.float64)
        if not (wants_x or wants_weight):
            continue
        weights.scatter_add_(1, labels, -sums)
        scale = (valid / total).unsqueeze(1) / sums
        weights = weights.to(dtype)
        if grad_x is not None:
            grad_x[start : start + chunk] = torch.mm(weights, weight) * scale
        if grad_weight is not None:
            _add_product(grad_weight, weights, (x * scale).to(dtype))
    return (nats / total).to(torch.float32), (grad_x, grad_weight)


def _add_product(sum_VD: torch.Tensor, a_NV: torch.Tensor, b_ND: torch.Tensor) -> None:
    if b_ND.dtype == torch.float32:
        sum_VD.addmm_(a_NV.t(), b_ND)
    else:
        sum_VD.add_(torch.mm(a_NV.t(), b_ND))
