"""What the encoding stage takes and gives."""

from __future__ import annotations

from ..manifest import Facts
from ..settings import StageSettings

__all__ = ["EncodeFacts", "EncodeSettings", "EncodedSplit"]


class EncodeSettings(StageSettings):
    """How documents become token files."""

    append_eos: bool = True
    """End each document with EOS; without it a model never learns to stop."""
    prepend_bos: bool | None = None
    """Begin each document with BOS; by default where the tokenizer adds it, as Mixtral's does."""


class EncodedSplit(Facts):
    """One token file."""

    num_docs: int
    total_tokens: int
    size_bytes: int
    """UTF-8 bytes of the text that the tokens stand for."""


class EncodeFacts(Facts):
    """What the encoding stage made: set -> split -> sizes."""

    sets: dict[str, dict[str, EncodedSplit]]
    total_tokens: int
    token_bytes: int
    """Bytes of one token in the files: 2 or 4."""
