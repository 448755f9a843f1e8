"""Facts about every Unicode character at once: script class, target or not, UTF-8.

Shapes: 0x110000 code points; N bytes, L characters.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import regex

from ..errors import UsageError
from ..text import PROLONGED, UNSPACED, in_scripts

__all__ = ["NUM_POINTS", "assigned_points", "decode_points", "has_words", "script_classes"]

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]

NUM_POINTS = sys.maxunicode + 1
_MAX_CLASSES = 31
_SHARED_OR_UNSPACED = regex.compile(
    rf"[{PROLONGED}\p{{Script=Inherited}}"
    + "".join(rf"\p{{Script={name}}}" for name in UNSPACED)
    + "]"
)
_JAPANESE = regex.compile(r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]")


def script_classes(scripts: Sequence[str]) -> npt.NDArray[np.int8]:
    """Give each character's script class.

    Returns:
        -1 outside the scripts, 0 for marks that several scripts share, else from 1 on by the order
        of `scripts`; Han, Hiragana and Katakana are one class.

    Raises:
        UsageError: There are more scripts than classes.
    """
    every = _every_char()
    classes = np.full(NUM_POINTS, -1, np.int8)
    for match in regex.finditer(r"\p{Script=Inherited}+", every):
        for place in range(*match.span()):
            if in_scripts(every[place], scripts):
                classes[place] = 0
    numbers: dict[str, int] = {}
    for name in scripts:
        runs = list(regex.finditer(rf"\p{{Script={name}}}+", every))
        first = runs[0].group()[0] if runs else name
        number = numbers.setdefault(
            "Japanese" if _JAPANESE.match(first) else first, len(numbers) + 1
        )
        if number > _MAX_CLASSES:
            raise UsageError(
                f"{len(scripts)} scripts in one search; expected at most {_MAX_CLASSES}.",
                way_out="Search for the languages one after the other.",
            )
        for match in runs:
            classes[slice(*match.span())] = number
    if in_scripts(PROLONGED, scripts):
        classes[ord(PROLONGED)] = numbers["Japanese"]
    return classes


def has_words(is_target: Bool) -> bool:
    """Whether any target character is of a script that puts spaces between words."""
    chars = "".join(map(chr, np.flatnonzero(is_target).tolist()))
    return bool(_SHARED_OR_UNSPACED.sub("", chars))


@cache
def assigned_points() -> Bool:
    """Tell which code points can stand in a text: assigned or for private use; no surrogates."""
    flags = np.ones(NUM_POINTS, np.bool_)
    for match in regex.finditer(r"\p{Cn}+", _every_char()):
        flags[slice(*match.span())] = False
    flags[0xD800:0xE000] = False
    return flags


def decode_points(data_N: npt.NDArray[np.uint8], leads: Int64) -> tuple[Int64, Int64]:
    """Decode the UTF-8 character at each lead byte (0xC0 or more).

    Returns:
        Code points and lengths in bytes, (L) both. Where bytes that are not its own follow, the
        point is NUM_POINTS: no character.
    """
    padded = np.concatenate([data_N, np.zeros(3, np.uint8)]).astype(np.int64)
    lead, b, c, d = (padded[leads + step] for step in range(4))
    lengths = np.where(lead < 0xE0, 2, np.where(lead < 0xF0, 3, 4))
    two = (lead & 0x1F) << 6 | (b & 0x3F)
    three = (lead & 0x0F) << 12 | (b & 0x3F) << 6 | (c & 0x3F)
    four = (lead & 0x07) << 18 | (b & 0x3F) << 12 | (c & 0x3F) << 6 | (d & 0x3F)
    points = np.where(lengths == 2, two, np.where(lengths == 3, three, four))
    whole = b & 0xC0 == 0x80
    for length, byte in ((3, c), (4, d)):
        whole &= (lengths < length) | (byte & 0xC0 == 0x80)
    return np.where(whole & (points < NUM_POINTS), points, NUM_POINTS), lengths


@cache
def _every_char() -> str:
    """Give all characters in order; a line end stands in for surrogates, which are none."""
    points = np.arange(NUM_POINTS, dtype="<u4")
    points[0xD800:0xE000] = ord("\n")
    return points.tobytes().decode("utf-32-le")
