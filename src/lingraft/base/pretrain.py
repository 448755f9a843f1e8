"""A small Mixtral from nothing: its config, its step, its tensors under published names.

transformers keeps the experts of a layer in two stacked matrices; published checkpoints hold
three matrices for each expert, and that is what every other program reads. So the stacks are
taken apart here, by name, and a test loads the result back.

Shapes: E experts, D model width, I width inside an expert.
Source of config and names: mistralai/Mixtral-8x7B-v0.1 as published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..losses import linear_cross_entropy
from ..mixture import Mixture
from ..special import Bounds
from ..training import Group, LoopPlan
from .settings import ModelShape, PretrainSettings

__all__ = ["build_model", "group_of", "model_config", "plan_of", "published_tensors", "step_of"]

_BETA2 = 0.95  # in a few hundred steps a longer memory is still all warm-up


def model_config(shape: ModelShape, bounds: Bounds) -> dict[str, Any]:
    """Give the content of `config.json`, in the keys of the published one."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": bounds.begin_id,
        "dtype": "float32",
        "eos_token_id": bounds.end_id,
        "head_dim": shape.head_dim or shape.hidden_size // shape.num_attention_heads,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "model_type": "mixtral",
        "num_attention_heads": shape.num_attention_heads,
        "num_experts_per_tok": shape.num_experts_per_tok,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "num_local_experts": shape.num_local_experts,
        "output_router_logits": False,
        "rms_norm_eps": 1e-05,
        "rope_theta": shape.rope_theta,
        "router_aux_loss_coef": 0.02,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }


def build_model(config: dict[str, Any], seed: int) -> Any:
    """Give a Mixtral with random weights that depend on `seed` alone, in training mode."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(seed)
    model = MixtralForCausalLM(MixtralConfig.from_dict(config))
    # One product for all experts where the machine has a kernel for it; never slower on a CPU.
    model.set_experts_implementation("grouped_mm")
    return model.train()


def group_of(model: Any, lr: float) -> Group:
    """Everything is trained at one rate; a run this short needs no weight decay."""
    return Group("all", dict(model.named_parameters()), lr, weight_decay=0.0)


def plan_of(settings: PretrainSettings) -> LoopPlan:
    """Give the loop's plan."""
    return LoopPlan(
        steps=settings.steps,
        warmup_frac=settings.warmup_frac,
        beta2=_BETA2,
        checkpoint_every=settings.checkpoint_every,
        tokens_per_step=settings.batch_size * settings.seq_len,
        label="pretrain",
    )


def step_of(model: Any, mixture: Mixture, batch_size: int) -> Callable[[int], float]:
    """Give the function that runs forward and backward of one step and returns its loss."""

    def backward(step: int) -> float:
        inputs_BL, labels_BL, positions_BL = map(torch.from_numpy, mixture.batch(step, batch_size))
        # Without a cache and a mask, positions that begin anew keep documents apart, see `rows`.
        hidden = model.model(
            inputs_BL, position_ids=positions_BL, use_cache=False
        ).last_hidden_state
        labels_N = labels_BL.flatten()
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, labels_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    return backward


def published_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Give a Mixtral's tensors by their published names, in the order of the layers."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        block, _, part = name.partition(".mlp.")
        prefix = f"{block}.block_sparse_moe"
        match part:
            case "":
                tensors[name] = tensor
            case "experts.gate_up_proj":
                for expert, both in enumerate(tensor):  # (2I, D): w1 over w3
                    w1, w3 = both.chunk(2)
                    tensors[f"{prefix}.experts.{expert}.w1.weight"] = w1
                    tensors[f"{prefix}.experts.{expert}.w3.weight"] = w3
            case "experts.down_proj":
                for expert, w2 in enumerate(tensor):
                    tensors[f"{prefix}.experts.{expert}.w2.weight"] = w2
            case _:
                tensors[f"{prefix}.{part}"] = tensor
    return tensors
