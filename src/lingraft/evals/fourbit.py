"""A Mixtral in NF4 for inference, read and packed one tensor at a time.

bitsandbytes packs `nn.Linear` and nothing else; transformers 5 keeps a layer's experts in one
three-dimensional parameter, so they would stay in 16 bits: 90 GB of an 8x7B model. Here attention
and experts are packed as QLoRA packs them (about 4.13 bits a number); each matrix is packed by
itself, as in training. Embeddings, head, routers and norms keep their numbers.

Shapes: T tokens, K experts a token, E experts, D model width, F inner width.
Source of the experts' order of work: transformers' MixtralExperts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from ..fillmodel import ModelFiller, empty_model
from ..models import ModelFolder
from ..nf4 import PARTS, Packed, dequantize
from ..packedcache import Pack, pack_anew

__all__ = ["has_packed_form", "load_packed"]


def has_packed_form(files: ModelFolder) -> bool:
    """Whether `load_packed` knows the model's architecture."""
    return files.config.get("model_type") == "mixtral"


def load_packed(
    files: ModelFolder,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attn: str = "",
    pack: Pack = pack_anew,
) -> Any:
    """Load a Mixtral with its linear maps in NF4.

    Args:
        files: Its folder, with published names.
        dtype: Of arithmetic, and of what is not packed.
        device: Where it shall be.
        attn: transformers' way of attention; "": its own choice.
        pack: Gives the packed matrices, anew or from a cache.

    Raises:
        InputError: A tensor is missing, has no place, or cannot be packed.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(files.path, local_files_only=True)
    model = empty_model(config, dtype, attn)
    filler = ModelFiller(files, model, dtype, device, pack)
    for prefix, layer in filler.layers():
        for name, published, _ in filler.linears(prefix, layer):
            layer.set_submodule(name, _Linear(filler.packed(f"{published}.weight"), dtype))
        experts = filler.experts(prefix, layer)
        roles = {
            role: [filler.packed(f"{expert}.{role}.weight") for expert in experts]
            for role in ("w1", "w2", "w3")
        }
        layer.mlp.experts = _Experts(roles, layer.mlp.experts.act_fn, dtype)
    filler.finish("The model would be judged without them.", "Load it with --load full.")
    if config.tie_word_embeddings:
        model.tie_weights()
    if model.can_generate() and (files.path / "generation_config.json").is_file():
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_pretrained(files.path)
    return model.eval()


class _Matrix(nn.Module):
    """One packed matrix."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        for name, part in zip(PARTS, packed.parts, strict=True):
            self.register_buffer(name, part, persistent=False)
        self.shape = packed.shape

    def unpack(self, dtype: torch.dtype) -> torch.Tensor:
        codes, constants, group_maxima, mean = (getattr(self, name) for name in PARTS)
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
