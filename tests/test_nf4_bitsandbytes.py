"""Our NF4 beside that of bitsandbytes, which packs dense models by the same rule."""

from __future__ import annotations

import pytest
import torch

from lingraft.nf4 import dequantize, quantize

functional = pytest.importorskip(
    "bitsandbytes.functional", reason="bitsandbytes is not installed: no peer to compare with"
)


@pytest.mark.filterwarnings("ignore")  # the library's own, about kernels that it does not find
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1_024, 1_024), (576, 1_536)])
def test_codes_are_those_of_bitsandbytes_and_constants_nearly(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    """Constants that lie between two levels may go to the other one: they differ by one."""
    generator = torch.Generator().manual_seed(shape[0])
    weight = (torch.randn(*shape, generator=generator) * 0.05).to(dtype)
    codes, state = functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    ours = quantize(weight)
    assert torch.equal(codes.flatten(), ours.codes)
    steps = (state.absmax.flatten().int() - ours.constants.int()).abs()
    assert steps.max() <= 1
    assert steps.count_nonzero() <= 0.01 * len(steps)
    theirs = [codes, state.absmax, state.state2.absmax, state.offset]
    assert sum(part.numel() * part.element_size() for part in theirs) == ours.size_bytes
    unpacked = functional.dequantize_4bit(codes, state).float()
    assert (unpacked - dequantize(ours)).abs().max() <= 0.01 * unpacked.abs().max()
