"""What a base tokenizer is, of whichever family: the interface that `bases` reads files into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .pieces import SPACE

__all__ = ["BORDER", "WAY_OUT", "BaseTokenizer", "Int32", "RuleArrays", "check_bytes", "pack_rules"]

Int32 = npt.NDArray[np.int32]
BORDER = -1
"""The id of no piece; `encode_words` puts it between two pre-tokens."""
WAY_OUT = (
    "Use a BPE tokenizer with byte fallback (Mixtral, Llama 2) or on bytes (GPT-2, Qwen, Llama 3)."
)
"""What messages advise who came with another kind of tokenizer."""


class RuleArrays(NamedTuple):
    """Merge rules of a base as arrays of ids, earliest first."""

    left_R: Int32
    right_R: Int32
    merged_R: Int32
    rank_R: Int32
    """Lower goes first; among equal ranks the leftmost pair of the text does."""


class BaseTokenizer(ABC):
    """What the base's text path is asked for.

    Attributes:
        name: What messages call it.
        family: "sentencepiece" | "byte-level"; "other" is used, never extended.
        size: V, the number of ids: one more than the largest.
        has_byte_fallback: Whether every text has a spelling; but for `missing_bytes`, true of all
            that are accepted.
        missing_bytes: Bytes that have no piece, in order; only byte-level bases may lack some.
        has_normalizer: Whether text may change before it is cut, other than spaces.
        digest: sha256 of the file.
    """

    name: str
    family: Literal["sentencepiece", "byte-level", "other"]
    size: int
    has_byte_fallback: bool = True
    missing_bytes: bytes = b""
    has_normalizer: bool
    digest: str

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of each text: no special pieces."""

    def encode_words(self, texts: Sequence[str]) -> list[Int32]:
        """Give the ids of each text with BORDER between pre-tokens, where the base has them."""
        return [np.array(ids, np.int32) for ids in self.encode_batch(texts)]

    def completed(self, first: int | None = None) -> BaseTokenizer:
        """Give the base with a piece for each byte that it lacks; itself where it lacks none.

        The pieces have no merge rule. So a text without these bytes has the same ids as before.

        Args:
            first: Id of the first such piece; None: `size`.
        """
        return self

    @abstractmethod
    def piece(self, id: int) -> str:
        """Give a piece as spelled in the vocabulary; "" for an id of no piece."""

    @abstractmethod
    def piece_bytes(self, id: int) -> bytes:
        """Give the bytes that a piece stands for; none for a special piece."""

    @abstractmethod
    def is_normal(self, id: int) -> bool:
        """Whether a piece takes part in merging: not special, user-defined or a fallback byte."""

    @abstractmethod
    def spell(self, data: bytes) -> tuple[int, ...]:
        """Give the ids of one character, or of part of one, without prefix or normaliser."""

    def spell_bytes(self, data: bytes) -> str:
        """Give the spelling of bytes as a piece of this vocabulary."""
        return data.decode().replace(" ", SPACE)

    def read_piece(self, piece: str) -> bytes:
        """Give the bytes of a piece from its spelling; undoes `spell_bytes`."""
        return piece.replace(SPACE, " ").encode()

    @abstractmethod
    def find_piece(self, piece: str) -> int | None:
        """Give the id of a piece as spelled in the vocabulary; None if there is none."""

    @abstractmethod
    def rule_arrays(self, keep: Callable[[str], bool] = lambda _: True) -> RuleArrays:
        """Give the merge rules whose joined piece (as spelled) passes `keep`."""


def check_bytes(name: str, falls_back: bool, num_bytes: int) -> None:
    """Refuse a base of characters that cannot spell every text.

    Raises:
        InputError: It does not fall back to bytes, or has not all 256.
    """
    if not falls_back or num_bytes != 256:
        raise InputError(
            f"{name}: the base tokenizer has no byte fallback ({num_bytes} of 256 byte pieces).",
            effect="Characters that it does not know would be lost as <unk>.",
            way_out=WAY_OUT,
        )


def pack_rules(rows: list[tuple[int, int, int, int]]) -> RuleArrays:
    """Sort rows of (left, right, merged, rank) and turn them into arrays."""
    rows.sort(key=lambda row: (row[3], row[2], row[0]))
    table = np.array(rows, np.int32).reshape(-1, 4).T
    return RuleArrays(*(np.ascontiguousarray(column) for column in table))
