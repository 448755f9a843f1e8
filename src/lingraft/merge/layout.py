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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..matrices import is_tied, named_matrices
from ..models import ModelFolder
from ..weights import TensorEntry

__all__ = [
    "Part",
    "find_shared",
    "is_known",
    "is_mixtral",
    "is_turned",
    "published_parts",
    "split_fused",
    "stored_name",
]

_FUSED = re.compile(r"^(?P<layer>.+)\.mlp\.experts\.(?P<which>gate_up_proj|down_proj)$")
_TURNED_TYPES = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_TURNED = re.compile(r"\.(c_attn|c_proj|c_fc|q_attn)\.weight$")
_HEADS = {"lm_head.weight": "embed_out.weight", "embed_out.weight": "lm_head.weight"}
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


def is_known(config: Mapping[str, Any]) -> bool:
    """Tell whether transformers knows a config's architecture."""
    from transformers import CONFIG_MAPPING

    return config.get("model_type") in CONFIG_MAPPING


def is_turned(config: Mapping[str, Any], parameter: str) -> bool:
    """Tell whether a linear map is stored as (inputs, outputs): transformers' Conv1D.

    The adapter's `fan_in_fan_out` does not tell: PEFT saves what held for the last module.
    """
    return config.get("model_type") in _TURNED_TYPES and _TURNED.search(parameter) is not None


def find_shared(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, str] | None:
    """Find the matrix that a tied model reads and predicts with.

    Args:
        config: The model's config.
        shapes: Its published tensors.

    Returns:
        Names of the output matrix, which may be stored or not, and of the input matrix; None for
        a model that is not tied, or whose input matrix is not known.
    """
    named, heads = named_matrices(shapes)
    if len(named) != 1 or len(heads) > 1 or not is_tied(config):
        return None
    usual = "embed_out.weight" if named[0].endswith("embed_in.weight") else "lm_head.weight"
    return (heads[0] if heads else usual), named[0]


def stored_name(name: str, has: Callable[[str], bool]) -> str | None:
    """Give a checkpoint's name of a parameter of transformers' model; None if it has none.

    Checkpoints may name routers as Mixtral's authors did, lack the name of the body (`h.0` for
    `transformer.h.0`), or call the head by its older name.
    """
    candidates = (
        name,
        _GATE.sub(".block_sparse_moe.gate.weight", name),
        name.partition(".")[2],
        _HEADS.get(name, name),
    )
    return next((candidate for candidate in candidates if has(candidate)), None)
