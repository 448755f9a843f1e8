"""Repetition and shape of a text: the filters that most public corpora were made with.

Measured are the shares of Gopher's table A1 (lines and paragraphs that stood before, the
commonest n-gram, n-grams that stood before) and its rules on words, symbols and lines, as
datatrove measures them, with these differences: words are our tokens, so without punctuation and
with case folded; an n-gram that stands once is no repetition, however short the text; rules on
words hold only where words are spaced. A document is *spaced* if more of its characters are in
words between spaces than in characters that are tokens by themselves.

Without spaces n-grams are of more tokens (`_UNSPACED_SIZES`): what is compared there is about as
much text as in the words that the limits were tuned on.

Shapes: D texts, N characters, T tokens, K figures, G sizes of n-grams, P code points.
Source: Rae et al. 2021, arXiv 2112.11446, section A.1 and table A1; datatrove 0.10,
GopherRepetitionFilter and GopherQualityFilter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import regex

from ..text import script_runs
from .grams import Int64, Tokens, UInt8, UInt64, points_of, power_of
from .methods import QualitySettings, RepetitionLimits
from .repetition import (
    BULLETS,
    ELLIPSES,
    LETTERED,
    NUM_TOP,
    SCRIPT,
    SYMBOLS,
    TOP,
    WORD_CHARS,
    Bools,
    Float64,
    measure_all,
    new_room,
)

__all__ = ["REASONS", "QualityFilter"]

_CHARS_OF_WORD = 1.7
"""Of jieba's tokens, on average over 70 MB of Chinese of seven kinds."""
_SPACED_SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 10)
_UNSPACED_SIZES = tuple(round(_CHARS_OF_WORD * n) for n in _SPACED_SIZES)
"""Tokens of the n-grams."""
_NUM_POINTS = 0x110000

REASONS = (
    "other_script",
    "duplicate_paragraphs",
    "duplicate_paragraph_chars",
    "duplicate_lines",
    "duplicate_line_chars",
    *(f"top_{n}_gram" for n in _SPACED_SIZES[:NUM_TOP]),
    *(f"duplicate_{n}_grams" for n in _SPACED_SIZES[NUM_TOP:]),
    "short_words",
    "long_words",
    "many_symbols",
    "bullet_lines",
    "ellipsis_lines",
    "few_letters",
)
"""Why a document is dropped, in the order of asking. An n-gram is named after its words; without
spaces it is as long as so many words are."""


class QualityFilter:
    """Tells why documents should be dropped for what they look like."""

    def __init__(self, settings: QualitySettings) -> None:
        """Prepare the limits."""
        self._scripts_P = _mark_letters(settings.scripts)
        least = settings.min_words_of_grams
        self._leasts_2 = np.array([round(least * _CHARS_OF_WORD), least])
        self._lows_2K = np.full((2, len(REASONS)), -np.inf)
        self._highs_2K = np.full((2, len(REASONS)), np.inf)
        if settings.scripts:
            self._lows_2K[:, SCRIPT] = settings.min_script_frac
        self._highs_2K[0, SCRIPT + 1 : WORD_CHARS] = _in_order(settings.unspaced)
        self._highs_2K[1, SCRIPT + 1 : WORD_CHARS] = _in_order(settings.spaced)
        self._highs_2K[:, BULLETS] = settings.max_bullet_line_frac
        self._highs_2K[:, ELLIPSES] = settings.max_ellipsis_line_frac
        self._lows_2K[1, WORD_CHARS] = settings.min_mean_word_chars
        self._highs_2K[1, WORD_CHARS + 1] = settings.max_mean_word_chars
        self._highs_2K[1, SYMBOLS] = settings.max_symbol_frac
        self._lows_2K[1, LETTERED] = settings.min_letter_word_frac

    def reasons(self, texts: Sequence[str], tokens: Tokens) -> list[str]:
        """Give the first of `REASONS` that speaks against each text, "" where none does.

        Args:
            texts: As `clean` leaves them.
            tokens: What `find_tokens` gave for them.
        """
        figures_DK, spaced_D = self._measure(texts, tokens, self._highs_2K, self._leasts_2)
        kinds_D = spaced_D.astype(np.intp)
        bad_DK = (figures_DK < self._lows_2K[kinds_D]) | (figures_DK > self._highs_2K[kinds_D])
        firsts_D = np.where(bad_DK.any(axis=1), bad_DK.argmax(axis=1), -1)
        return [REASONS[k] if k >= 0 else "" for k in firsts_D.tolist()]

    def figures(self, texts: Sequence[str], tokens: Tokens) -> Float64:
        """Measure texts, to choose limits by.

        Returns:
            One row a text, one column for each of `REASONS`: the share of letters in the scripts,
            shares of blocks and characters, mean characters of a word (twice), symbols to a word,
            shares of lines, and the share of words with a letter. What is measured on words is 0
            where there are none.
        """
        nothing = np.zeros_like(self._highs_2K), np.zeros_like(self._leasts_2)
        return self._measure(texts, tokens, *nothing)[0]

    def _measure(
        self, texts: Sequence[str], tokens: Tokens, highs_2K: Float64, leasts_2: Int64
    ) -> tuple[Float64, Bools]:
        points_N, point_ends_D = points_of(texts)
        figures_DK = np.zeros((len(texts), len(REASONS)))
        spaced_D = np.zeros(len(texts), np.bool_)
        longest = int(np.diff(tokens.ends_D, prepend=0).max(initial=0))
        room = new_room(max([longest, *(text.count("\n") + 1 for text in texts)]))
        args = (tokens, self._scripts_P, highs_2K, *_sizes_and_powers(), leasts_2, room)
        measure_all(points_N, point_ends_D, *args, figures_DK, spaced_D)
        return figures_DK, spaced_D


def _in_order(limits: RepetitionLimits) -> list[float]:
    return [
        limits.duplicate_paragraph_frac,
        limits.duplicate_paragraph_char_frac,
        limits.duplicate_line_frac,
        limits.duplicate_line_char_frac,
        *limits.top_gram_char_frac,
        *limits.duplicate_gram_char_frac,
    ]


def _mark_letters(scripts: Sequence[str]) -> UInt8:
    """Mark letters with 1 and those of the scripts with 3; no scripts: an empty table."""
    if not scripts:
        return np.zeros(0, np.uint8)
    every = np.arange(_NUM_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    letters = "".join(regex.findall(r"\p{L}+", every))
    marks_P = np.zeros(_NUM_POINTS, np.uint8)
    marks_P[points_of([letters])[0]] = 1
    marks_P[points_of(list(script_runs(letters, scripts)))[0]] = 3
    return marks_P


def _sizes_and_powers() -> tuple[Int64, UInt64]:
    sizes_2G = np.array((_UNSPACED_SIZES, _SPACED_SIZES))
    powers_2G = np.array([[power_of(n) for n in sizes] for sizes in sizes_2G.tolist()])
    assert sizes_2G.shape[1] == WORD_CHARS - TOP, "a size of n-grams has no column"
    return sizes_2G, powers_2G
