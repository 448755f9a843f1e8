"""Scripts of text: which characters belong to them, the runs that they form, finding them.

A character belongs to a script by the Unicode property Script: every character has exactly one;
punctuation and digits are Common, so `、` is not Han and `々` is. Marks that several scripts share
(the vowel signs of Arabic, combining accents) are Inherited; such a mark belongs to a script when
its Script_Extensions name it, so that words are not cut at their vowels.

Source: Unicode Standard Annex #24, as the `regex` package implements it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import regex

from .errors import InputError, UsageError

__all__ = [
    "PROLONGED",
    "UNSPACED",
    "check_scripts",
    "find_scripts",
    "in_scripts",
    "script_runs",
]

# fmt: off
_NAMES = (
    "Adlam", "Arabic", "Armenian", "Balinese", "Bengali", "Bopomofo", "Buginese",
    "Canadian_Aboriginal", "Chakma", "Cham", "Cherokee", "Coptic", "Cyrillic",
    "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul",
    "Hebrew", "Hiragana", "Javanese", "Kannada", "Katakana", "Khmer", "Lao",
    "Latin", "Limbu", "Lisu", "Malayalam", "Meetei_Mayek", "Mongolian", "Myanmar",
    "New_Tai_Lue", "Nko", "Ol_Chiki", "Oriya", "Runic", "Samaritan", "Sinhala", "Sundanese",
    "Syriac", "Tagalog", "Tai_Le", "Tai_Tham", "Tai_Viet", "Tamil", "Telugu", "Thaana", "Thai",
    "Tibetan", "Tifinagh", "Vai", "Yi",
)
# fmt: on
"""Scripts in use today: what a misspelled name is compared with, and what is looked for in a
text. Others are accepted too."""
_OF_NO_LANGUAGE = (" ", "\u0300", "\uffff")
"""A character of each script that is none of a language: Common, Inherited, Unknown."""
_JAPANESE = ("Han", "Hiragana", "Katakana")
_KANA = ("Hiragana", "Katakana")
PROLONGED = "\u30fc"
"""The prolonged sound mark of Japanese: Common to Unicode, kana to sentencepiece, and to us."""
UNSPACED = (
    "Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Yi",
    "Javanese", "Balinese", "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet",
)  # fmt: skip
"""Scripts written without spaces between words."""
_COMPANION_FRAC, _KANA_FRAC = 0.10, 0.01


def in_scripts(text: str, scripts: Sequence[str]) -> bool:
    """Tell whether any character of `text` belongs to the scripts.

    Raises:
        UsageError: A name is not the Unicode script of a language.
    """
    return _runs_of(tuple(scripts)).search(text) is not None


def script_runs(text: str, scripts: Sequence[str]) -> Iterator[str]:
    """Give the maximal runs of characters of the scripts, in reading order.

    Raises:
        UsageError: A name is not the Unicode script of a language.

    >>> list(script_runs("房间 OK，很干净", ["Han"]))
    ['房间', '很干净']
    """
    for match in _runs_of(tuple(scripts)).finditer(text):
        yield match.group()


def check_scripts(scripts: Sequence[str]) -> None:
    """Refuse names that are no Unicode scripts, and those that belong to no language.

    Raises:
        UsageError: A name is not a Unicode script (the nearest one is told), or it is one of no
            language: Common, Inherited or Unknown.
    """
    for name in scripts:
        if not _is_script(name):
            near = difflib.get_close_matches(name.title(), _NAMES, n=3, cutoff=0.5)
            hint = " or ".join(f"'{found}'" for found in near) or "a name such as 'Han' or 'Thai'"
            raise UsageError(f"no Unicode script '{name}'.", way_out=f"Did you mean {hint}?")
        if any(regex.match(rf"\p{{Script={name}}}", char) for char in _OF_NO_LANGUAGE):
            raise UsageError(
                f"script '{name}' belongs to no language.",
                effect="Pieces of its characters would change texts of every language.",
                way_out="Name the scripts of the language; marks that it shares come with them.",
            )


def find_scripts(texts: Iterable[str]) -> list[str]:
    """Find the scripts that a language is written in, from texts of it.

    Only letters count (general category L). The script with the most letters is taken; with it
    every script that has at least a tenth of its letters, except Latin beside another script:
    that is foreign words, which are not to be learned. Where kana are at least 1% of all letters
    beside Han, or the other way round, the text is Japanese: Han, Hiragana and Katakana are taken
    together. Scripts out of use (see `_NAMES`) are not looked for.

    Returns:
        Names, most letters first, equal numbers in alphabetical order.

    Raises:
        InputError: There is no letter in the texts.
    """
    counts = _count_letters(texts)
    total = sum(counts.values())
    if not total:
        raise InputError(
            "the texts hold no letter of a script in use; no scripts can be found.",
            way_out="Name the scripts, or give texts of the language.",
        )
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    floor = _COMPANION_FRAC * counts[ranked[0]]
    found = {name for name in ranked[1:] if counts[name] >= floor and name != "Latin"}
    found.add(ranked[0])
    if found.intersection(_JAPANESE) and _count_kana(counts) >= _KANA_FRAC * total:
        found.update(_JAPANESE)
    return sorted(found, key=lambda name: (-counts[name], name))


def _count_kana(counts: Counter[str]) -> int:
    return counts["Hiragana"] + counts["Katakana"]


def _count_letters(texts: Iterable[str]) -> Counter[str]:
    chars: Counter[str] = Counter()
    for text in texts:
        chars.update(text)
    counts: Counter[str] = Counter()
    pattern = _letters()
    for char, count in chars.items():
        match = pattern.match(char)
        if match:
            counts[match.lastgroup] += count
    return counts


@lru_cache(maxsize=1)
def _letters() -> regex.Pattern[str]:
    groups = "|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in _NAMES)
    return regex.compile(rf"(?=\p{{L}})(?:{groups})")


def _is_script(name: str) -> bool:
    # Letters only: anything else could end the property and be read as a pattern.
    if not name.replace("_", "").isalpha():
        return False
    try:
        regex.compile(rf"\p{{Script={name}}}")
    except regex.error:
        return False
    return True


@lru_cache(maxsize=64)
def _runs_of(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    check_scripts(scripts)
    assert scripts, "no scripts given"
    own = "".join(rf"\p{{Script={name}}}" for name in scripts)
    own += PROLONGED * any(name in _KANA for name in scripts)
    shared = "".join(rf"\p{{Script_Extensions={name}}}" for name in scripts)
    return regex.compile(rf"(?V1)[{own}[\p{{Script=Inherited}}&&[{shared}]]]+")
