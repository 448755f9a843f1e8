"""Adapters that PEFT itself makes and merges, on models made on the spot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pico import save_llama, save_mixtral

from lingraft.models import ModelFolder, load_causal_lm


def save_gpt2(folder: Path) -> ModelFolder:
    """Save a random GPT-2, whose linear maps are stored turned: inputs by outputs."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 300, "n_positions": 64}
    config = GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return ModelFolder(folder)


SAVERS: dict[str, Callable[..., ModelFolder]] = {
    "gpt2": save_gpt2,
    "llama": save_llama,
    "mixtral": save_mixtral,
}


PROMPTS = torch.arange(60).view(2, 30) * 5


class Made(NamedTuple):
    """Folders of a base and an adapter, and what PEFT makes of them."""

    base: Path
    adapter: Path
    tensors: dict[str, torch.Tensor]
    """Of PEFT's own merge, as transformers saves them."""
    logits: torch.Tensor
    """Of the base with the adapter beside it, on PROMPTS."""


def make_with_peft(
    folder: Path, architecture: str, options: dict[str, Any], rows: int = 0, **sizes: Any
) -> Made:
    """Save a base and a PEFT adapter of random numbers; `rows`: the vocabulary grows to that."""
    base, adapter = folder / "base", folder / "adapter"
    SAVERS[architecture](base, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

        loaded = load_causal_lm(base)
        if rows:
            loaded.resize_token_embeddings(rows, mean_resizing=False)
            loaded.save_pretrained(base)
        model = get_peft_model(loaded, LoraConfig(**{"r": 4, **options}))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator)
                    scale = 0.01 if "magnitude" in name else 0.1
                    parameter.add_(noise.to(parameter.dtype), alpha=scale)
        # PEFT saves the base's matrices along where it sees that the vocabulary grew.
        model.save_pretrained(adapter, save_embedding_layers=True if rows else "auto")
        with torch.no_grad():
            logits = model.eval()(PROMPTS).logits
        merged = model.merge_and_unload().eval()
        merged.save_pretrained(folder / "peft")
    saved = ModelFolder(folder / "peft")
    tensors = {entry.name: saved.tensor(entry.name) for entry in saved.all_entries()}
    return Made(base, adapter, tensors, logits)
