"""Small base models with a tokenizer, and the extended tokenizers that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from extended_tokenizers import (
    ADDED_RULES,
    BASE_RULES,
    SIZE,
    extended,
    write_bytes_file,
    write_folder,
)
from pico import save_llama, save_mixtral
from safetensors.torch import load_file, save_file
from small_tokenizers import build
from transformers import LlamaForCausalLM

from lingraft.models import ModelFolder

__all__ = [
    "BYTES_SIZE",
    "SIZE",
    "change_tensors",
    "extended_bytes_folder",
    "extended_folder",
    "set_config",
    "tied_llama",
    "untied_bytes_llama",
    "untied_llama",
    "untied_mixtral",
]

BYTES_SIZE = 256 + len(BASE_RULES)


def untied_mixtral(folder: Path, **sizes: Any) -> ModelFolder:
    """A Mixtral in shards of 60 KB, with the small tokenizer."""
    model = save_mixtral(folder, **{"vocab_size": SIZE, **sizes})
    write_folder(folder, build())
    return model


def tied_llama(folder: Path, **sizes: Any) -> ModelFolder:
    """A Llama whose head is its embedding, in one file."""
    model = save_llama(folder, **{"vocab_size": SIZE, "tie_word_embeddings": True, **sizes})
    write_folder(folder, build())
    return model


def untied_llama(folder: Path, **sizes: Any) -> ModelFolder:
    """A Llama with a head of its own, in one file."""
    model = save_llama(folder, **{"vocab_size": SIZE, "tie_word_embeddings": False, **sizes})
    write_folder(folder, build())
    return model


def untied_bytes_llama(folder: Path) -> ModelFolder:
    """A Llama with a byte-level tokenizer."""
    sizes: dict[str, Any] = {"vocab_size": BYTES_SIZE, "tie_word_embeddings": False}
    model = save_llama(folder, **sizes)
    write_bytes_file(folder, BASE_RULES)
    return model


def extended_folder(folder: Path) -> Path:
    """The small tokenizer with 嬗, 变, 嬗变 and 变嬗 behind it."""
    return write_folder(folder, extended())


def extended_bytes_folder(folder: Path) -> Path:
    """The byte-level tokenizer with 中, a part of 文, 文 and 中文 behind it."""
    write_bytes_file(folder, [*BASE_RULES, *ADDED_RULES])
    return folder


def set_config(folder: Path, **values: Any) -> None:
    """Change entries of config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **values}), encoding="utf-8")


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Put tensors into a model in one file, or take them out; `__` in a name stands for a dot."""
    path = folder / "model.safetensors"
    tensors = dict(load_file(path))
    for name, value in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if value is not None:
            tensors[name.replace("__", ".")] = value.contiguous()
    save_file(tensors, path, {"format": "pt"})


def as_bin(folder: Path) -> None:
    """Store a model's weights as `pytorch_model.bin`."""
    model = LlamaForCausalLM.from_pretrained(folder)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
