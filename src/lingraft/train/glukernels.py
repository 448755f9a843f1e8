"""Steps around silu(gate) * up and through an adapter in Triton. See `steps` for what each is."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .rowkernels import kept
from .steps import NO_DROPOUT, Dropout

__all__ = ["add_adapter", "glu", "glu_backward"]

# Tiles of the kernels that hold a product, and warps of one: small, so that several share a
# processor's registers and one reads while another computes.
BACK_TILE = (16, 128, 4)
ADD_TILE = (64, 64, 4)
_WIDE = 2048  # numbers of a row that one program takes


def glu(
    gate_up_NF: torch.Tensor,
    out_NF: torch.Tensor | None,
    dropout: Dropout = NO_DROPOUT,
    dropped_NF: torch.Tensor | None = None,
) -> None:
    """See `steps.glu`."""
    rows, width = len(gate_up_NF), gate_up_NF.shape[1] // 2
    first = dropped_NF if out_NF is None else out_NF
    second = first if dropped_NF is None else dropped_NF
    assert first is not None, "nothing to write"
    assert second is not None, "nothing to write"
    if not rows:
        return
    launch: Any = _glu
    launch[(rows, triton.cdiv(width, _WIDE))](
        gate_up_NF,
        first,
        second,
        width,
        gate_up_NF.stride(0),
        first.stride(0),
        second.stride(0),
        dropout.first_row,
        dropout.seed,
        dropout.threshold,
        dropout.scale,
        FIRST=out_NF is not None,
        SECOND=dropped_NF is not None,
        DROP=dropout.share > 0,
        WIDE=_WIDE,
    )


def _narrow(rank: int) -> int:
    """Give the numbers of a narrow side that one small product takes."""
    return int(min(64, max(16, triton.next_power_of_2(rank))))


def glu_backward(
    gate_up_NF: torch.Tensor,
    grad_NF: torch.Tensor,
    low_NR: torch.Tensor,
    a_RF: torch.Tensor,
    shares_N: torch.Tensor,
    dropout: Dropout = NO_DROPOUT,
) -> torch.Tensor:
    """See `steps.glu_backward`."""
    rows, width = grad_NF.shape
    tile_rows, tile_columns, warps = BACK_TILE
    parts = triton.cdiv(width, tile_columns)
    sums = torch.empty((parts, rows), dtype=torch.float32, device=grad_NF.device)
    if not rows:
        return sums.sum(0)
    rank = low_NR.shape[1]
    launch: Any = _glu_backward
    launch[(parts, triton.cdiv(rows, tile_rows))](
        gate_up_NF,
        grad_NF,
        low_NR,
        a_RF,
        shares_N,
        sums,
        rows,
        width,
        rank,
        gate_up_NF.stride(0),
        grad_NF.stride(0),
        low_NR.stride(0),
        a_RF.stride(0),
        dropout.first_row,
        dropout.seed,
        dropout.threshold,
        dropout.scale,
        DROP=dropout.share > 0,
        RANK=_narrow(rank),
        PARTS=triton.cdiv(rank, _narrow(rank)),
        ROWS=tile_rows,
        COLUMNS=tile_columns,
        num_warps=warps,
    )
    return sums.sum(0)


def add_adapter(
    out_NW: torch.Tensor,
    low_NR: torch.Tensor,
    a_RW: torch.Tensor,
    dropout: Dropout = NO_DROPOUT,
) -> None:
    """See `steps.add_adapter`."""
    rows, width = out_NW.shape
    rank = low_NR.shape[1]
    tile_rows, tile_columns, warps = ADD_TILE
    if not rows:
        return
    launch: Any = _add_adapter
    launch[(triton.cdiv(width, tile_columns), triton.cdiv(rows, tile_rows))](
        out_NW,
        low_NR,
        a_RW,
        rows,
        width,
        rank,
        out_NW.stride(0),
        low_NR.stride(0),
        a_RW.stride(0),
        dropout.first_row,
        dropout.seed,
        dropout.threshold,
        dropout.scale,
        DROP=dropout.share > 0,
        RANK=_narrow(rank),
        PARTS=triton.cdiv(rank, _narrow(rank)),
        ROWS=tile_rows,
        COLUMNS=tile_columns,
        num_warps=warps,
    )


@triton.jit(do_not_specialize=["first_row", "seed", "threshold"])  # type: ignore[untyped-decorator]
def _glu(  # type: ignore[no-untyped-def]
    gate_up,
    first,
    second,
    width,
    in_stride,
    first_stride,
    second_stride,
    first_row,
    seed,
    threshold,
    keep_scale,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    DROP: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    real = column < width
    gate = tl.load(gate_up + row * in_stride + column, mask=real, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * in_stride + width + column, mask=real, other=0.0).to(tl.float32)
    inner = (gate * tl.sigmoid(gate) * up).to(first.dtype.element_ty)
    if FIRST:
        tl.store(first + row * first_stride + column, inner, mask=real)
    if SECOND:
        if DROP:
            is_kept = kept(row + first_row, column, width, seed, threshold)
            inner = tl.where(is_kept, inner.to(tl.float32) * keep_scale, 0.0)
        tl.store(
            second + row * second_stride + column, inner.to(second.dtype.element_ty), mask=real
        )


@triton.jit  # type: ignore[untyped-decorator]
def _through(  # type: ignore[no-untyped-def]
    low,
    a,
    row,
    column,
    rows,
    width,
    rank,
    low_stride,
    a_stride,
    first_row,
    seed,
    threshold,
    keep_scale,
    DROP: tl.constexpr,
    RANK: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Give dropout(low @ a) of one tile, float32."""
    through = tl.zeros((row.shape[0], column.shape[0]), tl.float32)
    for part in tl.static_range(PARTS):
        narrow = part * RANK + tl.arange(0, RANK)
        low_tile = tl.load(
            low + row[:, None] * low_stride + narrow[None, :],
            mask=(row[:, None] < rows) & (narrow[None, :] < rank),
            other=0.0,
        )
        a_tile = tl.load(
            a + narrow[:, None] * a_stride + column[None, :],
            mask=(narrow[:, None] < rank) & (column[None, :] < width),
            other=0.0,
        )
        through = tl.dot(low_tile, a_tile, through, input_precision="ieee")
    if DROP:
        is_kept = kept(row[:, None] + first_row, column[None, :], width, seed, threshold)
        through = tl.where(is_kept, through * keep_scale, 0.0)
    return through


@triton.jit(do_not_specialize=["rows", "first_row", "seed", "threshold"])  # type: ignore[untyped-decorator]
def _add_adapter(  # type: ignore[no-untyped-def]
    out,
    low,
    a,
    rows,
    width,
    rank,
    out_stride,
    low_stride,
    a_stride,
    first_row,
    seed,
    threshold,
    keep_scale,
    DROP: tl.constexpr,
    RANK: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    through = _through(
        low,
        a,
        row,
        column,
        rows,
        width,
        rank,
        low_stride,
        a_stride,
        first_row,
        seed,
        threshold,
        keep_scale,
        DROP,
        RANK,
        PARTS,
    )
    real = (row[:, None] < rows) & (column[None, :] < width)
    place = out + row[:, None] * out_stride + column[None, :]
    value = tl.load(place, mask=real, other=0.0).to(tl.float32)
    tl.store(place, (value + through).to(out.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["rows", "first_row", "seed", "threshold"])  # type: ignore[untyped-decorator]
def _glu_backward(  # type: ignore[no-untyped-def]
    gate_up,
    grad,
    low,
    a,
    shares,
    sums,
    rows,
    width,
    rank,
    in_stride,
    grad_stride,
    low_stride,
    a_stride,
    first_row,
    seed,
    threshold,
    keep_scale,
    DROP: tl.constexpr,
    RANK: tl.constexpr,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    real = (row[:, None] < rows) & (column[None, :] < width)
    # Read first: the product below does not wait for them.
    gate_place = gate_up + row[:, None] * in_stride + column[None, :]
    gate = tl.load(gate_place, mask=real, other=0.0).to(tl.float32)
    up = tl.load(gate_place + width, mask=real, other=0.0).to(tl.float32)
    outer = tl.load(grad + row[:, None] * grad_stride + column[None, :], mask=real, other=0.0)
    through = _through(
        low,
        a,
        row,
        column,
        rows,
        width,
        rank,
        low_stride,
        a_stride,
        first_row,
        seed,
        threshold,
        keep_scale,
        DROP,
        RANK,
        PARTS,
    )
    outer = outer.to(tl.float32) + through
    sigmoid = tl.sigmoid(gate)
    swish = gate * sigmoid
    share = tl.load(shares + row, mask=row < rows, other=0.0).to(tl.float32)
    of_share = tl.sum(swish * up * outer, 1)
    tl.store(sums + tl.program_id(0).to(tl.int64) * rows + row, of_share, mask=row < rows)
    outer = outer * share[:, None]
    of_gate = outer * up * (sigmoid + swish * (1 - sigmoid))
    tl.store(gate_place, of_gate.to(gate_up.dtype.element_ty), mask=real)
    tl.store(gate_place + width, (outer * swish).to(gate_up.dtype.element_ty), mask=real)
