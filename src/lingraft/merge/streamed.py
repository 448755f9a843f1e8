"""A transformers model whose weights stay on disk while it runs.

The model is built without weights. Its linear maps, embeddings and experts are replaced by ones
that ask for rows when they are used; any other module gets its parameters just before it runs and
loses them after. Memory holds the hidden states and a slice of one matrix, whatever the model's
size: an 88 GB checkpoint is run on a laptop, once through, for some prompts.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import UsageError

__all__ = ["Weights", "routers", "stream_model"]


class Weights(Protocol):
    """Where a streamed model takes its weights from, by published parameter name."""

    def has(self, name: str) -> bool:
        """Tell whether there is such a parameter."""

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Give x Wᵀ of a matrix (O, I), with what stands beside it."""

    def lookup(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        """Give rows of a matrix by their numbers."""

    def tensor(self, name: str) -> torch.Tensor:
        """Give a whole parameter, in float32."""


def stream_model(config: Any, weights: Weights) -> Any:
    """Build a causal LM that reads `weights` as it runs.

    Args:
        config: transformers' config of the model.
        weights: Give each parameter in float32.

    Raises:
        UsageError: A parameter of the architecture is not found under a name known here.
    """
    from transformers import AutoModelForCausalLM

    with _without_memory():
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    names = _Names(weights, getattr(model, "base_model_prefix", ""))
    for name, module in list(model.named_modules()):
        if _is_fused(module):
            model.set_submodule(name, _Experts(module, weights, names.experts(name)))
        elif type(module) is nn.Linear:
            model.set_submodule(name, _Linear(module, weights, names, name))
        elif type(module) is nn.Embedding:
            model.set_submodule(name, _Embedding(weights, names.of(f"{name}.weight")))
    for name, module in model.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        if own:
            _stream(module, {key: names.of(f"{name}.{key}") for key in own}, weights)
    return model.eval()


def routers(model: Any) -> list[nn.Module]:
    """Give the modules that choose experts: their output's third part is the choice."""
    return [
        module
        for name, module in model.named_modules()
        if name.endswith(".mlp.gate") and not isinstance(module, nn.Linear | _Linear)
    ]


class _Names:
    """How transformers' names of parameters are written in the checkpoint."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        self._weights, self._prefix = weights, f"{prefix}."

    def of(self, name: str) -> str:
        for candidate in (
            name,
            name.replace(".mlp.gate.", ".block_sparse_moe.gate."),
            name.removeprefix(self._prefix),
        ):
            if self._weights.has(candidate):
                return candidate
        raise UsageError(
            f"the checkpoint has no tensor for transformers' parameter '{name}'.",
            effect="The merge cannot be compared with base and adapter.",
            way_out="Merge without the comparison (--no-verify), and compare outputs yourself.",
        )

    def experts(self, name: str) -> Callable[[int], tuple[str, str, str]]:
        """Give the names of an expert's gate, up and down matrices, by its number."""
        published = name.replace(".mlp.experts", ".block_sparse_moe.experts")
        if self._weights.has(f"{published}.0.w1.weight"):
            return lambda e: (
                f"{published}.{e}.w1.weight",
                f"{published}.{e}.w3.weight",
                f"{published}.{e}.w2.weight",
            )
        self.of(f"{name}.0.gate_proj.weight")
        return lambda e: (
            f"{name}.{e}.gate_proj.weight",
            f"{name}.{e}.up_proj.weight",
            f"{name}.{e}.down_proj.weight",
        )


class _Linear(nn.Module):
    def __init__(self, linear: nn.Linear, weights: Weights, names: _Names, name: str) -> None:
        super().__init__()
        self._weights, self._name = weights, names.of(f"{name}.weight")
        self._bias = names.of(f"{name}.bias") if linear.bias is not None else ""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self._weights.linear(x, self._name)
        return result + self._weights.tensor(self._bias) if self._bias else result


class _Embedding(nn.Module):
    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self._weights, self._name = weights, name

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self._weights.lookup(ids, self._name)


class _Experts(nn.Module):
    """transformers' fused experts, computed one expert after another."""

    def __init__(
        self, experts: Any, weights: Weights, names_of: Callable[[int], tuple[str, str, str]]
    ) -> None:
        super().__init__()
        self._num_experts, self._act = experts.num_experts, experts.act_fn
        self._weights, self._names_of = weights, names_of

    def forward(
        self, hidden: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        result = torch.zeros_like(hidden)
        for e in range(self._num_experts):
            token, place = (top_k_index == e).nonzero(as_tuple=True)
            if not len(token):
                continue
            gate_name, up_name, down_name = self._names_of(e)
            x = hidden[token]
            gate = self._weights.linear(x, gate_name)
            inner = self._act(gate) * self._weights.linear(x, up_name)
            output = self._weights.linear(inner, down_name)
            result.index_add_(0, token, output * top_k_weights[token, place, None])
        return result


def _is_fused(module: nn.Module) -> bool:
    return hasattr(module, "gate_up_proj") and hasattr(module, "num_experts")


def _stream(module: nn.Module, names: dict[str, str], weights: Weights) -> None:
    """Give a module its own parameters while it runs, and no longer."""
    empty = dict(module._parameters)

    def fill(*_: Any) -> None:
        for key, name in names.items():
            module._parameters[key] = nn.Parameter(weights.tensor(name), requires_grad=False)

    def clear(*_: Any) -> None:
        module._parameters.update(empty)

    module.register_forward_pre_hook(fill)
    module.register_forward_hook(clear)


@contextmanager
def _without_memory() -> Iterator[None]:
    """Build modules whose parameters have shapes and no numbers; buffers are real."""
    register = nn.Module.register_parameter

    def register_empty(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None:
            param = nn.Parameter(param.to("meta"), requires_grad=False)
        register(self, name, param)

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
