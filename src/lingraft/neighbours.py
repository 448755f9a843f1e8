"""Which characters stand beside which in some piece: where they do not, text may be cut.

Characters that no piece tells apart share a class, so the table stays small although there are a
million characters. Pieces of byte-level tokenizers may begin or end inside a character: such a
piece stands for every character with those first, or last, bytes.

Shapes: C classes, B bytes of a row, P code points.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["NUM_POINTS", "join_table", "split_characters"]

NUM_POINTS = 0x110000
_FIRST_OF_WIDTH = {1: 0, 2: 0x80, 3: 0x800, 4: 0x10000, 5: NUM_POINTS}

Int64 = npt.NDArray[np.int64]


def join_table(
    pieces: Iterable[bytes],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Give the class of each character, and which classes stand side by side in a piece.

    Args:
        pieces: Bytes of every piece that a merge rule makes.

    Returns:
        class_P, 0 for a character that stands alone in all pieces; and together_CB, whose bit
        (a, b) tells that a character of class a may be joined to one of class b after it.
    """
    pairs = _find_pairs(pieces)
    parts = sorted({part for pair in pairs for part in pair})
    whole = [part for part in parts if _is_whole(part)]
    class_P = np.zeros(NUM_POINTS, np.int32)
    class_P[[ord(part.decode()) for part in whole]] = np.arange(1, len(whole) + 1)
    points = {part: _points_with(part) for part in parts if not _is_whole(part)}
    _number_the_rest(class_P, points.values(), len(whole))
    members = {part: np.array([n]) for n, part in enumerate(whole, 1)}
    members |= {part: np.unique(class_P[found]) for part, found in points.items()}
    num = int(class_P.max()) + 1
    together_CB = np.zeros((num, num // 8 + 1), np.uint8)
    ones = [(left, right) for left, right in pairs if left not in points and right not in points]
    lefts, rights = (
        np.array([members[part][0] for part in column], np.int64)
        for column in (zip(*ones, strict=True) if ones else ((), ()))
    )
    bits = (1 << (rights & 7)).astype(np.uint8)
    np.bitwise_or.at(together_CB, (lefts, rights >> 3), bits)
    for left, right in pairs.difference(ones):
        rights = members[right]
        bits = np.zeros(num // 8 + 1, np.uint8)
        np.bitwise_or.at(bits, rights >> 3, (1 << (rights & 7)).astype(np.uint8))
        together_CB[members[left]] |= bits
    return class_P, together_CB


def _find_pairs(pieces: Iterable[bytes]) -> set[tuple[bytes, bytes]]:
    """Give the characters, or parts of them, that stand side by side in a piece."""
    whole: set[tuple[str, str]] = set()
    others: set[tuple[bytes, bytes]] = set()
    for piece in pieces:
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            others.update(pairwise(split_characters(piece)))
        else:
            whole.update(pairwise(text))
    return others | {(left.encode(), right.encode()) for left, right in whole}


def split_characters(piece: bytes) -> list[bytes]:
    """Cut bytes into characters; the first may lack its beginning, the last its end.

    Nothing is given where the bytes stand in no text.
    """
    if not piece:
        return []
    starts = [i for i in range(1, len(piece)) if piece[i] & 0xC0 != 0x80]
    parts = [piece[a:b] for a, b in pairwise([0, *starts, len(piece)])]
    for n, part in enumerate(parts):
        whole = _is_whole(part)
        if not whole and not (n in (0, len(parts) - 1) and len(_points_with(part))):
            return []
        if not whole and part[0] & 0xC0 != 0x80 and n < len(parts) - 1:
            return []
    return parts


def _is_whole(part: bytes) -> bool:
    try:
        return len(part.decode()) == 1
    except UnicodeDecodeError:
        return False


def _points_with(part: bytes) -> Int64:
    """Characters that begin, or end, with these bytes and have more; in order."""
    points = np.empty(0, np.int64)
    if part[0] & 0xC0 == 0x80:
        if len(part) < 4:
            tail = 0
            for byte in part:
                tail = tail << 6 | (byte & 0x3F)
            first, step = _FIRST_OF_WIDTH[len(part) + 1], 1 << 6 * len(part)
            points = np.arange(first + (tail - first) % step, NUM_POINTS, step)
    else:
        width = 2 if part[0] < 0xE0 else 3 if part[0] < 0xF0 else 4
        tails = all(byte & 0xC0 == 0x80 for byte in part[1:])
        if 0xC2 <= part[0] < 0xF5 and len(part) < width and tails:
            head = part[0] & (0x7F >> width)
            for byte in part[1:]:
                head = head << 6 | (byte & 0x3F)
            rest = 6 * (width - len(part))
            begin = max(head << rest, _FIRST_OF_WIDTH[width])
            points = np.arange(begin, min((head + 1) << rest, _FIRST_OF_WIDTH[width + 1]))
    return points[(points < 0xD800) | (points >= 0xE000)]


def _number_the_rest(
    class_P: npt.NDArray[np.int32], groups: Iterable[Int64], num_classes: int
) -> None:
    """Number the characters without a class of their own by the groups that they are in."""
    signs_P = np.zeros(NUM_POINTS, np.uint64)
    rng = np.random.default_rng(17)
    for points in groups:  # a random number a group: sets of groups differ in their sums
        signs_P[points] += rng.integers(1, 1 << 63, dtype=np.uint64)
    rest = np.flatnonzero((class_P == 0) & (signs_P != 0))
    _, numbers = np.unique(signs_P[rest], return_inverse=True)
    class_P[rest] = num_classes + 1 + numbers
