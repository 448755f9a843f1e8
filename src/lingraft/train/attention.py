"""The maps of attention that share their input, as one step of autograd, heads turned in place.

q, k and v are rows of one product; their adapters share one mask, as an expert's gate and up do.
Positions are put in where the product was written, so no copy of q or k is made.

Shapes: N rows, I inputs, O outputs of q, k and v together, R rank, H width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from .experts import Frozen, product32, steps_for
from .lora import QLoraLinear, takes_fast_path
from .steps import Dropout

__all__ = ["fuse_attention", "turned_heads"]

_KNOWN = ("LlamaAttention", "MistralAttention", "MixtralAttention")
"""Attention of transformers whose forward pass is q, k, v, positions, attention, o."""


class _Plan(NamedTuple):
    frozen: tuple[Frozen, Frozen, Frozen]
    scale: float
    dropout: Dropout
    cos: torch.Tensor
    sin: torch.Tensor
    steps: Any


def turned_heads(
    x_NI: torch.Tensor,
    frozen: tuple[Frozen, Frozen, Frozen],
    masters: tuple[torch.Tensor, ...],
    scale: float,
    dropout: Dropout,
    tables: tuple[torch.Tensor, torch.Tensor],
    steps: Any = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give q, k and v (N, O of each), q and k turned by their positions.

    Args:
        x_NI: Inputs.
        frozen: Matrices of q, k and v.
        masters: A (R, I) and B (O, R) of q, of k and of v, float32.
        scale: Of the adapters: alpha / rank.
        dropout: On the adapters' input.
        tables: Cosines and sines (L, H); row n has place n mod L.
        steps: `steps` or `kernels`; as the device wants it by default.
    """
    plan = _Plan(frozen, scale, dropout, *tables, steps or steps_for(x_NI))
    out = _TurnedHeads.apply(x_NI, plan, *masters)  # type: ignore[no-untyped-call]
    return cast(tuple[torch.Tensor, torch.Tensor, torch.Tensor], out)


def fuse_attention(model: nn.Module) -> int:
    """Let a GPU compute q, k and v of each attention of a transformers model in one step.

    Returns:
        Number of attentions that are fused; those of other architectures stay as they are.
    """
    found = [
        module
        for module in model.modules()
        if type(module).__name__ in _KNOWN
        and all(isinstance(getattr(module, f"{r}_proj"), QLoraLinear) for r in "qkvo")
    ]
    for module in found:
        module.forward = partial(_attend, module, module.forward)
    return len(found)


def _attend(
    module: Any,
    plain: Callable[..., Any],
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **named: Any,
) -> Any:
    """Stand in for the forward pass of transformers' attention."""
    maps = [module.q_proj, module.k_proj, module.v_proj]
    implementation = module.config._attn_implementation
    if (
        past_key_values is not None
        or implementation == "eager"
        or not takes_fast_path(hidden_states, [m.stack for m in maps])
    ):
        return plain(
            hidden_states=hidden_states,
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **named,
        )
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    heads = _heads(module, hidden_states, position_embeddings)
    out, weights = ALL_ATTENTION_FUNCTIONS[implementation](
        module,
        *heads,
        attention_mask,
        dropout=module.attention_dropout if module.training else 0.0,
        scaling=module.scaling,
        sliding_window=getattr(module.config, "sliding_window", None),
        **named,
    )
    out = out.reshape(*hidden_states.shape[:-1], -1)
    return module.o_proj(out), weights


def _heads(
    module: Any, hidden_states: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor]
) -> list[torch.Tensor]:
    stacks = [module.q_proj.stack, module.k_proj.stack, module.v_proj.stack]
    pairs = [stack.adapters[0] for stack in stacks]
    rows = hidden_states.reshape(-1, hidden_states.shape[-1])
    q, k, v = turned_heads(
        rows,
        (stacks[0].frozen, stacks[1].frozen, stacks[2].frozen),
        tuple(matrix for pair in pairs for matrix in (pair.A[0], pair.B[0])),
        pairs[0].scale,
        stacks[0].draw_dropout(),
        (tables[0].flatten(0, 1), tables[1].flatten(0, 1)),
    )
    shape = (*hidden_states.shape[:-1], -1, module.head_dim)
    return [states.view(shape).transpose(1, 2) for states in (q, k, v)]


class _TurnedHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_NI: torch.Tensor, plan: _Plan, *masters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(x_NI, *masters)
        ctx.plan = plan
        spans, matrix = _unpack(x_NI, plan, masters)
        out = x_NI @ matrix.t()
        narrow = plan.steps.drop(x_NI, plan.dropout) @ _all_a(x_NI, plan, masters).t()
        rank = len(masters[0])
        for number, (span, b) in enumerate(zip(spans, masters[1::2], strict=True)):
            own = narrow[:, number * rank : (number + 1) * rank]
            out[:, span].addmm_(own, b.to(x_NI.dtype).t())
        for span in spans[:2]:
            plan.steps.rotate(out[:, span], plan.cos, plan.sin, False)
        return tuple(out[:, span] for span in spans)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[Any, ...]:
        x_NI, *masters = ctx.saved_tensors
        plan: _Plan = ctx.plan
        rank, dtype = len(masters[0]), x_NI.dtype
        spans, matrix = _unpack(x_NI, plan, masters)
        of_y = x_NI.new_empty(len(x_NI), len(matrix))
        for span, of_own in zip(spans, outer, strict=True):
            of_y[:, span] = of_own
        for span in spans[:2]:
            plan.steps.rotate(of_y[:, span], plan.cos, plan.sin, True)
        a = _all_a(x_NI, plan, masters)
        dropped = plan.steps.drop(x_NI, plan.dropout)
        narrow, low = dropped @ a.t(), x_NI.new_empty(len(x_NI), 3 * rank)
        grads = [torch.empty_like(master) for master in masters]
        for number, span in enumerate(spans):
            own = slice(number * rank, (number + 1) * rank)
            low[:, own] = of_y[:, span] @ masters[2 * number + 1].to(dtype)
            product32(of_y[:, span].t(), narrow[:, own], grads[2 * number + 1])
        of_a = torch.empty_like(a, dtype=torch.float32)
        product32(low.t(), dropped, of_a, plan.scale)
        del dropped
        for number in range(3):
            grads[2 * number].copy_(of_a[number * rank : (number + 1) * rank])
        of_x = of_y @ matrix
        plan.steps.add_adapter(of_x, low, a, plan.dropout)
        return of_x, None, *grads


def _all_a(x_NI: torch.Tensor, plan: _Plan, masters: Any) -> torch.Tensor:
    """A of q, k and v under each other, times the scale, (3 R, I)."""
    return torch.cat(masters[0::2]).mul_(plan.scale).to(x_NI.dtype)


def _unpack(x_NI: torch.Tensor, plan: _Plan, masters: Any) -> tuple[list[slice], torch.Tensor]:
    """Give the columns of q, k and v in their product, and their matrix (O, I)."""
    sizes = [len(b) for b in masters[1::2]]
    ends = list(accumulate(sizes))
    spans = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    matrix = x_NI.new_empty(ends[-1], x_NI.shape[1])
    for frozen, span in zip(plan.frozen, spans, strict=True):
        frozen.unpack_into(0, matrix[span])
    return spans, matrix
