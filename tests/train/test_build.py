from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import SIZES, save_llama, save_mixtral
from transformers import Qwen2ForCausalLM, Qwen3ForCausalLM

from lingraft.errors import InputError
from lingraft.models import ModelFolder, load_causal_lm
from lingraft.nf4 import round_trip
from lingraft.train.build import Built, build
from lingraft.train.settings import LoraSettings
from lingraft.train.storage import bytes_per_parameter

IDS = torch.arange(24).view(2, 12) * 11
LORA = LoraSettings(rank=4, alpha=8.0, dropout=0.0)
DENSE = LoraSettings(rank=4, targets=["q_proj", "v_proj", "gate_proj", "down_proj"])


def make(folder: ModelFolder, lora: LoraSettings = LORA, **changes: Any) -> Built:
    options = {"quantize": "none", "dtype": "float32", "seed": 5, "device": torch.device("cpu")}
    return build(folder, lora, **{**options, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return save_mixtral(tmp_path_factory.mktemp("model"))


def edit_config(folder: ModelFolder, **changes: Any) -> ModelFolder:
    path = folder.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return ModelFolder(folder.path)


def test_before_training_the_model_says_what_transformers_says(folder: ModelFolder) -> None:
    expected = load_causal_lm(folder.path)(input_ids=IDS).logits
    found = make(folder).model.eval()(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_dense_llama_is_built_too(tmp_path: Path) -> None:
    llama = save_llama(tmp_path)
    built = make(llama, DENSE)
    expected = load_causal_lm(tmp_path)(input_ids=IDS).logits
    torch.testing.assert_close(built.model.eval()(input_ids=IDS).logits, expected)
    assert {role: count.found for role, count in built.roles.items()} == dict.fromkeys(
        DENSE.targets, 2
    )


def test_every_linear_map_of_the_body_is_packed_from_its_published_tensor(
    folder: ModelFolder,
) -> None:
    layer = make(folder, quantize="nf4").model.model.layers[1]
    fused = layer.mlp.experts.gate_up.frozen.matrices(torch.float32)(2)
    prefix = "model.layers.1.block_sparse_moe.experts.2"
    parts = [round_trip(folder.tensor(f"{prefix}.{role}.weight")) for role in ("w1", "w3")]
    assert torch.equal(fused, torch.cat(parts))
    query = layer.self_attn.q_proj.stack.frozen.matrices(torch.float32)(0)
    name = "model.layers.1.self_attn.q_proj.weight"
    assert torch.equal(query, round_trip(folder.tensor(name)))


def test_the_packed_body_takes_little_more_than_four_bits_a_parameter(folder: ModelFolder) -> None:
    # Of each layer: q and o, 1,024 numbers in 512 + 16 + 4 + 4 bytes; k and v, 512 in 272;
    # 12 matrices of the experts, 2,048 numbers in 1,064 each.
    size_bytes = 2 * 536 + 2 * 272 + 12 * 1_064
    bits = make(folder, quantize="nf4").bits_per_frozen_parameter
    assert bits == 8 * size_bytes / (2 * 1_024 + 2 * 512 + 12 * 2_048)


@pytest.mark.parametrize(
    ("quantize", "dtype", "rest"), [("nf4", "bfloat16", 2.0), ("none", "float32", 4.0)]
)
def test_every_class_of_parameters_tells_what_it_takes(
    folder: ModelFolder, quantize: str, dtype: str, rest: float
) -> None:
    # As above: 512 + 16 + 4 + 4 bytes for 1,024 numbers, 272 for 512, 1,064 for 2,048.
    packed = quantize == "nf4"
    assert bytes_per_parameter(make(folder, quantize=quantize, dtype=dtype)) == {
        "attention": (2 * 536 + 2 * 272) / 3_072 if packed else rest,
        "experts": 1_064 / 2_048 if packed else rest,
        "adapters": 4.0,
        "embed_tokens and lm_head": 4.0,
        "routers, norms and biases": rest,
    }


def test_a_dense_models_maps_are_a_class_too(tmp_path: Path) -> None:
    built = make(save_llama(tmp_path, tie_word_embeddings=True), DENSE, rows="none")
    found = bytes_per_parameter(built)
    assert list(found)[:2] == ["attention", "dense maps"]
    assert found["embed_tokens and lm_head"] == 4.0  # frozen ones too


def test_what_is_trained_is_the_adapters_and_both_embeddings_in_float32(
    folder: ModelFolder,
) -> None:
    built = make(folder, quantize="nf4", dtype="bfloat16")
    trained = {id(p) for p in built.model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in [*built.lora.values(), *built.embed.values()]}
    assert {p.dtype for p in [*built.lora.values(), *built.embed.values()]} == {torch.float32}
    # A layer: rank 4 x (q 64 + k 48 + v 48 + o 64 + 4 experts x 3 x 96).
    assert sum(p.numel() for p in built.lora.values()) == 2 * 4 * (224 + 1152)
    # A layer: attention 3,072, experts 4 x 3 x 2,048, router 128, norms 64; a last norm of 32.
    assert built.frozen_parameters == 2 * (3_072 + 24_576 + 128 + 64) + 32


def test_roles_are_counted_against_the_config(folder: ModelFolder) -> None:
    roles = make(folder).roles
    assert roles["q_proj"] == (2, 2)
    assert roles["w3"] == (8, 8)


def test_the_adapters_start_depends_on_the_seed_alone(folder: ModelFolder) -> None:
    first, again, other = (make(folder, seed=seed).lora for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "model.layers.0.block_sparse_moe.experts.{}.w1.A"
    assert not torch.equal(first[name], other[name])


def test_only_asked_roles_carry_adapters(folder: ModelFolder) -> None:
    built = make(folder, LoraSettings(rank=4, targets=["w2"]))
    assert list(built.pairs) == [
        f"model.layers.{layer}.block_sparse_moe.experts.{{}}.w2" for layer in (0, 1)
    ]


def test_bfloat16_arithmetic_stays_near_float32(folder: ModelFolder) -> None:
    exact = make(folder).model.eval()(input_ids=IDS).logits
    rounded = make(folder, dtype="bfloat16").model.eval()(input_ids=IDS).logits
    assert rounded.dtype == torch.float32
    # A token whose experts are nearly tied may choose others: the middle of all is compared.
    assert ((rounded - exact).abs().median() / exact.std()).item() < 0.02


def test_recomputing_activations_gives_the_same_gradients(folder: ModelFolder) -> None:
    grads = []
    for checkpointing in (False, True):
        built = make(folder, LoraSettings(rank=4, dropout=0.2), quantize="nf4")
        if checkpointing:
            built.recompute_activations()
        torch.manual_seed(1)
        built.model.train()(input_ids=IDS, labels=IDS).loss.backward()
        grads.append([p.grad for p in [*built.lora.values(), *built.embed.values()]])
    for plain, recomputed in zip(*grads, strict=True):
        assert plain is not None
        assert torch.equal(plain, recomputed)


def test_a_role_that_the_model_lacks_is_refused_with_those_it_has(folder: ModelFolder) -> None:
    with pytest.raises(InputError, match=r"'gate_proj' matches 0 (.|\n)*k_proj, .*w1, w2, w3"):
        make(folder, DENSE)


def test_a_role_that_misses_a_layer_is_refused(folder: ModelFolder) -> None:
    partial = ModelFolder(folder.path)
    del partial.weight_map["model.layers.1.block_sparse_moe.experts.0.w2.weight"]
    with pytest.raises(InputError, match="'w2' matches 7 linear maps; expected 8"):
        make(partial)


def test_a_tensor_without_a_place_is_refused(folder: ModelFolder) -> None:
    extra = ModelFolder(folder.path)
    assert extra.all_entries()  # headers are read before the map is changed
    extra.weight_map["model.layers.0.self_attn.q_proj.bias"] = "model.safetensors"
    with pytest.raises(InputError, match=r"1 tensors have no place .* 'model.*q_proj.bias'"):
        make(extra)


def test_a_tied_model_keeps_one_matrix_and_says_the_same(tmp_path: Path) -> None:
    tied = save_llama(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in tied.weight_map
    built = make(tied, DENSE)
    assert list(built.embed) == ["model.embed_tokens.weight"]
    assert built.model.lm_head.weight is built.model.model.embed_tokens.weight
    expected = load_causal_lm(tmp_path)(input_ids=IDS).logits
    torch.testing.assert_close(built.model.eval()(input_ids=IDS).logits, expected)


def test_a_tied_matrix_gets_the_gradients_of_both_its_uses(tmp_path: Path) -> None:
    built = make(save_llama(tmp_path, tie_word_embeddings=True), DENSE)
    plain = load_causal_lm(tmp_path).train()
    for model in (built.model.train(), plain):
        model(input_ids=IDS, labels=IDS).loss.backward()
    found = built.embed["model.embed_tokens.weight"].grad
    torch.testing.assert_close(found, plain.model.embed_tokens.weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_biases_and_norms_of_heads_are_kept(tmp_path: Path, tied: bool) -> None:
    for name, model_class in (("qwen2", Qwen2ForCausalLM), ("qwen3", Qwen3ForCausalLM)):
        torch.manual_seed(3)
        config = model_class.config_class(**SIZES, tie_word_embeddings=tied, head_dim=8)
        model = model_class(config)
        for parameter in model.parameters():  # biases begin at 0, where nobody would miss them
            parameter.data += torch.randn_like(parameter) * 0.1
        model.save_pretrained(tmp_path / name)
        built = make(ModelFolder(tmp_path / name), DENSE)
        expected = load_causal_lm(tmp_path / name)(input_ids=IDS).logits
        torch.testing.assert_close(
            built.model.eval()(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-4
        )
    biases = [n for n, _ in built.model.named_parameters() if n.endswith("bias")]
    assert not biases  # qwen3 has none; qwen2's three a layer were compared above


def test_only_added_rows_are_trained(folder: ModelFolder) -> None:
    built = make(folder, rows="added", num_base=290)
    assert not built.embed
    assert {name: p.shape for name, p in built.added.items()} == {
        "model.embed_tokens.weight.added": (10, 32),
        "lm_head.weight.added": (10, 32),
    }
    before = {name: rows.clone() for name, rows in built.rows.items()}
    ids = torch.tensor([[3, 295, 7, 299, 8]])
    optimizer = torch.optim.AdamW(built.added.values(), lr=0.1, weight_decay=0.1)
    built.model.train()(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    for name, rows in built.rows.items():
        assert torch.equal(rows[:290], before[name][:290])
        assert not torch.equal(rows[290:], before[name][290:])


def test_no_rows_are_trained(folder: ModelFolder) -> None:
    built = make(folder, rows="none")
    assert (built.embed, built.added, built.rows) == ({}, {}, {})


@pytest.mark.parametrize("num_base", [300, 301, None])
def test_added_rows_that_are_not_there_are_refused(
    folder: ModelFolder, num_base: int | None
) -> None:
    with pytest.raises(InputError, match="has 300 rows, and the base 30"):
        make(folder, rows="added", num_base=num_base)


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    folder = edit_config(save_llama(tmp_path), model_type="gpt2")
    with pytest.raises(InputError, match=r"'gpt2' cannot be trained.*mixtral, mistral, llama"):
        make(folder)
