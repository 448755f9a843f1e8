"""Triton's kernels against plain torch: on a GPU where there is one, else in Triton's interpreter.

Triton is no dependency of the project (torch brings it along for GPUs), so without it these
tests are left out.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import pytest
import torch

from lingraft import nf4
from lingraft.train import steps
from lingraft.train.steps import NO_DROPOUT, Dropout

if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"  # read once, when Triton's own functions are made
triton = pytest.importorskip("triton", reason="Triton is not installed: kernels are not tested")
if not (torch.cuda.is_available() or triton.knobs.runtime.interpret):
    pytest.skip("Triton was imported to compile, and there is no GPU", allow_module_level=True)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MASK = Dropout(0.25, 123_456_789)
ROWS, WIDTH, INNER, RANK = 37, 200, 300, 6  # no multiples of any tile


@pytest.fixture
def kernels() -> ModuleType:
    return importlib.import_module("lingraft.train.kernels")


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def assert_alike(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 192), (16, 4096), (7, 64)])
def test_unpacked_numbers_are_the_plain_ones_bit_for_bit(shape: tuple[int, int]) -> None:
    unpack_into = importlib.import_module("lingraft.nf4_triton").unpack_into
    packed = nf4.stack([nf4.quantize(numbers(*shape, seed=n)) for n in range(3)])
    out = torch.full((3, shape[0], shape[1] + 8), 7.0, device=DEVICE)
    unpack_into(packed, out[:, :, : shape[1]])
    assert torch.equal(out[:, :, : shape[1]], nf4.dequantize_plain(packed))
    assert (out[:, :, shape[1] :] == 7).all()


def test_a_matrix_whose_rows_are_not_whole_blocks_is_left_to_plain_torch() -> None:
    can_unpack = importlib.import_module("lingraft.nf4_triton").can_unpack
    assert can_unpack(nf4.quantize(numbers(3, 128)))
    assert not can_unpack(nf4.quantize(numbers(4, 96)))
    assert not can_unpack(nf4.quantize(numbers(64)))


@pytest.mark.parametrize("dropout", [NO_DROPOUT, MASK])
def test_rows_are_gathered_and_dropped_alike(kernels: ModuleType, dropout: Dropout) -> None:
    x, tokens = numbers(20, WIDTH), torch.randint(20, (ROWS,)).to(DEVICE)
    both = []
    for module in (steps, kernels):
        out, dropped = torch.full((ROWS, WIDTH + 8), 7.0, device=DEVICE), numbers(ROWS, WIDTH)
        module.gather(x, tokens, out[:, :WIDTH], dropout, dropped)
        both.append((out, dropped, module.drop(x, dropout)))
    for a, b in zip(*both, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dropout", [NO_DROPOUT, MASK])
def test_silu_of_gate_times_up_is_alike(kernels: ModuleType, dropout: Dropout) -> None:
    gate_up = numbers(ROWS, 2 * INNER)
    both = []
    for module in (steps, kernels):
        out, first, second = (torch.zeros(ROWS, INNER, device=DEVICE) for _ in range(3))
        module.glu(gate_up, out, dropout, first)
        module.glu(gate_up, None, dropout, second)
        assert torch.equal(first, second)
        both.append((out, first))
    for a, b in zip(*both, strict=True):
        assert_alike(a, b)


@pytest.mark.parametrize("rank", [RANK, 64, 100])
@pytest.mark.parametrize("dropout", [NO_DROPOUT, MASK])
def test_the_way_back_through_it_is_alike(kernels: ModuleType, dropout: Dropout, rank: int) -> None:
    gate_up, grad = numbers(ROWS, 2 * INNER), numbers(ROWS, INNER + rank, seed=2)
    a, shares = numbers(rank, INNER, seed=3) / rank, numbers(ROWS, seed=4).abs()
    both = []
    for module in (steps, kernels):
        out = gate_up.clone()
        of_shares = module.glu_backward(out, grad[:, :INNER], grad[:, INNER:], a, shares, dropout)
        both.append((out, of_shares))
    assert_alike(both[0][0], both[1][0])
    torch.testing.assert_close(both[0][1], both[1][1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rank", [RANK, 64, 100])
@pytest.mark.parametrize("dropout", [NO_DROPOUT, MASK])
def test_an_adapters_input_gets_the_same_gradient(
    kernels: ModuleType, dropout: Dropout, rank: int
) -> None:
    low, a = numbers(ROWS, rank), numbers(rank, WIDTH, seed=2)
    both = [torch.full((ROWS, WIDTH + 8), 7.0, device=DEVICE) for _ in range(2)]
    for module, out in zip((steps, kernels), both, strict=True):
        module.add_adapter(out[:, :WIDTH], low, a, dropout)
    torch.testing.assert_close(both[0], both[1], rtol=1e-5, atol=1e-4)


def test_experts_are_summed_alike(kernels: ModuleType) -> None:
    rows, places = numbers(ROWS, WIDTH), torch.randperm(ROWS - 1).view(-1, 2).to(DEVICE)
    for shares in (None, numbers(len(places), 2).abs()):
        assert_alike(steps.combine(rows, places, shares), kernels.combine(rows, places, shares))


def test_norms_and_their_gradients_are_alike(kernels: ModuleType) -> None:
    x, weight, outer = numbers(ROWS, WIDTH), numbers(WIDTH, seed=2), numbers(ROWS, WIDTH, seed=3)
    assert_alike(steps.norm(x, weight, 1e-5), kernels.norm(x, weight, 1e-5))
    found = kernels.norm_backward(x, weight, 1e-5, outer)
    assert_alike(steps.norm_backward(x, weight, 1e-5, outer), found)


@pytest.mark.parametrize("back", [False, True])
def test_heads_are_turned_alike(kernels: ModuleType, back: bool) -> None:
    angles = numbers(12, 16).repeat(1, 2)
    both = [numbers(24, 3 * 96 + 7) for _ in range(2)]
    for module, x in zip((steps, kernels), both, strict=True):
        module.rotate(x[:, 96:192], angles.cos(), angles.sin(), back)
    assert_alike(*both)


def test_turning_back_undoes_turning() -> None:
    angles, x = numbers(6, 16).repeat(1, 2), numbers(12, 64)
    turned = x.clone()
    steps.rotate(turned, angles.cos(), angles.sin(), back=False)
    assert not torch.allclose(turned, x, atol=0.1)
    steps.rotate(turned, angles.cos(), angles.sin(), back=True)
    assert_alike(turned, x)


def test_no_rows_are_no_work(kernels: ModuleType) -> None:
    none, a = numbers(0, WIDTH), numbers(RANK, WIDTH)
    tokens, shares = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    kernels.gather(none, tokens, none)
    kernels.glu(numbers(0, 2 * INNER), numbers(0, INNER))
    kernels.add_adapter(none, numbers(0, RANK), a)
    kernels.rotate(none, numbers(4, 8), numbers(4, 8), False)
    low, down = numbers(0, RANK), numbers(RANK, INNER)
    back = kernels.glu_backward(numbers(0, 2 * INNER), numbers(0, INNER), low, down, shares)
    assert not len(back)
    assert kernels.combine(none, tokens.view(0, 2), None).shape == (0, WIDTH)
    assert kernels.norm(none, numbers(WIDTH), 1e-5).shape == (0, WIDTH)
    assert kernels.drop(none, MASK).shape == (0, WIDTH)
