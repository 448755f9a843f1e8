"""What happens to a text before the compiled encoder sees it.

Normalisers are not written anew: a text goes through the tokenizer's own library, unless nothing
in it can change. A text that holds an added token, which the library reads out of it as it
stands, is left to the library altogether; so is one with a byte that the tokenizer has no piece
for, which the library drops.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from .pieces import SPACE

__all__ = ["MAX_ADDED", "Front", "is_space_marking"]

MAX_ADDED = 512
"""More added tokens than these are not looked for one by one."""
_FEW_CHARS = 16
_BLOCK_CHARS = 1 << 20
_NEVER_IN_UTF8 = (0xC0, 0xC1, *range(0xF5, 0x100))


class Front:
    """Prepares texts."""

    def __init__(
        self,
        normalize: Callable[[str], str] | None = None,
        added: Sequence[str] = (),
        *,
        is_nfc: bool = False,
        marks_spaces: bool = False,
        missing: bytes = b"",
    ) -> None:
        """Give what a tokenizer does first.

        Args:
            normalize: The library's normaliser.
            added: Literals that are read out of a text as they stand.
            is_nfc: Whether the normaliser is Unicode's composition (NFC) and nothing else.
            marks_spaces: Whether the text is searched for literals with ▁ for its spaces.
            missing: Bytes that have no piece.
        """
        self._normalize, self._added, self._is_nfc = normalize, tuple(added), is_nfc
        self._marks_spaces = marks_spaces
        self._shortest = min(map(len, added), default=1 << 30)
        self._missing = tuple(byte for byte in missing if byte not in _NEVER_IN_UTF8)

    @classmethod
    def of(cls, base: Any, *, changes: bool) -> Front:
        """Give the front of a base from a `tokenizer.json`."""
        literals = {token["content"] for token in base.added_tokens if not token.get("special")}
        if changes:
            literals |= {base.normalize(literal) for literal in literals}
        marks_spaces = is_space_marking(base.normalizers)
        if marks_spaces:
            literals = {literal.replace(" ", SPACE) for literal in literals}
        kinds = [part["type"] for part in base.normalizers]
        added, is_nfc = sorted(literals - {""}), kinds == ["NFC"]
        has_spaces = marks_spaces and any(SPACE in literal for literal in added)
        normalize = base.normalize if changes else None
        return cls(
            normalize,
            added,
            is_nfc=is_nfc,
            marks_spaces=has_spaces,
            missing=base.missing_bytes,
        )

    @property
    def is_plain(self) -> bool:
        """Whether every text is encoded as it stands."""
        return self._normalize is None and not self._added and not self._missing

    @property
    def num_added(self) -> int:
        """How many literals are looked for."""
        return len(self._added)

    def prepare(self, text: str) -> str | None:
        """Give the text to encode; None: it is the library's."""
        if self._holds_added(text):
            return None
        if self._normalize is not None and not (self._is_nfc and _is_composed(text)):
            text = self._normalize(text)
            if self._holds_added(text):
                return None
        return None if self._missing and self._holds_missing(text) else text

    def _holds_missing(self, text: str) -> bool:
        content = text.encode()
        return any(byte in content for byte in self._missing)

    def _holds_added(self, text: str) -> bool:
        if self._marks_spaces:
            text = text.replace(" ", SPACE)
        return len(text) >= self._shortest and any(literal in text for literal in self._added)


def is_space_marking(normalizers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether normalisers do what SentencePiece does to spaces, and nothing else."""
    kinds = [part["type"] for part in normalizers]
    return kinds in (["Prepend", "Replace"], ["Replace"], ["Replace", "Prepend"]) and all(
        part["prepend"] == SPACE
        if part["type"] == "Prepend"
        else part["pattern"] == {"String": " "} and part["content"] == SPACE
        for part in normalizers
    )


def _is_composed(text: str) -> bool:
    """Whether composition surely leaves the text as it is."""
    if text.isascii():
        return True
    inert = _inert_points()
    if len(text) < _FEW_CHARS:
        return all(inert[ord(char)] for char in text)
    table = np.frombuffer(inert, np.bool_)
    starts = range(0, len(text), _BLOCK_CHARS)  # a long text is not to be in memory once more
    blocks = (text[n : n + _BLOCK_CHARS].encode("utf-32-le") for n in starts)
    return all(table[np.frombuffer(block, np.uint32)].all() for block in blocks)


@cache
def _inert_points() -> bytes:
    """Tell by a 1 the characters that composition neither changes nor joins to another.

    Those of Python's Unicode version; what was added to Unicode since goes through the library,
    and what was there does not change (Unicode's stability policy).
    """
    inert = np.zeros(0x110000, np.bool_)
    seconds: set[int] = set()
    for point in range(0x110000):
        char = chr(point)
        split = unicodedata.decomposition(char)
        if split and not split.startswith("<"):
            seconds.update(int(code, 16) for code in split.split()[1:])
        inert[point] = (
            unicodedata.category(char) not in ("Cn", "Cs")
            and unicodedata.combining(char) == 0
            and unicodedata.is_normalized("NFC", char)
        )
    inert[sorted(seconds)] = False
    inert[0x1161:0x1200] = False  # vowels and finals that Hangul syllables are composed of
    return inert.tobytes()
