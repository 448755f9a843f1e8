"""How many tokens a text takes: the counts, the figures made of them, and the table.

    bytes/token, chars/token   of the text, in UTF-8, over tokens
    byte tokens                share of tokens that are no whole characters: the byte pieces of
                               SentencePiece, the parts of characters of a byte-level vocabulary
    tokens/word                a word is what stands between white space, as `str.split` has it;
                               none where a tenth or more of the letters belong to scripts that
                               put no spaces between words
    to first                   tokens over the first tokenizer's; saved: 1 less that

Source: the reference's table of tokens on one slice of SkyPile (606M -> 355M); tokens per word is
"fertility" in Rust et al. 2021 (arXiv 2012.15613).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from ..basetypes import BaseTokenizer
from ..text import UNSPACED

__all__ = [
    "TOTAL",
    "Efficiency",
    "EfficiencyRow",
    "TextFacts",
    "TextSize",
    "TokenCount",
    "TokenCounter",
    "TokenizerFacts",
    "measure_texts",
    "tabulate",
]

Int32 = npt.NDArray[np.int32]

TOTAL = "total"
"""What all texts together are called."""
_UNSPACED_FRAC = 0.10  # as text.find_scripts has it: a tenth makes a companion script
_NUM_POINTS = 0x110000
_OTHER, _LETTER, _UNSPACED_LETTER, _SPACE = range(4)


class TextSize(NamedTuple):
    """What a text holds."""

    num_docs: int = 0
    num_bytes: int = 0
    num_chars: int = 0
    num_between_spaces: int = 0
    """What stands between white space."""
    num_letters: int = 0
    num_unspaced: int = 0
    """Letters of scripts that put no spaces between words."""
    num_surrogates: int = 0
    """Halves of surrogate pairs, each of which stands as U+FFFD."""

    def plus(self, other: TextSize) -> TextSize:
        """Give the size of both texts together."""
        return TextSize(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def num_words(self) -> int | None:
        """Words; None where the text is not one of words."""
        spaced = self.num_unspaced < _UNSPACED_FRAC * self.num_letters
        return self.num_between_spaces if spaced else None


class TokenCount(NamedTuple):
    """Tokens of a text."""

    tokens: int = 0
    byte_tokens: int = 0
    unknown_tokens: int = 0
    """Tokens that stand for no bytes: the text cannot be had back from them."""

    def plus(self, other: TokenCount) -> TokenCount:
        """Give the tokens of both texts together."""
        return TokenCount(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class TokenizerFacts:
    """A tokenizer of the table."""

    name: str
    source: str
    """The file, folder or hub name that it was read from."""
    vocab_size: int
    family: str
    encoder: str
    """What encoded: "compiled", "sentencepiece" or "tokenizers"."""
    reason: str
    """Why it is not the compiled one, or ""."""


@dataclass(frozen=True)
class TextFacts:
    """A text of the table."""

    name: str
    num_docs: int
    num_bytes: int
    num_chars: int
    num_words: int | None
    num_surrogates: int = 0
    """Halves of surrogate pairs, each of which was encoded as U+FFFD."""


@dataclass(frozen=True)
class EfficiencyRow:
    """One tokenizer on one text; None where a figure has no meaning."""

    text: str
    tokenizer: str
    vocab_size: int
    tokens: int
    byte_tokens: int
    unknown_tokens: int
    bytes_per_token: float | None
    chars_per_token: float | None
    byte_token_frac: float | None
    tokens_per_word: float | None
    tokens_frac: float | None
    """Tokens over those of the first tokenizer."""
    saved_frac: float | None
    encoder: str


@dataclass(frozen=True)
class Efficiency:
    """The whole table: rows text by text, in each the tokenizers in order."""

    tokenizers: tuple[TokenizerFacts, ...]
    texts: tuple[TextFacts, ...]
    """In order; where there are several, all of them together come last."""
    rows: tuple[EfficiencyRow, ...]

    def rows_of(self, text: str) -> list[EfficiencyRow]:
        """Give the rows of one text."""
        return [row for row in self.rows if row.text == text]


class TokenCounter:
    """Counts ids of one tokenizer by what they stand for."""

    def __init__(self, base: BaseTokenizer) -> None:
        """Look at every piece of `base` once."""
        spellings = [(base.piece(id), base.piece_bytes(id)) for id in range(base.size)]
        self._is_bytes_V = np.array([_is_bytes(*spelling) for spelling in spellings], np.bool_)
        self._is_unknown_V = np.array([not data for _, data in spellings], np.bool_)

    def count(self, docs: Sequence[Int32]) -> TokenCount:
        """Count the tokens of documents."""
        if not docs:
            return TokenCount()
        ids_T = np.concatenate(docs)
        num_bytes, num_unknown = self._is_bytes_V[ids_T].sum(), self._is_unknown_V[ids_T].sum()
        return TokenCount(len(ids_T), int(num_bytes), int(num_unknown))


def measure_texts(texts: Sequence[str]) -> TextSize:
    """Tell what documents hold."""
    if not texts:
        return TextSize()
    points_C = np.frombuffer("\n".join(texts).encode("utf-32-le"), np.uint32)
    classes_C = _point_classes()[points_C]
    is_gap_C = classes_C == _SPACE
    begins = np.count_nonzero(is_gap_C[:-1] & ~is_gap_C[1:])
    if len(is_gap_C) and not is_gap_C[0]:
        begins += 1
    unspaced = int(np.count_nonzero(classes_C == _UNSPACED_LETTER))
    return TextSize(
        num_docs=len(texts),
        num_bytes=sum(len(text.encode()) for text in texts),
        num_chars=sum(map(len, texts)),
        num_between_spaces=int(begins),
        num_letters=int(np.count_nonzero(classes_C == _LETTER)) + unspaced,
        num_unspaced=unspaced,
    )


def tabulate(
    tokenizers: Sequence[TokenizerFacts],
    sizes: Mapping[str, TextSize],
    counts: Mapping[str, Sequence[TokenCount]],
) -> Efficiency:
    """Make the table.

    Args:
        tokenizers: The first is what the others are compared with.
        sizes: Each text by name.
        counts: For each text, the tokens by tokenizer.
    """
    sizes, counts = dict(sizes), dict(counts)
    words = {name: size.num_words for name, size in sizes.items()}
    if len(sizes) > 1:
        assert TOTAL not in sizes, f"a text is called {TOTAL!r}"
        known = [num for num in words.values() if num is not None]
        # Letters of one text must not hide that another has no words.
        words[TOTAL] = sum(known) if len(known) == len(words) else None
        counts[TOTAL] = [_sum_counts(column) for column in zip(*counts.values(), strict=True)]
        sizes[TOTAL] = _sum_sizes(sizes.values())
    texts = tuple(
        TextFacts(name, *size[:3], words[name], size.num_surrogates) for name, size in sizes.items()
    )
    rows = (
        _make_row(text, facts, count, counts[text.name][0].tokens)
        for text in texts
        for facts, count in zip(tokenizers, counts[text.name], strict=True)
    )
    return Efficiency(tuple(tokenizers), texts, tuple(rows))


def _make_row(
    text: TextFacts, facts: TokenizerFacts, count: TokenCount, first_tokens: int
) -> EfficiencyRow:
    tokens_frac = _ratio(count.tokens, first_tokens)
    return EfficiencyRow(
        text=text.name,
        tokenizer=facts.name,
        vocab_size=facts.vocab_size,
        **count._asdict(),
        bytes_per_token=_ratio(text.num_bytes, count.tokens),
        chars_per_token=_ratio(text.num_chars, count.tokens),
        byte_token_frac=_ratio(count.byte_tokens, count.tokens),
        tokens_per_word=None if text.num_words is None else _ratio(count.tokens, text.num_words),
        tokens_frac=tokens_frac,
        saved_frac=None if tokens_frac is None else 1 - tokens_frac,
        encoder=facts.encoder,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _sum_counts(counts: Iterable[TokenCount]) -> TokenCount:
    total = TokenCount()
    for count in counts:
        total = total.plus(count)
    return total


def _sum_sizes(sizes: Iterable[TextSize]) -> TextSize:
    total = TextSize()
    for size in sizes:
        total = total.plus(size)
    return total


def _is_bytes(piece: str, data: bytes) -> bool:
    """Whether a piece is a byte, or bytes that are no whole characters."""
    if len(data) == 1 and piece == f"<0x{data[0]:02X}>":
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


@cache
def _point_classes() -> npt.NDArray[np.uint8]:
    """Tell of each code point whether it is a letter, of which kind of script, or white space."""
    every = "".join(map(chr, range(_NUM_POINTS)))
    classes = np.full(_NUM_POINTS, _OTHER, np.uint8)
    unspaced = "".join(rf"\p{{Script={name}}}" for name in UNSPACED)
    patterns = {_LETTER: r"\p{L}+", _UNSPACED_LETTER: rf"(?V1)[\p{{L}}&&[{unspaced}]]+"}
    for number, pattern in patterns.items():
        for match in regex.finditer(pattern, every):
            classes[slice(*match.span())] = number
    classes[[point for point, char in enumerate(every) if char.isspace()]] = _SPACE
    return classes
