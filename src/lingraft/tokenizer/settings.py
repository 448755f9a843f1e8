"""What the tokenizer stage takes and gives."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..manifest import Facts
from ..settings import StageSettings

__all__ = ["Efficiency", "TokenizerFacts", "TokenizerSettings"]


class TokenizerSettings(StageSettings):
    """How the extended tokenizer is checked."""

    check_docs: Annotated[int, Field(ge=1)] = 2_000
    """Training documents of each set, besides all of validation, on which all forms of the
    extended tokenizer, and the base, are compared."""


class Efficiency(Facts):
    """Tokens of one set's validation split, before and after."""

    base_tokens: int
    extended_tokens: int
    num_chars: int
    size_bytes: int


class TokenizerFacts(Facts):
    """What the tokenizer stage made and proved."""

    base_size: int
    missing_bytes: int = 0
    """Bytes that the base has no piece for; they were added before the pieces."""
    added_pieces: int
    size: int
    efficiency: dict[str, Efficiency]
    """By corpus set."""
    num_texts_compared: int
    """Texts on which all forms of the tokenizer agreed, token by token."""
    num_texts_unchanged: int
    """Texts without the new scripts, encoded exactly as by the base."""
    unreachable_pieces: int
    """Added pieces that no text can produce; must be 0."""
