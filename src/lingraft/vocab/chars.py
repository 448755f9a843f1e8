"""Single characters as new pieces, and the partial pieces that a byte-level base needs for them.

A merge rule joins two pieces. Where the base spells a character in k > 2 tokens, the tokens are
folded from the left, ((t1 t2) t3)...: k - 2 partial pieces on the way, shared by all characters
that begin alike. SentencePiece cuts text into characters before it merges, so a character there
needs no rule and no partial piece.

A partial piece joins its tokens wherever they stand, so it must never begin a character outside
the scripts: `is_safe` tells. Code points that are not assigned yet may begin like it: they stand
in no text.

Why left folds are exact: in text every new rule's left part begins with a character's first
byte, so at most one rule applies at a place, and characters do not disturb one another. All base
rules go before, so what the base makes of a character stays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from .alphabet import Alphabet

__all__ = ["CharPieces", "Row", "is_safe"]


class Row(NamedTuple):
    """A new piece, as spelled in the vocabulary."""

    piece: str
    kind: Literal["partial", "char"]
    left: str
    """Left part of its merge rule; "" where it needs none."""
    right: str


def is_safe(alphabet: Alphabet, code: int) -> bool:
    """Whether a character may become a piece: no text without the scripts can change by it.

    Args:
        alphabet: The alphabet.
        code: Any code; what is not V + code point of a target character may not.
    """
    point = code - alphabet.num_base
    if point < 0 or alphabet.code_of_point[point] != code:
        return False
    if alphabet.base.family == "sentencepiece":
        return True
    data = chr(point).encode()
    if _is_piece(alphabet, data):
        return False  # in the vocabulary, but no rule leads to it
    sizes = list(accumulate(len(alphabet.base.piece_bytes(id)) for id in alphabet.spelling(code)))
    return not any(
        _is_piece(alphabet, data[:size]) or _begins_others(alphabet, point, data, size)
        for size in sizes[1:-1]
    )


class CharPieces:
    """Characters in the order of adding, with what they need.

    Attributes:
        codes: Their codes.
    """

    def __init__(self, alphabet: Alphabet, codes: Sequence[int]) -> None:
        """Fold the spelling of every character.

        Args:
            alphabet: The alphabet.
            codes: Codes V + code point, each one safe and none twice, in the order of adding.
        """
        self.codes = tuple(codes)
        self._alphabet, self._base = alphabet, alphabet.base
        self._place = {code: place for place, code in enumerate(self.codes)}
        assert len(self._place) == len(self.codes), "a character is added twice"
        self._partials: dict[tuple[int, int], int] = {}  # parts -> j; a part is an id or V + j
        self._texts: list[str] = []
        self._num_partials = [0]  # after c characters
        for code in self.codes:
            assert is_safe(alphabet, code), f"{alphabet.text_of(code)!r} may not become a piece"
            if self._base.family != "sentencepiece":
                self._fold(alphabet.spelling(code))
            self._num_partials.append(len(self._partials))

    def num_added(self, num_chars: int) -> int:
        """Count the pieces that the first `num_chars` characters need, partial ones included."""
        return num_chars + self._num_partials[num_chars]

    def spell(self, code: int, num_chars: int) -> tuple[int, ...]:
        """Spell a code that is no piece once the first `num_chars` characters are added.

        Returns:
            Base ids, or V + j for partial piece j, in reading order.
        """
        assert self._place.get(code, num_chars) >= num_chars, "the character is a piece by then"
        first, *rest = self._alphabet.spelling(code)
        known = self._num_partials[num_chars]
        while rest and self._partials.get((first, rest[0]), known) < known:
            first = self._alphabet.num_base + self._partials[first, rest.pop(0)]
        return (first, *rest)

    def partial_piece(self, j: int) -> str:
        """Give partial piece `j` as spelled in the vocabulary."""
        return self._texts[j]

    def rows(self, num_chars: int) -> list[Row]:
        """Give the new pieces in the order of adding, each behind those it is made of."""
        pairs = list(self._partials)
        rows: list[Row] = []
        for place, code in enumerate(self.codes[:num_chars]):
            for j in range(self._num_partials[place], self._num_partials[place + 1]):
                left, right = map(self._piece, pairs[j])
                rows.append(Row(left + right, "partial", left, right))
            rows.append(self._char_row(code))
        return rows

    def num_chars_within(self, num_added: int) -> int:
        """Give the largest number of characters that need at most `num_added` pieces."""
        sizes = [self.num_added(c) for c in range(len(self.codes) + 1)]
        return bisect_right(sizes, num_added) - 1

    def _char_row(self, code: int) -> Row:
        text = self._base.spell_bytes(self._alphabet.text_of(code).encode())
        if self._base.family == "sentencepiece":
            return Row(text, "char", "", "")
        last = self._base.piece(self._alphabet.spelling(code)[-1])
        return Row(text, "char", text.removesuffix(last), last)

    def _fold(self, ids: Sequence[int]) -> None:
        """Enter the partial pieces of a spelling; the last joining gives the character itself."""
        first = ids[0]
        for id in ids[1:-1]:
            j = self._partials.setdefault((first, id), len(self._partials))
            if j == len(self._texts):
                self._texts.append(self._piece(first) + self._piece(id))
            first = self._alphabet.num_base + j

    def _piece(self, part: int) -> str:
        known = self._alphabet.num_base
        return self._base.piece(part) if part < known else self._texts[part - known]


def _is_piece(alphabet: Alphabet, data: bytes) -> bool:
    return alphabet.base.find_piece(alphabet.base.spell_bytes(data)) is not None


def _begins_others(alphabet: Alphabet, point: int, data: bytes, size: int) -> bool:
    """Whether the first `size` bytes of a character also begin one outside the scripts."""
    shift = 6 * (len(data) - size)
    first = point >> shift << shift
    return alphabet.count_others(first, first + (1 << shift)) > 0
