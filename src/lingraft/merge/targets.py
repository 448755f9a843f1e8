"""What the merged model holds: every tensor, where it comes from, and what is done to it.

A tied model stores one matrix for reading and predicting. Where the adapter changes one of the
two uses alone, the merged model can no longer be tied: its head is written out, as PEFT's own
merge does. Where it changes both alike (the same rows, or the same matrix twice), it stays tied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..models import ModelFolder
from ..weights import TensorEntry, row_slices
from .adapter import Adapter
from .fold import is_linear
from .layout import EMBED_HEADS, Part, find_embed, published_parts
from .places import Change, map_adapter

__all__ = ["DTYPES", "Plan", "Target", "plan_targets"]

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


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
        InputError: The adapter does not fit the model.
    """
    parts = published_parts(model)
    embed = find_embed(parts)
    head = EMBED_HEADS[embed] if embed is not None else ""
    head_of = {head: embed} if embed is not None and head not in parts else {}
    changes = map_adapter(adapter.config, adapter.entries, parts, head_of)
    untied = head if head_of and embed is not None and _parts_ways(adapter, changes, embed) else ""
    if untied and embed is not None:
        entry = replace(parts[embed].entry, name=untied)
        parts = {**parts, untied: replace(parts[embed], entry=entry)}
    targets = {}
    for name, part in parts.items():
        stored = part.entry if dtype == "keep" else replace(part.entry, dtype=DTYPES[dtype])
        packed = body == "nf4" and is_linear(name)
        targets[name] = Target(stored, part, changes.get(name), packed)
    return Plan(targets, untied)


def _parts_ways(adapter: Adapter, changes: Mapping[str, Change], embed: str) -> bool:
    """Tell whether the two uses of a shared matrix differ after merging."""
    at_embed, at_head = changes.get(embed), changes.get(EMBED_HEADS[embed])
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
