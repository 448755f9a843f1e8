"""The fused path against the plain one: same numbers, same gradients, whatever computes it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import save_mixtral
from torch.nn.functional import silu

from lingraft.losses import linear_cross_entropy
from lingraft.nf4 import quantize
from lingraft.train import steps
from lingraft.train.build import Built, build
from lingraft.train.experts import Adapters, Routing, expert_block, steps_for
from lingraft.train.lora import (
    FrozenStack,
    LoraPair,
    QLoraExperts,
    QLoraLinear,
    QLoraStack,
    takes_fast_path,
    use_path,
)
from lingraft.train.maps import adapted_map, frozen_norm
from lingraft.train.recompute import is_second_run, recompute_layers
from lingraft.train.settings import LoraSettings
from lingraft.train.steps import Dropout

EXPERTS, WIDTH, INNER, RANK, TOKENS = 4, 64, 128, 8, 21
MASK = Dropout(0.25, 4_711)


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def pair(inputs: int, outputs: int, groups: int = EXPERTS) -> LoraPair:
    made = LoraPair(groups, inputs, outputs, RANK, 2.0 * RANK, torch.Generator().manual_seed(2))
    made.B.data = numbers(*made.B.shape, seed=outputs)
    return made


def experts(packed: bool = True, dropout: float = 0.0) -> QLoraExperts:
    matrices = [numbers(INNER, WIDTH, seed=n) for n in range(2 * EXPERTS)]
    gate_up = QLoraStack(
        FrozenStack(matrices, packed, parts=2),
        [pair(WIDTH, INNER), pair(WIDTH, INNER)],
        dropout,
    )
    downs = FrozenStack([numbers(WIDTH, INNER, seed=n) for n in range(50, 54)], packed)
    down = QLoraStack(downs, [pair(INNER, WIDTH)], dropout)
    return QLoraExperts(gate_up, down, silu, torch.float32)


def routing() -> tuple[torch.Tensor, torch.Tensor]:
    """Two of the first three experts for each token: the last has no rows."""
    generator = torch.Generator().manual_seed(7)
    index = torch.stack([torch.randperm(3, generator=generator)[:2] for _ in range(TOKENS)])
    return index, torch.rand(TOKENS, 2, generator=generator)


def results(module: torch.nn.Module, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Output, and the gradients of float inputs and parameters for one fixed outer gradient."""
    leaves = [x.requires_grad_() for x in inputs if x.is_floating_point()]
    leaves += list(module.parameters())
    out = module(*inputs)
    return [out.detach(), *torch.autograd.grad(out, leaves, numbers(*out.shape, seed=9))]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).detach().norm()) <= 2e-6 * float(b.detach().norm())


@pytest.mark.parametrize("packed", [True, False])
def test_a_fused_expert_block_has_the_plain_ones_output_and_gradients(packed: bool) -> None:
    module, (index, shares) = experts(packed), routing()
    with use_path("plain"):
        expected = results(module, numbers(TOKENS, WIDTH), index, shares)
    with use_path("fused"):
        found = results(module, numbers(TOKENS, WIDTH), index, shares)
    assert_close(found, expected)
    assert not found[3][3].any()  # the last expert had no rows


def test_a_fused_map_has_the_plain_ones_output_and_gradients() -> None:
    frozen = FrozenStack([numbers(INNER, WIDTH)], quantize_body=True)
    module = QLoraLinear(QLoraStack(frozen, [pair(WIDTH, INNER, 1)], 0.0), torch.float32)
    with use_path("plain"):
        expected = results(module, numbers(2, 5, WIDTH))
    with use_path("fused"):
        assert_close(results(module, numbers(2, 5, WIDTH)), expected)


def test_a_cpu_takes_the_plain_path_unless_told() -> None:
    stacks, x = [experts().gate_up], numbers(3, WIDTH)
    assert not takes_fast_path(x, stacks)
    with use_path("fused"):
        assert takes_fast_path(x, stacks)
    assert not takes_fast_path(x, stacks)


@pytest.mark.parametrize("change", ["role", "scale", "rank", "dropout"])
def test_adapters_that_are_not_all_alike_take_the_plain_path(change: str) -> None:
    module = experts()
    gate = module.gate_up.adapters[0]
    if change == "role":
        module.gate_up = QLoraStack(module.gate_up.frozen, [gate, None], 0.0)
    elif change == "scale":
        gate.scale = 3.0
    elif change == "rank":
        gate.A.data = gate.A.data[:, :4]
    else:
        module.down.dropout = 0.5
    with use_path("fused"):
        assert not takes_fast_path(numbers(3, WIDTH), [module.gate_up, module.down])


def test_another_activation_takes_the_plain_path() -> None:
    other, (index, shares) = experts(), routing()
    plain = QLoraExperts(other.gate_up, other.down, torch.relu, torch.float32)
    with use_path("fused"):
        found = results(plain, numbers(TOKENS, WIDTH), index, shares)
    with use_path("plain"):
        assert all(map(torch.equal, found, results(plain, numbers(TOKENS, WIDTH), index, shares)))


def test_a_mask_drops_its_share_and_scales_what_it_keeps() -> None:
    kept = MASK.kept(400, 300, torch.device("cpu"))
    assert abs(float(kept.float().mean()) - 0.75) < 4 * math.sqrt(0.25 * 0.75 / kept.numel())
    dropped = MASK.apply(torch.ones(400, 300))
    assert sorted(set(dropped.flatten().tolist())) == [0.0, pytest.approx(4 / 3)]
    assert not torch.equal(kept, Dropout(0.25, 4_712).kept(400, 300, torch.device("cpu")))
    # Rows and columns are no better guess than chance: neighbours agree as independent ones do.
    alike = (kept[1:] == kept[:-1]).float().mean()
    assert abs(float(alike) - (0.75**2 + 0.25**2)) < 0.01


def test_dropout_of_a_map_is_that_of_its_mask() -> None:
    frozen, made = FrozenStack([numbers(INNER, WIDTH)], False), pair(WIDTH, INNER, 1)
    x = numbers(30, WIDTH).requires_grad_()
    a, b = made.A[0], made.B[0]
    out = adapted_map(x, frozen, a, b, 2.0, MASK)
    plain = x @ numbers(INNER, WIDTH).t() + 2.0 * MASK.apply(x) @ a.t() @ b.t()
    outer = numbers(30, INNER, seed=5)
    leaves = [x, made.A, made.B]
    found = [out, *torch.autograd.grad(out, leaves, outer)]
    assert_close(found, [plain, *torch.autograd.grad(plain, leaves, outer)])


def test_gradients_of_a_dropped_expert_block_are_its_slopes() -> None:
    module, (index, shares) = experts(packed=False), routing()
    frozen, routes = (module.gate_up.frozen, module.down.frozen), Routing(index, EXPERTS)
    leaves = [numbers(TOKENS, WIDTH), shares, *(p.detach() for p in module.parameters())]
    leaves = [leaf.double() for leaf in leaves]

    def value(x: torch.Tensor, weights: torch.Tensor, *masters: torch.Tensor) -> torch.Tensor:
        out = expert_block(x, weights, routes, frozen, Adapters(*masters), 2.0, MASK)
        return (out * numbers(TOKENS, WIDTH, seed=11)).sum()

    for number, leaf in enumerate(leaves):
        ways = [torch.zeros_like(leaf) for leaf in leaves]
        ways[number] = numbers(*leaf.shape, seed=13).double()
        wanted = [leaf.clone().requires_grad_() for leaf in leaves]
        slope = (torch.autograd.grad(value(*wanted), wanted)[number] * ways[number]).sum()
        ends = [
            value(*(a + s * w for a, w in zip(leaves, ways, strict=True))) for s in (1e-3, -1e-3)
        ]
        # Steps compute in float32, so a slope over 2e-3 is right to some 1e-3.
        assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-3, rel=5e-3, abs=5e-3)


def test_a_fused_norm_is_transformers_norm() -> None:
    from transformers.models.mixtral.modeling_mixtral import MixtralRMSNorm

    norm = MixtralRMSNorm(WIDTH, eps=1e-5)
    norm.weight.data = numbers(WIDTH)
    x = numbers(9, WIDTH).requires_grad_()
    both = [norm(x), frozen_norm(x, norm.weight.detach(), 1e-5)]
    outer = numbers(9, WIDTH, seed=2)
    expected, found = ([y, torch.autograd.grad(y, x, outer)[0]] for y in both)
    assert_close(found, expected)


def test_rows_are_sorted_by_expert_and_found_again() -> None:
    index = torch.tensor([[2, 0], [0, 3], [2, 3]])
    routes = Routing(index, 4)
    assert routes.counts == [2, 0, 2, 2]
    assert routes.tokens_N.tolist() == [0, 1, 0, 2, 1, 2]
    assert routes.places_TK.tolist() == [[2, 0], [1, 4], [3, 5]]
    assert [group for group, _ in routes.groups] == [0, 2, 3]


def test_a_cpu_uses_plain_steps() -> None:
    assert steps_for(torch.zeros(1)) is steps


def test_a_wide_buffer_gets_the_matrix_and_keeps_the_rest() -> None:
    stack = FrozenStack([numbers(INNER, WIDTH, seed=n) for n in range(4)], True, parts=2)
    wide = torch.full((2 * INNER, WIDTH + 8), 7.0)
    stack.unpack_into(1, wide[:, :WIDTH])
    assert torch.equal(wide[:, :WIDTH], stack.matrices(torch.float32)(1))
    assert (wide[:, WIDTH:] == 7).all()
    assert quantize(numbers(INNER, WIDTH)).shape == stack.part_shape


def small(folder: Path, dropout: float, dtype: str = "float32") -> Built:
    lora = LoraSettings(rank=4, alpha=8.0, dropout=dropout)
    model = save_mixtral(folder)
    device = torch.device("cpu")
    built = build(model, lora, quantize="nf4", dtype=dtype, seed=3, device=device)
    for name, parameter in built.lora.items():
        if name.endswith(".B"):
            parameter.data = numbers(*parameter.shape, seed=len(name))
    built.model.train()
    return built


def gradients(built: Built) -> list[torch.Tensor]:
    torch.manual_seed(21)
    ids = torch.randint(300, (2, 16))
    hidden = built.model.model(input_ids=ids, use_cache=False).last_hidden_state
    loss = linear_cross_entropy(hidden.flatten(0, 1), built.model.lm_head.weight, ids.flatten())
    return [loss.detach(), *torch.autograd.grad(loss, [*built.lora.values()])]


@pytest.mark.parametrize("path", ["plain", "fused"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_recomputed_layers_give_the_same_bits(tmp_path: Path, path: Any, dtype: str) -> None:
    with use_path(path):
        kept, again = (small(tmp_path, dropout=0.2, dtype=dtype) for _ in range(2))
        recompute_layers(again.model.model.layers)
        assert all(map(torch.equal, gradients(kept), gradients(again)))
    assert not is_second_run()


def test_the_second_run_of_a_layer_leaves_expert_products_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counting(*arguments: Any) -> None:
        calls.append(is_second_run())
        real(*arguments)

    real = steps.glu
    monkeypatch.setattr(steps, "glu", counting)
    built = small(tmp_path, dropout=0.0)
    recompute_layers(built.model.model.layers)
    with use_path("fused"):
        gradients(built)
    assert calls
    assert not any(calls)


def test_a_whole_model_is_the_same_on_both_paths(tmp_path: Path) -> None:
    built = small(tmp_path, dropout=0.0)
    with use_path("plain"):
        expected = gradients(built)
    with use_path("fused"):
        found = gradients(built)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm()) <= 1e-5 * float(b.norm())
