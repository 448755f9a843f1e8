"""A model folder's stand-in: random weights of a config's shapes, made on the device."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from lingraft.models import TensorEntry

MIXTRAL: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "vocab_size": 57_000,
    "hidden_size": 4_096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32_768,
    "rope_theta": 1_000_000.0,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
"""Mixtral-8x7B with the reference's 57,000 pieces."""


class RandomModel:
    """What `build` asks of a model folder; a tensor is made anew each time, always the same."""

    def __init__(self, folder: Path, device: torch.device, **sizes: Any) -> None:
        """Write the config to `folder`, for transformers to read."""
        self.path, self._device = folder, device
        self.config = {**MIXTRAL, **sizes}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        self._entries = {name: TensorEntry(name, "BF16", shape) for name, shape in self._shapes()}
        self.weight_map = dict.fromkeys(self._entries, "model.safetensors")
        self._numbers = {name: number for number, name in enumerate(self._entries)}

    def entry(self, name: str) -> TensorEntry:
        """Describe one tensor."""
        return self._entries[name]

    def all_entries(self) -> list[TensorEntry]:
        """Every tensor."""
        return list(self._entries.values())

    def tensor(self, name: str) -> torch.Tensor:
        """Make one tensor: ones for a norm, normal numbers of 0.02 else."""
        shape = self._entries[name].shape
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16, device=self._device)
        generator = torch.Generator(self._device).manual_seed(self._numbers[name])
        weight = torch.empty(shape, dtype=torch.bfloat16, device=self._device)
        return weight.normal_(0, 0.02, generator=generator)

    def _shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        c = self.config
        width, inner, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
        narrow = width * c["num_key_value_heads"] // c["num_attention_heads"]
        shapes: list[tuple[str, tuple[int, ...]]] = [
            ("model.embed_tokens.weight", (vocab, width)),
            ("lm_head.weight", (vocab, width)),
            ("model.norm.weight", (width,)),
        ]
        for layer in range(c["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            block = f"{prefix}.block_sparse_moe"
            shapes += [(f"{prefix}.self_attn.{r}_proj.weight", (width, width)) for r in "qo"]
            shapes += [(f"{prefix}.self_attn.{r}_proj.weight", (narrow, width)) for r in "kv"]
            shapes += [(f"{prefix}.input_layernorm.weight", (width,))]
            shapes += [(f"{prefix}.post_attention_layernorm.weight", (width,))]
            shapes += [(f"{block}.gate.weight", (c["num_local_experts"], width))]
            for expert in range(c["num_local_experts"]):
                own = f"{block}.experts.{expert}"
                shapes += [
                    (f"{own}.w1.weight", (inner, width)),
                    (f"{own}.w3.weight", (inner, width)),
                ]
                shapes += [(f"{own}.w2.weight", (width, inner))]
        return shapes

    @property
    def num_items(self) -> int:
        """Parameters of the whole model."""
        return sum(math.prod(entry.shape) for entry in self._entries.values())
