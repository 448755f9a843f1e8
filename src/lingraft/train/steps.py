"""What stands between the products of an expert block, each step in plain torch.

`kernels` has the same functions in Triton, one pass over memory each. Dropout is a hash of seed,
row and column: the backward pass makes the same mask again instead of keeping it, and both
forms make the same one.

Shapes: T tokens, K experts a token, N = T K rows sorted by expert, W any width, F inner width,
R rank. Matrices may be parts of wider ones: rows may lie apart.
Source of the hash's constants: lowbias32, C. Wellons, "Prospecting for Hash Functions" (2018),
nullprogram.com/blog/2018/07/31.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import silu

__all__ = [
    "NO_DROPOUT",
    "Dropout",
    "add_adapter",
    "combine",
    "drop",
    "gather",
    "glu",
    "glu_backward",
    "norm",
    "norm_backward",
    "rotate",
]

_BITS = 24
_ALL = 0xFFFFFFFF


class Dropout(NamedTuple):
    """Which numbers of a matrix are dropped."""

    share: float
    """0 to 1."""
    seed: int
    """In [0, 2**31)."""
    first_row: int = 0
    """Where the matrix begins in a taller one, whose mask is meant."""

    @property
    def threshold(self) -> int:
        """Hashes below it, of 24 bits, are dropped."""
        return int(self.share * (1 << _BITS))

    @property
    def scale(self) -> float:
        """What is kept is multiplied by it."""
        return 1 / (1 - self.share)

    def kept(self, rows: int, width: int, device: torch.device) -> torch.Tensor:
        """Give the mask (rows, width)."""
        places = torch.arange(rows * width, device=device) + self.first_row * width
        mixed = (places * 0x9E3779B1 + self.seed) & _ALL
        mixed = ((mixed ^ (mixed >> 16)) * 0x21F0AAAD) & _ALL
        mixed = ((mixed ^ (mixed >> 15)) * 0x735A2D97) & _ALL
        mixed ^= mixed >> 15
        return ((mixed >> (32 - _BITS)) >= self.threshold).view(rows, width)

    def apply(self, x_NW: torch.Tensor) -> torch.Tensor:
        """Drop and scale."""
        if not self.share:
            return x_NW
        kept = self.kept(x_NW.shape[0], x_NW.shape[1], x_NW.device)
        return (x_NW.float() * self.scale * kept).to(x_NW.dtype)


NO_DROPOUT = Dropout(0.0, 0)


def gather(
    x_TW: torch.Tensor,
    tokens_N: torch.Tensor,
    out_NW: torch.Tensor,
    dropout: Dropout = NO_DROPOUT,
    dropped_NW: torch.Tensor | None = None,
) -> None:
    """Write the rows of `tokens_N`, and once more with dropout where that is wanted."""
    out_NW.copy_(x_TW[tokens_N])
    if dropped_NW is not None:
        dropped_NW.copy_(dropout.apply(out_NW))


def drop(x_NW: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """Give x with dropout; x itself where there is none."""
    return dropout.apply(x_NW)


def norm(x_NW: torch.Tensor, weight_W: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Give weight * x / RMS(x), rounded to x's dtype before the weight, as transformers does."""
    x = x_NW.float()
    scaled = x * torch.rsqrt(x.square().mean(1, keepdim=True) + epsilon)
    return weight_W * scaled.to(x_NW.dtype)


def norm_backward(
    x_NW: torch.Tensor, weight_W: torch.Tensor, epsilon: float, outer_NW: torch.Tensor
) -> torch.Tensor:
    """Give the gradient of x."""
    x = x_NW.float()
    scale = torch.rsqrt(x.square().mean(1, keepdim=True) + epsilon)
    outer = outer_NW.float() * weight_W.float()
    scaled = x * scale
    of_x = scale * (outer - scaled * (outer * scaled).mean(1, keepdim=True))
    return of_x.to(x_NW.dtype)


def rotate(x_NO: torch.Tensor, cos_LH: torch.Tensor, sin_LH: torch.Tensor, back: bool) -> None:
    """Turn each head by its position, in place; `back` is the transposed map.

    Args:
        x_NO: N rows of heads of width H; row n has place n mod L in the tables.
        cos_LH: As transformers makes it: both halves alike.
        sin_LH: Likewise.
        back: For a gradient.
    """
    width = cos_LH.shape[1]
    heads = x_NO.unflatten(1, (-1, width)).float()  # type: ignore[no-untyped-call]
    repeats = len(x_NO) // len(cos_LH)
    cos, sin = (t.float().repeat(repeats, 1).unsqueeze(1) for t in (cos_LH, sin_LH))
    first, second = heads.chunk(2, 2)
    crossed = torch.cat([second, -first] if back else [-second, first], 2)
    x_NO.copy_((heads * cos + crossed * sin).flatten(1).to(x_NO.dtype))


def glu(
    gate_up_NF: torch.Tensor,
    out_NF: torch.Tensor | None,
    dropout: Dropout = NO_DROPOUT,
    dropped_NF: torch.Tensor | None = None,
) -> None:
    """Write silu(gate) * up, gate and up being the halves of (N, 2 F); and with dropout."""
    gate, up = gate_up_NF.chunk(2, 1)
    inner = (silu(gate.float()) * up.float()).to(gate.dtype)
    if out_NF is not None:
        out_NF.copy_(inner)
    if dropped_NF is not None:
        dropped_NF.copy_(dropout.apply(inner))


def glu_backward(
    gate_up_NF: torch.Tensor,
    grad_NF: torch.Tensor,
    low_NR: torch.Tensor,
    a_RF: torch.Tensor,
    shares_N: torch.Tensor,
    dropout: Dropout = NO_DROPOUT,
) -> torch.Tensor:
    """Go back through the adapter of the down map, the shares and silu(gate) * up.

    Args:
        gate_up_NF: (N, 2 F); replaced by its own gradient.
        grad_NF: Gradient of silu(gate) * up by the frozen map alone, without the shares.
        low_NR: Gradient of the adapter's narrow side, without the shares.
        a_RF: The adapter's A, times its scale.
        shares_N: What each row counts in the sum over experts, float32.
        dropout: That of the adapter's input.

    Returns:
        Gradient of shares_N, float32: <silu(gate) * up, its gradient>, which is the product of
        the row's output and its outer gradient; so the down map is never computed again.
    """
    gate, up = (half.float() for half in gate_up_NF.chunk(2, 1))
    through = dropout.apply(low_NR.float() @ a_RF.float())
    grad = grad_NF.float() + through
    sigmoid = gate.sigmoid()
    swish = gate * sigmoid
    of_shares = (swish * up * grad).sum(1)
    grad = grad * shares_N.unsqueeze(1)
    width = grad.shape[1]
    gate_up_NF[:, :width] = grad * up * (sigmoid + swish * (1 - sigmoid))
    gate_up_NF[:, width:] = grad * swish
    return of_shares


def add_adapter(
    out_NW: torch.Tensor,
    low_NR: torch.Tensor,
    a_RW: torch.Tensor,
    dropout: Dropout = NO_DROPOUT,
) -> None:
    """Add dropout(low @ a): what the narrow side gives back to an adapter's input."""
    through = dropout.apply(low_NR.float() @ a_RW.float())
    out_NW.copy_((out_NW.float() + through).to(out_NW.dtype))


def combine(
    rows_NW: torch.Tensor, places_TK: torch.Tensor, shares_TK: torch.Tensor | None
) -> torch.Tensor:
    """Sum the K rows of each token, times their shares where given; always in the same order."""
    each = rows_NW[places_TK].float()
    if shares_TK is not None:
        each = each * shares_TK.float().unsqueeze(-1)
    return each.sum(1).to(rows_NW.dtype)
