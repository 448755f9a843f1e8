"""A Mixtral of a few thousand parameters, in a folder, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from lingraft.models import ModelFolder

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def save_mixtral(folder: Path, dtype: torch.dtype = torch.float32, **sizes: Any) -> ModelFolder:
    """Save a random Mixtral with four experts, under the published names, in shards."""
    torch.manual_seed(3)
    config = MixtralConfig(**{**SIZES, "num_local_experts": 4, "initializer_range": 0.1, **sizes})
    model = MixtralForCausalLM(config).to(dtype)
    model.save_pretrained(folder, max_shard_size="60KB")
    return ModelFolder(folder)


def save_llama(folder: Path, **sizes: Any) -> ModelFolder:
    """Save a random Llama."""
    torch.manual_seed(3)
    config = LlamaConfig(**{**SIZES, "initializer_range": 0.1, **sizes})
    LlamaForCausalLM(config).save_pretrained(folder)
    return ModelFolder(folder)
