"""Which texts can an added piece touch? Those that hold a character of its scripts, if all do.

A piece is made only where its bytes stand in the text. If its bytes can stand only in text that
holds a character of the scripts, text without one never has the piece, whatever the rules' order:
it is encoded as before. On bytes a piece may begin or end inside a character; then the question
is whether a character *outside* the scripts could complete it: all 1,112,064 are asked, those
that Unicode has not assigned among them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..basetypes import BaseTokenizer
from ..errors import InputError
from ..text import check_scripts, find_scripts, in_scripts, script_runs

__all__ = ["Scope", "find_scope", "own_note", "own_scripts"]

_OWN = 100
"""Pieces of two letters or more from which on a base is taken to have a script as its own: Mixtral
has 25,577 of Latin, 1,565 of Cyrillic and 3 of Han; Qwen3 has 16,473 of Han."""
_CONTINUED = range(0x80, 0xC0)
_WIDTHS = ((2, 0x80, 0x800), (3, 0x800, 0x10000), (4, 0x10000, 0x110000))


class Scope:
    """The characters of some scripts."""

    def __init__(self, scripts: Sequence[str]) -> None:
        """Take scripts; none of them: no text is inside.

        Raises:
            UsageError: A name is not the Unicode script of a language.
        """
        self.scripts = tuple(scripts)
        check_scripts(self.scripts)

    def holds(self, text: str) -> bool:
        """Whether the text holds a character of the scripts."""
        return bool(self.scripts) and in_scripts(text, self.scripts)

    def binds(self, data: bytes) -> bool:
        """Whether the bytes of a piece stand only in texts that hold such a character."""
        if not data:
            return False
        head = _head_of(data)
        rest = data[len(head) :]
        if not rest:
            return head not in self._inner
        tail = _tail_of(rest)
        try:
            whole = rest[: len(rest) - len(tail)].decode()
        except UnicodeDecodeError:
            return True  # no text holds these bytes
        return (
            self.holds(whole)
            or bool(head and head not in self._inner)
            or bool(tail and tail not in self._heads)
        )

    @cached_property
    def _outside(self) -> npt.NDArray[np.int64]:
        """Code points outside the scripts."""
        points = [p for p in range(sys.maxunicode + 1) if not 0xD800 <= p < 0xE000]
        text = "".join(map(chr, points))
        inside = set("".join(script_runs(text, self.scripts))) if self.scripts else set()
        return np.array([p for p in points if chr(p) not in inside], np.int64)

    @cached_property
    def _heads(self) -> frozenset[bytes]:
        """Beginnings of characters outside the scripts."""
        return frozenset(
            data
            for width, units in self._units()
            for size in range(1, width)
            for data in _distinct(units[:, :size])
        )

    @cached_property
    def _inner(self) -> frozenset[bytes]:
        """What stands after the first byte of characters outside the scripts, at any place."""
        return frozenset(
            data
            for width, units in self._units()
            for begin in range(1, width)
            for end in range(begin + 1, width + 1)
            for data in _distinct(units[:, begin:end])
        )

    def _units(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Give the UTF-8 of the code points outside, by width."""
        for width, first, end in _WIDTHS:
            points = self._outside[(self._outside >= first) & (self._outside < end)]
            lead = (0xF00 >> width & 0xFF) | points >> 6 * (width - 1)
            rest = [0x80 | points >> 6 * n & 0x3F for n in range(width - 2, -1, -1)]
            yield width, np.stack([lead, *rest], axis=1)


def find_scope(texts: Iterable[str], scripts: Sequence[str] | None) -> Scope:
    """Take the scripts named, or find those that the added pieces are written in.

    Raises:
        UsageError: A name is not the Unicode script of a language.
    """
    if scripts is not None:
        return Scope(scripts)
    try:
        return Scope(find_scripts(texts))
    except InputError:  # no letter in them: no scripts, so every added piece is out of scope
        return Scope(())


def own_scripts(base: BaseTokenizer, base_size: int, scripts: Sequence[str]) -> list[str]:
    """List those of the scripts that a base has words of: its own languages are written in them.

    Args:
        base: The base, or a tokenizer that begins with its pieces.
        base_size: Number of ids of the base.
        scripts: To look for.
    """
    normal = [id for id in range(base_size) if base.is_normal(id)]
    texts = [base.piece_bytes(id).decode(errors="ignore") for id in normal]
    return [script for script in scripts if _num_words(texts, script) >= _OWN]


def own_note(own: Sequence[str]) -> str:
    """Say what it means that the base has words of the new scripts."""
    names = ", ".join(own)
    return (
        f"{names} is what the base's own languages are written in: their texts will change. "
        f"Measure it with lingraft tokenizer verify --corpus; --scripts {' '.join(own)} says that "
        "it is meant."
    )


def _num_words(texts: Iterable[str], script: str) -> int:
    return sum(any(len(run) > 1 for run in script_runs(text, [script])) for text in texts)


def _distinct(units: npt.NDArray[np.int64]) -> Iterator[bytes]:
    size = units.shape[1]
    packed = np.zeros(len(units), np.int64)
    for column in range(size):
        packed = packed << 8 | units[:, column]
    return (int(value).to_bytes(size, "big") for value in np.unique(packed))


def _head_of(data: bytes) -> bytes:
    """Give the bytes before the first character begins."""
    size = next((i for i, byte in enumerate(data) if byte not in _CONTINUED), len(data))
    return data[:size]


def _tail_of(data: bytes) -> bytes:
    """Give the beginning of a character that is cut off at the end."""
    for size in range(1, min(4, len(data) + 1)):
        lead = data[-size]
        if lead not in _CONTINUED:
            width = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return data[-size:] if size < width else b""
    return b""
