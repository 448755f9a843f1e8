"""Scripts of text: which characters belong to them, and the runs that they form.

A character belongs to a script by the Unicode property Script (not Script_Extensions): every
character has exactly one, punctuation and digits are Common, so `、` is not Han and `々` is.

Source: Unicode Standard Annex #24, as the `regex` package implements it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import regex

from .errors import UsageError

__all__ = ["check_scripts", "in_scripts", "script_runs"]

# fmt: off
_NAMES = (
    "Adlam", "Arabic", "Armenian", "Balinese", "Bengali", "Bopomofo", "Buginese",
    "Canadian_Aboriginal", "Chakma", "Cham", "Cherokee", "Common", "Coptic", "Cyrillic",
    "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati", "Gurmukhi", "Han", "Hangul",
    "Hebrew", "Hiragana", "Inherited", "Javanese", "Kannada", "Katakana", "Khmer", "Lao",
    "Latin", "Limbu", "Lisu", "Malayalam", "Meetei_Mayek", "Mongolian", "Myanmar",
    "New_Tai_Lue", "Nko", "Ol_Chiki", "Oriya", "Runic", "Samaritan", "Sinhala", "Sundanese",
    "Syriac", "Tagalog", "Tai_Le", "Tai_Tham", "Tai_Viet", "Tamil", "Telugu", "Thaana", "Thai",
    "Tibetan", "Tifinagh", "Vai", "Yi",
)
# fmt: on
"""Scripts in use today: what a misspelled name is compared with. Others are accepted too."""


def in_scripts(text: str, scripts: Sequence[str]) -> bool:
    """Tell whether any character of `text` belongs to the scripts.

    Raises:
        UsageError: A name is not a Unicode script.
    """
    return _runs_of(tuple(scripts)).search(text) is not None


def script_runs(text: str, scripts: Sequence[str]) -> Iterator[str]:
    """Give the maximal runs of characters of the scripts, in reading order.

    Raises:
        UsageError: A name is not a Unicode script.

    >>> list(script_runs("房间 OK，很干净", ["Han"]))
    ['房间', '很干净']
    """
    for match in _runs_of(tuple(scripts)).finditer(text):
        yield match.group()


def check_scripts(scripts: Sequence[str]) -> None:
    """Refuse names that are no Unicode scripts.

    Raises:
        UsageError: A name is not a Unicode script; the nearest one is told.
    """
    for name in scripts:
        if not _is_script(name):
            near = difflib.get_close_matches(name.title(), _NAMES, n=3, cutoff=0.5)
            hint = " or ".join(f"'{found}'" for found in near) or "a name such as 'Han' or 'Thai'"
            raise UsageError(f"no Unicode script '{name}'.", way_out=f"Did you mean {hint}?")


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
    return regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in scripts) + "]+")
