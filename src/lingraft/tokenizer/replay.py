"""Extended beside base on texts: the same, or neighbours joined, or something else.

A *coarsening* ends its tokens only where the base ends one, and has the base's id where a token
spans one of the base's. Ends are counted in bytes of the pieces.

Shapes: T tokens, D texts, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..basetypes import BaseTokenizer, Int32

__all__ = ["Compared", "Sizes", "compare_encodings", "piece_sizes"]

Int64 = npt.NDArray[np.int64]
Sizes = Int64
Bools = npt.NDArray[np.bool_]


class Compared(NamedTuple):
    """For each text: has it the base's ids, and is it a coarsening of them?"""

    same_D: Bools
    coarser_D: Bools


def piece_sizes(base: BaseTokenizer) -> Int64:
    """Give the bytes of each id's piece, of shape (V,)."""
    return np.array([len(base.piece_bytes(id)) for id in range(base.size)], np.int64)


def compare_encodings(
    base: Sequence[Int32], extended: Sequence[Int32], base_sizes_V: Int64, extended_sizes_V: Int64
) -> Compared:
    """Compare two encodings of each text.

    Args:
        base: Ids of each text by the base.
        extended: The same by the extended tokenizer.
        base_sizes_V: `piece_sizes` of the base.
        extended_sizes_V: `piece_sizes` of the extended tokenizer.
    """
    num = len(base)
    if not num:
        return Compared(np.zeros(0, np.bool_), np.zeros(0, np.bool_))
    base_T, base_text_T, base_end_T, base_total_D = _ends(base, base_sizes_V)
    mine_T, mine_text_T, mine_end_T, mine_total_D = _ends(extended, extended_sizes_V)
    # Texts one after another, each with room for the longer of its two encodings.
    room_D = np.maximum(base_total_D, mine_total_D) + 1
    start_D = np.cumsum(room_D) - room_D
    base_end_T = base_end_T + start_D[base_text_T]
    mine_end_T = mine_end_T + start_D[mine_text_T]
    place_T = np.searchsorted(base_end_T, mine_end_T)
    inside_T = place_T < len(base_end_T)
    meets_T = inside_T.copy()
    meets_T[inside_T] = base_end_T[place_T[inside_T]] == mine_end_T[inside_T]
    before_T = np.concatenate([[-1], place_T[:-1]])
    before_T[mine_text_T != np.concatenate([[-1], mine_text_T[:-1]])] = -1
    first_D = np.searchsorted(base_text_T, np.arange(num))
    before_T = np.where(before_T < 0, first_D[mine_text_T] - 1, before_T)
    single_T = meets_T & (place_T - before_T == 1)
    equal_T = single_T.copy()
    equal_T[single_T] = base_T[place_T[single_T]] == mine_T[single_T]
    good_T = meets_T & (equal_T | ~single_T)
    coarser_D = base_total_D == mine_total_D
    coarser_D[mine_text_T[~good_T]] = False
    same_D = np.array([len(a) == len(b) for a, b in zip(base, extended, strict=True)], np.bool_)
    same_D[mine_text_T[~equal_T]] = False
    return Compared(same_D, coarser_D)


def _ends(batch: Sequence[Int32], sizes_V: Int64) -> tuple[Int32, Int64, Int64, Int64]:
    """Give all ids, the text of each, its end in bytes of its text, and the bytes of each text."""
    ids_T = np.concatenate(batch)
    num_D = np.array([len(ids) for ids in batch], np.int64)
    text_T = np.repeat(np.arange(len(batch)), num_D)
    running_T = np.concatenate([[0], np.cumsum(sizes_V[ids_T])])
    ends_D = np.cumsum(num_D)
    before_D = running_T[ends_D - num_D]
    return ids_T, text_T, running_T[1:] - before_D[text_T], running_T[ends_D] - before_D
