"""Pre-tokenisation, compiled: a regular expression is run over the code points of a text.

A program is a list of instructions for one backtracking machine: alternatives in their order,
greedy repetition, one-character look-ahead; that is what the patterns of byte-level tokenizers
need, and `patterns` refuses the rest. A pattern is searched from left to right; what lies between
two matches is a piece, too. Several patterns may follow one another, each splitting the pieces of
the one before.

Shapes: I instructions, A alternatives, L levels (patterns), P code points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .jit import jit, jit_inline

__all__ = [
    "AHEAD",
    "CLASS",
    "JUMP",
    "MATCH",
    "MAX_BRANCHES",
    "NOT_AHEAD",
    "OWN",
    "SPLIT",
    "STAR",
    "STAR_OWN",
    "Program",
    "split_begin",
    "split_points",
    "split_rest",
]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint32 = npt.NDArray[np.uint32]

MATCH, CLASS, SPLIT, JUMP, STAR, STAR_OWN, OWN, AHEAD, NOT_AHEAD = range(9)
"""Instructions: the end; one character of a class; try `one`, then `two`; go to `one`; as many of
a class as there are, giving back on failure, or never; one of a class if there is one, never given
back; the next character is of a class; it is not, or there is none."""
MAX_BRANCHES = 256
"""Most SPLIT and STAR of an alternative: each may wait once for what follows to fail."""


class Program(NamedTuple):
    """Patterns as instructions."""

    op_I: Int32
    one_I: Int32
    two_I: Int32
    start_A: Int32
    """Where each alternative of a pattern begins."""
    first_A: Uint32
    """Classes of which one must hold the first character; all bits: any character may begin."""
    runs_A3: Uint32
    """Alternatives of the form X?Y+Z*, as most words are: the bits of X, Y and Z. Y is 0 for an
    alternative of another form; X and Z may be 0, for no class at all."""
    ends_L: Int64
    """Where the alternatives of each pattern end in start_A."""
    drops_L: npt.NDArray[np.bool_]
    """Whether what lies between two matches is dropped; then it is not split here."""
    classes_P: Uint32
    """Bit k: the character is of class k."""


@jit_inline
def _skip(classes_P: Uint32, one: np.uint32, points: Int32, i: int, end: int) -> int:
    """Give where a run of characters of a class ends."""
    while i < end and classes_P[points[i]] >> one & np.uint32(1):
        i += 1
    return i


@jit_inline
def _match(
    op_I: Int32,
    one_I: Int32,
    two_I: Int32,
    classes_P: Uint32,
    start: int,
    points: Int32,
    begin: int,
    end: int,
    stack: Int64,
) -> int:
    """Give where the match of an alternative ends that begins at `begin`; -1: there is none."""
    pc, i, top, result = start, begin, 0, -2
    while result == -2:
        op, one = op_I[pc], np.uint32(one_I[pc])
        there = i < end and bool(classes_P[points[i]] >> one & np.uint32(1))
        failed = False
        pc += 1
        if op in (CLASS, OWN):
            failed = op == CLASS and not there
            i += there
        elif op in (STAR, STAR_OWN):
            least = i
            i = _skip(classes_P, one, points, i, end)
            if op == STAR and i > least:
                stack[top], stack[top + 1], stack[top + 2] = pc, least, i
                top += 3
        elif op == SPLIT:
            stack[top], stack[top + 1], stack[top + 2] = two_I[pc - 1], i, i + 1
            top += 3
            pc = int(one)
        elif op == JUMP:
            pc = int(one)
        elif op == MATCH:
            result = i
        else:
            failed = there == (op == NOT_AHEAD)
        if failed and top == 0:
            result = -1
        elif failed:
            pc, i = stack[top - 3], stack[top - 1] - 1  # one character is given back
            if i > stack[top - 2]:
                stack[top - 1] = i
            else:
                top -= 3
    return result


@jit_inline
def _match_run(
    x: np.uint32, y: np.uint32, z: np.uint32, classes_P: Uint32, points: Int32, i: int, end: int
) -> int:
    """Give where X?Y+Z* ends, if it matches at i, as backtracking finds it; else -1."""
    classes = classes_P[points[i]]
    if x & classes and i + 1 < end and y & classes_P[points[i + 1]]:
        i += 2
    elif y & classes:
        i += 1
    else:
        return -1
    while i < end and y & classes_P[points[i]]:
        i += 1
    while i < end and z & classes_P[points[i]]:
        i += 1
    return i


@jit
def _split_level(
    program: Program,
    level: int,
    points: Int32,
    bounds: Int32,
    num: int,
    begin: int,
    most: int,
    out: Int32,
) -> int:
    """Split each piece by one pattern; write where pieces end, give how many there are; or -1.

    The first piece begins at `begin`. Where there are `most` pieces it is left off, at a match.
    """
    op_I, one_I, two_I, classes_P = program.op_I, program.one_I, program.two_I, program.classes_P
    start_A, first_A, runs_A3 = program.start_A, program.first_A, program.runs_A3
    first, last = program.ends_L[level - 1] if level > 0 else 0, program.ends_L[level]
    stack = np.empty(3 * MAX_BRANCHES, np.int64)
    kept = 0
    for n in range(num):
        end, gap = int(bounds[n]), begin
        i = begin
        while i < end and kept < most:
            after = -1
            classes = classes_P[points[i]]
            for a in range(first, last):
                if not (first_A[a] & classes or first_A[a] == np.uint32(0xFFFFFFFF)):
                    continue
                x, y, z = runs_A3[a, 0], runs_A3[a, 1], runs_A3[a, 2]
                if y:
                    after = _match_run(x, y, z, classes_P, points, i, end)
                else:
                    after = _match(op_I, one_I, two_I, classes_P, start_A[a], points, i, end, stack)
                if after > i:
                    break
            if after <= i:
                i += 1
                continue
            if gap < i:
                if program.drops_L[level]:
                    return -1
                out[kept] = i
                kept += 1
            out[kept] = after
            kept += 1
            i = gap = after
        if gap < end and kept < most:
            if program.drops_L[level]:
                return -1
            out[kept] = end
            kept += 1
        begin = end
    return kept


@jit
def split_points(program: Program, points: Int32, bounds: Int32, num: int) -> int:
    """Split texts into pre-tokens.

    Args:
        program: The patterns.
        points: Code points of the texts, one after the other.
        bounds: Where each text ends, and room for as many ends as there are points; gets where
            pieces end. Empty texts vanish.
        num: How many texts there are.

    Returns:
        The number of pieces; -1: some text would be dropped.
    """
    spare = np.empty_like(bounds)
    for level in range(len(program.ends_L)):
        num = _split_level(program, level, points, bounds, num, 0, len(points), spare)
        if num < 0:
            return -1
        bounds[:num] = spare[:num]
    return num


@jit
def split_begin(
    program: Program, points: Int32, begin: int, end: int, out: Int32
) -> tuple[int, int]:
    """Split the begin of a text by the first pattern, as far as `out` has room.

    Args:
        program: One pattern or more, none of which drops text.
        points: Code points.
        begin: Where the text begins, or goes on.
        end: Where it ends.
        out: Gets where pieces end; room for 3 or more.

    Returns:
        The number of pieces, and where the last of them ends.
    """
    ends_1 = np.full(1, end, np.int32)
    num = _split_level(program, 0, points, ends_1, 1, begin, len(out) - 2, out)
    return num, int(out[num - 1])


@jit
def split_rest(program: Program, points: Int32, bounds: Int32, num: int) -> int:
    """Split what `split_begin` gave by the patterns after the first; else as `split_points`."""
    spare = np.empty_like(bounds)
    for level in range(1, len(program.ends_L)):
        num = _split_level(program, level, points, bounds, num, 0, len(points), spare)
        bounds[:num] = spare[:num]
    return num
