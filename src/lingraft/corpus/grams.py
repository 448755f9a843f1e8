"""Tokens and n-grams of many texts at once, as 64-bit hashes.

What is a token: a character, where a script is written without spaces between words (`UNSPACED`
of `text.py`: Han, kana, Thai, ...); elsewhere a run of letters, digits and marks. A mark belongs
to the token before it. Case is folded, one character for one; punctuation, symbols and space are
no tokens, and characters that cannot be seen (soft hyphens, joiners) are passed over. So texts
that differ in layout, quotes and case only have the same tokens.

The hashes are the same on every machine and under every Python: a character enters by xor and a
multiplication, an n-gram is a polynomial of its tokens' hashes, and both are mixed at the end.
What is a letter comes from the Unicode version of the `regex` package and of Python; `table_digest`
tells whether two installations agree.

Shapes: D texts, N characters of all of them, T tokens, P code points, G n-grams.
Source: rolling polynomial hash, Karp & Rabin 1987; mixing, Stafford's variant 13 of the finalizer
of MurmurHash3 (as in Steele, Lea & Flood 2014, splitmix64).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from ..jit import jit, jit_inline
from ..text import PROLONGED, UNSPACED

__all__ = [
    "HAS_LETTER",
    "IS_SPACED",
    "MULTIPLIER",
    "Grams",
    "Tokens",
    "find_tokens",
    "mix",
    "ngram_hashes",
    "points_of",
    "power_of",
    "table_digest",
]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]

IS_SPACED, HAS_LETTER = 1, 2
"""Bits of a token's kind: a word between spaces; a letter is in it."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, made odd: what characters and tokens are multiplied with."""

_NUM_POINTS = 0x110000
_NONE, _WORD, _ALONE, _MARK, _UNSEEN = range(5)
_LETTER = 8
"""Bit of a class: the character is a letter."""
_HALF_WIDTH_PROLONGED = "\uff70"


class Tokens(NamedTuple):
    """The tokens of a batch of texts, text after text."""

    tokens_T: UInt64
    """Hash of each token."""
    ends_D: Int64
    """Where the tokens of each text end."""
    sizes_T: Int32
    """Characters of each token."""
    kinds_T: UInt8
    """IS_SPACED and HAS_LETTER of each token."""


class Grams(NamedTuple):
    """The n-grams of a batch of texts, text after text, repeated ones each time."""

    hashes_G: UInt64
    ends_D: Int64
    """Where the n-grams of each text end."""


def find_tokens(texts: Sequence[str]) -> Tokens:
    """Find the tokens of texts.

    Memory: up to 17 bytes for a character of all texts while it runs.
    """
    points_N, point_ends_D = points_of(texts)
    classes_P, folds_P = _tables()
    tokens_T = np.empty(len(points_N), np.uint64)
    sizes_T = np.empty(len(points_N), np.int32)
    kinds_T = np.empty(len(points_N), np.uint8)
    ends_D = np.empty(len(texts), np.int64)
    num = _find(points_N, point_ends_D, classes_P, folds_P, tokens_T, sizes_T, kinds_T, ends_D)
    # Copies, so that the room for as many tokens as characters is given back.
    return Tokens(tokens_T[:num].copy(), ends_D, sizes_T[:num].copy(), kinds_T[:num].copy())


def ngram_hashes(tokens: Tokens, n: int, *, whole_if_short: bool = False) -> Grams:
    """Hash every n tokens that follow each other within a text.

    Args:
        tokens: What `find_tokens` gave.
        n: Tokens of an n-gram, 1 or more.
        whole_if_short: A text of fewer tokens, but 1 or more, gives one hash of all of them,
            otherwise none.
    """
    assert n >= 1, f"{n} tokens are no n-gram"
    hashes_G = np.empty(len(tokens.tokens_T), np.uint64)
    ends_D = np.empty_like(tokens.ends_D)
    power = power_of(n)
    num = _hash_grams(tokens.tokens_T, tokens.ends_D, n, power, whole_if_short, hashes_G, ends_D)
    return Grams(hashes_G[:num], ends_D)


def points_of(texts: Sequence[str]) -> tuple[UInt32, Int64]:
    """Give the code points of texts, one after the other, and where each text ends."""
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    ends_D = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return np.frombuffer(data, "<u4").astype(np.uint32, copy=False), ends_D


def power_of(n: int) -> np.uint64:
    """Give what the oldest of n tokens has been multiplied with in a rolling hash."""
    return np.uint64(pow(int(MULTIPLIER), n - 1, 1 << 64))


@cache
def table_digest() -> str:
    """Digest what each character is: where two differ, hashes may differ."""
    content = hashlib.sha256()
    for table_P in _tables():
        content.update(table_P.tobytes())
    return content.hexdigest()[:16]


@cache
def _tables() -> tuple[UInt8, UInt32]:
    """Give the class and the folded form of every code point."""
    every = np.arange(_NUM_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    unspaced = "".join(rf"\p{{Script={name}}}" for name in UNSPACED)
    classes_P = np.zeros(_NUM_POINTS, np.uint8)
    for pattern, kind in (
        (r"[\p{L}\p{N}]", _WORD),
        (rf"[[{unspaced}{PROLONGED}{_HALF_WIDTH_PROLONGED}]&&[\p{{L}}\p{{Nl}}]]", _ALONE),
        (r"\p{M}", _MARK),
        (r"\p{Default_Ignorable_Code_Point}", _UNSEEN),
    ):
        for match in regex.finditer(rf"(?V1){pattern}+", every):
            classes_P[match.start() : match.end()] = kind
    for match in regex.finditer(r"\p{L}+", every):
        classes_P[match.start() : match.end()] |= _LETTER
    folds_P = np.arange(_NUM_POINTS, dtype=np.uint32)
    for match in regex.finditer(r"\p{Changes_When_Casefolded}", every):
        folded = [form for form in (match[0].casefold(), match[0].lower()) if len(form) == 1]
        folds_P[match.start()] = ord(folded[0]) if folded else match.start()
    return classes_P, folds_P


@jit_inline
def mix(value: np.uint64) -> np.uint64:
    """Spread every bit of a number over all of them; numbers that differ stay different."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@jit
def _find(
    points_N: UInt32,
    point_ends_D: Int64,
    classes_P: UInt8,
    folds_P: UInt32,
    tokens_T: UInt64,
    sizes_T: Int32,
    kinds_T: UInt8,
    ends_D: Int64,
) -> int:
    t, i = -1, 0
    for d in range(len(point_ends_D)):
        begun = _NONE
        while i < point_ends_D[d]:
            point = points_N[i]
            i += 1
            kind = classes_P[point] & 7
            if kind == _UNSEEN:
                continue
            if (
                kind == _ALONE
                or (kind == _WORD and begun != _WORD)
                or (kind == _MARK and not begun)
            ):
                t += 1
                begun = _ALONE if kind == _ALONE else _WORD
                tokens_T[t], sizes_T[t] = MULTIPLIER, 0
                kinds_T[t] = IS_SPACED if begun == _WORD else 0
            elif kind == _NONE:
                begun = _NONE
                continue
            value = (tokens_T[t] ^ np.uint64(folds_P[point])) * MULTIPLIER
            tokens_T[t] = value ^ (value >> np.uint64(32))
            sizes_T[t] += 1
            if classes_P[point] & _LETTER:
                kinds_T[t] |= HAS_LETTER
        ends_D[d] = t + 1
    for k in range(t + 1):
        tokens_T[k] = mix(tokens_T[k])
    return t + 1


@jit
def _hash_grams(
    tokens_T: UInt64,
    ends_D: Int64,
    n: int,
    power: np.uint64,
    whole_if_short: bool,
    hashes_G: UInt64,
    gram_ends_D: Int64,
) -> int:
    g, begin = 0, 0
    for d in range(len(ends_D)):
        value = np.uint64(0)
        for t in range(begin, ends_D[d]):
            if t - begin >= n:
                value -= tokens_T[t - n] * power
            value = value * MULTIPLIER + tokens_T[t]
            if t - begin >= n - 1:
                hashes_G[g] = mix(value ^ np.uint64(n))
                g += 1
        length = ends_D[d] - begin
        if whole_if_short and 0 < length < n:
            hashes_G[g] = mix(value ^ np.uint64(length))
            g += 1
        begin = ends_D[d]
        gram_ends_D[d] = g
    return g
