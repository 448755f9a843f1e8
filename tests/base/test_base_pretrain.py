"""Config and names of the small Mixtral."""

import pytest
import torch
from token_files import token_file

from lingraft.base.pretrain import build_model, model_config, plan_of, published_tensors, step_of
from lingraft.base.settings import ModelShape, PretrainSettings
from lingraft.mixture import Mixture
from lingraft.special import Bounds

BOUNDS = Bounds(1, 2)
SHAPE = ModelShape(
    vocab_size=272,
    hidden_size=8,
    intermediate_size=6,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    num_local_experts=4,
    max_position_embeddings=32,
    rope_theta=5e5,
)
CONFIG = model_config(SHAPE, BOUNDS)


def test_the_config_means_to_transformers_what_the_shape_says() -> None:
    config = build_model(CONFIG, 0).config
    assert config.rope_parameters["rope_theta"] == 5e5
    assert (config.num_local_experts, config.num_experts_per_tok) == (4, 2)
    assert (config.bos_token_id, config.eos_token_id) == BOUNDS
    assert config.head_dim == 4


def test_a_seed_decides_the_weights() -> None:
    one, same, other = (build_model(CONFIG, seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_experts_are_taken_apart_under_published_names() -> None:
    model = build_model(CONFIG, 0)
    tensors = published_tensors(model)
    experts = model.model.layers[1].mlp.experts
    name = "model.layers.1.block_sparse_moe"
    assert torch.equal(tensors[f"{name}.experts.3.w1.weight"], experts.gate_up_proj[3, :6])
    assert torch.equal(tensors[f"{name}.experts.3.w3.weight"], experts.gate_up_proj[3, 6:])
    assert torch.equal(tensors[f"{name}.experts.3.w2.weight"], experts.down_proj[3])
    assert torch.equal(tensors[f"{name}.gate.weight"], model.model.layers[1].mlp.gate.weight)
    assert sum(t.numel() for t in tensors.values()) == sum(p.numel() for p in model.parameters())
    assert not any("mlp" in key or "proj.experts" in key for key in tensors)


def test_the_plan_counts_tokens_of_a_step() -> None:
    plan = plan_of(PretrainSettings(sets=["en"], steps=9, batch_size=4, seq_len=32))
    assert (plan.steps, plan.tokens_per_step) == (9, 128)


def test_a_step_reads_isolated_documents_as_if_each_stood_alone() -> None:
    docs = [[1, 9, 8, 7, 2], [1, 6, 2], [1, 5, 4, 9, 3, 2]]
    wide = SHAPE.model_copy(update={"hidden_size": 16, "intermediate_size": 16})  # for the kernel
    model = build_model({**model_config(wide, BOUNDS), "initializer_range": 0.3}, 0)
    nats = 0.0
    for doc in docs:
        loss = model(torch.tensor([doc]), labels=torch.tensor([doc]), use_cache=False).loss
        nats += loss.item() * (len(doc) - 1)
    files = {"en": token_file(*docs)}
    losses = {}
    for documents in ("isolated", "joined"):
        mixture = Mixture(files, ["1:en"], 16, seed=0, documents=documents)
        losses[documents] = step_of(model, mixture, 1)(0)
    assert losses["isolated"] == pytest.approx(nats / 11, rel=1e-5)
    assert losses["joined"] != pytest.approx(nats / 11, rel=1e-5)
