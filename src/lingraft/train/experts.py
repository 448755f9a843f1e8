"""A whole expert block as one step of autograd: only its input and the routing are kept.

The backward pass computes the gate and up products again, never the down product: what a
token's share of an expert gains is <h, dh>, not <y, dy>. Frozen weights are unpacked for one
expert at a time, beside the B matrices of their adapters: [x, a] [W, B]ᵀ is the frozen product
and the adapter's in one, with the two paths still apart (nothing is added to a weight), and
dy [W, B] gives the gradients of x and of a in one. Sums of a token's experts are gathered in one
order, so the same numbers come out every time.

Shapes: T tokens, K experts a token, N = T K rows sorted by expert, G experts, D model width,
F inner width, R rank.
Source of <h, dh>: the chain rule; y = h Wᵀ is linear in h, so <dy, y> = <dy W, h>.
"""

from __future__ import annotations

from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import torch

from ..nf4 import has_kernels
from . import steps as torch_steps
from .recompute import is_second_run
from .steps import Dropout

__all__ = ["Adapters", "Frozen", "Routing", "expert_block", "product32", "steps_for"]


class Frozen(Protocol):
    """Frozen matrices (G, O, I), unpacked when asked for."""

    def unpack_into(self, group: int, out_OI: torch.Tensor) -> None:
        """Write the matrix of one group."""


class Adapters(NamedTuple):
    """Float32 masters: A (G, R, I) and B (G, O, R) of the gate, up and down maps."""

    gate_a: torch.Tensor
    gate_b: torch.Tensor
    up_a: torch.Tensor
    up_b: torch.Tensor
    down_a: torch.Tensor
    down_b: torch.Tensor


class Routing:
    """Which rows belong to which expert.

    The host learns the experts' numbers of rows late: they are on their way while the device
    sorts and gathers, so that it has work until the host knows what to ask for next.
    """

    def __init__(self, index_TK: torch.Tensor, num_groups: int) -> None:
        """Sort the rows."""
        flat = index_TK.reshape(-1)
        experts = torch.arange(num_groups, device=flat.device)
        counts = (flat.unsqueeze(1) == experts).sum(0)  # bincount would wait for the device
        self._counts = counts.to("cpu", non_blocking=True)
        self._is_there = (
            torch.cuda.current_stream(flat.device).record_event() if flat.is_cuda else None
        )
        self.order_N = torch.argsort(flat, stable=True)
        """Place of each sorted row in (T, K)."""
        self.tokens_N = self.order_N // index_TK.shape[1]
        """Token of each sorted row."""
        places = torch.empty_like(self.order_N)
        places[self.order_N] = torch.arange(len(flat), device=flat.device)
        self.places_TK = places.view(index_TK.shape)
        """Sorted row of each token's k-th expert."""

    @cached_property
    def counts(self) -> list[int]:
        """Rows of each expert; the one place where the host waits for the device."""
        if self._is_there is not None:
            self._is_there.synchronize()
        numbers: list[int] = self._counts.tolist()
        return numbers

    @property
    def groups(self) -> list[tuple[int, slice]]:
        """Experts that have rows, and their rows."""
        found, start = [], 0
        for group, count in enumerate(self.counts):
            if count:
                found.append((group, slice(start, start + count)))
            start += count
        return found


def steps_for(x: torch.Tensor) -> ModuleType:
    """Give the module of steps for a tensor's device: Triton's on a GPU, plain torch else."""
    if x.is_cuda and has_kernels():
        from . import kernels

        return kernels
    return torch_steps


class _Plan(NamedTuple):
    """What does not change between the passes."""

    gate_up: Frozen
    down: Frozen
    scale: float
    dropout: Dropout
    steps: Any

    def input_dropout(self, first_row: int) -> Dropout:
        """Give the mask of gate's and up's input, from a sorted row on."""
        return self.dropout._replace(first_row=first_row)

    def inner_dropout(self, first_row: int) -> Dropout:
        """Give the mask of down's input: another one."""
        seed = (self.dropout.seed * 747796405 + 2891336453) & 0x7FFFFFFF
        return Dropout(self.dropout.share, seed, first_row)


def expert_block(
    x_TD: torch.Tensor,
    shares_TK: torch.Tensor,
    routing: Routing | None,
    frozen: tuple[Frozen, Frozen],
    adapters: Adapters,
    scale: float,
    dropout: Dropout,
    steps: ModuleType | None = None,
) -> torch.Tensor:
    """Send tokens through their experts: sum over k of share * W2' (silu(W1' x) * W3' x).

    Args:
        x_TD: Inputs, in the dtype of the arithmetic.
        shares_TK: What each expert's output counts; gets a gradient.
        routing: None in the second run of a layer, see `recompute`.
        frozen: Gate and up as one matrix (2 F, D), and down (D, F), of each expert.
        adapters: Of all three maps.
        scale: Of the adapters: alpha / rank.
        dropout: On the adapters' inputs; gate and up share a mask.
        steps: `steps` or `kernels`; as the device wants it by default.

    Returns:
        (T, D).
    """
    plan = _Plan(*frozen, scale, dropout, steps or steps_for(x_TD))
    out = _ExpertBlock.apply(x_TD, shares_TK, routing, plan, *adapters)  # type: ignore[no-untyped-call]
    return cast(torch.Tensor, out)


class _Weights:
    """Adapters in the arithmetic's dtype, and two buffers that hold one expert's [W, B]."""

    def __init__(self, plan: _Plan, adapters: Adapters, like: torch.Tensor) -> None:
        self._plan, self._b = plan, adapters
        width, inner, self.rank = like.shape[1], adapters.gate_b.shape[1], adapters.gate_a.shape[1]
        self.width, self.inner = width, inner
        # With the scale in A, narrow sides carry it and nothing else has to.
        self.a_in = torch.cat([adapters.gate_a, adapters.up_a], 1).mul_(plan.scale).to(like.dtype)
        self.a_down = (adapters.down_a * plan.scale).to(like.dtype)
        self._in = like.new_empty(2 * inner, width + 2 * self.rank)
        self._in[:, width:] = 0
        self._down = like.new_empty(width, inner + self.rank)

    def gate_up(self, group: int) -> torch.Tensor:
        """(2 F, D + 2 R): [W1 B1 0] over [W3 0 B3]."""
        out, width, inner, rank = self._in, self.width, self.inner, self.rank
        self._plan.gate_up.unpack_into(group, out[:, :width])
        out[:inner, width : width + rank] = self._b.gate_b[group]
        out[inner:, width + rank :] = self._b.up_b[group]
        return out

    def down(self, group: int) -> torch.Tensor:
        """(D, F + R): [W2 B2]."""
        self._plan.down.unpack_into(group, self._down[:, : self.inner])
        self._down[:, self.inner :] = self._b.down_b[group]
        return self._down


def _input_rows(
    x_TD: torch.Tensor, routing: Routing, plan: _Plan, weights: _Weights
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give [x, a] of each sorted row, and x with dropout."""
    width, rows = weights.width, len(routing.tokens_N)
    wide = x_TD.new_empty(rows, width + 2 * weights.rank)
    has_dropout = plan.dropout.share > 0
    dropped = x_TD.new_empty(rows, width) if has_dropout else wide[:, :width]
    second = dropped if has_dropout else None
    plan.steps.gather(x_TD, routing.tokens_N, wide[:, :width], plan.input_dropout(0), second)
    for group, own in routing.groups:
        torch.mm(dropped[own], weights.a_in[group].t(), out=wide[own, width:])
    return wide, dropped


class _ExpertBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TD: torch.Tensor,
        shares_TK: torch.Tensor,
        routing: Routing | None,
        plan: _Plan,
        *adapters: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(x_TD, shares_TK, *adapters)
        ctx.routing, ctx.plan = routing, plan
        if is_second_run():
            return torch.full_like(x_TD, torch.nan)  # never read; if it were, it would show
        assert routing is not None, "rows without routing"
        weights = _Weights(plan, Adapters(*adapters), x_TD)
        wide, _ = _input_rows(x_TD, routing, plan, weights)
        output = x_TD.new_empty(len(wide), weights.width)
        for group, own in routing.groups:
            gate_up = wide[own] @ weights.gate_up(group).t()
            inner = x_TD.new_empty(len(gate_up), weights.inner + weights.rank)
            dropout = plan.inner_dropout(own.start)
            dropped = _dropped_inner(gate_up, inner[:, : weights.inner], plan, dropout)
            torch.mm(dropped, weights.a_down[group].t(), out=inner[:, weights.inner :])
            torch.mm(inner, weights.down(group).t(), out=output[own])
        return cast(torch.Tensor, plan.steps.combine(output, routing.places_TK, shares_TK))

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[Any, ...]:
        x_TD, shares_TK, *masters = ctx.saved_tensors
        routing, plan = ctx.routing, ctx.plan
        adapters = Adapters(*masters)
        weights = _Weights(plan, adapters, x_TD)
        grads = Adapters(*(torch.zeros_like(master) for master in masters))
        wide, dropped = _input_rows(x_TD, routing, plan, weights)
        shares_N = shares_TK.reshape(-1)[routing.order_N].float()
        of_shares_N = torch.zeros_like(shares_N)
        of_x = torch.empty_like(wide)
        for group, own in routing.groups:
            rows = _Rows(own.start, wide[own], dropped[own], routing.tokens_N[own], shares_N[own])
            of_shares_N[own] = _group_backward(
                group, rows, outer[0], of_x[own], weights, plan, grads
            )
        of_x_TD = plan.steps.combine(of_x[:, : weights.width], routing.places_TK, None)
        of_shares_TK = of_shares_N[routing.places_TK].to(shares_TK.dtype)
        return of_x_TD, of_shares_TK, None, None, *grads


class _Rows(NamedTuple):
    """Rows of one expert."""

    first: int
    wide: torch.Tensor
    dropped: torch.Tensor
    tokens: torch.Tensor
    shares: torch.Tensor


def _dropped_inner(
    gate_up: torch.Tensor, out: torch.Tensor | None, plan: _Plan, dropout: Dropout
) -> torch.Tensor:
    """Write silu(gate) * up to `out`; give it with dropout."""
    if not dropout.share and out is not None:
        plan.steps.glu(gate_up, out)
        return out
    dropped = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    plan.steps.glu(gate_up, out, dropout, dropped)
    return dropped


def _group_backward(
    group: int,
    rows: _Rows,
    outer_TD: torch.Tensor,
    of_x: torch.Tensor,
    weights: _Weights,
    plan: _Plan,
    grads: Adapters,
) -> torch.Tensor:
    """Write one expert's gradients of its rows [x, a] and adapters; give that of the shares."""
    width, inner, rank, scale = weights.width, weights.inner, weights.rank, plan.scale
    matrix = weights.gate_up(group)
    gate_up = rows.wide @ matrix.t()
    dropout = plan.inner_dropout(rows.first)
    dropped = _dropped_inner(gate_up, None, plan, dropout)
    outer = outer_TD.new_empty(len(gate_up), width)
    plan.steps.gather(outer_TD, rows.tokens, outer)
    of_inner = outer @ weights.down(group)
    low = of_inner[:, inner:]
    narrow = dropped @ weights.a_down[group].t()
    shares = rows.shares.unsqueeze(1).to(narrow.dtype)
    product32(outer.t(), narrow * shares, grads.down_b[group])
    product32((low * shares).t(), dropped, grads.down_a[group], scale)
    del dropped
    of_shares: torch.Tensor = plan.steps.glu_backward(
        gate_up,
        of_inner[:, :inner],
        low,
        weights.a_down[group],
        rows.shares,
        dropout,
    )
    of_gate, of_up = gate_up.chunk(2, 1)  # replaced by their gradients
    product32(of_gate.t(), rows.wide[:, width : width + rank], grads.gate_b[group])
    product32(of_up.t(), rows.wide[:, width + rank :], grads.up_b[group])
    torch.mm(gate_up, matrix, out=of_x)
    low = of_x[:, width:]
    of_a = torch.empty_like(weights.a_in[group], dtype=torch.float32)
    product32(low.t(), rows.dropped, of_a, scale)
    grads.gate_a[group], grads.up_a[group] = of_a[:rank], of_a[rank:]
    dropout = plan.input_dropout(rows.first)
    plan.steps.add_adapter(of_x[:, :width], low, weights.a_in[group], dropout)
    return of_shares


def product32(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, scale: float = 1.0) -> None:
    """Write scale * a @ b in float32; a GPU also sums in it, whatever the inputs' dtype."""
    if a.is_cuda and a.dtype != torch.float32:
        out.copy_(torch.mm(a, b, out_dtype=torch.float32))
    else:
        out.copy_(a @ b)
    if scale != 1:
        out.mul_(scale)
