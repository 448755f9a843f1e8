"""What the methods of the corpus stage can be told; each is off until it is asked for.

Every limit names its source. Where a source tuned a limit on other tokens than ours (words that a
segmenter found, where we have characters), its field says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, field_validator

from ..errors import UsageError
from ..settings import Settings

__all__ = [
    "NearDuplicateSettings",
    "OverlapSettings",
    "PiiSettings",
    "QualitySettings",
    "RepetitionLimits",
]

Frac = Annotated[float, Field(ge=0, le=1)]


def _checked(names: list[str], check: Callable[[list[str]], None]) -> list[str]:
    """Turn a refusal into what a settings class reports among all others."""
    try:
        check(names)
    except UsageError as error:
        raise ValueError(f"{error.what} {error.way_out}") from None
    return names


class RepetitionLimits(Settings):
    """Largest shares of a document that may be repetition; 1 turns a limit off.

    Source of the measures and the defaults: Rae et al. 2021, arXiv 2112.11446, table A1.
    """

    duplicate_line_frac: Frac = 0.30
    """Lines that stood before, of all lines."""

    duplicate_line_char_frac: Frac = 0.20
    """Characters in lines that stood before, of all characters."""

    duplicate_paragraph_frac: Frac = 0.30
    """Paragraphs (blank lines part them) that stood before, of all paragraphs."""

    duplicate_paragraph_char_frac: Frac = 0.20
    """Characters in paragraphs that stood before, of all characters."""

    top_gram_char_frac: Annotated[list[Frac], Field(min_length=3, max_length=3)] = [
        0.20,
        0.18,
        0.16,
    ]
    """Characters in all occurrences of the commonest 2-, 3- and 4-gram, of all characters."""

    duplicate_gram_char_frac: Annotated[list[Frac], Field(min_length=6, max_length=6)] = [
        0.15,
        0.14,
        0.13,
        0.12,
        0.11,
        0.10,
    ]
    """Characters in 5- to 10-grams that stood before, of all characters."""


_UNSPACED_LIMITS = RepetitionLimits(
    duplicate_line_frac=0.287,
    top_gram_char_frac=[0.256, 0.201, 0.171],
    duplicate_gram_char_frac=[0.198, 0.182, 0.167, 0.154, 0.14, 0.127],
)


class QualitySettings(Settings):
    """Documents that are dropped for what their text looks like."""

    scripts: list[str] = []
    """Unicode scripts that documents must be written in, as `Han`; empty: any."""

    min_script_frac: Frac = 0.5
    """Smallest share of the letters that must belong to `scripts`. Higher also drops documents
    that quote much: technical Chinese is a third Latin. Ours; not tuned."""

    spaced: RepetitionLimits = RepetitionLimits()
    """Limits for documents with spaces between words (table A1 of Gopher, tuned on English)."""

    unspaced: RepetitionLimits = _UNSPACED_LIMITS
    """Limits for documents without. Lines and n-grams: FineWeb-2, tuned on Chinese words as jieba
    cuts them (configs/cmn_Hani.yml, 05e6729); our n-grams are of as many characters as those
    words have on average. Paragraphs and characters of lines: Gopher's, not tuned on Chinese."""

    min_words_of_grams: Annotated[int, Field(ge=0)] = 50
    """Shorter documents are not judged by their n-grams: in a few lines a name that stands twice
    is a large share (Gopher drops documents below 50 words altogether). Where words are not
    spaced, 85 characters are as much."""

    min_mean_word_chars: Annotated[float, Field(ge=0)] = 3.0
    """Smallest mean length of words, where words are spaced (Gopher, section A.1)."""

    max_mean_word_chars: Annotated[float, Field(gt=0)] = 10.0
    """Largest mean length of words, where words are spaced (Gopher, section A.1). Languages that
    compound, such as Finnish, need more."""

    max_symbol_frac: Annotated[float, Field(ge=0)] = 0.1
    """Largest number of `#`, and of ellipses, to one word, where words are spaced (Gopher)."""

    max_bullet_line_frac: Frac = 0.9
    """Largest share of lines that begin with a bullet (Gopher)."""

    max_ellipsis_line_frac: Frac = 0.3
    """Largest share of lines that end in an ellipsis (Gopher)."""

    min_letter_word_frac: Frac = 0.8
    """Smallest share of words with a letter in them, where words are spaced (Gopher)."""

    @field_validator("scripts")
    @classmethod
    def _scripts_exist(cls, scripts: list[str]) -> list[str]:
        from ..text import check_scripts

        return _checked(scripts, check_scripts)


class PiiSettings(Settings):
    """Personal data that is masked."""

    kinds: list[Literal["email", "phone"]] = ["email", "phone"]
    """What is masked. Addresses and numbers of companies are masked, too: they look the same."""

    phone_regions: list[str] = ["CN"]
    """Countries (ISO 3166, as `CN`) whose numbers are known without their `+86`; each one more
    costs time and takes more ordinary numbers for telephones."""

    @field_validator("phone_regions")
    @classmethod
    def _regions_exist(cls, regions: list[str]) -> list[str]:
        from .pii import check_regions

        return _checked(regions, check_regions)


class NearDuplicateSettings(Settings):
    """Documents that share most of their n-grams with one before them are dropped.

    Source: MinHash with banding (Broder 1997; Leskovec et al., Mining of Massive Datasets,
    chapter 3) in FineWeb's setting of 14 bands of 8 (Penedo et al. 2024, arXiv 2406.17557).
    """

    gram_tokens: Annotated[int, Field(ge=1, le=100)] = 5
    """Tokens of an n-gram (FineWeb: 5 words). Fewer finds texts that share phrases only."""

    num_bands: Annotated[int, Field(ge=1, le=256)] = 14
    """Bands of a signature; two documents are compared if one of their bands is equal. More finds
    more and takes 8 bytes and a comparison a document each."""

    rows_per_band: Annotated[int, Field(ge=1, le=64)] = 8
    """Hashes of a band. At 14 bands of 8, a pair with Jaccard similarity 0.8 is compared with
    92% probability, one with 0.5 with 5%."""

    min_similarity: Frac = 0.72
    """Smallest estimated Jaccard similarity of two documents that count as near duplicates. The
    default is where 14 bands of 8 find a pair as likely as not; 0 drops whatever shares a band,
    as FineWeb does."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of the hash functions; another one finds slightly other pairs."""


class OverlapSettings(Settings):
    """Documents that share an n-gram with a benchmark are dropped.

    Source: Brown et al. 2020 (GPT-3), arXiv 2005.14165, appendix C.
    """

    benchmarks: Annotated[list[str], Field(min_length=1)]
    """Folders and files of benchmarks; a folder of folders holds a benchmark in each."""

    gram_words: Annotated[int, Field(ge=2, le=64)] = 13
    """Words that must agree in a row (GPT-3: 13). Fewer also drop documents that quote a phrase."""

    gram_chars: Annotated[int, Field(ge=2, le=64)] = 22
    """Characters that must agree in a row where words are not spaced: as many as 13 Chinese words
    have. With 13, most that is found is names of offices and lines of poems."""

    min_words: Annotated[int, Field(ge=1)] = 8
    """Questions of fewer than `gram_words` are looked for as a whole from this length on; shorter
    ones are not looked for (GPT-3: 8)."""

    min_chars: Annotated[int, Field(ge=1)] = 14
    """The same where words are not spaced: as many as 8 Chinese words have."""
