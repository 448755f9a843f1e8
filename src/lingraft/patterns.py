"""Patterns of pre-tokenizers, read: the part of the syntax that `programs` can run.

What a class of characters holds is not looked into here; its source is kept as it stands.

Source of the syntax: Oniguruma's doc/RE, Ruby syntax, which `tokenizers` uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = [
    "Ahead",
    "Chain",
    "Char",
    "Choice",
    "PatternError",
    "Repeat",
    "may_be_empty",
    "read_pattern",
    "repeat",
]

_MAX_REPEATS = 64
_CLASS_ESCAPES = "sSdDwWhH"
_LETTER_ESCAPES = "rntfva"
_PLAIN = re.compile(r"[ -~]|\\[!-/:-@\[-`{-~]|\[[ -Z_-~]+\]")
"""One character of ASCII, or a class of such: no two characters match them if case is ignored, as
ss does ß."""
_SPECIAL = set("\\[](){}|?*+^$.")


class PatternError(Exception):
    """A pattern uses something that programs cannot say; the message names it."""


class Char(NamedTuple):
    """One character of a class, written as in the pattern."""

    source: str


class Ahead(NamedTuple):
    """The next character is of a class, or is not; it is not read."""

    source: str
    wanted: bool


class Chain(NamedTuple):
    """One after the other."""

    items: tuple[Any, ...]


class Choice(NamedTuple):
    """The first that leads to a match."""

    items: tuple[Any, ...]


class Repeat(NamedTuple):
    """As many as there are, from `least` to `most`; `owns`: none is given back."""

    item: Any
    least: int
    most: int | None
    owns: bool


def read_pattern(text: str) -> Any:
    """Read a pattern into a tree of the classes above.

    Raises:
        PatternError: It uses something else, or is no pattern.
    """
    return _Reader(text).read()


class _Reader:
    """Reads a pattern by recursive descent."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def read(self) -> Any:
        node = self.choice(ignore_case=False)
        if self.at < len(self.text):
            raise PatternError(f"')' at {self.at}")
        return node

    def choice(self, *, ignore_case: bool) -> Any:
        items = [self.sequence(ignore_case=ignore_case)]
        while self.peek() == "|":
            self.at += 1
            items.append(self.sequence(ignore_case=ignore_case))
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def sequence(self, *, ignore_case: bool) -> Any:
        items = []
        while self.peek() not in ("", "|", ")"):
            items.append(self.repeated(ignore_case=ignore_case))
        if ignore_case:
            _refuse_folds(items)
        return items[0] if len(items) == 1 else Chain(tuple(items))

    def repeated(self, *, ignore_case: bool) -> Any:
        item = self.atom(ignore_case=ignore_case)
        found = re.compile(r"[?*+]|\{(\d+)(,?)(\d*)\}").match(self.text, self.at)
        if not found:
            if self.peek() == "{":
                raise PatternError(f"'{{' at {self.at}")
            return item
        self.at = found.end()
        if found[0][0] == "{":
            least = int(found[1])
            most = least if not found[2] else int(found[3]) if found[3] else None
        else:
            least, most = {"?": (0, 1), "*": (0, None), "+": (1, None)}[found[0]]
        after, owns = self.peek(), False
        if after in ("?", "*", "+"):
            if after != "+" or found[0][0] == "{":
                raise PatternError(f"'{found[0]}{after}'")
            self.at += 1
            owns = True
        return repeat(item, least, most, owns=owns)

    def atom(self, *, ignore_case: bool) -> Any:
        char = self.peek()
        if char == "(":
            return self.group(ignore_case=ignore_case)
        start = self.at
        if char == "[":
            self.skip_bracket()
        elif char == "\\":
            self.skip_escape()
        elif char in "^$?*+{":
            raise PatternError(f"'{char}' at {start}")
        else:
            self.at += 1
        source = self.text[start : self.at]
        if char not in _SPECIAL:
            source = "\\" + char if char in "-&~#" else char
        if ignore_case and not _PLAIN.fullmatch(source):
            raise PatternError(f"'{source}' with case ignored")
        return Char(f"(?i:{source})" if ignore_case else source)

    def group(self, *, ignore_case: bool) -> Any:
        found = re.compile(r"\((\?:|\?i:|\?!|\?=|(?!\?))").match(self.text, self.at)
        if not found:
            raise PatternError(f"'{self.text[self.at : self.at + 4]}'")
        self.at = found.end()
        node = self.choice(ignore_case=ignore_case or found[1] == "?i:")
        if self.peek() != ")":
            raise PatternError("a group without end")
        self.at += 1
        if found[1] in ("?!", "?="):
            if not isinstance(node, Char):
                raise PatternError("looking ahead for more than one character")
            return Ahead(node.source, found[1] == "?=")
        return node

    def skip_bracket(self) -> None:
        depth = 0
        while True:
            char = self.peek()
            if char == "":
                raise PatternError("'[' without end")
            if char == "\\":
                self.skip_escape()
                continue
            depth += (char == "[") - (char == "]")
            if char == "]" and self.text[self.at - 1] in "[^" and self.text[self.at - 2] != "\\":
                raise PatternError("']' first in a class")
            self.at += 1
            if depth == 0:
                return

    def skip_escape(self) -> None:
        found = re.compile(
            rf"\\(?:[pP]\{{\^?\w+\}}|[{_CLASS_ESCAPES}{_LETTER_ESCAPES}]"
            r"|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|x\{[0-9A-Fa-f]+\}|[^0-9A-Za-z])"
        ).match(self.text, self.at)
        if not found:
            raise PatternError(f"'{self.text[self.at : self.at + 2]}'")
        self.at = found.end()

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]


def repeat(item: Any, least: int, most: int | None, *, owns: bool) -> Any:
    """Repeat a part of a pattern.

    Raises:
        PatternError: It is a group, unless it is only optional; or the numbers make no sense.
    """
    if not isinstance(item, Char):
        if (least, most) != (0, 1) or owns:
            raise PatternError("repetition of a group")
        if may_be_empty(item):
            raise PatternError("an optional group that may be empty")
    if max(least, most or 0) > _MAX_REPEATS:
        raise PatternError(f"more than {_MAX_REPEATS} repetitions")
    if most is not None and most < least:
        raise PatternError("a repetition that ends before it begins")
    return Repeat(item, least, most, owns)


def may_be_empty(node: Any) -> bool:
    """Whether a part of a pattern matches without reading a character."""
    match node:
        case Char():
            return False
        case Ahead():
            return True
        case Chain(items):
            return all(map(may_be_empty, items))
        case Choice(items):
            return any(map(may_be_empty, items))
        case Repeat(item, least, _, _):
            return least == 0 or may_be_empty(item)
    raise AssertionError(f"no node: {node!r}")


def _refuse_folds(items: Sequence[Any]) -> None:
    """Refuse neighbours that one character may stand for when case is ignored, as ß for ss.

    Raises:
        PatternError: There are such; or it cannot be told, for they are not plain characters.
    """
    for a, b in pairwise(items):
        found = [re.fullmatch(r"\(\?i:\\?(.)\)", getattr(item, "source", "")) for item in (a, b)]
        if not (found[0] and found[1]):
            raise PatternError("a sequence of classes in which case is ignored")
        if (found[0][1] + found[1][1]).casefold() in _folds():
            raise PatternError("characters in which case is ignored and that have a ligature")


@cache
def _folds() -> frozenset[str]:
    folded = (chr(point).casefold() for point in range(0x110000))
    return frozenset(text[i : i + 2] for text in folded for i in range(len(text) - 1))
