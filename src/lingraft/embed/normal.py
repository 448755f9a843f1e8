"""First rows for new pieces: draws from one normal distribution, for comparison.

Shapes: V base rows, N new pieces, D model width.
Source: the rule the reference compares itself with (its README, "固定的正态分布"): mean 0 and a
fixed standard deviation, which is Mixtral's `initializer_range`, 0.02.
"""

from __future__ import annotations

import torch

from .added import Added
from .methods import Role

__all__ = ["normal_rows"]


def normal_rows(
    base_VD: torch.Tensor, added: Added, role: Role, seed: int, *, std: float = 0.02
) -> torch.Tensor:
    """Draw a row for each piece.

    Args:
        base_VD: Gives the width.
        added: Gives their number.
        role: The two matrices get other draws: they must not start as copies of each other.
        seed: Decides the draw.
        std: Standard deviation of every number.
    """
    generator = torch.Generator().manual_seed(2 * seed + (role == "output"))
    return torch.randn((len(added), base_VD.shape[1]), generator=generator) * std
