"""What the embedding stage takes and gives."""

from __future__ import annotations

from typing import Literal

from ..manifest import Facts
from ..settings import StageSettings

__all__ = ["EmbedFacts", "EmbedSettings"]


class EmbedSettings(StageSettings):
    """How the rows of new pieces start."""

    method: Literal["mean", "normal"] = "mean"
    """`mean` of the base rows that spell the piece, or a `normal` draw with the base rows'
    mean standard deviation (transformers' former default, for comparison)."""
    spelling: Literal["bytes", "text"] = "bytes"
    """`bytes`: the piece alone. `text`: as the reference, with BOS and the ▁ prefix."""


class EmbedFacts(Facts):
    """What the embedding stage made."""

    base_rows: int
    added_rows: int
    mean_spelling_tokens: float
    """Base ids that an added row is made from, on average."""
    identical_rows: int
    """Added rows that are equal to another added row (same spelling in another order)."""
    shards_linked: int
    """Shards taken over without being read."""
    shards_written: int
