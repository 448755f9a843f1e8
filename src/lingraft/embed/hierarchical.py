"""First rows for new pieces: the mean of the rows of the two pieces that a merge rule joins.

`mean` gives each base id the same weight; here each *half* of a piece weighs the same, as the
rule that made it sees it, and a half that is a new piece brings the row that it got. So 钢琴 is
the mean of 钢 and 琴, whatever number of bytes the base needs for either.

Shapes: V base rows, N new pieces, D model width.
Source: ours.
"""

from __future__ import annotations

import torch

from .added import Added
from .averaging import weighted_rows
from .methods import Role

__all__ = ["hierarchical_rows"]


def hierarchical_rows(base_VD: torch.Tensor, added: Added, role: Role, seed: int) -> torch.Tensor:
    """Give each piece the mean of its parents' rows; the mean of its spelling if it has none."""
    rows_ND = weighted_rows(base_VD, added.spellings)

    def row_of(id: int) -> torch.Tensor:
        n = id - added.num_base
        return base_VD[id].float() if n < 0 else rows_ND[n]

    for n in _parents_first(added):
        parents = added.parents[n]
        if parents is not None:
            left, right = parents
            rows_ND[n] = (row_of(left) + row_of(right)) / 2
    return rows_ND


def _parents_first(added: Added) -> list[int]:
    """Order the pieces so that each comes after its parents: a parent has fewer bytes."""
    return sorted(range(len(added)), key=lambda n: (len(added.pieces[n]), n))
