"""The sums themselves, on whole matrices or on some of their rows.

Shapes: O outputs, I inputs, R rank, E experts; all arithmetic is float32.
Source: LoRA (Hu et al. 2021, arXiv 2106.09685), section 4.1; DoRA (Liu et al. 2024, arXiv
2402.09353), equation 5, the norm over each output's row as PEFT takes it.
"""

from __future__ import annotations

import re

import torch

from ..nf4 import BLOCK, Packed, dequantize

__all__ = ["expert_columns", "fold", "is_linear", "packed_items", "with_magnitude"]

_LINEAR = re.compile(r"\.layers\.\d+\..*\.(\w+_proj|w[123])\.weight$")
_STRETCH = BLOCK * 256  # numbers whose constants share one group


def fold(
    rows: torch.Tensor, left_RK: torch.Tensor, right_KI: torch.Tensor, scale: float
) -> torch.Tensor:
    """W + scale (left right), in float32, for as many rows of W as `left` has."""
    result = rows.to(torch.float32, copy=True)  # and added to in place: a fifth faster
    return result.addmm_(left_RK.float(), right_KI.float(), alpha=scale)


def with_magnitude(rows: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Give each row, of W + scale B A, the length that DoRA trained."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    stretched: torch.Tensor = rows * (magnitude.float() / lengths).unsqueeze(1)
    return stretched


def expert_columns(b_rows: torch.Tensor, expert: int, num_experts: int) -> torch.Tensor:
    """Take one expert's B (O, R) out of rows of PEFT's fused B (O, R E)."""
    return b_rows.view(b_rows.shape[0], -1, num_experts)[:, :, expert].contiguous()


def is_linear(parameter: str) -> bool:
    """Tell whether a parameter is a linear map of the body, of those that training packs."""
    return _LINEAR.search(parameter) is not None


def packed_items(packed: Packed, first: int, count: int) -> torch.Tensor:
    """Unpack `count` numbers of a packed matrix from number `first` on, flat, in float32.

    They are bit-equal to the same numbers of the whole matrix unpacked.
    """
    begin = first - first % _STRETCH
    end = min(packed.codes.shape[-1] * 2, -(-(first + count) // BLOCK) * BLOCK)
    part = Packed(
        packed.codes[begin // 2 : end // 2],
        packed.constants[begin // BLOCK : end // BLOCK],
        packed.group_maxima[begin // _STRETCH : -(-end // _STRETCH)],
        packed.mean,
        (end - begin,),
    )
    return dequantize(part)[first - begin : first - begin + count]
