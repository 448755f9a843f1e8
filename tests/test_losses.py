from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.losses import linear_cross_entropy
from lingraft.rows import IGNORE


def _case(
    num: int, vocab: int, width: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, width, generator=generator)
    weight = torch.randn(vocab, width, generator=generator)
    labels = torch.randint(0, vocab, (num,), generator=generator)
    return x.requires_grad_(), weight.requires_grad_(), labels


def _grads(
    loss: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    grad_x, grad_weight = torch.autograd.grad(3 * loss, (x, weight))
    return grad_x, grad_weight


@settings(deadline=None, max_examples=40)
@given(
    num=st.integers(1, 13),
    chunk=st.integers(1, 16),
    seed=st.integers(0, 99),
    ignored=st.integers(0, 5),
)
def test_loss_and_gradients_are_those_of_plain_cross_entropy(
    num: int, chunk: int, seed: int, ignored: int
) -> None:
    x, weight, labels = _case(num, 11, 6, seed)
    labels[: min(ignored, num - 1)] = IGNORE
    expected = F.cross_entropy(x @ weight.t(), labels, ignore_index=IGNORE)
    loss = linear_cross_entropy(x, weight, labels, chunk)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for got, plain in zip(_grads(loss, x, weight), _grads(expected, x, weight), strict=True):
        torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-6)


def test_equal_logits_cost_the_log_of_the_vocabulary() -> None:
    loss = linear_cross_entropy(torch.zeros(3, 2), torch.zeros(8, 2), torch.tensor([0, 7, 3]))
    assert loss.item() == pytest.approx(math.log(8))


def test_a_label_without_probability_costs_its_distance() -> None:
    """exp(-1000) is 0 in float32; the loss is still 1000 nats."""
    weight = torch.tensor([[1000.0], [0.0]])
    loss = linear_cross_entropy(torch.ones(1, 1), weight, torch.tensor([1]))
    assert loss.item() == 1000.0


def test_ignored_positions_count_for_nothing() -> None:
    x, weight, labels = _case(4, 5, 3)
    masked = torch.tensor([labels[0].item(), IGNORE, labels[2].item(), IGNORE])
    alone = linear_cross_entropy(x[::2], weight, labels[::2])
    assert torch.equal(linear_cross_entropy(x, weight, masked), alone)


def test_no_label_at_all_costs_nothing_and_moves_nothing() -> None:
    x, weight, _ = _case(4, 5, 3)
    loss = linear_cross_entropy(x, weight, torch.full((4,), IGNORE))
    assert loss.item() == 0
    assert all(not grad.any() for grad in _grads(loss, x, weight))


def test_without_grad_mode_the_loss_is_the_same() -> None:
    x, weight, labels = _case(9, 5, 3)
    with_grad = linear_cross_entropy(x, weight, labels, 4)
    with torch.no_grad():
        loss = linear_cross_entropy(x, weight, labels, 4)
    assert not loss.requires_grad
    assert torch.equal(loss, with_grad)


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_only_the_wanted_gradient_is_made(frozen: str) -> None:
    x, weight, labels = _case(5, 7, 3)
    both = _grads(linear_cross_entropy(x, weight, labels, 2), x, weight)
    (x if frozen == "x" else weight).requires_grad_(False)
    (3 * linear_cross_entropy(x, weight, labels, 2)).backward()  # type: ignore[no-untyped-call]
    expected = {"x": (None, both[1]), "weight": (both[0], None)}[frozen]
    for parameter, grad in zip((x, weight), expected, strict=True):
        assert (parameter.grad is None) == (grad is None)
        if grad is not None:
            assert torch.equal(torch.as_tensor(parameter.grad), grad)


def test_half_precision_rows_give_float32_gradients_to_a_float32_head() -> None:
    x, weight, labels = _case(32, 50, 8)
    low = x.detach().bfloat16().requires_grad_()
    expected = _grads(linear_cross_entropy(x, weight, labels), x, weight)
    got = _grads(linear_cross_entropy(low, weight, labels, 8), low, weight)
    assert [grad.dtype for grad in got] == [torch.bfloat16, torch.float32]
    for a, b in zip(got, expected, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()
