"""First rows for new pieces: the mean of the base rows that spell them.

A piece the base never saw still has a spelling the base can read. We spell it alone, without
BOS and without the dummy prefix: a Llama-style text path turns an unknown "嬗" into
<s> ▁ E5 AC 97, and 2 of those 5 rows say nothing about it.

Shapes: V base rows, N new pieces, D model width.
Source: the mean rule, HIT-SCIR/Chinese-Mixtral-8x7B models/init_embeddings.py (a672672), which
`mean_text_rows` repeats; the spelling without BOS and prefix is ours.
"""

from __future__ import annotations

import torch

from .added import Added
from .averaging import weighted_rows
from .methods import Role

__all__ = ["mean_rows", "mean_text_rows"]


def mean_rows(base_VD: torch.Tensor, added: Added, role: Role, seed: int) -> torch.Tensor:
    """Average the base rows named by each spelling."""
    return weighted_rows(base_VD, added.spellings)


def mean_text_rows(base_VD: torch.Tensor, added: Added, role: Role, seed: int) -> torch.Tensor:
    """Average the base rows of each piece read as a text, as the reference does."""
    return weighted_rows(base_VD, added.text_spellings)
