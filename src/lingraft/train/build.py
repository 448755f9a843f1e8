"""Build the trainable model from a model folder, tensor by tensor.

Every linear map of the body becomes a frozen packed weight with an adapter beside it; biases,
routers and norms are kept as they are, a router with an adapter if asked; embed_tokens and lm_head
are float32, and all of their rows are trained, or the added ones, or none. A tied model has one
matrix for both, and keeps it. The folder is read one tensor at a time and each is packed before the
next is read.

What an adapter sits on is counted and compared with what the config says there should be: a
role that matches nothing, or too little, trains something else than asked, and no loss curve
shows it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig

from ..errors import InputError
from ..fillmodel import ROUTERS, ModelFiller, empty_model
from ..models import ModelFolder
from ..packedcache import Pack, pack_anew
from .attention import fuse_attention
from .lora import FrozenStack, LoraPair, QLoraExperts, QLoraLinear, QLoraStack
from .maps import fuse_norms
from .matrices import GrownEmbedding, GrownHead, GrownMatrix
from .recompute import recompute_layers
from .routers import AdaptedRouter
from .settings import AttentionName, LoraSettings

__all__ = ["Built", "RoleCount", "Rows", "build", "count_roles"]

Rows = Literal["all", "added", "none"]
"""Rows of embed_tokens and lm_head that are trained."""
_EXPERT_ROLES = ("w1", "w2", "w3")
_ROUTER = "gate"
_SUPPORTED = ("mixtral", "mistral", "llama", "qwen2", "qwen3")
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
    matrices: dict[str, GrownMatrix]
    """embed_tokens and lm_head by published name; one and the same where they are tied."""

    @property
    def lora(self) -> dict[str, nn.Parameter]:
        """Adapter matrices by name."""
        return {f"{n}.{k}": p for n, pair in self.pairs.items() for k, p in pair.named_parameters()}

    @property
    def embed(self) -> dict[str, nn.Parameter]:
        """Trained rows that the base has, too, by published name; a tied matrix comes once."""
        return self._trained("base")

    @property
    def added(self) -> dict[str, nn.Parameter]:
        """Trained rows behind the base's, where they are a parameter of their own."""
        return {f"{name}.added": p for name, p in self._trained("added").items()}

    @property
    def rows(self) -> dict[str, torch.Tensor]:
        """embed_tokens and lm_head whole, by published name; empty where no row is trained."""
        if not (self.embed or self.added):
            return {}
        return {name: matrix.weight for name, matrix in self.matrices.items()}

    def _trained(self, part: str) -> dict[str, nn.Parameter]:
        # Backwards, so that a tied matrix is called by its first name.
        names = {id(matrix): name for name, matrix in reversed(self.matrices.items())}
        trained = [n for n in reversed(names.values()) if self.matrices[n].trained[part]]
        return {name: getattr(self.matrices[name], part) for name in trained}

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
        """Keep the input of each layer and compute the others again: less memory, same result."""
        recompute_layers(self.model.model.layers)


def build(
    folder: ModelFolder,
    lora: LoraSettings,
    *,
    quantize: str,
    dtype: str,
    seed: int,
    device: torch.device,
    rows: Rows = "all",
    num_base: int | None = None,
    pack: Pack = pack_anew,
    attention: AttentionName = "sdpa",
) -> Built:
    """Build the model.

    Args:
        folder: The expanded model, published parameter names.
        lora: Rank, alpha, dropout and roles of the adapters.
        quantize: `nf4` or `none`, for the frozen linear maps.
        dtype: Arithmetic of the body; what is trained is float32.
        seed: Decides the adapters' start.
        device: Where the model shall be.
        rows: Rows of embed_tokens and lm_head that are trained.
        num_base: Rows of the base; those behind them are a parameter of their own. None: there
            is no such border.
        pack: Gives the packed matrices, anew or from a cache.
        attention: Who computes attention.

    Raises:
        InputError: The architecture is not supported, a role matches another number of linear
            maps than expected, the folder lacks or holds more than what the architecture
            needs, or there are no added rows to train.
    """
    config = _read_config(folder)
    roles = count_roles(folder.weight_map, lora.roles(config.model_type), config)
    body = getattr(torch, dtype)
    filler = ModelFiller(folder, empty_model(config, body, attention), body, device, pack)
    builder = _Builder(filler, lora, roles, quantize == "nf4", body, seed)
    for prefix, layer in filler.layers():
        builder.replace_linears(prefix, layer)
        builder.replace_experts(prefix, layer)
        builder.replace_router(prefix, layer)
    matrices = builder.replace_embeddings(rows, num_base)
    filler.finish(
        "The model would be trained without them.",
        "Extra layers are not supported by this version.",
    )
    fuse_norms(filler.model)
    fuse_attention(filler.model)
    built = Built(filler.model, builder.pairs, roles, matrices)
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
                {m[1] for n in present if (m := re.search(r"\.(\w+_proj|w\d|gate)\.weight$", n))}
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
    return AutoConfig.from_pretrained(folder.path, local_files_only=True, use_cache=False)


class _Biased(nn.Module):
    """A map and a frozen bias behind it."""

    def __init__(self, inner: nn.Module, bias_O: torch.Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.bias = nn.Parameter(bias_O, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + self.bias  # type: ignore[no-any-return]


class _Builder:
    """Puts trainable modules in place."""

    def __init__(
        self,
        filler: ModelFiller,
        lora: LoraSettings,
        roles: Collection[str],
        quantize_body: bool,
        dtype: torch.dtype,
        seed: int,
    ) -> None:
        self._filler, self._lora, self._roles = filler, lora, roles
        self._quantize_body, self._dtype = quantize_body, dtype
        self._generator = torch.Generator().manual_seed(seed)
        self.pairs: dict[str, LoraPair] = {}

    def replace_linears(self, prefix: str, layer: nn.Module) -> None:
        """Put a QLoraLinear in the place of every nn.Linear of a decoder layer."""
        for name, published, plain in self._filler.linears(prefix, layer):
            stack = self._with_adapters([f"{published}.weight"], [published])
            adapted: nn.Module = QLoraLinear(stack, self._dtype)
            if plain.bias is not None:
                bias = self._filler.take(f"{published}.bias").to(self._dtype)
                adapted = _Biased(adapted, bias)
            layer.set_submodule(name, adapted)

    def replace_experts(self, prefix: str, layer: Any) -> None:
        """Put QLoraExperts in the place of a layer's fused experts, where it has any."""
        experts = self._filler.experts(prefix, layer)
        if not experts:
            return

        def read(*roles: str) -> QLoraStack:
            names = [f"{expert}.{role}.weight" for expert in experts for role in roles]
            shared = experts[0].rpartition(".")[0]
            return self._with_adapters(names, [f"{shared}.{{}}.{role}" for role in roles])

        act_fn = layer.mlp.experts.act_fn
        layer.mlp.experts = QLoraExperts(read("w1", "w3"), read("w2"), act_fn, self._dtype)

    def replace_router(self, prefix: str, layer: Any) -> None:
        """Put an AdaptedRouter in the place of a layer's router, if it shall have an adapter."""
        if _ROUTER not in self._roles:
            return
        router = layer.mlp.gate
        pair = self._new_pair(f"{prefix}.{ROUTERS}", 1, *router.weight.shape)
        layer.mlp.gate = AdaptedRouter(router, pair, self._lora.dropout)

    def replace_embeddings(self, rows: Rows, num_base: int | None) -> dict[str, GrownMatrix]:
        """Make embed_tokens and lm_head float32, and give them by published name."""
        model = self._filler.model
        embed = head = self._matrix(_EMBED, rows, num_base)
        if not model.config.tie_word_embeddings:
            head = self._matrix(_HEAD, rows, num_base)
        model.model.embed_tokens = GrownEmbedding(embed, self._dtype)
        model.lm_head = GrownHead(head)
        return {_EMBED: embed, _HEAD: head}

    def _matrix(self, name: str, rows: Rows, num_base: int | None) -> GrownMatrix:
        weight = self._filler.take(name)
        border = len(weight) if num_base is None else num_base
        if border > len(weight) or (rows == "added" and border == len(weight)):
            raise InputError(
                f"{self._filler.files.path}: '{name}' has {len(weight):,} rows, and the base "
                f"{border:,}; train.rows = '{rows}' expects more than that.",
                effect="Nothing, or the wrong rows, would be trained.",
                way_out="Train all rows, or a model that was expanded.",
            )
        return GrownMatrix(weight, border, train_base=rows == "all", train_added=rows != "none")

    def _with_adapters(self, tensors: list[str], published: list[str]) -> QLoraStack:
        """Stack matrices, with an adapter for each of the maps of a group."""
        take = self._filler.packed if self._quantize_body else self._filler.take
        frozen = FrozenStack(map(take, tensors), self._quantize_body, parts=len(published))
        pairs = [self._pair(frozen, name) for name in published]
        return QLoraStack(frozen, pairs, self._lora.dropout)

    def _pair(self, frozen: FrozenStack, published: str) -> LoraPair | None:
        if published.rpartition(".")[2] not in self._roles:
            return None
        return self._new_pair(published, frozen.num_groups, *frozen.part_shape)

    def _new_pair(self, published: str, num_groups: int, outputs: int, inputs: int) -> LoraPair:
        pair = LoraPair(
            num_groups,
            inputs,
            outputs,
            self._lora.rank,
            self._lora.alpha,
            self._generator,
        ).to(self._filler.device)
        self.pairs[published] = pair
        return pair
