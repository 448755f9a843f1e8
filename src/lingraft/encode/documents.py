"""What stands around a document in a token file."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bracket"]


def bracket(ids: Sequence[int], bos_id: int | None, eos_id: int | None) -> list[int]:
    """Put BOS before and EOS after a document's ids; `None` leaves either out.

    >>> bracket([7, 8], 1, 2)
    [1, 7, 8, 2]
    """
    head = [] if bos_id is None else [bos_id]
    tail = [] if eos_id is None else [eos_id]
    return [*head, *ids, *tail]
