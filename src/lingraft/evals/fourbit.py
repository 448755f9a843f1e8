"""A Mixtral in NF4 for inference, read and packed one tensor at a time.

bitsandbytes packs `nn.Linear` and nothing else; transformers 5 keeps a layer's experts in one
three-dimensional parameter, so they would stay in 16 bits: 90 GB of an 8x7B model. Here attention
and experts are packed as QLoRA packs them (about 4.13 bits a number); each matrix is packed by
itself, as in training. Embeddings, head, routers and norms keep their numbers.

Shapes: T tokens, K experts a token, E experts, D model width, F inner width.
Source of the experts' order of work: transformers' MixtralExperts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from ..errors import InputError
from ..models import ModelFolder
from ..nf4 import Packed, dequantize, quantize

__all__ = ["has_packed_form", "load_packed"]

_PARTS = ("codes", "constants", "group_maxima", "mean")


def has_packed_form(files: ModelFolder) -> bool:
    """Whether `load_packed` knows the model's architecture."""
    return files.config.get("model_type") == "mixtral"


def load_packed(
    files: ModelFolder, *, dtype: torch.dtype, device: torch.device, attn: str = ""
) -> Any:
    """Load a Mixtral with its linear maps in NF4.

    Args:
        files: Its folder, with published names.
        dtype: Of arithmetic, and of what is not packed.
        device: Where it shall be.
        attn: transformers' way of attention; "": its own choice.

    Raises:
        InputError: A tensor is missing, has no place, or cannot be packed.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {"attn_implementation": attn} if attn else {}
    config = AutoConfig.from_pretrained(files.path, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, **options)
    reader = _Reader(files, dtype, device)
    for number, layer in enumerate(model.model.layers):
        prefix = f"model.layers.{number}"
        for name, plain in list(layer.named_modules()):
            if isinstance(plain, nn.Linear):
                layer.set_submodule(name, _Linear(reader.packed(f"{prefix}.{name}.weight"), dtype))
        layer.mlp.experts = reader.experts(f"{prefix}.block_sparse_moe.experts", layer.mlp.experts)
    reader.keep_rest(model)
    if config.tie_word_embeddings:
        model.tie_weights()
    reader.refuse_unused(tied=bool(config.tie_word_embeddings))
    # Its tables are computed, not read; on the meta device there was nothing to compute with.
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    if model.can_generate() and (files.path / "generation_config.json").is_file():
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_pretrained(files.path)
    return model.eval()


class _Matrix(nn.Module):
    """One packed matrix."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        for name, part in zip(_PARTS, packed.parts, strict=True):
            self.register_buffer(name, part, persistent=False)
        self.shape = packed.shape

    def unpack(self, dtype: torch.dtype) -> torch.Tensor:
        codes, constants, group_maxima, mean = (getattr(self, name) for name in _PARTS)
        return dequantize(Packed(codes, constants, group_maxima, mean, self.shape), dtype)


class _Linear(nn.Module):
    """y = x Wᵀ; W is unpacked for the product and dropped."""

    def __init__(self, packed: Packed, dtype: torch.dtype) -> None:
        super().__init__()
        self.matrix, self._dtype = _Matrix(packed), dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.matrix.unpack(self._dtype))


class _Experts(nn.Module):
    """A layer's experts: sum over k of share * W2 (act(W1 x) * W3 x)."""

    def __init__(self, roles: dict[str, list[Packed]], act_fn: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = (
            nn.ModuleList(_Matrix(packed) for packed in roles[role]) for role in ("w1", "w2", "w3")
        )
        self.act_fn, self._dtype = act_fn, dtype

    def forward(
        self, x_TD: torch.Tensor, index_TK: torch.Tensor, shares_TK: torch.Tensor
    ) -> torch.Tensor:
        out_TD = torch.zeros_like(x_TD)
        for expert in torch.unique(index_TK).tolist():
            tokens, places = torch.where(index_TK == expert)
            x = x_TD[tokens]
            gate, up, down = (
                matrices[expert].unpack(self._dtype) for matrices in (self.w1, self.w3, self.w2)
            )
            y = linear(self.act_fn(linear(x, gate)) * linear(x, up), down)
            y = y * shares_TK[tokens, places, None]
            out_TD.index_add_(0, tokens, y.to(out_TD.dtype))
        return out_TD


class _Reader:
    """Reads tensors, and remembers which."""

    def __init__(self, files: ModelFolder, dtype: torch.dtype, device: torch.device) -> None:
        self._files, self._dtype, self._device = files, dtype, device
        self._unused = set(files.weight_map)

    def packed(self, name: str) -> Packed:
        """Read a matrix and pack it."""
        return quantize(self._take(name))

    def experts(self, prefix: str, plain: Any) -> nn.Module:
        """Read a layer's experts."""
        roles: dict[str, list[Packed]] = {role: [] for role in ("w1", "w2", "w3")}
        for expert in range(plain.num_experts):
            for role, matrices in roles.items():
                matrices.append(self.packed(f"{prefix}.{expert}.{role}.weight"))
        return _Experts(roles, plain.act_fn, self._dtype)

    def keep_rest(self, model: nn.Module) -> None:
        """Read embeddings, head, routers and norms as they are."""
        for name, parameter in list(model.named_parameters()):
            if parameter.is_meta:
                published = name.replace(".mlp.gate.weight", ".block_sparse_moe.gate.weight")
                kept = nn.Parameter(self._take(published).to(self._dtype), requires_grad=False)
                owner, _, attribute = name.rpartition(".")
                setattr(model.get_submodule(owner), attribute, kept)

    def refuse_unused(self, *, tied: bool) -> None:
        """Raise if the folder holds a tensor that found no place."""
        left: Sequence[str] = sorted(self._unused - ({"lm_head.weight"} if tied else set()))
        if left:
            raise InputError(
                f"{self._files.path}: {len(left)} tensors have no place in this architecture, "
                f"the first is '{left[0]}'.",
                effect="The model would be judged without them.",
                way_out="Load it with --load full.",
            )

    def _take(self, name: str) -> torch.Tensor:
        self._unused.discard(name)
        return self._files.tensor(name).to(self._device)
