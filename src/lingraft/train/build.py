"""Build the trainable model from a model folder, tensor by tensor.

Every linear map of the body becomes a frozen packed weight with an adapter beside it;
routers and norms are kept as they are; embed_tokens and lm_head are trained whole, in
float32. The folder is read one tensor at a time and each is packed before the next is read.

What an adapter sits on is counted and compared with what the config says there should be: a
role that matches nothing, or too little, trains something else than asked, and no loss curve
shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM

from ..errors import InputError
from ..models import ModelFolder
from .lora import FrozenStack, LoraPair, QLoraExperts, QLoraLinear, QLoraStack
from .settings import LoraSettings

__all__ = ["Built", "RoleCount", "build", "count_roles"]

_EXPERT_ROLES = ("w1", "w2", "w3")
_SUPPORTED = ("mixtral", "mistral", "llama")
_EMBED, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


class RoleCount(NamedTuple):
    """Linear maps of one role: found in the folder, and expected from the config."""

    found: int
    expected: int


@dataclass(frozen=True)
class Built:
    """The model to train and what is in it."""

    model: Any
    """A transformers causal LM whose body is frozen."""
    pairs: dict[str, LoraPair]
    """By published module name; `{}` in it stands for the number of the expert."""
    roles: dict[str, RoleCount]
    """Adapted linear maps by role."""

    @property
    def lora(self) -> dict[str, nn.Parameter]:
        """Adapter matrices by name."""
        return {f"{n}.{k}": p for n, pair in self.pairs.items() for k, p in pair.named_parameters()}

    @property
    def embed(self) -> dict[str, nn.Parameter]:
        """embed_tokens and lm_head, by published name."""
        return {_EMBED: self.model.model.embed_tokens.weight, _HEAD: self.model.lm_head.weight}

    @property
    def stacks(self) -> list[FrozenStack]:
        """Every frozen linear map."""
        return [m for m in self.model.modules() if isinstance(m, FrozenStack)]

    @property
    def frozen_parameters(self) -> int:
        """Parameters that are not trained, routers and norms included."""
        kept: int = sum(p.numel() for p in self.model.parameters() if not p.requires_grad)
        return kept + sum(stack.num_items for stack in self.stacks)

    @property
    def bits_per_frozen_parameter(self) -> float:
        """Storage of the frozen linear maps, constants included."""
        stacks = self.stacks
        return 8 * sum(s.size_bytes for s in stacks) / sum(s.num_items for s in stacks)

    def recompute_activations(self) -> None:
        """Keep one activation a layer and compute the others again: less memory, same result."""
        self.model.activation_checkpointing_enable({"use_reentrant": False})


def build(
    folder: ModelFolder,
    lora: LoraSettings,
    *,
    quantize: str,
    dtype: str,
    seed: int,
    device: torch.device,
) -> Built:
    """Build the model.

    Args:
        folder: The expanded model, published parameter names.
        lora: Rank, alpha, dropout and roles of the adapters.
        quantize: `nf4` or `none`, for the frozen linear maps.
        dtype: Arithmetic of the body; what is trained is float32.
        seed: Decides the adapters' start.
        device: Where the model shall be.

    Raises:
        InputError: The architecture is not supported, embeddings are tied, a role matches
            another number of linear maps than expected, or the folder lacks or holds more
            than what the architecture needs.
    """
    config = _read_config(folder)
    roles = count_roles(folder.weight_map, lora.targets, config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    builder = _Builder(folder, lora, quantize == "nf4", getattr(torch, dtype), seed, device)
    for number, layer in enumerate(model.model.layers):
        builder.replace_linears(layer, f"model.layers.{number}")
        if config.model_type == "mixtral":
            builder.replace_experts(layer, f"model.layers.{number}.block_sparse_moe.experts")
    builder.replace_embeddings(model)
    builder.keep_rest(model)
    builder.refuse_unused()
    # Its tables are computed, not read; on the meta device there was nothing to compute with.
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    built = Built(model, builder.pairs, roles)
    adapted = sum(pair.A.shape[0] for pair in built.pairs.values())
    assert adapted == sum(count.found for count in roles.values()), "an adapter was not attached"
    return built


def count_roles(names: Iterable[str], targets: Sequence[str], config: Any) -> dict[str, RoleCount]:
    """Count the linear maps of each role to adapt.

    Args:
        names: Published tensor names of the folder.
        targets: Roles, as `q_proj` or `w1`.
        config: The model's transformers config.

    Raises:
        InputError: A role matches no tensor, or another number than the config tells.
    """
    present = list(names)
    experts = getattr(config, "num_local_experts", 1)
    counts = {}
    for role in targets:
        found = sum(name.endswith(f".{role}.weight") for name in present)
        expected = config.num_hidden_layers * (experts if role in _EXPERT_ROLES else 1)
        if found != expected:
            known = sorted(
                {m[1] for n in present if (m := re.search(r"\.(\w+_proj|w\d)\.weight$", n))}
            )
            raise InputError(
                f"train.lora.targets: role '{role}' matches {found} linear maps; "
                f"expected {expected} ({config.num_hidden_layers} layers).",
                effect="The run would train something else than the recipe says.",
                way_out=f"Roles of this model: {', '.join(known) or 'none'}.",
            )
        counts[role] = RoleCount(found, expected)
    return counts


def _read_config(folder: ModelFolder) -> Any:
    model_type = folder.config.get("model_type")
    if model_type not in _SUPPORTED:
        raise InputError(
            f"{folder.path}: architecture '{model_type}' cannot be trained by this version; "
            f"supported are {', '.join(_SUPPORTED)}."
        )
    if folder.config.get("tie_word_embeddings", False) or _HEAD not in folder.weight_map:
        raise InputError(
            f"{folder.path}: embed_tokens and lm_head are tied; this version trains them apart.",
            effect="Trained apart, they could not be stored as one matrix again.",
            way_out="Use a base model with an lm_head of its own.",
        )
    return AutoConfig.from_pretrained(folder.path, local_files_only=True, use_cache=False)


class _Embedding(nn.Embedding):
    """Trained float32 rows, given to the body in its own dtype."""

    def __init__(self, weight: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__(weight.shape[0], weight.shape[1], _weight=weight)
        self._dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).to(self._dtype)


class _Head(nn.Linear):
    """Trained float32 rows; logits are float32."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear(input.to(self.weight.dtype), self.weight)


class _Builder:
    """Reads tensors, remembers which, and puts modules in place."""

    def __init__(
        self,
        folder: ModelFolder,
        lora: LoraSettings,
        quantize_body: bool,
        dtype: torch.dtype,
        seed: int,
        device: torch.device,
    ) -> None:
        self._folder, self._lora, self._quantize_body = folder, lora, quantize_body
        self._dtype, self._device = dtype, device
        self._generator = torch.Generator().manual_seed(seed)
        self._unused = set(folder.weight_map)
        self.pairs: dict[str, LoraPair] = {}

    def replace_linears(self, layer: nn.Module, prefix: str) -> None:
        """Put a QLoraLinear in the place of every nn.Linear of a decoder layer."""
        linears = [(n, m) for n, m in layer.named_modules() if isinstance(m, nn.Linear)]
        for name, _ in linears:
            published = f"{prefix}.{name}"
            frozen = FrozenStack([self._take(f"{published}.weight")], self._quantize_body)
            stack = self._with_adapters(frozen, [published])
            layer.set_submodule(name, QLoraLinear(stack, self._dtype))

    def replace_experts(self, layer: Any, prefix: str) -> None:
        """Put QLoraExperts in the place of a layer's fused experts."""
        experts = layer.mlp.experts
        numbers = range(experts.num_experts)

        def read(*roles: str) -> QLoraStack:
            matrices = (self._take(f"{prefix}.{e}.{r}.weight") for e in numbers for r in roles)
            frozen = FrozenStack(matrices, self._quantize_body, parts=len(roles))
            return self._with_adapters(frozen, [f"{prefix}.{{}}.{role}" for role in roles])

        layer.mlp.experts = QLoraExperts(read("w1", "w3"), read("w2"), experts.act_fn, self._dtype)

    def replace_embeddings(self, model: Any) -> None:
        """Make embed_tokens and lm_head trained, in float32."""
        model.model.embed_tokens = _Embedding(self._take(_EMBED).float(), self._dtype)
        model.lm_head = _Head(self._take(_HEAD).float())

    def keep_rest(self, model: nn.Module) -> None:
        """Read what is left (routers and norms), frozen, in the body's dtype."""
        for name, parameter in list(model.named_parameters()):
            if parameter.is_meta:
                published = name.replace(".mlp.gate.weight", ".block_sparse_moe.gate.weight")
                tensor = self._take(published).to(self._dtype)
                owner, _, attribute = name.rpartition(".")
                kept = nn.Parameter(tensor, requires_grad=False)
                setattr(model.get_submodule(owner), attribute, kept)

    def refuse_unused(self) -> None:
        """Raise if the folder holds a tensor that found no place."""
        if self._unused:
            raise InputError(
                f"{self._folder.path}: {len(self._unused)} tensors have no place in this "
                f"architecture, the first is '{min(self._unused)}'.",
                effect="The model would be trained without them.",
                way_out="Biases and extra layers are not supported by this version.",
            )

    def _take(self, name: str) -> torch.Tensor:
        self._unused.discard(name)
        return self._folder.tensor(name).to(self._device)

    def _with_adapters(self, frozen: FrozenStack, published: list[str]) -> QLoraStack:
        pairs = [self._pair(frozen, name) for name in published]
        return QLoraStack(frozen, pairs, self._lora.dropout)

    def _pair(self, frozen: FrozenStack, published: str) -> LoraPair | None:
        if published.rpartition(".")[2] not in self._lora.targets:
            return None
        outputs, inputs = frozen.part_shape
        pair = LoraPair(
            frozen.num_groups,
            inputs,
            outputs,
            self._lora.rank,
            self._lora.alpha,
            self._generator,
        ).to(self._device)
        self.pairs[published] = pair
        return pair
