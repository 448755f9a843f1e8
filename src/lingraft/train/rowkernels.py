"""Steps on whole rows in Triton: gather, drop, norm, sum. See `steps` for what each one is."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .steps import NO_DROPOUT, Dropout

__all__ = ["combine", "drop", "gather", "kept", "norm", "norm_backward", "rotate"]

_WIDE = 2048  # numbers of a row that one program takes


def gather(
    x_TW: torch.Tensor,
    tokens_N: torch.Tensor,
    out_NW: torch.Tensor,
    dropout: Dropout = NO_DROPOUT,
    dropped_NW: torch.Tensor | None = None,
) -> None:
    """See `steps.gather`."""
    rows, width = out_NW.shape
    second = out_NW if dropped_NW is None else dropped_NW
    if not rows:
        return
    launch: Any = _gather
    launch[(rows, triton.cdiv(width, _WIDE))](
        x_TW,
        tokens_N,
        out_NW,
        second,
        width,
        x_TW.stride(0),
        out_NW.stride(0),
        second.stride(0),
        dropout.first_row,
        dropout.seed,
        dropout.threshold,
        dropout.scale,
        SECOND=dropped_NW is not None,
        DROP=dropout.share > 0,
        WIDE=_WIDE,
    )


def drop(x_NW: torch.Tensor, dropout: Dropout) -> torch.Tensor:
    """See `steps.drop`."""
    if not dropout.share or not len(x_NW):
        return x_NW
    rows, width = x_NW.shape
    out = torch.empty_like(x_NW, memory_format=torch.contiguous_format)
    launch: Any = _drop
    launch[(rows, triton.cdiv(width, _WIDE))](
        x_NW,
        out,
        width,
        x_NW.stride(0),
        dropout.first_row,
        dropout.seed,
        dropout.threshold,
        dropout.scale,
        WIDE=_WIDE,
    )
    return out


def norm(x_NW: torch.Tensor, weight_W: torch.Tensor, epsilon: float) -> torch.Tensor:
    """See `steps.norm`."""
    out = torch.empty_like(x_NW)
    rows, width = x_NW.shape
    if rows:
        launch: Any = _norm
        wide = triton.next_power_of_2(width)
        launch[(rows,)](x_NW, weight_W, x_NW, out, width, epsilon, BACK=False, WIDE=wide)
    return out


def norm_backward(
    x_NW: torch.Tensor, weight_W: torch.Tensor, epsilon: float, outer_NW: torch.Tensor
) -> torch.Tensor:
    """See `steps.norm_backward`."""
    out = torch.empty_like(x_NW)
    rows, width = x_NW.shape
    if rows:
        launch: Any = _norm
        wide = triton.next_power_of_2(width)
        launch[(rows,)](x_NW, weight_W, outer_NW, out, width, epsilon, BACK=True, WIDE=wide)
    return out


def rotate(x_NO: torch.Tensor, cos_LH: torch.Tensor, sin_LH: torch.Tensor, back: bool) -> None:
    """See `steps.rotate`."""
    rows, places, width = len(x_NO), len(cos_LH), cos_LH.shape[1]
    heads = x_NO.shape[1] // width
    if not rows:
        return
    launch: Any = _rotate
    launch[(rows,)](
        x_NO,
        cos_LH.contiguous(),
        sin_LH.contiguous(),
        places,
        heads,
        x_NO.stride(0),
        BACK=back,
        HALF=width // 2,
        HEADS=triton.next_power_of_2(heads),
    )


def combine(
    rows_NW: torch.Tensor, places_TK: torch.Tensor, shares_TK: torch.Tensor | None
) -> torch.Tensor:
    """See `steps.combine`."""
    tokens, per_token = places_TK.shape
    width = rows_NW.shape[1]
    out = torch.empty((tokens, width), dtype=rows_NW.dtype, device=rows_NW.device)
    if not tokens:
        return out
    launch: Any = _combine
    launch[(tokens, triton.cdiv(width, _WIDE))](
        rows_NW,
        places_TK.contiguous(),
        places_TK if shares_TK is None else shares_TK.contiguous(),
        out,
        width,
        rows_NW.stride(0),
        SHARES=shares_TK is not None,
        PER_TOKEN=per_token,
        WIDE=_WIDE,
    )
    return out


@triton.jit
def kept(row, column, width, seed, threshold):  # type: ignore[no-untyped-def]
    """Tell which places dropout keeps: `steps.Dropout.kept`."""
    place = row.to(tl.uint32) * width.to(tl.uint32) + column.to(tl.uint32)
    mixed = place * 0x9E3779B1 + seed.to(tl.uint32)
    mixed = (mixed ^ (mixed >> 16)) * 0x21F0AAAD
    mixed = (mixed ^ (mixed >> 15)) * 0x735A2D97
    mixed = mixed ^ (mixed >> 15)
    return (mixed >> 8).to(tl.int32) >= threshold


@triton.jit(do_not_specialize=["first_row", "seed", "threshold"])  # type: ignore[untyped-decorator]
def _gather(  # type: ignore[no-untyped-def]
    x,
    tokens,
    out,
    second,
    width,
    x_stride,
    out_stride,
    second_stride,
    first_row,
    seed,
    threshold,
    keep_scale,
    SECOND: tl.constexpr,
    DROP: tl.constexpr,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    real = column < width
    token = tl.load(tokens + row).to(tl.int64)
    values = tl.load(x + token * x_stride + column, mask=real, other=0.0)
    tl.store(out + row * out_stride + column, values, mask=real)
    if SECOND:
        if DROP:
            is_kept = kept(row + first_row, column, width, seed, threshold)
            values = tl.where(is_kept, values.to(tl.float32) * keep_scale, 0.0)
        tl.store(
            second + row * second_stride + column, values.to(second.dtype.element_ty), mask=real
        )


@triton.jit(do_not_specialize=["first_row", "seed", "threshold"])  # type: ignore[untyped-decorator]
def _drop(  # type: ignore[no-untyped-def]
    x, out, width, x_stride, first_row, seed, threshold, keep_scale, WIDE: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    real = column < width
    values = tl.load(x + row * x_stride + column, mask=real, other=0.0).to(tl.float32)
    is_kept = kept(row + first_row, column, width, seed, threshold)
    values = tl.where(is_kept, values * keep_scale, 0.0)
    tl.store(out + row * width + column, values.to(out.dtype.element_ty), mask=real)


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(  # type: ignore[no-untyped-def]
    x,
    cos,
    sin,
    places,
    heads,
    x_stride,
    BACK: tl.constexpr,
    HALF: tl.constexpr,
    HEADS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    half = tl.arange(0, HALF)
    table = (row % places) * (2 * HALF) + half
    cos_1, cos_2 = tl.load(cos + table).to(tl.float32), tl.load(cos + table + HALF).to(tl.float32)
    sin_1, sin_2 = tl.load(sin + table).to(tl.float32), tl.load(sin + table + HALF).to(tl.float32)
    head = tl.arange(0, HEADS)
    place = x + row * x_stride + head[:, None] * (2 * HALF) + half[None, :]
    real = head[:, None] < heads
    first = tl.load(place, mask=real, other=0.0).to(tl.float32)
    second = tl.load(place + HALF, mask=real, other=0.0).to(tl.float32)
    if BACK:
        first_out = first * cos_1[None, :] + second * sin_1[None, :]
        second_out = second * cos_2[None, :] - first * sin_2[None, :]
    else:
        first_out = first * cos_1[None, :] - second * sin_1[None, :]
        second_out = second * cos_2[None, :] + first * sin_2[None, :]
    tl.store(place, first_out.to(x.dtype.element_ty), mask=real)
    tl.store(place + HALF, second_out.to(x.dtype.element_ty), mask=real)


@triton.jit  # type: ignore[untyped-decorator]
def _norm(  # type: ignore[no-untyped-def]
    x, weight, outer, out, width, epsilon, BACK: tl.constexpr, WIDE: tl.constexpr
):
    column = tl.arange(0, WIDE)
    real = column < width
    place = tl.program_id(0).to(tl.int64) * width + column
    value = tl.load(x + place, mask=real, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / width + epsilon)
    scaled = value * scale
    factor = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
    if BACK:
        back = tl.load(outer + place, mask=real, other=0.0).to(tl.float32) * factor
        result = scale * (back - scaled * (tl.sum(back * scaled, 0) / width))
    else:
        result = scaled.to(out.dtype.element_ty).to(tl.float32) * factor
    tl.store(out + place, result.to(out.dtype.element_ty), mask=real)


@triton.jit  # type: ignore[untyped-decorator]
def _combine(  # type: ignore[no-untyped-def]
    rows,
    places,
    shares,
    out,
    width,
    row_stride,
    SHARES: tl.constexpr,
    PER_TOKEN: tl.constexpr,
    WIDE: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    real = column < width
    total = tl.zeros((WIDE,), tl.float32)
    for k in tl.static_range(PER_TOKEN):
        place = tl.load(places + token * PER_TOKEN + k).to(tl.int64)
        value = tl.load(rows + place * row_stride + column, mask=real, other=0.0).to(tl.float32)
        if SHARES:
            value *= tl.load(shares + token * PER_TOKEN + k).to(tl.float32)
        total += value
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=real)
