"""NF4: a weight in four bits, its block constants in eight.

Every 64 consecutive numbers of a matrix, row by row, share one constant, their largest
magnitude; each number becomes the nearest of 16 levels times that constant. The constants
in turn, less their mean, are stored in 8 bits with one float32 for every 256 of them. Two
codes share a byte, the first in the high half. Together 4 + 8/64 + 32/16384 bits: about
4.127 a number.

Pure torch, so that a CPU trains on exactly what a GPU trains on; codes and layout are those
of bitsandbytes' `nf4` with block size 64 and compressed statistics.

Shapes: n numbers, b = n / 64 blocks, c = ceil(b / 256) groups of blocks; `*` a stack.
Source: QLoRA (Dettmers et al. 2023, arXiv 2305.14314), appendix E for the 16 levels; 8-bit
Optimizers via Block-wise Quantization (Dettmers et al. 2022, arXiv 2110.02861) for the
256 levels of the constants.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch.nn.functional import embedding, pad

from .errors import InputError
from .packages import has_package

__all__ = [
    "BLOCK",
    "GROUP",
    "PARTS",
    "Packed",
    "constant_table",
    "dequantize",
    "dequantize_plain",
    "has_kernels",
    "level_table",
    "packed_bytes",
    "quantize",
    "round_trip",
    "stack",
]

_log = logging.getLogger("lingraft")
BLOCK = 64
GROUP = 256
PARTS = ("codes", "constants", "group_maxima", "mean")
"""Names of what a packed matrix consists of, as the fields of `Packed`."""
_CHUNK = 1 << 22  # numbers quantised at a time: bounds the float32 copies
_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclass(frozen=True)
class Packed:
    """One packed matrix, or a stack of equally shaped ones (then `*` is its length)."""

    codes: torch.Tensor
    """(*, n / 2) uint8: two levels a byte."""
    constants: torch.Tensor
    """(*, b) uint8: the blocks' constants, less their mean, as one of 256 levels."""
    group_maxima: torch.Tensor
    """(*, c) float32: what a group's levels are multiplied by."""
    mean: torch.Tensor
    """(*,) float32: mean constant of the matrix."""
    shape: tuple[int, ...]
    """Shape of one matrix."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all four parts."""
        return sum(part.numel() * part.element_size() for part in self.parts)

    @property
    def parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The four tensors, in the order of the fields."""
        return self.codes, self.constants, self.group_maxima, self.mean


def packed_bytes(num_items: int) -> int:
    """Bytes that one packed matrix of `num_items` numbers takes."""
    blocks = num_items // BLOCK
    return num_items // 2 + blocks + 4 * math.ceil(blocks / GROUP) + 4


def quantize(weight: torch.Tensor) -> Packed:
    """Pack one matrix.

    Args:
        weight: Any float dtype and shape.

    Raises:
        InputError: The number of items is not a multiple of 64, or one is not finite.
    """
    flat = weight.detach().reshape(-1)
    if not flat.numel() or flat.numel() % BLOCK:
        raise InputError(
            f"a weight of shape {tuple(weight.shape)} has {flat.numel()} numbers; "
            f"NF4 packs blocks of {BLOCK}, so their number must be a multiple of it.",
            way_out='Train on the weights as they are: train.quantize = "none".',
        )
    chunks = [_quantize_blocks(chunk) for chunk in torch.split(flat, _CHUNK)]
    codes = torch.cat([codes for codes, _ in chunks])
    maxima_b = torch.cat([maxima for _, maxima in chunks])
    if not torch.isfinite(maxima_b).all():
        raise InputError(
            f"a weight of shape {tuple(weight.shape)} holds numbers that are not finite.",
            effect="A whole block of 64 around each would be lost.",
            way_out="Repair the base model, or take it from its source again.",
        )
    # In float64, where such a sum of 16-bit numbers is exact: in float32 its last bit depends on
    # who adds first, and so on the number of threads.
    mean = maxima_b.double().mean().float()
    constants, group_maxima = _quantize_constants(maxima_b - mean)
    return Packed(codes, constants, group_maxima, mean, tuple(weight.shape))


def dequantize(packed: Packed, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Unpack; a stack gives (*, shape). Arithmetic is float32, rounded to `dtype` at the end."""
    lead = packed.mean.shape
    if packed.codes.is_cuda and has_kernels():
        from .nf4_triton import can_unpack, unpack_into

        if can_unpack(packed) and len(lead) < 2:
            out = packed.codes.new_empty((*lead, *packed.shape), dtype=dtype)
            unpack_into(packed, out.view(-1, *packed.shape))
            return out
    return dequantize_plain(packed, dtype)


@cache
def has_kernels() -> bool:
    """Tell whether Triton is there, which torch brings along for GPUs; warn where it is not."""
    is_there = has_package("triton")
    if not is_there:
        _log.warning("Triton is not installed: a GPU computes the same, several times slower")
    return is_there


def dequantize_plain(packed: Packed, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Unpack in plain torch, on any device: what the GPU's kernel must equal."""
    lead = packed.mean.shape
    values = embedding(packed.codes.int(), _pairs(packed.codes.device))
    blocks = values.view(*lead, -1, BLOCK)
    blocks.mul_(_block_maxima(packed).unsqueeze(-1))
    return blocks.to(dtype).view(*lead, *packed.shape)


def round_trip(weight: torch.Tensor) -> torch.Tensor:
    """What NF4 makes of a matrix, in float32: what a model trained on it has seen."""
    return dequantize(quantize(weight))


def stack(packs: Sequence[Packed]) -> Packed:
    """Lay equally shaped packed matrices behind each other; nothing is packed anew."""
    assert len({p.shape for p in packs}) == 1, "a stack needs packed matrices of one shape"
    codes, constants, maxima, mean = (
        torch.stack(parts) for parts in zip(*(p.parts for p in packs), strict=True)
    )
    return Packed(codes, constants, maxima, mean, packs[0].shape)


def _quantize_blocks(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = flat.float().view(-1, BLOCK)
    maxima = blocks.abs().amax(1)
    # A block of zeros has the constant 0: any level would do, 0 / tiny gives level 0.
    scaled = blocks / maxima.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)
    levels = (
        torch.bucketize(scaled, _midpoints(level_table(flat.device))).to(torch.uint8).view(-1, 2)
    )
    return (levels[:, 0] << 4) | levels[:, 1], maxima


def _quantize_constants(centred_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    padded = pad(centred_b, (0, -len(centred_b) % GROUP)).view(-1, GROUP)
    maxima = padded.abs().amax(1)
    scaled = padded / maxima.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)
    levels = torch.bucketize(scaled, _midpoints(constant_table(centred_b.device)))
    return levels.to(torch.uint8).view(-1)[: len(centred_b)], maxima


def _block_maxima(packed: Packed) -> torch.Tensor:
    levels = constant_table(packed.constants.device)
    values = embedding(packed.constants.int(), levels.unsqueeze(1)).squeeze(-1)
    maxima = packed.group_maxima.repeat_interleave(GROUP, -1)[..., : values.shape[-1]]
    return values.mul_(maxima).add_(packed.mean.unsqueeze(-1))


@cache
def level_table(device: torch.device) -> torch.Tensor:
    """Give the 16 levels."""
    return torch.tensor(_LEVELS, device=device)


@cache
def _pairs(device: torch.device) -> torch.Tensor:
    """The two levels that each byte stands for, (256, 2)."""
    levels, byte = level_table(device), torch.arange(256, device=device)
    return torch.stack([levels[byte >> 4], levels[byte & 15]], 1)


@cache
def constant_table(device: torch.device) -> torch.Tensor:
    """Give 256 signed levels, finer towards 0: seven decades, 2^i levels a sign in decade i."""
    levels = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        decade = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
        levels += [*decade.tolist(), *(-decade).tolist()]
    assert len(levels) == 256, "the constants' levels must fill a byte"
    return torch.tensor(sorted(levels), device=device)


def _midpoints(levels: torch.Tensor) -> torch.Tensor:
    return (levels[1:] + levels[:-1]) / 2
