"""First rows for new pieces: draws around the mean of all base rows, in the shape of their cloud.

Rows near the mean of the head's rows can hardly take probability from the base's pieces: the sum
of the exponentials grows by at most the share of the new pieces, whatever the text (Hewitt). The
spread tells them apart; transformers makes it so small that in bfloat16 the rows are the mean.

Shapes: V base rows, N new pieces, D model width.
Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models"; the default
scale is that of transformers' `_init_added_embeddings_weights_with_mean`, 1e-9.
"""

from __future__ import annotations

import torch

from .added import Added
from .methods import Role

__all__ = ["mean_cov_rows"]

_CHUNK = 1 << 13  # base rows held in float64 at a time
_JITTER = 1e-6  # of the mean variance: fewer rows than numbers in a row leave directions empty


def mean_cov_rows(
    base_VD: torch.Tensor, added: Added, role: Role, seed: int, *, scale: float = 1e-9
) -> torch.Tensor:
    """Draw a row for each piece from a normal distribution.

    Args:
        base_VD: Its mean and covariance are the distribution's.
        added: Gives the number of rows.
        role: The two matrices get other draws.
        seed: Decides the draw.
        scale: What the covariance is multiplied by.
    """
    num_base, width = base_VD.shape
    mean_D = torch.zeros(width, dtype=torch.float64)
    for begin in range(0, num_base, _CHUNK):
        mean_D += base_VD[begin : begin + _CHUNK].double().sum(0) / num_base
    cov_DD = torch.zeros((width, width), dtype=torch.float64)
    for begin in range(0, num_base, _CHUNK):
        centred = base_VD[begin : begin + _CHUNK].double() - mean_D
        cov_DD += centred.T @ centred / num_base
    cov_DD += torch.eye(width, dtype=torch.float64) * (_JITTER * cov_DD.diagonal().mean() + 1e-30)
    factor_DD: torch.Tensor = torch.linalg.cholesky(cov_DD).float() * scale**0.5
    generator = torch.Generator().manual_seed(2 * seed + (role == "output"))
    rows_ND: torch.Tensor = torch.randn((len(added), width), generator=generator) @ factor_DD.T
    return rows_ND + mean_D.float()
