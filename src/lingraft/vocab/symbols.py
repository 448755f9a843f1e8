"""Symbols: the codes that new pieces can be made of, in the order in which they are added.

First the base's own tokens in the order of ids, then characters by falling count in the training
text, ties by code point. With c single characters added, the first c of these are pieces; the
others stay as the base spells them: counted, never joined.

Shapes: C codes, S symbols.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..basetypes import BaseTokenizer
from .alphabet import IS_SYMBOL, Alphabet
from .chars import CharPieces, is_safe

__all__ = ["Symbols", "order_symbols"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Symbols:
    """All symbols, and the pieces that single characters need."""

    alphabet: Alphabet
    codes_S: Int64
    """Code of each symbol."""
    counts_S: Int64
    """How often each occurs in the training text."""
    num_base: int
    """Symbols that are pieces of the base."""
    chars: CharPieces
    """The characters, in the order of adding."""

    @property
    def num_candidates(self) -> int:
        """Characters that could be added."""
        return len(self.codes_S) - self.num_base

    @cached_property
    def byte_flags(self) -> npt.NDArray[np.bool_]:
        """Tell which base tokens are no whole characters: byte pieces, parts of characters."""
        base = self.alphabet.base
        return np.array([_is_byte(base, id) for id in range(base.size)], np.bool_)

    def texts(self, num_chars: int) -> list[str]:
        """Text of the base's symbols and of the first `num_chars` characters."""
        codes = self.codes_S[: self.num_base + num_chars].tolist()
        return [self.alphabet.text_of(code) for code in codes]

    def needs(self, num_chars: int) -> Int32:
        """How many characters must be added for each symbol to be a piece."""
        need = np.zeros(self.num_base + num_chars, np.int32)
        need[self.num_base :] = np.arange(1, num_chars + 1)
        return need

    def symbol_of_code(self, num_chars: int) -> Int32:
        """Symbol of each code; -1 for those that are none, or not among the first characters."""
        symbols = np.full(len(self.alphabet.flags_C), -1, np.int32)
        codes = self.codes_S[: self.num_base + num_chars]
        symbols[codes] = np.arange(len(codes))
        return symbols

    def token_counts(self, counts_C: Int64, fixed_V: Int64, num_chars: int) -> tuple[Int64, Int64]:
        """Count the tokens of a text before any rule.

        Args:
            counts_C: How often each code occurs in the text.
            fixed_V: Counts of base tokens that are part of no symbol.
            num_chars: Single characters added.

        Returns:
            Counts of the tokens that no rule touches, what spells other characters included; and
            counts of the symbols that are pieces, wherever they stand.
        """
        pieces = self.codes_S[: self.num_base + num_chars]
        spelled = counts_C.copy()
        spelled[pieces] = 0
        partial = self.chars.num_added(num_chars) - num_chars
        fixed = np.concatenate([fixed_V, np.zeros(partial, np.int64)])
        for code in np.flatnonzero(spelled).tolist():
            for token in self.chars.spell(code, num_chars):
                fixed[token] += spelled[code]
        # A token may be a symbol here and none there: the space mark, before another script.
        counts = counts_C[pieces]
        base = self.codes_S[: self.num_base]
        counts[: self.num_base] += fixed[base]
        fixed[base] = 0
        return fixed, counts


def _is_byte(base: BaseTokenizer, id: int) -> bool:
    if base.family == "sentencepiece":
        return not base.is_normal(id) and _BYTE_PIECE.fullmatch(base.piece(id)) is not None
    try:
        base.piece_bytes(id).decode()
    except UnicodeDecodeError:
        return True
    return False


def order_symbols(alphabet: Alphabet, counts_C: Int64, banned: Collection[str] = ()) -> Symbols:
    """Number the symbols of a text.

    Args:
        alphabet: The base, seen through the target scripts.
        counts_C: How often each code occurs in the text.
        banned: Characters that stay as the base spells them.
    """
    num_base_ids = alphabet.num_base
    base = np.flatnonzero(alphabet.flags_C[:num_base_ids] & IS_SYMBOL)
    points = np.flatnonzero(counts_C[num_base_ids:]) + num_base_ids
    points = points[np.argsort(-counts_C[points], kind="stable")]
    points = points[
        [
            is_safe(alphabet, code) and alphabet.text_of(code) not in banned
            for code in points.tolist()
        ]
    ]
    codes = np.concatenate([base, points])
    chars = CharPieces(alphabet, points.tolist())
    return Symbols(alphabet, codes, counts_C[codes], len(base), chars)
