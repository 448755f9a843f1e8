from __future__ import annotations

import pytest
import torch

from lingraft.merge.fold import expert_columns, fold, is_linear, packed_items, with_magnitude
from lingraft.nf4 import quantize, round_trip

QUERY = "model.layers.0.self_attn.q_proj"
EXPERT = "model.layers.0.block_sparse_moe.experts.3.w1"


def test_a_fold_is_w_plus_scale_b_a() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    a, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    # B A = [[1, -1], [0, 0], [2, -2]], three times.
    assert fold(weight, b, a, 3.0).tolist() == [[4, -1], [3, 4], [11, 0]]


def test_a_fold_of_rounded_weights_is_summed_in_float32() -> None:
    weight = torch.tensor([[256.0]], dtype=torch.bfloat16)
    assert fold(weight, torch.tensor([[1.0]]), torch.tensor([[1.0]]), 0.5).tolist() == [[256.5]]


def test_dora_gives_each_row_the_length_that_was_trained() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert with_magnitude(rows, torch.tensor([10.0, 1.0])).tolist() == [[6, 8], [0, 1]]


def test_an_expert_has_every_e_th_column_of_a_fused_b() -> None:
    # 2 outputs, rank 2, 3 experts: columns are r0e0 r0e1 r0e2 r1e0 r1e1 r1e2.
    b = torch.arange(12.0).view(2, 6)
    assert expert_columns(b, 1, 3).tolist() == [[1, 4], [7, 10]]


@pytest.mark.parametrize(("first", "count"), [(0, 1), (63, 2), (16_384, 64), (20_000, 12_768)])
def test_a_part_of_a_packed_matrix_is_bit_equal_to_that_of_the_whole(
    first: int, count: int
) -> None:
    weight = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    part = packed_items(quantize(weight), first, count)
    assert torch.equal(part, round_trip(weight).flatten()[first : first + count])


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
