"""What the merge stage takes and gives."""

from __future__ import annotations

from typing import Literal

from ..manifest import Facts
from ..settings import StageSettings

__all__ = ["MergeFacts", "MergeSettings"]


class MergeSettings(StageSettings):
    """How the adapter is folded into the expanded model."""

    body: Literal["original", "nf4"] = "original"
    """Weights that the adapter is added to: the original ones, or the NF4 round trip of them
    that training saw."""
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = "keep"
    """Storage of the merged model; `keep`: each tensor's own."""


class MergeFacts(Facts):
    """What merging did."""

    tensors_merged: int
    """Matrices that an adapter was added to."""
    tensors_replaced: int
    """Matrices taken whole from training (embed_tokens, lm_head)."""
    tensors_kept: int
    size_bytes: int
    max_logit_difference: float
    """Largest difference of logits, merged model against base + adapter, on fixed prompts."""
