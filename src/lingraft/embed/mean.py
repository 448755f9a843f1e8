"""First rows for new pieces: the mean of the base rows that spell them.

A piece the base never saw still has a spelling the base can read. We spell it alone, without
BOS and without the dummy prefix: a Llama-style text path turns an unknown "嬗" into
<s> ▁ E5 AC 97, and 2 of those 5 rows say nothing about it.

Shapes: V base rows, N new pieces, D model width.
Source: the mean rule, HIT-SCIR/Chinese-Mixtral-8x7B models/init_embeddings.py (a672672);
the spelling without BOS and prefix is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["mean_rows"]


def mean_rows(base_VD: torch.Tensor, spellings: Sequence[Sequence[int]]) -> torch.Tensor:
    """Average the base rows named by each spelling.

    Args:
        base_VD: Base embedding or head rows, any float dtype.
        spellings: N lists of base ids, in reading order, no special tokens.

    Returns:
        Rows of shape (N, D) in base_VD's dtype; sums run in float32.

    Raises:
        InputError: A spelling is empty, or holds an id outside [0, V).
    """
    import torch

    num_base, width = base_VD.shape
    rows_ND = torch.empty((len(spellings), width), dtype=base_VD.dtype)
    for n, ids in enumerate(spellings):
        if not ids or min(ids) < 0 or max(ids) >= num_base:
            raise InputError(
                f"new piece {n} is spelled {list(ids)}; expected 1 or more ids in [0, {num_base}).",
                effect="Its row would be NaN, or another piece's, and spread through training.",
                way_out="The base tokenizer must have byte pieces, and be the model's own.",
            )
        rows_ND[n] = base_VD[list(ids)].float().mean(dim=0).to(base_VD.dtype)
    return rows_ND
