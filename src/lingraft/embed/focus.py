"""First rows from neighbours: new pieces as mixtures of base pieces that are used alike.

In the auxiliary space (see `auxiliary.py`) base pieces and new ones stand side by side. A new
row is the mean of the base rows of its nearest base pieces, weighted by sparsemax of their
cosines: a distribution that is zero for all but the nearest few.

A new piece without an auxiliary vector, because the corpus shows it too rarely, takes the mean
of its spelling instead; how many did is in the notes of the method, under "mean_instead".

Shapes: V base rows, N new pieces, D model width, A auxiliary width, K base pieces with a vector.
Sources: FOCUS, Dobler & de Melo 2023 (arXiv 2305.14481), whose auxiliary vectors are fastText's;
sparsemax, Martins & Astudillo 2016 (arXiv 1602.02068).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from .added import Added
from .mean import mean_rows
from .methods import Role

__all__ = ["focus_rows", "has_vector", "note_fallback", "sparsemax"]

_BLOCK = 512
_NEAREST = 256


def focus_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    *,
    auxiliary_VA: npt.NDArray[np.float32],
    temperature: float = 1.0,
    notes: Counter[str] | None = None,
) -> torch.Tensor:
    """Mix base rows by nearness in the auxiliary space.

    Args:
        base_VD: Base rows of one matrix.
        added: The new pieces.
        role: Handed to `mean` for pieces without a vector.
        seed: Handed on likewise.
        auxiliary_VA: A vector for each extended id; zeros where there is none.
        temperature: Cosines are divided by it: below 1 fewer neighbours count, above 1 more.
        notes: Gets how many pieces took the mean instead.

    Returns:
        Rows (N, D), float32.

    Raises:
        InputError: The vectors are not those of this tokenizer, or no base piece has one.
    """
    known = has_vector(auxiliary_VA, added)
    atoms = np.flatnonzero(known[: added.num_base])
    wanted = np.flatnonzero(known[added.num_base :])
    unit_VA = torch.from_numpy(auxiliary_VA / np.maximum(_norms(auxiliary_VA), 1e-12))
    rows_ND = mean_rows(base_VD, added, role, seed).clone()
    near_KA, near_KD = unit_VA[atoms], base_VD[atoms].float()
    for start in range(0, len(wanted), _BLOCK):
        block = wanted[start : start + _BLOCK]
        cosines_BK = unit_VA[added.num_base + block] @ near_KA.t() / temperature
        weights_BK, places_BK = _sparse_weights(cosines_BK)
        rows_ND[block] = torch.einsum("bk,bkd->bd", weights_BK, near_KD[places_BK])
    note_fallback(notes, len(added) - len(wanted))
    return rows_ND


def has_vector(auxiliary_VA: npt.NDArray[np.float32], added: Added) -> npt.NDArray[np.bool_]:
    """Give, for each extended id, whether it has an auxiliary vector.

    Raises:
        InputError: The vectors are not those of this tokenizer, or no base piece has one.
    """
    if len(auxiliary_VA) != added.num_extended:
        raise InputError(
            f"{len(auxiliary_VA)} auxiliary vectors; expected {added.num_extended}, one for each "
            "extended id.",
            effect="They would be vectors of other pieces.",
            way_out="Make them from a token folder of this extended tokenizer.",
        )
    known: npt.NDArray[np.bool_] = np.any(auxiliary_VA != 0, axis=1)
    if not known[: added.num_base].any():
        raise InputError(
            "no base piece has an auxiliary vector.",
            effect="New pieces would have no neighbours to take rows from.",
            way_out="Add text that base pieces stand in, such as English, to the token folder.",
        )
    return known


def note_fallback(notes: Counter[str] | None, num_fallback: int) -> None:
    """Tell how many pieces took the mean of their spelling instead."""
    if notes is not None and num_fallback:
        notes["mean_instead"] += num_fallback


def sparsemax(scores_BK: torch.Tensor) -> torch.Tensor:
    """Project each row onto the simplex: the nearest distribution, mostly zeros."""
    sorted_BK = scores_BK.sort(dim=1, descending=True).values
    sums_BK = sorted_BK.cumsum(dim=1) - 1
    ranks_K = torch.arange(1, scores_BK.shape[1] + 1, device=scores_BK.device)
    support_B1 = (sorted_BK * ranks_K > sums_BK).sum(dim=1, keepdim=True)
    threshold_B1 = sums_BK.gather(1, support_B1 - 1) / support_B1
    return (scores_BK - threshold_B1).clamp_min(0)


def _sparse_weights(cosines_BK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and places of the nearest; all are looked at where the support is wider."""
    count = min(_NEAREST, cosines_BK.shape[1])
    top = cosines_BK.topk(count, dim=1)
    weights = sparsemax(top.values)
    if count < cosines_BK.shape[1] and bool((weights[:, -1] > 0).any()):
        ranked = cosines_BK.sort(dim=1, descending=True)
        weights = sparsemax(ranked.values)
        used = int((weights > 0).sum(dim=1).max())
        return weights[:, :used], ranked.indices[:, :used]
    return weights, top.indices


def _norms(vectors_VA: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms: npt.NDArray[np.float32] = np.linalg.norm(vectors_VA, axis=1, keepdims=True)
    return norms
