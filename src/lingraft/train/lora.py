"""A frozen weight and a low-rank adapter beside it: y = x Wᵀ + (alpha / rank) (x Aᵀ) Bᵀ.

The two paths stay apart. Folding the adapter into a bfloat16 weight, as is common, rounds
most of a small update away (an update of 1/1000 of the weight loses 80%). The frozen weight
is unpacked for a product and dropped: the backward pass unpacks it again, so no graph ever
holds it. Adapters are float32 masters, cast to the body's dtype for a product.

An expert's matrices carry one adapter each, under their published roles w1, w3 and w2, though
transformers fuses w1 and w3 into one product. Rows are sorted by expert once a layer.

Shapes: T tokens, K experts a token, N = T K rows, G groups (experts; 1 for a plain linear
map), I inputs, O outputs, R rank.
Source: LoRA (Hu et al. 2021, arXiv 2106.09685); QLoRA (Dettmers et al. 2023, arXiv 2305.14314).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn.functional import dropout, linear, silu

from ..nf4 import PARTS, Packed, dequantize, has_kernels, packed_bytes, quantize, stack
from .experts import Adapters, Routing, expert_block
from .maps import adapted_map
from .recompute import is_second_run
from .steps import NO_DROPOUT, Dropout

__all__ = [
    "FrozenStack",
    "LoraPair",
    "QLoraExperts",
    "QLoraLinear",
    "QLoraStack",
    "use_path",
]

_WHOLE_STACK_ITEMS = 1 << 24  # below: unpack all groups in one call; above: one at a time
_SILU = ("SiLU", "SiLUActivation")
"""What torch and transformers call it: the one activation that the fused steps know."""
_path: Literal["auto", "plain", "fused"] = "auto"

Counts = list[int]
"""Rows of each group; rows are sorted by group."""


@contextmanager
def use_path(path: Literal["auto", "plain", "fused"]) -> Iterator[None]:
    """Choose how maps and expert blocks are computed, wherever they are.

    Args:
        path: `plain` leaves the backward pass to autograd, operation by operation: the
            reference. `fused` takes one step of autograd a map and a block, see `experts`.
            `auto` is fused on a GPU, plain elsewhere.
    """
    global _path  # noqa: PLW0603
    former, _path = _path, path
    try:
        yield
    finally:
        _path = former


class FrozenStack(nn.Module):
    """G matrices (O, I) that are never trained, packed as NF4 or kept as they are."""

    def __init__(
        self,
        matrices: Iterable[torch.Tensor | Packed],
        quantize_body: bool,
        parts: int = 1,
    ) -> None:
        """Pack the matrices.

        Args:
            matrices: Published matrices of one shape, group by group. Each is packed by itself,
                if it is not yet, and before the next is asked for, so that memory holds one of
                them unpacked, and so that it can be reproduced from the published one.
            quantize_body: NF4; otherwise matrices keep their dtype.
            parts: Matrices, laid row under row, that make up one group.

        Raises:
            InputError: A matrix cannot be packed.
        """
        super().__init__()
        self._is_packed = quantize_body
        self.parts = parts
        if quantize_body:
            packed = stack([m if isinstance(m, Packed) else quantize(m) for m in matrices])
            for name, part in zip(PARTS, packed.parts, strict=True):
                self.register_buffer(name, part)
            count, shape = len(packed.mean), packed.shape
            item_bytes = packed_bytes(math.prod(shape))
        else:
            weight = torch.stack(list(cast(Iterable[torch.Tensor], matrices)))
            self.register_buffer("weight", weight)
            count, shape = len(weight), tuple(weight.shape[1:])
            item_bytes = math.prod(shape) * weight.element_size()
        self.num_items = count * math.prod(shape)
        self.num_groups = count // parts
        self.part_shape = (shape[0], shape[1])
        assert self.size_bytes == count * item_bytes, f"{self.size_bytes} != {count} x {item_bytes}"

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())

    def matrices(self, dtype: torch.dtype) -> Callable[[int], torch.Tensor]:
        """Give access to the groups' matrices (O, I), unpacked when asked for."""
        if self.num_items <= _WHOLE_STACK_ITEMS:
            dense_GOI = self._unpack(slice(None), dtype)
            return lambda g: dense_GOI[g]
        return lambda g: self._unpack(slice(g * self.parts, (g + 1) * self.parts), dtype)[0]

    def unpack_into(self, group: int, out_OI: torch.Tensor) -> None:
        """Write the matrix of one group; its rows may lie apart."""
        own = slice(group * self.parts, (group + 1) * self.parts)
        if self._is_packed and out_OI.is_cuda and has_kernels():
            from ..nf4_triton import can_unpack, unpack_into

            packed = self._packed(own)
            if can_unpack(packed):
                shape = (self.parts, *self.part_shape)
                unpack_into(packed, out_OI.view(shape))
                return
        out_OI.copy_(self._unpack(own, out_OI.dtype)[0])

    def _packed(self, which: slice) -> Packed:
        codes, constants, maxima, mean = (getattr(self, name)[which] for name in PARTS)
        return Packed(codes, constants, maxima, mean, self.part_shape)

    def _unpack(self, which: slice, dtype: torch.dtype) -> torch.Tensor:
        rows, width = self.part_shape
        if not self._is_packed:
            matrices = cast(torch.Tensor, self.weight)[which].to(dtype)
        else:
            matrices = dequantize(self._packed(which), dtype)
        return matrices.view(-1, self.parts * rows, width)


class LoraPair(nn.Module):
    """The adapters of one published role: A (G, R, I) and B (G, O, R), float32."""

    def __init__(
        self,
        num_groups: int,
        inputs: int,
        outputs: int,
        rank: int,
        alpha: float,
        generator: torch.Generator,
    ) -> None:
        """Start A uniform in ±1/√inputs and B at 0, so that training starts at the base."""
        super().__init__()
        start = torch.empty(num_groups, rank, inputs)
        bound = 1 / math.sqrt(inputs)
        self.A = nn.Parameter(start.uniform_(-bound, bound, generator=generator))
        self.B = nn.Parameter(torch.zeros(num_groups, outputs, rank))
        self.scale = alpha / rank

    def forward(self, x_NI: torch.Tensor, counts: Counts) -> torch.Tensor:
        """(alpha / rank) (x Aᵀ) Bᵀ, rows of each group by its own pair."""
        a, b = self.A.to(x_NI.dtype), self.B.to(x_NI.dtype)
        return _by_group(_by_group(x_NI, a, counts) * self.scale, b, counts)


class QLoraStack(nn.Module):
    """Frozen matrices that share their input, with an adapter for each of their roles."""

    def __init__(
        self, frozen: FrozenStack, pairs: Sequence[LoraPair | None], dropout: float
    ) -> None:
        """Join them; `pairs` follow the parts of a group, None where a role is not adapted.

        Dropout acts on the adapters' input; roles that share their input share its mask.
        """
        super().__init__()
        assert len(pairs) == frozen.parts, "one pair, or None, for each part"
        self.frozen = frozen
        self.dropout = dropout
        self.pairs = nn.ModuleList(pair or nn.Identity() for pair in pairs)
        self._adapted = [pair is not None for pair in pairs]

    @property
    def adapters(self) -> list[LoraPair]:
        """The pairs of adapted roles."""
        return [pair for pair in self.pairs if isinstance(pair, LoraPair)]

    def draw_dropout(self) -> Dropout:
        """Draw the seed of a mask from torch's CPU generator."""
        if not (self.dropout and self.training):
            return NO_DROPOUT
        return Dropout(self.dropout, int(torch.randint(1 << 31, ())))

    def forward(self, x_NI: torch.Tensor, counts: Counts) -> tuple[torch.Tensor, ...]:
        """Outputs (N, O) of each role, for rows sorted by group."""
        product = _apply(_FrozenProduct, x_NI, self.frozen, counts)
        outputs = product.chunk(self.frozen.parts, -1)
        if not any(self._adapted):
            return tuple(outputs)
        dropped = dropout(x_NI, self.dropout, self.training) if self.dropout else x_NI
        return tuple(
            output + pair(dropped, counts) if adapted else output
            for output, pair, adapted in zip(outputs, self.pairs, self._adapted, strict=True)
        )


class QLoraLinear(nn.Module):
    """Stands in for one nn.Linear without bias."""

    def __init__(self, stack: QLoraStack, dtype: torch.dtype) -> None:
        """Compute in `dtype` with a stack of one group and one part."""
        super().__init__()
        self.stack = stack
        self._dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) to (..., O)."""
        rows = x.reshape(-1, x.shape[-1]).to(self._dtype)
        if takes_fast_path(rows, [self.stack]):
            (pair,) = self.stack.adapters
            dropout = self.stack.draw_dropout()
            output = adapted_map(rows, self.stack.frozen, pair.A[0], pair.B[0], pair.scale, dropout)
            return output.view(*x.shape[:-1], -1)
        (output,) = self.stack(rows, [len(rows)])
        return cast(torch.Tensor, output).view(*x.shape[:-1], -1)


class QLoraExperts(nn.Module):
    """Stands in for transformers' MixtralExperts: same call, same result."""

    def __init__(
        self,
        gate_up: QLoraStack,
        down: QLoraStack,
        activation: Callable[[torch.Tensor], torch.Tensor],
        dtype: torch.dtype,
    ) -> None:
        """Take w1 and w3 as the two parts of `gate_up`, and w2 as `down`."""
        super().__init__()
        self.gate_up, self.down, self._activation, self._dtype = gate_up, down, activation, dtype
        self._is_silu = activation is silu or type(activation).__name__ in _SILU

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """Send each token through its experts.

        Args:
            hidden_states: (T, I).
            top_k_index: (T, K) experts of each token.
            top_k_weights: (T, K) their shares.

        Returns:
            (T, I), the experts' outputs weighted and summed.
        """
        if takes_fast_path(hidden_states, [self.gate_up, self.down]) and self._is_silu:
            return self._fast(hidden_states, top_k_index, top_k_weights)
        num_tokens, per_token = top_k_index.shape
        flat = top_k_index.reshape(-1)
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat, minlength=self.gate_up.frozen.num_groups).tolist()
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        each = hidden_states.to(self._dtype).unsqueeze(1).expand(-1, per_token, -1)
        rows = _permute(each.reshape(num_tokens * per_token, -1), order, back)
        gate, up = self.gate_up(rows, counts)
        (output,) = self.down(self._activation(gate) * up, counts)
        output = _permute(output, back, order).view(num_tokens, per_token, -1)
        shares = top_k_weights.to(self._dtype).unsqueeze(-1)
        return (output * shares).sum(1).to(hidden_states.dtype)

    def _fast(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        # A layer's second run only keeps what was there: who goes where is known by then.
        groups = self.gate_up.frozen.num_groups
        routing = None if is_second_run() else Routing(top_k_index, groups)
        (gate, up), (down,) = self.gate_up.adapters, self.down.adapters
        output = expert_block(
            hidden_states.to(self._dtype),
            top_k_weights,
            routing,
            (self.gate_up.frozen, self.down.frozen),
            Adapters(gate.A, gate.B, up.A, up.B, down.A, down.B),
            gate.scale,
            self.gate_up.draw_dropout(),
        )
        return output.to(hidden_states.dtype)


def takes_fast_path(x: torch.Tensor, stacks: Sequence[QLoraStack]) -> bool:
    """Tell whether fused steps do it: they are wanted, and every role is adapted, all alike."""
    pairs = [pair for stack in stacks for pair in stack.adapters]
    return (
        (_path == "fused" or (_path == "auto" and x.is_cuda and has_kernels()))
        and len(pairs) == sum(stack.frozen.parts for stack in stacks)
        and len({(pair.scale, pair.A.shape[1]) for pair in pairs}) == 1
        and len({stack.dropout for stack in stacks}) == 1
    )


class _FrozenProduct(torch.autograd.Function):
    """Rows of each group times its matrix, which is unpacked in both directions."""

    @staticmethod
    def forward(ctx: Any, x_NI: torch.Tensor, frozen: FrozenStack, counts: Counts) -> torch.Tensor:
        ctx.frozen, ctx.counts = frozen, counts
        matrix_of = frozen.matrices(x_NI.dtype)
        return _product(x_NI, lambda g: matrix_of(g).t(), counts, frozen.num_groups)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        matrix_of = ctx.frozen.matrices(grads[0].dtype)
        return _product(grads[0], matrix_of, ctx.counts, ctx.frozen.num_groups), None, None


class _GroupProduct(torch.autograd.Function):
    """Rows of each group times its trained matrix (G, O, I), transposed."""

    @staticmethod
    def forward(
        ctx: Any, x_NI: torch.Tensor, weight_GOI: torch.Tensor, counts: Counts
    ) -> torch.Tensor:
        ctx.save_for_backward(x_NI, weight_GOI)
        ctx.counts = counts
        return _product(x_NI, lambda g: weight_GOI[g].t(), counts, len(counts))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x_NI, weight_GOI = ctx.saved_tensors
        grad_x = _product(grads[0], lambda g: weight_GOI[g], ctx.counts, len(ctx.counts))
        grad_weight = torch.empty_like(weight_GOI)
        pieces = zip(torch.split(grads[0], ctx.counts), torch.split(x_NI, ctx.counts), strict=True)
        for g, (grad, x) in enumerate(pieces):
            torch.mm(grad.t(), x, out=grad_weight[g])  # no rows: zeros
        return grad_x, grad_weight, None


class _Permutation(torch.autograd.Function):
    """Rows in another order. Both directions gather, so none depends on who adds first."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, order: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        ctx.back = back
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grads[0].index_select(0, ctx.back), None, None


def _apply(function: type[torch.autograd.Function], *arguments: object) -> torch.Tensor:
    return cast(torch.Tensor, function.apply(*arguments))  # type: ignore[no-untyped-call]


def _permute(x: torch.Tensor, order: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    return _apply(_Permutation, x, order, back)


def _by_group(x_NI: torch.Tensor, weight_GOI: torch.Tensor, counts: Counts) -> torch.Tensor:
    if len(counts) == 1:
        return linear(x_NI, weight_GOI[0])
    return _apply(_GroupProduct, x_NI, weight_GOI, counts)


def _product(
    x_NI: torch.Tensor, matrix_of: Callable[[int], torch.Tensor], counts: Counts, num_groups: int
) -> torch.Tensor:
    """Rows of each group times `matrix_of(group)`, (I, O); a group without rows costs nothing."""
    assert len(counts) == num_groups, f"{len(counts)} counts for {num_groups} groups"
    pieces = [
        x @ matrix_of(g) for g, x in enumerate(torch.split(x_NI, counts)) if counts[g] or g == 0
    ]
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]
