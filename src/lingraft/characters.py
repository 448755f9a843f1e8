"""Characters and their bytes, compiled: UTF-8 to code points, and a code point to ids of bytes.

Shapes: N bytes of text, D documents.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .jit import jit

__all__ = ["SPACE_MARK", "decode_points", "write_bytes"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

SPACE_MARK = 0x2581
"""▁, which stands for a space in SentencePiece's pieces."""
_UNLESS_THERE = 2


@jit
def write_bytes(byte_ids: Int32, point: int, out: Int32, t: int) -> int:
    """Spell a character in bytes; give the end of their ids."""
    if point < 0x80:
        out[t] = byte_ids[point]
        return t + 1
    if point < 0x800:
        out[t] = byte_ids[0xC0 | point >> 6]
        out[t + 1] = byte_ids[0x80 | (point & 0x3F)]
        return t + 2
    if point < 0x10000:
        out[t] = byte_ids[0xE0 | point >> 12]
        out[t + 1] = byte_ids[0x80 | (point >> 6 & 0x3F)]
        out[t + 2] = byte_ids[0x80 | (point & 0x3F)]
        return t + 3
    out[t] = byte_ids[0xF0 | point >> 18]
    out[t + 1] = byte_ids[0x80 | (point >> 12 & 0x3F)]
    out[t + 2] = byte_ids[0x80 | (point >> 6 & 0x3F)]
    out[t + 3] = byte_ids[0x80 | (point & 0x3F)]
    return t + 4


@jit
def decode_points(space: int, prefix: int, content_N: UInt8, ends_D: Int64, points: Int32) -> None:
    """Write the code points of valid UTF-8, spaces marked and prefixed; ends become theirs."""
    num = i = 0
    for d in range(len(ends_D)):
        start, end = num, ends_D[d]
        if prefix != 0 and i < end:
            points[num] = space
            num += 1
            if prefix == _UNLESS_THERE and _begins_with(content_N, i, end, space):
                num = start
        while i < end:
            byte = int(np.int64(content_N[i]))
            if byte < 0x80:
                points[num] = byte if byte != 0x20 else space
                i += 1
            elif byte < 0xE0:
                points[num] = (byte & 0x1F) << 6 | (content_N[i + 1] & 0x3F)
                i += 2
            elif byte < 0xF0:
                point = (byte & 0x0F) << 12 | np.int64(content_N[i + 1] & 0x3F) << 6
                points[num] = point | (content_N[i + 2] & 0x3F)
                i += 3
            else:
                point = (byte & 0x07) << 18 | np.int64(content_N[i + 1] & 0x3F) << 12
                point |= np.int64(content_N[i + 2] & 0x3F) << 6
                points[num] = point | (content_N[i + 3] & 0x3F)
                i += 4
            num += 1
        ends_D[d] = num


@jit
def _begins_with(content_N: UInt8, i: int, end: int, space: int) -> bool:
    """Whether a text begins with a space, or with the mark that stands for one."""
    if content_N[i] == 0x20:
        return True
    marked = end - i >= 3 and content_N[i] == 0xE2
    return bool(
        marked and content_N[i + 1] == 0x96 and content_N[i + 2] == 0x81 and space == SPACE_MARK
    )
