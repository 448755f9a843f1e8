"""Does the merged model say what base and adapter say?

The reference is computed another way than the merge: weights stay as they are, and hooks
add (alpha / rank) (x Aᵀ) Bᵀ to what each linear map gives. The merged model is the folder,
loaded as any user loads it. Both run in float32.

The merged model is run with the reference's choice of experts: where two experts are nearly
tied the last bit of a rounded weight decides, and a difference there says nothing about the
merge. The experts' shares remain its own.

Shapes: T tokens, K experts a token, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

__all__ = [
    "TOLERANCE",
    "add_adapter",
    "fixed_prompts",
    "follow_routing",
    "record_routing",
    "set_linears",
]

TOLERANCE: Mapping[str, float] = {"F32": 1e-4, "F16": 1e-2, "BF16": 5e-2}
"""Largest difference of logits allowed, as a part of the largest logit, by the coarsest
storage dtype of the merged model."""

Pairs = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""A (R, I) and B (O, R) by published parameter name."""


def fixed_prompts(vocab_size: int, count: int = 4, length: int = 32) -> torch.Tensor:
    """Prompts of ids spread over the whole vocabulary, the same on every machine."""
    positions = torch.arange(count * length)
    # A step that is prime to most sizes walks through all of them.
    return (positions * 7919 % vocab_size).view(count, length)


def set_linears(model: Any, weight_of: Callable[[str], torch.Tensor]) -> None:
    """Give every linear map of a transformers model's body another weight.

    Args:
        model: A causal LM, its experts fused or not.
        weight_of: Gives the weight (O, I) of a published parameter name.
    """
    for name, module in model.named_modules():
        if not name.startswith("model.layers."):
            continue
        if isinstance(module, nn.Linear):
            module.weight.copy_(weight_of(f"{name}.weight"))
        elif _is_fused(module):
            for e in range(module.num_experts):
                gate, up, down = (
                    weight_of(f"{_published(name)}.{e}.{role}.weight")
                    for role in ("w1", "w3", "w2")
                )
                module.gate_up_proj[e].copy_(torch.cat([gate, up]))
                module.down_proj[e].copy_(down)


def add_adapter(model: Any, pairs: Pairs, scale: float) -> None:
    """Make a transformers model add the adapter's part to each linear map it belongs to."""
    placed = 0
    for name, module in list(model.named_modules()):
        parameter = f"{name}.weight"
        if isinstance(module, nn.Linear) and parameter in pairs:
            module.register_forward_hook(_adding(*pairs[parameter], scale))
            placed += 1
        elif _is_fused(module):
            experts = _SplitExperts(module, pairs, _published(name), scale)
            model.set_submodule(name, experts)
            placed += experts.num_pairs
    assert placed == len(pairs), f"{placed} of {len(pairs)} pairs found their place"


def _is_fused(module: nn.Module) -> bool:
    return hasattr(module, "gate_up_proj") and hasattr(module, "num_experts")


def _published(name: str) -> str:
    return name.replace(".mlp.experts", ".block_sparse_moe.experts")


def _adding(a_RI: torch.Tensor, b_OR: torch.Tensor, scale: float) -> Callable[..., torch.Tensor]:
    def hook(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output + scale * (inputs[0] @ a_RI.T) @ b_OR.T

    return hook


class _SplitExperts(nn.Module):
    """transformers' fused experts, computed plainly, with the adapter beside each matrix."""

    def __init__(self, experts: Any, pairs: Pairs, published: str, scale: float) -> None:
        super().__init__()
        self._experts, self._scale = experts, scale
        self._pairs = {
            (e, role): pairs[key]
            for e in range(experts.num_experts)
            for role in ("w1", "w2", "w3")
            if (key := f"{published}.{e}.{role}.weight") in pairs
        }
        self.num_pairs = len(self._pairs)

    def forward(
        self, hidden: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        result = torch.zeros_like(hidden)
        for e in range(self._experts.num_experts):
            token, rank = (top_k_index == e).nonzero(as_tuple=True)
            x = hidden[token]
            gate_weight, up_weight = self._experts.gate_up_proj[e].chunk(2)
            gate = linear(x, gate_weight) + self._low_rank(x, e, "w1")
            up = linear(x, up_weight) + self._low_rank(x, e, "w3")
            inner = self._experts.act_fn(gate) * up
            output = linear(inner, self._experts.down_proj[e]) + self._low_rank(inner, e, "w2")
            result.index_add_(0, token, output * top_k_weights[token, rank, None])
        return result

    def _low_rank(self, x: torch.Tensor, expert: int, role: str) -> torch.Tensor | float:
        if (expert, role) not in self._pairs:
            return 0.0
        a_RI, b_OR = self._pairs[expert, role]
        return self._scale * (x @ a_RI.T) @ b_OR.T


def record_routing(model: Any) -> list[torch.Tensor]:
    """Give a list that collects each router's choice (T, K) as the model runs."""
    choices: list[torch.Tensor] = []
    for router in _routers(model):
        router.register_forward_hook(lambda _, __, output: choices.append(output[2]))
    return choices


def follow_routing(model: Any, choices: list[torch.Tensor]) -> None:
    """Make a model's routers choose as recorded, with shares of their own."""
    for router, choice in zip(_routers(model), choices, strict=True):
        router.register_forward_hook(_choosing(choice))


def _choosing(choice_TK: torch.Tensor) -> Callable[..., tuple[torch.Tensor, ...]]:
    def hook(_: nn.Module, __: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        logits = output[0]
        shares = logits.float().softmax(-1).gather(1, choice_TK)
        return logits, shares / shares.sum(-1, keepdim=True), choice_TK

    return hook


def _routers(model: Any) -> list[nn.Module]:
    layers = model.model.layers
    return [layer.mlp.gate for layer in layers if hasattr(layer.mlp, "gate")]
