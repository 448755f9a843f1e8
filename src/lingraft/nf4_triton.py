"""NF4 unpacked by one Triton kernel: each code is read once, each number written once.

Same numbers as `nf4.dequantize`, bit for bit: the arithmetic is float32, product and sum are
rounded apart (no fused multiply-add), and only the result is rounded to its dtype. A matrix may
be written into a wider one, whose last columns are left for something else.

Shapes: M matrices of (O, I); a row has I / 64 blocks of 64 numbers (32 bytes of codes).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .nf4 import BLOCK, GROUP, Packed, constant_table, level_table

__all__ = ["can_unpack", "unpack_into"]

_BLOCKS = 64  # blocks of 64 numbers that one program unpacks


def can_unpack(packed: Packed) -> bool:
    """Tell whether the kernel takes these matrices: rows must be whole blocks."""
    return len(packed.shape) == 2 and packed.shape[1] % BLOCK == 0


def unpack_into(packed: Packed, out_MOI: torch.Tensor) -> None:
    """Unpack M matrices.

    Args:
        packed: A stack, or one matrix (then M is 1).
        out_MOI: (M, O, I) of any float dtype; rows may lie apart, numbers of a row may not.
    """
    rows, width = packed.shape
    assert out_MOI.shape[1:] == (rows, width), f"{out_MOI.shape} for {packed.shape}"
    assert out_MOI.stride(2) == 1, "numbers of a row must lie side by side"
    codes, constants, maxima, means = (part.contiguous() for part in packed.parts)
    row_blocks = width // BLOCK
    grid = (rows * triton.cdiv(row_blocks, _BLOCKS), out_MOI.shape[0])
    launch: Any = _unpack
    launch[grid](
        codes,
        constants,
        maxima,
        means,
        level_table(codes.device),
        constant_table(codes.device),
        out_MOI,
        rows * row_blocks,
        maxima.numel() // max(means.numel(), 1),
        row_blocks,
        out_MOI.stride(0),
        out_MOI.stride(1),
        BLOCKS=_BLOCKS,
        GROUP=GROUP,
        enable_fp_fusion=False,
    )


@triton.jit  # type: ignore[untyped-decorator]
def _unpack(  # type: ignore[no-untyped-def]
    codes,
    constants,
    maxima,
    means,
    levels,
    constant_levels,
    out,
    matrix_blocks,
    matrix_groups,
    row_blocks,
    matrix_stride,
    row_stride,
    BLOCKS: tl.constexpr,
    GROUP: tl.constexpr,
):
    matrix = tl.program_id(1).to(tl.int64)
    row_parts = tl.cdiv(row_blocks, BLOCKS)
    row = (tl.program_id(0) // row_parts).to(tl.int64)
    in_row = (tl.program_id(0) % row_parts) * BLOCKS + tl.arange(0, BLOCKS)
    real = in_row < row_blocks
    block = row * row_blocks + in_row  # of the matrix
    constant = tl.load(constants + matrix * matrix_blocks + block, mask=real, other=0).to(tl.int32)
    maximum = tl.load(maxima + matrix * matrix_groups + block // GROUP, mask=real, other=0.0)
    scale = tl.load(constant_levels + constant) * maximum + tl.load(means + matrix)
    byte = (matrix * matrix_blocks + block)[:, None] * 32 + tl.arange(0, 32)[None, :]
    code = tl.load(codes + byte, mask=real[:, None], other=0).to(tl.int32)
    high = tl.load(levels + (code >> 4)) * scale[:, None]
    low = tl.load(levels + (code & 15)) * scale[:, None]
    values = tl.reshape(tl.join(high, low), (BLOCKS, 64))
    place = matrix * matrix_stride + row * row_stride
    column = in_row[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + place + column, values.to(out.dtype.element_ty), mask=real[:, None])
