"""What stands around a document in a token file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["bracket"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def bracket(
    ids_T: Int32, ends_D: Int64, bos_id: int | None, eos_id: int | None
) -> tuple[Int32, Int64]:
    """Put BOS before and EOS after each of D documents; `None` leaves either out.

    >>> ids, ends = bracket(np.int32([7, 8, 9]), np.array([2, 2, 3]), 1, 2)
    >>> ids.tolist(), ends.tolist()
    ([1, 7, 8, 2, 1, 2, 1, 9, 2], [4, 6, 9])

    Args:
        ids_T: Ids of all documents, end to end.
        ends_D: Where each ends.
        bos_id: Before each document.
        eos_id: After each document.

    Returns:
        The same with both in place.
    """
    head, tail = int(bos_id is not None), int(eos_id is not None)
    extra = head + tail
    sizes_D = np.diff(ends_D, prepend=0)
    moved_D = ends_D + extra * np.arange(1, len(ends_D) + 1)
    out = np.empty(len(ids_T) + extra * len(ends_D), np.int32)
    shifts_D = head + extra * np.arange(len(ends_D))
    out[np.arange(len(ids_T)) + np.repeat(shifts_D, sizes_D)] = ids_T
    if bos_id is not None:
        out[moved_D - sizes_D - extra] = bos_id
    if eos_id is not None:
        out[moved_D - 1] = eos_id
    return out, moved_D
