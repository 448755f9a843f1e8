"""embed_tokens and lm_head as trained matrices: base rows and added rows are two parameters.

Two parameters, so that added rows can have a learning rate of their own, or be all that is
trained: base rows that ask for no gradient get no update and no weight decay, so they keep their
bits. Whoever looks at `weight` sees one matrix, in the order of the ids. A tied model has one
such matrix, and both modules hold it.

All rows are float32; the body gets them in its own dtype.

Shapes: V ids, D model width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import embedding, linear

__all__ = ["GrownEmbedding", "GrownHead", "GrownMatrix"]


class GrownMatrix(nn.Module):
    """V rows: `base` are the first `num_base`, `added` those behind them, which may be none.

    `trained` tells which of the two a run trains, at one time or another.
    """

    def __init__(
        self,
        weight_VD: torch.Tensor,
        num_base: int,
        *,
        train_base: bool = True,
        train_added: bool = True,
    ) -> None:
        """Take rows; they are copied, in float32. A part without rows is never trained."""
        super().__init__()
        assert 0 <= num_base <= len(weight_VD), f"{num_base} base rows of {len(weight_VD)}"
        base_VD, added_VD = weight_VD.detach()[:num_base], weight_VD.detach()[num_base:]
        self.trained = {
            "base": train_base and len(base_VD) > 0,
            "added": train_added and len(added_VD) > 0,
        }
        self.base = _part(base_VD, self.trained["base"])
        self.added = _part(added_VD, self.trained["added"])

    @property
    def weight(self) -> torch.Tensor:
        """All rows (V, D); gradients reach both parameters through it."""
        if not len(self.added):
            return self.base
        if not len(self.base):
            return self.added
        return torch.cat([self.base, self.added])


def _part(rows_VD: torch.Tensor, is_trained: bool) -> nn.Parameter:
    return nn.Parameter(rows_VD.to(torch.float32, copy=True), requires_grad=is_trained)


class GrownEmbedding(nn.Module):
    """Stands in for nn.Embedding."""

    def __init__(self, matrix: GrownMatrix, dtype: torch.dtype) -> None:
        """Give rows of `matrix` in `dtype`."""
        super().__init__()
        self.matrix = matrix
        self._dtype = dtype

    @property
    def weight(self) -> torch.Tensor:
        """All rows (V, D), float32."""
        return self.matrix.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(...) ids to (..., D)."""
        return embedding(ids, self.matrix.weight).to(self._dtype)


class GrownHead(nn.Module):
    """Stands in for the nn.Linear of the head; logits are float32."""

    bias = None

    def __init__(self, matrix: GrownMatrix) -> None:
        """Multiply by the rows of `matrix`."""
        super().__init__()
        self.matrix = matrix

    @property
    def weight(self) -> torch.Tensor:
        """All rows (V, D), float32."""
        return self.matrix.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) to (..., V)."""
        weight = self.matrix.weight
        return linear(x.to(weight.dtype), weight)
