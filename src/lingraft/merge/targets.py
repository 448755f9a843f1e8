"""What the merged model holds: every tensor, where it comes from, and what is done to it.

A tied model stores one matrix for reading and predicting. Where the adapter changes one of the
two uses alone, the merged model can no longer be tied: its head is written out, as PEFT's own
merge does. Where it changes both alike (the same rows, or the same matrix twice), it stays tied.
Some tied models store the matrix twice; both then get what the one would get.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..errors import InputError, UsageError
from ..matrices import is_tied, require_equal, text_config
from ..models import ModelFolder
from ..weights import TensorEntry, row_slices
from .adapter import Adapter
from .fold import is_linear
from .layout import Part, find_shared, is_known, is_turned, published_parts
from .places import Change, map_adapter

__all__ = ["DTYPES", "Plan", "Target", "plan_targets", "require_linear"]

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_FLOATS = ("F64", *DTYPES.values(), "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Target:
    """One tensor of the merged model."""

    entry: TensorEntry
    """As it will be stored."""
    part: Part
    """Where the base has it."""
    change: Change | None = None
    packed: bool = False
    """Whether the base's numbers are taken as NF4 gives them back."""

    @property
    def is_kept(self) -> bool:
        """Whether it is stored exactly as the base has it."""
        return self.change is None and not self.packed and self.entry == self.part.entry

    @property
    def is_stored_alone(self) -> bool:
        """Whether the base stores it under the same name, and not as a part of another."""
        return self.part.stored == self.entry.name


@dataclass(frozen=True)
class Plan:
    """Every tensor of the merged model, by name, in order."""

    targets: Mapping[str, Target]
    untied: str = ""
    """Name of an output matrix that the base shared with its input matrix, or empty."""

    @property
    def changes(self) -> list[Change]:
        """What the adapter does, one for each tensor it touches."""
        return [t.change for t in self.targets.values() if t.change is not None]


def plan_targets(model: ModelFolder, adapter: Adapter, body: str, dtype: str) -> Plan:
    """Plan the merged model.

    Args:
        model: The base.
        adapter: What is merged into it.
        body: `original`, or `nf4` for what 4-bit training saw of linear maps.
        dtype: Storage of every tensor; `keep`: each tensor's own.

    Raises:
        InputError: The adapter does not fit the model; the model is quantized, or stores two
            different matrices that its config ties, or what is tied cannot be told.
    """
    _refuse_quantized(model)
    stored = published_parts(model)
    shared = find_shared(model.config, {name: part.entry.shape for name, part in stored.items()})
    head, embed = shared or ("", "")
    if head in stored:  # stored twice
        require_equal(model, embed, head)
    parts = {name: part for name, part in stored.items() if name != head or not shared}
    changes = map_adapter(
        adapter.config,
        adapter.entries,
        parts,
        {head: embed} if shared else {},
        _turned(model, adapter, parts),
    )
    if not shared:
        _refuse_unknown_tie(model, changes)
    untied = head if shared and _parts_ways(adapter, changes, embed, head) else ""
    if untied and untied not in stored:
        entry = replace(stored[embed].entry, name=untied)
        stored = {**stored, untied: replace(stored[embed], entry=entry)}
    if shared and not untied and head in stored and embed in changes:
        changes = {**changes, head: changes[embed]}
    targets = {}
    for name, part in stored.items():
        kept = dtype == "keep" or part.entry.dtype not in _FLOATS
        entry = part.entry if kept else replace(part.entry, dtype=DTYPES[dtype])
        packed = body == "nf4" and is_linear(name)
        targets[name] = Target(entry, part, changes.get(name), packed)
        if name in changes and entry.dtype not in DTYPES.values():
            raise InputError(
                f"{model.path}: the adapter changes '{name}', which is {entry.dtype}.",
                effect="The sum cannot be stored so without great loss.",
                way_out="Ask for another storage, as --dtype bfloat16, or convert the model.",
            )
    return Plan(targets, untied)


def require_linear(model: ModelFolder) -> None:
    """Refuse to speak of an NF4 body where no linear map is known that it would change.

    Raises:
        UsageError: The architecture names its linear maps in a way that is not known here.
    """
    if not any(is_linear(name) for name in published_parts(model)):
        raise UsageError(
            f"{model.path}: no linear map of a layer is known among its tensors "
            "(`.layers.N.` ... `_proj`, `w1`, `w2`, `w3`), so there is no NF4 body of it.",
            effect="The original body would be taken for the one of 4-bit training.",
            way_out="Merge into the original body: --body original, --one-body.",
        )


def _refuse_quantized(model: ModelFolder) -> None:
    found = text_config(model.config).get("quantization_config") or model.config.get(
        "quantization_config"
    )
    if found:
        method = found.get("quant_method") if isinstance(found, Mapping) else None
        raise InputError(
            f"{model.path}: config.json says that its weights are quantized ({method}).",
            effect="Numbers of the adapter would be added to codes, not to weights.",
            way_out="Merge into the model in 16 bits that this one was made from.",
        )


def _turned(model: ModelFolder, adapter: Adapter, parts: Mapping[str, Part]) -> set[str]:
    """Give the linear maps that are stored as (inputs, outputs)."""
    if adapter.config.get("fan_in_fan_out") and not is_known(model.config):
        raise InputError(
            f"{adapter.path}: fan_in_fan_out, for a model of type "
            f"'{model.config.get('model_type')}', which transformers does not know.",
            effect="Which of its matrices are stored turned cannot be told.",
            way_out="Merge it with PEFT: PeftModel.merge_and_unload().",
        )
    return {name for name in parts if is_turned(model.config, name)}


def _refuse_unknown_tie(model: ModelFolder, changes: Mapping[str, Change]) -> None:
    """Refuse to change a matrix outside the layers that may also be the head."""
    if not is_tied(model.config):
        return
    outside = [
        name
        for name in changes
        if re.search(r"\.\d+\.", name) is None and len(model.entry(name).shape) == 2
    ]
    if outside:
        raise InputError(
            f"{model.path}: config.json ties the embeddings, the adapter changes '{outside[0]}', "
            "and which tensor holds the input rows is not known.",
            effect="The head could change with it, unseen.",
            way_out="Merge it with PEFT: PeftModel.merge_and_unload().",
        )


def _parts_ways(adapter: Adapter, changes: Mapping[str, Change], embed: str, head: str) -> bool:
    """Tell whether the two uses of a shared matrix differ after merging."""
    at_embed, at_head = changes.get(embed), changes.get(head)
    if at_head is None:
        shared = adapter.config.get("ensure_weight_tying", False)
        # PEFT gives token rows of a tied model to both uses, everything else to one.
        only_tokens = at_embed is None or (at_embed.whole is None and at_embed.low_rank is None)
        return not (shared or only_tokens)
    if at_embed is None or at_head.low_rank is not None or at_embed.low_rank is not None:
        return True
    if at_embed.token_ids != at_head.token_ids:
        return True
    pairs = [(at_embed.tokens, at_head.tokens)]
    pairs.append(
        (
            at_embed.whole.name if at_embed.whole else "",
            at_head.whole.name if at_head.whole else "",
        )
    )
    return not all(_are_equal(adapter, a, b) for a, b in pairs)


def _are_equal(adapter: Adapter, a: str, b: str) -> bool:
    if not (a and b):
        return a == b
    entry = adapter.entries[a]
    return entry.shape == adapter.entries[b].shape and all(
        torch.equal(adapter.rows(a, *rows), adapter.rows(b, *rows)) for rows in row_slices(entry)
    )
