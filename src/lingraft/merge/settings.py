"""What the merge stage takes and gives."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

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
    max_shard_size: str = ""
    """Most bytes of a file, as `5GB`; empty: files as the model has them."""

    @field_validator("max_shard_size")
    @classmethod
    def _is_size(cls, value: str) -> str:
        from .sizes import is_size

        if value and not is_size(value):
            raise ValueError("expected a size such as 5GB or 500MB")
        return value


class MergeFacts(Facts):
    """What merging did."""

    tensors_merged: int
    """Tensors that an adapter was added to."""
    tensors_replaced: int
    """Tensors taken whole from training (embed_tokens, lm_head)."""
    tensors_kept: int
    """Tensors that the adapter does not touch."""
    rows_replaced: int = 0
    """Rows of single tokens taken from training."""
    size_bytes: int
    """Bytes of all tensors."""
    shards_linked: int = 0
    """Files taken over unread."""
    shards_written: int = 0
    untied: bool = False
    """Whether the head was written out, because input and output rows parted in training."""
    max_logit_difference: float | None
    """Largest difference of logits, merged model against base + adapter, on fixed prompts; the
    base is the one merged into. None: not compared."""
    max_logit_difference_other_body: float | None = None
    """The same against the other body: the 16-bit base where the dequantised NF4 base was merged
    into, and the other way round. It tells what the choice of body moves. None: not compared."""
    largest_logit: float | None = None
    """Largest magnitude of the logits compared."""
