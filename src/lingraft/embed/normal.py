"""First rows for new pieces: draws from one normal distribution, for comparison.

Shapes: V base rows, N new pieces, D model width.
Source: the rule the reference compares itself with (its README, "固定的正态分布"): mean 0 and a
fixed standard deviation, which is Mixtral's `initializer_range`, 0.02.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["normal_rows"]


def normal_rows(base_VD: torch.Tensor, count: int, std: float, seed: int) -> torch.Tensor:
    """Draw `count` rows.

    Args:
        base_VD: Gives width and dtype.
        count: N, rows to draw.
        std: Standard deviation of every number.
        seed: Decides the draw.

    Returns:
        Rows of shape (N, D) in base_VD's dtype.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    rows_ND = torch.randn((count, base_VD.shape[1]), generator=generator) * std
    return rows_ND.to(base_VD.dtype)
