"""Where the published tensors of a model lie in the tensors that are stored.

The published Mixtral layout has three matrices an expert (`block_sparse_moe.experts.3.w1`), which
transformers, vLLM and llama.cpp's converter read. In memory transformers fuses the experts of a
layer (`mlp.experts.gate_up_proj`, `down_proj`), and some tools save that. A published matrix is
a stretch of whole rows of the fused tensor, so it can be read without the rest.

Shapes: E experts, I inner width, D model width; gate_up_proj (E, 2 I, D), down_proj (E, D, I).
Source: transformers 5, `modeling_mixtral.MixtralExperts`; the published checkpoint's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..models import ModelFolder
from ..weights import TensorEntry

__all__ = ["EMBED_HEADS", "Part", "find_embed", "is_mixtral", "published_parts", "split_fused"]

EMBED_HEADS = {
    "model.embed_tokens.weight": "lm_head.weight",
    "transformer.wte.weight": "lm_head.weight",
    "wte.weight": "lm_head.weight",
    "gpt_neox.embed_in.weight": "embed_out.weight",
}
"""Input matrix -> output matrix, as common architectures name them."""
_FUSED = re.compile(r"^(?P<layer>.+)\.mlp\.experts\.(?P<which>gate_up_proj|down_proj)$")
_GATE = re.compile(r"\.mlp\.gate\.weight$")


@dataclass(frozen=True)
class Part:
    """A published tensor, as a stretch of numbers of a stored one."""

    entry: TensorEntry
    """As published: name, dtype as stored, shape."""
    stored: str
    """Name of the stored tensor."""
    first: int = 0
    """Number at which it begins there."""


def published_parts(model: ModelFolder) -> dict[str, Part]:
    """Give every published tensor of a model, by name, in the order of the stored ones."""
    mixtral = is_mixtral(model.config)
    return {
        part.entry.name: part
        for entry in model.all_entries()
        for part in (split_fused(entry) if mixtral else [Part(entry, entry.name)])
    }


def split_fused(entry: TensorEntry) -> Iterator[Part]:
    """Give the published tensors that one stored tensor of a Mixtral holds."""
    match = _FUSED.match(entry.name)
    if match is None or len(entry.shape) != 3:
        name = _GATE.sub(".block_sparse_moe.gate.weight", entry.name)
        yield Part(replace(entry, name=name), entry.name)
        return
    roles = ("w1", "w3") if match["which"] == "gate_up_proj" else ("w2",)
    num_experts, rows, columns = entry.shape
    shape = (rows // len(roles), columns)
    first = 0
    for expert in range(num_experts):
        for role in roles:
            name = f"{match['layer']}.block_sparse_moe.experts.{expert}.{role}.weight"
            yield Part(TensorEntry(name, entry.dtype, shape), entry.name, first)
            first += shape[0] * shape[1]


def is_mixtral(config: Mapping[str, Any]) -> bool:
    """Tell whether a config is of the Mixtral architecture."""
    return config.get("model_type") == "mixtral"


def find_embed(names: Mapping[str, Any]) -> str | None:
    """Find the input matrix among a model's tensors; None for names that are not known."""
    return next((name for name in EMBED_HEADS if name in names), None)
