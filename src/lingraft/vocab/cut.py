"""Cutting, which changes nothing: where two symbols meet too rarely to be in any piece.

Two neighbouring symbols of the text stand together in a piece only if some rule joined across
them, and no rule joins more often than its two middle symbols meet. So if every rule joins at
least `threshold` times, text may be cut wherever its neighbours meet fewer times, and the rules
stay the same, choice by choice. What is left are short segments that repeat.

How often symbols meet is counted in a *sketch*: one counter for all pairs of equal hash. A counter
is never below the true number, so a cut is never wrong; some are missed. Memory is fixed, and
threads share the counters by ranges of hashes, so the result does not depend on their number.

Shapes: C codes, N codes of a text, B counters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..jit import jit
from .alphabet import ALONE, CLASS_SHIFT, STARTS_WORD

__all__ = ["count_codes", "cut_codes", "new_sketch", "sketch_pairs"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint32 = npt.NDArray[np.uint32]
UInt8 = npt.NDArray[np.uint8]

_FULL = np.uint32(0xFFFFFFFF)


def new_sketch(num_codes: int) -> Uint32:
    """Make counters for a text of this many codes: a quarter of them, 2^16 to 2^26."""
    bits = min(26, max(16, (num_codes // 4).bit_length()))
    return np.zeros(1 << bits, np.uint32)


@jit
def count_codes(codes_N: Int32, counts_C: Int64) -> None:
    """Add up how often each code occurs."""
    for code in codes_N:
        if code >= 0:
            counts_C[code] += 1


@jit
def _counter(left: int, right: int, bits: int) -> int:
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(31))) * np.uint64(0xD6E8FEB86659FD93)
    return int(key >> np.uint64(64 - bits))


@jit
def _bits(size: int) -> int:
    bits = 0
    while (1 << bits) < size:
        bits += 1
    return bits


@jit
def sketch_pairs(codes_N: Int32, sketch_B: Uint32, low: int, high: int) -> None:
    """Count neighbours whose counter is in [low, high)."""
    bits = _bits(len(sketch_B))
    for i in range(len(codes_N) - 1):
        if codes_N[i] >= 0 and codes_N[i + 1] >= 0:
            counter = _counter(codes_N[i], codes_N[i + 1], bits)
            if low <= counter < high and sketch_B[counter] != _FULL:
                sketch_B[counter] += 1


@jit
def _may_join(flags_C: UInt8, left: int, right: int) -> bool:
    """Tell whether two codes may stand together in a piece at all; see `alphabet`."""
    a, b = flags_C[left], flags_C[right]
    if (a | b) & ALONE or b & STARTS_WORD:
        return False
    a, b = a >> CLASS_SHIFT, b >> CLASS_SHIFT
    return bool(a == b or not a or not b)


@jit
def cut_codes(
    codes_N: Int32,
    symbol_C: Int32,
    flags_C: UInt8,
    sketch_B: Uint32,
    threshold: int,
    segments_N: Int32,
) -> int:
    """Write the segments of two or more symbols, a BARRIER behind each.

    Args:
        codes_N: Codes of a text, BARRIER at its end.
        symbol_C: Symbol of each code; negative for characters that no vocabulary adds.
        flags_C: What may join.
        sketch_B: Counters of neighbours.
        threshold: Neighbours that meet fewer times are cut apart.
        segments_N: Room for the result, half as much again as codes.

    Returns:
        Its length.
    """
    bits = _bits(len(sketch_B))
    end = begin = 0  # the current segment is segments_N[begin:end]
    before = -1
    for code in codes_N:
        symbol = symbol_C[code] if code >= 0 else -1
        joins = (
            before >= 0
            and symbol >= 0
            and _may_join(flags_C, before, code)
            and sketch_B[_counter(before, code, bits)] >= threshold
        )
        if not joins:
            if end - begin > 1:
                segments_N[end] = -1
                begin = end + 1
            end = begin
        before = code if symbol >= 0 else -1
        if symbol >= 0:
            segments_N[end] = symbol
            end += 1
    if end - begin > 1:
        segments_N[end] = -1
        begin = end + 1
    return begin
