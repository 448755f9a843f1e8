"""Kernels that measure repetition, words and lines of many texts at once; see `quality.py`.

A document's figures are written into its row. What is known to be within its limit is not
measured: no n-gram that stood before, of whatever length, has a token outside the shortest
n-grams that stood before, and those cover little of most texts.

Shapes: D texts, N characters, T tokens, L lines, K figures, G sizes of n-grams or n-grams of one
size, S slots of a hash table, P code points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..jit import jit, jit_inline
from .grams import (
    HAS_LETTER,
    IS_SPACED,
    MULTIPLIER,
    Int32,
    Int64,
    Tokens,
    UInt8,
    UInt32,
    UInt64,
    mix,
    power_of,
)

__all__ = [
    "BULLETS",
    "ELLIPSES",
    "LETTERED",
    "NUM_TOP",
    "SCRIPT",
    "SYMBOLS",
    "TOP",
    "WORD_CHARS",
    "Bools",
    "Float64",
    "Room",
    "measure_all",
    "new_room",
]

Bools = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

NUM_TOP = 3
"""Of so many sizes of n-grams the commonest one is looked for, of the others all repeated ones."""
SCRIPT, _PARAGRAPHS, _LINES, TOP, WORD_CHARS, SYMBOLS, BULLETS, ELLIPSES, LETTERED = (
    0, 1, 3, 5, 14, 16, 17, 18, 19,
)  # fmt: skip
"""Columns of the figures: share of letters in the scripts; paragraphs and lines that stood before
(2 columns each: their number, their characters); n-grams (a column a size); mean characters of a
word (2 columns, for a low and a high limit); symbols to a word; lines that begin with a bullet,
that end in an ellipsis; words with a letter."""

_NEWLINE, _HASH, _BULLET, _HYPHEN, _ELLIPSIS, _DOT = map(ord, "\n#•-….")
_SPACES = tuple(map(ord, " \t\u3000"))
_POWER_1, _POWER_2, _POWER_3, _POWER_4 = map(power_of, range(2, 6))


class Room(NamedTuple):
    """Room that each text uses anew."""

    keys_S: UInt64
    """A hash table; 0: an empty slot."""
    counts_S: Int64
    firsts_S: Int64
    """Where a key was met first."""
    hashes_T: UInt64
    """Hashes of n-grams, or of lines."""
    chars_T: Int64
    """Characters of lines."""


def new_room(most: int) -> Room:
    """Make room for texts of at most so many tokens or lines."""
    size = 2 << (2 * most).bit_length()
    return Room(
        np.empty(size, np.uint64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(most, np.uint64),
        np.empty(most, np.int64),
    )


@jit
def measure_all(
    points_N: UInt32,
    point_ends_D: Int64,
    tokens: Tokens,
    scripts_P: UInt8,
    highs_2K: Float64,
    sizes_2G: Int64,
    powers_2G: UInt64,
    leasts_2: Int64,
    room: Room,
    figures_DK: Float64,
    spaced_D: Bools,
) -> None:
    """Write the figures of every text into its row, and whether its words are spaced."""
    begin, first = 0, 0
    for d in range(len(point_ends_D)):
        points = points_N[begin : point_ends_D[d]]
        span = (first, tokens.ends_D[d])
        figures_K = figures_DK[d]
        num_words, word_chars, lettered, alone_chars = _count_words(tokens, span)
        spaced_D[d] = word_chars > alone_chars
        spaced = 1 if spaced_D[d] else 0
        if len(scripts_P) > 0:
            figures_K[SCRIPT] = _script_frac(points, scripts_P)
        _measure_blocks(points, 2, room, figures_K[_PARAGRAPHS : _PARAGRAPHS + 2])
        num_lines = _measure_blocks(points, 1, room, figures_K[_LINES : _LINES + 2])
        _measure_marks(points, num_lines, figures_K)
        if span[1] - span[0] >= leasts_2[spaced]:
            _measure_grams(
                tokens,
                span,
                len(points),
                highs_2K[spaced],
                sizes_2G[spaced],
                powers_2G[spaced],
                room,
                figures_K,
            )
        figures_K[WORD_CHARS] = figures_K[WORD_CHARS + 1] = word_chars / max(1, num_words)
        if spaced_D[d]:
            figures_K[SYMBOLS] = _count_symbols(points) / num_words
            figures_K[LETTERED] = lettered / num_words
        begin, first = point_ends_D[d], tokens.ends_D[d]


@jit_inline
def _count_words(tokens: Tokens, span: tuple[int, int]) -> tuple[int, int, int, int]:
    """Count words, their characters, those with a letter, and characters of other tokens."""
    num_words = word_chars = lettered = alone_chars = 0
    for t in range(span[0], span[1]):
        if tokens.kinds_T[t] & IS_SPACED:
            num_words += 1
            word_chars += tokens.sizes_T[t]
            lettered += (tokens.kinds_T[t] & HAS_LETTER) != 0
        else:
            alone_chars += tokens.sizes_T[t]
    return num_words, word_chars, lettered, alone_chars


@jit_inline
def _script_frac(points: UInt32, scripts_P: UInt8) -> float:
    """Give the share of letters that are of the scripts; 0 where there are no letters."""
    num_letters = num_wanted = 0
    for point in points:
        num_letters += scripts_P[point] & 1
        num_wanted += scripts_P[point] >> 1
    return num_wanted / max(1, num_letters)


@jit_inline
def _count_symbols(points: UInt32) -> int:
    """Count number signs and ellipses; give the larger count."""
    num_hashes = num_ellipses = num_dots = 0
    for point in points:
        num_dots = num_dots + 1 if point == _DOT else 0
        if point == _HASH:
            num_hashes += 1
        elif point == _ELLIPSIS or num_dots == 3:
            num_ellipses += 1
            num_dots = 0
    return max(num_hashes, num_ellipses)


@jit_inline
def _emptied(room: Room, num_keys: int) -> np.uint64:
    """Empty as little of the table as the keys need, which stays in the cache; give its mask."""
    size = 4
    while size < 2 * num_keys:
        size *= 2
    room.keys_S[:size] = 0
    return np.uint64(size - 1)


@jit_inline
def _slot(room: Room, mask: np.uint64, key: np.uint64) -> np.uint64:
    """Find the slot of a key, or the empty one that it should fill."""
    slot = (key >> np.uint64(17)) & mask
    while room.keys_S[slot] != key and room.keys_S[slot] != np.uint64(0):
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def _measure_blocks(points: UInt32, breaks: int, room: Room, figures_2: Float64) -> int:
    """Measure the blocks that `breaks` or more newlines part; give their number.

    The shares of those that stood before, and of their characters in all characters.
    """
    num = repeated = chars = i = 0
    while i < len(points):
        start, newlines = i, 0
        while i < len(points) and newlines < breaks:
            newlines = newlines + 1 if points[i] == _NEWLINE else 0
            i += 1
        room.hashes_T[num] = _hash_points(points, start, i - newlines)
        room.chars_T[num] = i - newlines - start
        num += 1
        while i < len(points) and points[i] == _NEWLINE:
            i += 1
    mask = _emptied(room, num)
    for k in range(num):
        slot = _slot(room, mask, room.hashes_T[k])
        if room.keys_S[slot] != np.uint64(0):
            repeated += 1
            chars += room.chars_T[k]
        room.keys_S[slot] = room.hashes_T[k]
    if num:
        figures_2[0], figures_2[1] = repeated / num, chars / len(points)
    return num


@jit_inline
def _hash_points(points: UInt32, start: int, stop: int) -> np.uint64:
    """Hash characters as a polynomial, four at a time: one multiplication waits for another."""
    value = np.uint64(1)
    i = start
    while i + 4 <= stop:
        four = np.uint64(points[i]) * _POWER_3 + np.uint64(points[i + 1]) * _POWER_2
        four += np.uint64(points[i + 2]) * _POWER_1 + np.uint64(points[i + 3])
        value = value * _POWER_4 + four
        i += 4
    for k in range(i, stop):
        value = value * MULTIPLIER + np.uint64(points[k])
    return max(mix(value), np.uint64(1))


@jit
def _measure_marks(points: UInt32, num_lines: int, figures_K: Float64) -> None:
    """Measure the shares of lines that begin with a bullet, and that end in an ellipsis."""
    bullets = ellipses = num_dots = 0
    at_start, last = True, np.uint32(_NEWLINE)
    for point in points:
        if point == _NEWLINE:
            ellipses += last == _ELLIPSIS or num_dots >= 3
            at_start, num_dots = True, 0
        elif at_start and point not in _SPACES:
            bullets += point in (_BULLET, _HYPHEN)
            at_start = False
        num_dots = num_dots + 1 if point == _DOT else 0
        last = point
    ellipses += last == _ELLIPSIS or num_dots >= 3
    figures_K[BULLETS] = bullets / max(1, num_lines)
    figures_K[ELLIPSES] = ellipses / max(1, num_lines)


@jit
def _measure_grams(
    tokens: Tokens,
    span: tuple[int, int],
    num_chars: int,
    highs_K: Float64,
    sizes_G: Int64,
    powers_G: UInt64,
    room: Room,
    figures_K: Float64,
) -> None:
    """Measure the commonest n-grams, and repeated ones where they could be above their limit."""
    first, last = span
    sizes_T, kinds_T = tokens.sizes_T[first:last], tokens.kinds_T[first:last]
    at_most = 1.0
    for g in range(len(sizes_G)):
        n, k = sizes_G[g], TOP + g
        num = last - first - n + 1
        if num < 1 or at_most <= highs_K[k]:
            continue
        hashes_G = room.hashes_T[:num]
        _roll(tokens.tokens_T[first:last], n, powers_G[g], hashes_G)
        if g < NUM_TOP:
            t, count = _commonest(hashes_G, room)
            if count > 1:
                figures_K[k] = count * _joined_chars(sizes_T, kinds_T, t, n) / num_chars
            continue
        if g == NUM_TOP:
            at_most = _covered_chars(hashes_G, sizes_T, n, room) / num_chars
        if at_most > highs_K[k]:
            figures_K[k] = _repeated_chars(hashes_G, sizes_T, n, room) / num_chars


@jit_inline
def _roll(tokens_T: UInt64, n: int, power: np.uint64, hashes_G: UInt64) -> None:
    value = np.uint64(0)
    for t in range(len(tokens_T)):
        if t >= n:
            value -= tokens_T[t - n] * power
        value = value * MULTIPLIER + tokens_T[t]
        if t >= n - 1:
            hashes_G[t - n + 1] = max(mix(value), np.uint64(1))


@jit
def _commonest(hashes_G: UInt64, room: Room) -> tuple[int, int]:
    """Give where the commonest n-gram stands first, and how often; of equals the first one."""
    mask = _emptied(room, len(hashes_G))
    best, most = 0, 0
    for g in range(len(hashes_G)):
        slot = _slot(room, mask, hashes_G[g])
        if room.keys_S[slot] == np.uint64(0):
            room.keys_S[slot] = hashes_G[g]
            room.counts_S[slot], room.firsts_S[slot] = 0, g
        room.counts_S[slot] += 1
        count, stands = room.counts_S[slot], room.firsts_S[slot]
        if count > most or (count == most and stands < best):
            best, most = stands, count
    return best, most


@jit_inline
def _joined_chars(sizes_T: Int32, kinds_T: UInt8, t: int, n: int) -> int:
    """Count the characters of n tokens, and a space between two words."""
    chars = 0
    for k in range(t, t + n):
        chars += sizes_T[k]
        chars += k > t and (kinds_T[k] & kinds_T[k - 1] & IS_SPACED) != 0
    return chars


@jit
def _covered_chars(hashes_G: UInt64, sizes_T: Int32, n: int, room: Room) -> int:
    """Count the characters of tokens in any n-gram that stood before.

    No repeated n-gram, and no longer one, has a token that is not among them.
    """
    mask = _emptied(room, len(hashes_G))
    chars = counted = 0
    for g in range(len(hashes_G)):
        slot = _slot(room, mask, hashes_G[g])
        if room.keys_S[slot] != np.uint64(0):
            for t in range(max(g, counted), g + n):
                chars += sizes_T[t]
            counted = g + n
        room.keys_S[slot] = hashes_G[g]
    return chars


@jit
def _repeated_chars(hashes_G: UInt64, sizes_T: Int32, n: int, room: Room) -> int:
    """Count the characters of n-grams that stood before, each character once."""
    mask = _emptied(room, len(hashes_G))
    chars = g = 0
    while g < len(hashes_G):
        slot = _slot(room, mask, hashes_G[g])
        if room.keys_S[slot] == np.uint64(0):
            room.keys_S[slot] = hashes_G[g]
            g += 1
            continue
        for t in range(g, g + n):
            chars += sizes_T[t]
        g += n
    return chars
