from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft import nf4
from lingraft.errors import InputError
from lingraft.nf4 import dequantize, packed_bytes, quantize, round_trip, stack


def random_weight(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def test_two_codes_share_a_byte_the_first_in_the_high_half() -> None:
    block = torch.zeros(64)
    block[:4] = torch.tensor([-1.0, 1.0, 0.0, 0.08])
    # Levels 0, 15, 7 and 8 (0.0796); the rest is level 7.
    assert quantize(block).codes[:3].tolist() == [0x0F, 0x78, 0x77]


def test_a_block_of_levels_comes_back_times_its_constant() -> None:
    # One block: its constant is the mean of all constants, and what is left of it is 0.
    block = torch.zeros(64)
    block[:3] = torch.tensor([-2.0, 0.66, 0.9])
    restored = round_trip(block)[:3]
    torch.testing.assert_close(restored, torch.tensor([-2.0, 2 * 0.33791524, 2 * 0.44070983]))


def test_a_weight_of_zeros_stays_zeros() -> None:
    assert not round_trip(torch.zeros(2, 128)).any()


def test_storage_is_4_127_bits_a_number() -> None:
    packed = quantize(random_weight(1024, 1024))
    # 2^20 numbers: 2^19 code bytes, 2^14 constants, 2^6 maxima and a mean of 4 bytes.
    assert packed.size_bytes == 524_288 + 16_384 + 256 + 4 == packed_bytes(1 << 20)
    assert 8 * packed.size_bytes / (1 << 20) == pytest.approx(4.127, abs=1e-3)


def test_the_error_on_normal_weights_is_that_of_the_paper() -> None:
    weight = random_weight(512, 512)
    error = (round_trip(weight) - weight).norm() / weight.norm()
    assert 0.090 < float(error) < 0.094


def test_a_stack_unpacks_as_its_matrices_do() -> None:
    packs = [quantize(random_weight(96, 64, seed=seed)) for seed in range(3)]
    together = dequantize(stack(packs))
    assert together.shape == (3, 96, 64)
    assert torch.equal(together, torch.stack([dequantize(packed) for packed in packs]))


def test_unpacking_rounds_to_the_asked_dtype_at_the_end() -> None:
    packed = quantize(random_weight(64, 64))
    assert torch.equal(dequantize(packed, torch.bfloat16), dequantize(packed).bfloat16())


def test_long_weights_are_packed_in_chunks_without_a_seam() -> None:
    weight = random_weight((1 << 22) // 64 + 3, 64)
    packed, tail = quantize(weight), quantize(weight[-3:])
    assert torch.equal(packed.codes[-96:], tail.codes)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(1e-6, 1e3), st.integers(0, 1000))
def test_no_number_moves_further_than_half_a_level_and_its_constant_allow(
    num_blocks: int, size: float, seed: int
) -> None:
    weight = random_weight(num_blocks, 64, seed=seed) * size
    largest = weight.abs().amax(1, keepdim=True)
    # Levels lie up to 0.304 apart; a constant is off by at most 0.0036 of the largest offset.
    allowed = 0.153 * largest + 0.008 * largest.max()
    assert ((round_trip(weight) - weight).abs() <= allowed).all()


@pytest.mark.parametrize("shape", [(3, 33), (0, 64)])
def test_a_weight_that_is_not_whole_blocks_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"multiple of it(.|\n)*train.quantize"):
        quantize(torch.zeros(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_with_a_number_that_is_not_finite_is_refused(bad: float) -> None:
    weight = torch.zeros(64)
    weight[5] = bad
    with pytest.raises(InputError, match="not finite"):
        quantize(weight)


def test_a_gpu_without_triton_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lingraft.nf4.has_package", lambda name: False)
    nf4.has_kernels.cache_clear()
    try:
        assert not nf4.has_kernels()
        assert "Triton is not installed" in caplog.text
    finally:
        nf4.has_kernels.cache_clear()
