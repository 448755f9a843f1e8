from __future__ import annotations

from typing import Any

import pytest
import torch

from lingraft.errors import InputError
from lingraft.merge.fold import body_weight, fold, is_linear, map_adapter
from lingraft.nf4 import round_trip

CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 10.0, "bias": "none"}
QUERY = "model.layers.0.self_attn.q_proj"
EXPERT = "model.layers.0.block_sparse_moe.experts.3.w1"
PARAMETERS = [f"{QUERY}.weight", f"{EXPERT}.weight", "lm_head.weight", "model.norm.weight"]
PREFIX = "base_model.model."


def pair(module: str) -> list[str]:
    return [f"{PREFIX}{module}.lora_{side}.weight" for side in "AB"]


def test_a_fold_is_w_plus_scale_b_a() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    a, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    # B A = [[1, -1], [0, 0], [2, -2]], three times.
    assert fold(weight, a, b, 3.0).tolist() == [[4, -1], [3, 4], [11, 0]]


def test_a_fold_of_rounded_weights_is_summed_in_float32() -> None:
    weight = torch.tensor([[256.0]], dtype=torch.bfloat16)
    assert fold(weight, torch.tensor([[1.0]]), torch.tensor([[1.0]]), 0.5).tolist() == [[256.5]]


@pytest.mark.parametrize(("a", "b"), [((2, 3), (4, 2)), ((1, 2), (3, 1)), ((2, 3), (3, 1))])
def test_shapes_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"do not fit a weight of shape \(3, 3\)"):
        fold(torch.zeros(3, 3), torch.zeros(a), torch.zeros(b), 1.0)


def test_every_adapter_tensor_finds_its_published_parameter() -> None:
    names = [*pair(QUERY), *pair(EXPERT), f"{PREFIX}lm_head.weight"]
    plan = map_adapter(CONFIG, names, PARAMETERS)
    assert plan.pairs == {
        f"{QUERY}.weight": tuple(pair(QUERY)),
        f"{EXPERT}.weight": tuple(pair(EXPERT)),
    }
    assert plan.whole == {"lm_head.weight": f"{PREFIX}lm_head.weight"}
    assert plan.scale == 2.5


def test_a_tensor_without_a_place_is_refused() -> None:
    names = [*pair(QUERY), *pair("model.layers.9.self_attn.q_proj")]
    with pytest.raises(InputError, match=r"layers\.9.*no place in the model \(2 tensors"):
        map_adapter(CONFIG, names, PARAMETERS)


def test_half_a_pair_is_refused() -> None:
    with pytest.raises(InputError, match=r"half of 'model.*q_proj"):
        map_adapter(CONFIG, pair(QUERY)[:1], PARAMETERS)


@pytest.mark.parametrize(
    "changes",
    [{"peft_type": "LOHA"}, {"bias": "all"}, {"use_rslora": True}, {"rank_pattern": {"w1": 8}}],
)
def test_adapters_of_another_arithmetic_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected plain LoRA"):
        map_adapter({**CONFIG, **changes}, pair(QUERY), PARAMETERS)


def test_the_nf4_body_is_the_round_trip_of_linear_maps_alone() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(body_weight(f"{EXPERT}.weight", weight, "nf4"), round_trip(weight))
    assert body_weight(f"{EXPERT}.weight", weight, "original") is weight
    assert body_weight("lm_head.weight", weight, "nf4") is weight


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{QUERY}.weight", True),
        (f"{EXPERT}.weight", True),
        ("model.layers.0.mlp.down_proj.weight", True),
        ("model.layers.0.block_sparse_moe.gate.weight", False),
        ("model.layers.0.input_layernorm.weight", False),
        ("model.embed_tokens.weight", False),
    ],
)
def test_routers_norms_and_embeddings_are_no_linear_maps_of_the_body(
    name: str, expected: bool
) -> None:
    assert is_linear(name) is expected
