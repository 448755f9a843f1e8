"""Cleaning: one spelling for equal text, and reasons to drop a document.

Cleaning is idempotent and changes no word. It undoes differences of storage (composed or
decomposed letters, line ends, control characters, trailing and surplus blank space), so that
documents which look the same are the same, to the hash as to the tokenizer.
Source of NFC: Unicode Standard Annex 15.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["MAX_REPLACEMENT_FRAC", "TOO_LONG", "clean", "why_dropped"]

MAX_REPLACEMENT_FRAC = 0.001
"""Largest share of U+FFFD: each one stands for text that some earlier decoding lost."""

TOO_LONG = "too_long"

_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
"""All that the next three look for: most texts have none of it, and are searched once."""
_LONG = 1 << 20
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_TRAILING_SPACE = re.compile(r"[^\S\n]+(?=\n)")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """Give the form of `text` that is stored, compared and hashed.

    NFC; line ends as newlines; control characters (newline and tab stay), byte order marks and
    trailing space out; one blank line where there were more; no space around the whole. A lone
    surrogate, which UTF-8 cannot hold, becomes U+FFFD.
    """
    if _ODD.search(text):
        text = _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))
        text = _LONE_SURROGATES.sub("\ufffd", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = text.strip()
    if len(text) < _LONG:
        text = "\n".join(map(str.rstrip, text.split("\n")))
    else:  # a list of its lines would take many times its memory
        text = _TRAILING_SPACE.sub("", text)
    return _BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text


def why_dropped(text: str, min_chars: int, max_chars: int) -> str:
    """Give the reason to drop a cleaned text by itself, or "" to keep it.

    Returns:
        `too_short`, `too_long`, `replacement_characters` or "".
    """
    if len(text) < min_chars:
        return "too_short"
    if len(text) > max_chars:
        return TOO_LONG
    if text.count("\ufffd") > MAX_REPLACEMENT_FRAC * len(text):
        return "replacement_characters"
    return ""
