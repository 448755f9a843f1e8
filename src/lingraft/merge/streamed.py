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
from .layout import stored_name

__all__ = ["Weights", "cannot_compare", "routers", "stream_model"]


class Weights(Protocol):
    """Where a streamed model takes its weights from, by published parameter name."""

    def has(self, name: str) -> bool:
        """Tell whether there is such a parameter."""

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Give x Wᵀ of a matrix (O, I), with what stands beside it."""

    def turned_linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Give x W of a matrix stored as (I, O), with what stands beside it."""

    def lookup(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        """Give rows of a matrix by their numbers."""

    def tensor(self, name: str) -> torch.Tensor:
        """Give a whole parameter, in float32, with what stands beside it added."""

    def require_turned(self, name: str) -> None:
        """Refuse a matrix stored as (I, O) if the pair beside it was placed otherwise.

        Raises:
            UsageError: It was.
        """

    def require_whole(self, name: str) -> None:
        """Refuse a parameter of a module whose sense is not known, if a pair stands beside it.

        Raises:
            UsageError: A low-rank part stands beside it.
        """


def stream_model(config: Any, weights: Weights) -> Any:
    """Build a causal LM that reads `weights` as it runs.

    Args:
        config: transformers' config of the model.
        weights: Give each parameter in float32.

    Raises:
        UsageError: transformers has no causal LM of this architecture, or a parameter is not
            found under a name known here, or a low-rank part stands beside one whose sense
            is not known.
    """
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    with _without_memory():
        try:
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
        except ValueError as error:
            raise cannot_compare(str(error).splitlines()[0]) from None
    names = _Names(weights)
    for name, module in list(model.named_modules()):
        if _is_fused(module):
            model.set_submodule(name, _Experts(module, weights, names.experts(name)))
        elif _is_linear(module) or isinstance(module, Conv1D):
            model.set_submodule(name, _Linear(module, weights, names, name))
        elif isinstance(module, nn.Embedding) and type(module).forward is nn.Embedding.forward:
            model.set_submodule(name, _Embedding(weights, names.of(f"{name}.weight")))
    for name, module in model.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        if own:
            _stream(module, {key: names.of(f"{name}.{key}") for key in own}, weights)
    return model.eval()


def cannot_compare(what: str) -> UsageError:
    """Give the error for a model that cannot be run beside its merged one."""
    return UsageError(
        f"{what.removesuffix('.')}.",
        effect="The merge cannot be compared with base and adapter.",
        way_out="Merge without the comparison (--no-verify), and compare outputs yourself.",
    )


def routers(model: Any) -> list[nn.Module]:
    """Give the modules that choose experts: their output's third part is the choice."""
    return [
        module
        for name, module in model.named_modules()
        if name.endswith(".mlp.gate") and not isinstance(module, nn.Linear | _Linear)
    ]


class _Names:
    """How transformers' names of parameters are written in the checkpoint."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def of(self, name: str) -> str:
        found = stored_name(name, self._weights.has)
        if found is None:
            raise cannot_compare(
                f"the checkpoint has no tensor for transformers' parameter '{name}'"
            )
        return found

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
    """A linear map, stored as (O, I), or as (I, O) by transformers' Conv1D."""

    def __init__(self, linear: Any, weights: Weights, names: _Names, name: str) -> None:
        super().__init__()
        self._weights, self._name = weights, names.of(f"{name}.weight")
        self._multiply = weights.linear
        if not _is_linear(linear):
            self._multiply = weights.turned_linear
            weights.require_turned(self._name)
        self._bias = names.of(f"{name}.bias") if linear.bias is not None else ""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self._multiply(x, self._name)
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


def _is_linear(module: nn.Module) -> bool:
    """Tell whether a module computes x Wᵀ + b; a subclass may compute something else."""
    return isinstance(module, nn.Linear) and (
        type(module).forward is nn.Linear.forward or type(module).__name__ == "FalconLinear"
    )


def _keeps_sense(module: nn.Module) -> bool:
    """Tell whether a module's matrix is (O, I), or rows of an embedding, whatever it does."""
    return isinstance(module, nn.Linear | nn.Embedding) or type(module).__name__.endswith("Router")


def _is_fused(module: nn.Module) -> bool:
    return hasattr(module, "gate_up_proj") and hasattr(module, "num_experts")


def _stream(module: nn.Module, names: dict[str, str], weights: Weights) -> None:
    """Give a module its own parameters while it runs, and no longer."""
    if not _keeps_sense(module):
        for name in names.values():
            weights.require_whole(name)
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
