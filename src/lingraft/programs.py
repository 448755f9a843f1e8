r"""Patterns of pre-tokenizers as programs for `splitting`.

What a class of characters means (\p{L} of which Unicode version? which letters does (?i:s) hold?)
is not answered here: the library is asked about every code point there is. So a program can differ
from the library in the order of alternatives and in repetition only, and those are as in every
backtracking engine. Whatever else a pattern uses is refused, and its tokenizer goes through its own
library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .jit import cache_folder
from .patterns import (
    Ahead,
    Chain,
    Char,
    Choice,
    PatternError,
    Repeat,
    may_be_empty,
    read_pattern,
    repeat,
)
from .splitting import (
    AHEAD,
    CLASS,
    JUMP,
    MATCH,
    MAX_BRANCHES,
    NOT_AHEAD,
    OWN,
    SPLIT,
    STAR,
    STAR_OWN,
    Program,
)

__all__ = ["GPT2", "Digits", "Only", "compile_patterns", "points_in_class"]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel splits by; GPT-2's published `encoder.py`."""
_NUM_POINTS = 0x110000
_ASKED_POINTS = 2048
_MAX_CLASSES = 32
_ANY = np.uint32(0xFFFFFFFF)
_MAX_INSTRUCTIONS = 4096


class Only(NamedTuple):
    """A pattern that drops what lies between its matches."""

    pattern: str


class Digits(NamedTuple):
    """The pre-tokenizer that splits numbers off: each digit by itself, or runs of them."""

    individual: bool


@dataclass
class _Writer:
    """Turns patterns into instructions."""

    sources: list[str] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)

    def number(self, source: str) -> int:
        if source not in self.sources:
            if len(self.sources) == _MAX_CLASSES:
                raise PatternError(f"more than {_MAX_CLASSES} classes of characters")
            self.sources.append(source)
        return self.sources.index(source)

    def add(self, op: int, one: int = 0, two: int = 0) -> int:
        if len(self.rows) == _MAX_INSTRUCTIONS:
            raise PatternError("a pattern of that size")
        self.rows.append([op, one, two])
        return len(self.rows) - 1

    def write(self, node: Any) -> None:
        match node:
            case Char(source):
                self.add(CLASS, self.number(source))
            case Ahead(source, wanted):
                self.add(AHEAD if wanted else NOT_AHEAD, self.number(source))
            case Chain(items):
                for item in items:
                    self.write(item)
            case Choice(items):
                self.write_choice(items)
            case Repeat(item, least, most, owns):
                self.write_repeat(item, least, most, owns)

    def write_choice(self, items: Sequence[Any]) -> None:
        jumps = []
        for item in items[:-1]:
            split = self.add(SPLIT, len(self.rows) + 1)
            self.write(item)
            jumps.append(self.add(JUMP))
            self.rows[split][2] = len(self.rows)
        self.write(items[-1])
        for jump in jumps:
            self.rows[jump][1] = len(self.rows)

    def write_repeat(self, item: Any, least: int, most: int | None, owns: bool) -> None:
        for _ in range(least):
            self.write(item)
        if most is None:
            self.add(STAR_OWN if owns else STAR, self.number(item.source))
            return
        splits = []
        for _ in range(most - least):
            if owns:
                self.add(OWN, self.number(item.source))
                continue
            splits.append(self.add(SPLIT, len(self.rows) + 1))
            self.write(item)
        for split in splits:
            self.rows[split][2] = len(self.rows)

    def first(self, node: Any) -> int:
        """Bits of the classes that may begin a match; all bits where anything may."""
        match node:
            case Char(source):
                return 1 << self.number(source)
            case Ahead():
                return int(_ANY)
            case Choice(items):
                return _or(self.first(item) for item in items)
            case Repeat(item, _, _, _):
                return self.first(item)
            case Chain(items):
                bits = 0
                for item in items:
                    bits |= self.first(item)
                    if not may_be_empty(item):
                        return bits
                return int(_ANY)
        raise AssertionError(f"no node: {node!r}")


def _or(bits: Any) -> int:
    result = 0
    for each in bits:
        result |= each
    return result


def compile_patterns(patterns: Sequence[str | Digits | Only]) -> Program:
    """Turn patterns that follow one another into a program.

    Raises:
        PatternError: One uses something that a program cannot say.
    """
    writer = _Writer()
    starts: list[int] = []
    firsts: list[int] = []
    ends: list[int] = []
    for pattern in patterns:
        node: Any = (
            repeat(Char(""), 1, 1 if pattern.individual else None, owns=False)
            if isinstance(pattern, Digits)
            else read_pattern(pattern.pattern if isinstance(pattern, Only) else pattern)
        )
        for alternative in node.items if isinstance(node, Choice) else (node,):
            if may_be_empty(alternative):
                raise PatternError("a match that may be empty")
            firsts.append(writer.first(alternative))
            starts.append(len(writer.rows))
            writer.write(alternative)
            writer.add(MATCH)
            branches = sum(row[0] in (SPLIT, STAR) for row in writer.rows[starts[-1] :])
            if branches > MAX_BRANCHES:
                raise PatternError(f"more than {MAX_BRANCHES} choices in a row")
        ends.append(len(starts))
    classes_P = np.zeros(_NUM_POINTS, np.uint32)
    for number, source in enumerate(writer.sources):
        classes_P[points_in_class(source)] |= np.uint32(1 << number)
    op_I, one_I, two_I = np.array(writer.rows, np.int32).reshape(-1, 3).T.copy()
    return Program(
        op_I,
        one_I,
        two_I,
        np.array(starts, np.int32),
        np.array(firsts, np.uint32),
        np.array([_find_run(writer.rows, start) for start in starts], np.uint32).reshape(-1, 3),
        np.array(ends, np.int64),
        np.array([isinstance(pattern, Only) for pattern in patterns], np.bool_),
        classes_P,
    )


def _find_run(rows: Sequence[Sequence[int]], start: int) -> tuple[int, int, int]:
    """Give the bits of X, Y and Z of an alternative X?Y+Z*; zeros where it has another form."""
    pc, x, z = start, 0, 0
    if rows[pc][0] == SPLIT and rows[pc][1:] == [pc + 1, pc + 2] and rows[pc + 1][0] == CLASS:
        x = 1 << rows[pc + 1][1]
        pc += 2
    stars = (STAR, STAR_OWN)
    if not (rows[pc][0] == CLASS and rows[pc + 1][0] in stars and rows[pc][1] == rows[pc + 1][1]):
        return 0, 0, 0
    y = 1 << rows[pc][1]
    pc += 2
    if rows[pc][0] in stars:
        z = 1 << rows[pc][1]
        pc += 1
    return (x, y, z) if rows[pc][0] == MATCH else (0, 0, 0)


@cache
def points_in_class(source: str) -> npt.NDArray[np.bool_]:
    """Ask the library which code points a class holds; "" is what it calls a number.

    Asking takes a third of a second, so answers are kept on disk, by version of the library.

    Raises:
        PatternError: The library does not read it.
    """
    import tokenizers

    if len(source) == 1 and source != ".":
        return np.array(np.arange(_NUM_POINTS) == ord(source), np.bool_)
    name = hashlib.sha256(f"{tokenizers.__version__} {source}".encode()).hexdigest()[:16]
    folder = cache_folder()
    kept = Path(folder) / f"class-{name}.npy"
    if folder and kept.is_file():
        try:
            bits: npt.NDArray[np.uint8] = np.unpackbits(np.load(kept, allow_pickle=False))
            return bits.astype(np.bool_)
        except (OSError, ValueError):
            pass  # cut off when a disk was full: ask again
    held_P = _ask(source)
    if folder:
        with contextlib.suppress(OSError):  # what cannot be kept is asked again
            draft = kept.with_name(f".{kept.name}-{os.getpid()}")
            with draft.open("wb") as file:
                np.save(file, np.packbits(held_P), allow_pickle=False)
            draft.replace(kept)
    return held_P


def _ask(source: str) -> npt.NDArray[np.bool_]:
    from tokenizers import Regex, pre_tokenizers

    if source:
        try:
            split: Any = pre_tokenizers.Split(Regex(f"(?:{source})+"), "removed")
        except Exception as error:  # the library raises nothing narrower
            raise PatternError(f"'{source}': {error}") from None
    else:
        split = pre_tokenizers.Digits(individual_digits=False)
    held_P = np.zeros(_NUM_POINTS, np.bool_)
    for start in range(0, _NUM_POINTS, _ASKED_POINTS):
        if 0xD800 <= start < 0xE000:  # surrogates are no characters
            continue
        text = "".join(map(chr, range(start, start + _ASKED_POINTS)))
        if source:
            held_P[start : start + _ASKED_POINTS] = True
            for _, (begin, end) in split.pre_tokenize_str(text):
                held_P[start + begin : start + end] = False
        else:  # runs alternate, and a letter begins the first that is no number
            for _, (begin, end) in split.pre_tokenize_str("x" + text)[1::2]:
                held_P[start + begin - 1 : start + end - 1] = True
    return held_P
