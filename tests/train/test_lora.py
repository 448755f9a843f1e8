from __future__ import annotations

import pytest
import torch
from torch.autograd import backward
from torch.nn.functional import silu

from lingraft.nf4 import round_trip
from lingraft.train.lora import FrozenStack, LoraPair, QLoraExperts, QLoraLinear, QLoraStack

EXPERTS, WIDTH, INNER, RANK, TOKENS = 4, 32, 64, 3, 21
GENERATOR = torch.Generator().manual_seed(1)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR) * 0.3


def started_pair(inputs: int, outputs: int, groups: int = EXPERTS) -> LoraPair:
    pair = LoraPair(groups, inputs, outputs, RANK, 6.0, GENERATOR)
    pair.B.data = random(*pair.B.shape)
    return pair


def linear_module(weight: torch.Tensor, dropout: float = 0.0) -> tuple[QLoraLinear, LoraPair]:
    pair = started_pair(WIDTH, INNER, groups=1)
    stack = QLoraStack(FrozenStack([weight], quantize_body=True), [pair], dropout)
    return QLoraLinear(stack, torch.float32), pair


def expert_module(dropout: float = 0.0) -> tuple[QLoraExperts, dict[str, torch.Tensor]]:
    """Experts, and their weights as (E, O, I) of each role after the NF4 round trip."""
    w1, w3, w2 = random(4, INNER, WIDTH), random(4, INNER, WIDTH), random(4, WIDTH, INNER)
    fused = [matrix for e in range(EXPERTS) for matrix in (w1[e], w3[e])]
    gate_up = QLoraStack(
        FrozenStack(fused, quantize_body=True, parts=2),
        [started_pair(WIDTH, INNER), started_pair(WIDTH, INNER)],
        dropout,
    )
    down = QLoraStack(
        FrozenStack(list(w2), quantize_body=True), [started_pair(INNER, WIDTH)], dropout
    )
    weights = {
        role: torch.stack([round_trip(matrix) for matrix in stack])
        for role, stack in (("w1", w1), ("w3", w3), ("w2", w2))
    }
    return QLoraExperts(gate_up, down, silu, torch.float32), weights


def routing() -> tuple[torch.Tensor, torch.Tensor]:
    """Two of the first three experts for each token: the last has no rows."""
    index = torch.stack([torch.randperm(3, generator=GENERATOR)[:2] for _ in range(TOKENS)])
    return index, torch.rand(TOKENS, 2, generator=GENERATOR)


def reference(
    module: QLoraExperts,
    weights: dict[str, torch.Tensor],
    x: torch.Tensor,
    index: torch.Tensor,
    shares: torch.Tensor,
) -> torch.Tensor:
    """The same by W + (alpha / rank) B A, expert by expert and token by token."""
    pairs = zip(("w1", "w3", "w2"), [*module.gate_up.pairs, *module.down.pairs], strict=True)
    full = {
        role: weights[role] + 2.0 * pair.B @ pair.A
        for role, pair in pairs
        if isinstance(pair, LoraPair)
    }
    rows = []
    for t in range(len(x)):
        row = torch.zeros(WIDTH)
        for k in range(2):
            e = int(index[t, k])
            inner = silu(full["w1"][e] @ x[t]) * (full["w3"][e] @ x[t])
            row = row + shares[t, k] * (full["w2"][e] @ inner)
        rows.append(row)
    return torch.stack(rows)


def relative(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    assert a is not None
    assert b is not None
    return float((a - b).norm().item() / b.norm().item())


def test_a_linear_map_is_the_unpacked_weight_plus_its_scaled_adapter() -> None:
    weight = random(INNER, WIDTH)
    module, pair = linear_module(weight)
    x = random(2, 5, WIDTH)
    full = round_trip(weight) + 6.0 / RANK * pair.B[0] @ pair.A[0]
    torch.testing.assert_close(module(x), x @ full.T, rtol=1e-5, atol=1e-5)


def test_a_fresh_adapter_changes_nothing() -> None:
    weight = random(INNER, WIDTH)
    pair = LoraPair(1, WIDTH, INNER, RANK, 6.0, GENERATOR)
    module = QLoraLinear(QLoraStack(FrozenStack([weight], False), [pair], 0.0), torch.float32)
    x = random(5, WIDTH)
    assert torch.equal(module(x), x @ weight.T)
    assert float(pair.A.detach().abs().max()) <= WIDTH**-0.5


def test_gradients_of_a_linear_map_equal_those_of_the_unpacked_reference() -> None:
    weight = random(INNER, WIDTH)
    module, pair = linear_module(weight)
    x, outer = random(7, WIDTH).requires_grad_(), random(7, INNER)
    backward((module(x) * outer).sum())
    found = [x.grad, pair.A.grad, pair.B.grad]
    x.grad = pair.A.grad = pair.B.grad = None
    full = round_trip(weight) + 6.0 / RANK * pair.B[0] @ pair.A[0]
    backward((x @ full.T * outer).sum())
    for a, b in zip(found, [x.grad, pair.A.grad, pair.B.grad], strict=True):
        assert relative(a, b) < 1e-5


def test_experts_and_their_gradients_equal_the_unpacked_reference() -> None:
    module, weights = expert_module()
    x, outer = random(TOKENS, WIDTH).requires_grad_(), random(TOKENS, WIDTH)
    index, shares = routing()
    shares.requires_grad_()
    trained = [x, shares, *module.parameters()]
    assert len(trained) == 2 + 3 * 2

    output = module(x, index, shares)
    backward((output * outer).sum())
    found = [tensor.grad for tensor in trained]
    for tensor in trained:
        tensor.grad = None
    expected = reference(module, weights, x, index, shares)
    backward((expected * outer).sum())

    assert relative(output, expected) < 1e-5
    for a, b in zip(found, [tensor.grad for tensor in trained], strict=True):
        assert relative(a, b) < 1e-5


def test_experts_without_rows_get_a_gradient_of_zeros() -> None:
    module, _ = expert_module()
    index, shares = routing()
    backward(module(random(TOKENS, WIDTH), index, shares).sum())
    (pair,) = module.down.pairs
    assert isinstance(pair, LoraPair)
    grad = pair.A.grad
    assert grad is not None
    assert not grad[3].any()
    assert grad[:3].any()


def test_groups_unpacked_one_at_a_time_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = expert_module()
    x, (index, shares) = random(TOKENS, WIDTH), routing()
    together = module(x, index, shares)
    monkeypatch.setattr("lingraft.train.lora._WHOLE_STACK_ITEMS", 0)
    assert torch.equal(module(x, index, shares), together)


def test_the_graph_holds_no_unpacked_weight() -> None:
    module, _ = expert_module()
    held: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor.numel())
        return tensor

    x, (index, shares) = random(2, WIDTH).requires_grad_(), routing()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        module(x, index[:2], shares[:2])
    assert max(held) < INNER * WIDTH


def test_dropout_touches_the_adapter_alone() -> None:
    weight = random(INNER, WIDTH)
    module, pair = linear_module(weight, dropout=0.5)
    x = random(9, WIDTH)
    pair.B.data.zero_()
    torch.testing.assert_close(module(x), x @ round_trip(weight).T, rtol=1e-5, atol=1e-5)


def test_dropout_depends_on_the_seed_and_stops_in_evaluation() -> None:
    module, _ = expert_module(dropout=0.3)
    x, (index, shares) = random(TOKENS, WIDTH), routing()

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        output: torch.Tensor = module(x, index, shares)
        return output

    assert torch.equal(run(5), run(5))
    assert not torch.equal(run(5), run(6))
    module.eval()
    assert torch.equal(run(5), run(6))


def test_dropout_has_the_gradient_of_its_own_mask() -> None:
    module, _ = expert_module(dropout=0.3)
    module.double()
    module._dtype = torch.float64
    x = random(TOKENS, WIDTH).double().requires_grad_()
    index, shares = routing()

    def output(at: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        result: torch.Tensor = module(at, index, shares).sum()
        return result

    backward(output(x))
    direction, step = random(TOKENS, WIDTH).double(), 1e-4
    with torch.no_grad():
        slope = (output(x + step * direction) - output(x - step * direction)) / (2 * step)
    assert x.grad is not None
    assert slope.item() == pytest.approx(float((x.grad * direction).sum()), rel=1e-4)


def test_a_role_without_an_adapter_is_frozen() -> None:
    frozen = FrozenStack([random(INNER, WIDTH), random(INNER, WIDTH)], False, parts=2)
    stack = QLoraStack(frozen, [None, None], dropout=0.5)
    x = random(4, WIDTH)
    gate, up = stack(x, [4])
    assert torch.equal(torch.cat([gate, up], 1), x @ frozen.matrices(torch.float32)(0).T)
    assert not list(stack.parameters())


def test_a_body_that_is_not_packed_keeps_its_dtype_and_computes_in_the_asked_one() -> None:
    weight = random(INNER, WIDTH).bfloat16()
    frozen = FrozenStack([weight], quantize_body=False)
    assert frozen.size_bytes == 2 * INNER * WIDTH
    assert torch.equal(frozen.matrices(torch.float32)(0), weight.float())
