"""A small base model, one grafted on it, and a byte-level one, each with its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from byte_tokenizers import trained_bytes
from extended_tokenizers import extended
from pico import save_llama
from safetensors.torch import load_file, save_file
from small_tokenizers import FIRST, build

from lingraft.fast import write_tokenizer
from lingraft.pieces import SentencePieces

__all__ = ["CHINESE_DOCS", "base_folder", "byte_folder", "grafted_folder", "spoil", "write_docs"]

CHINESE_DOCS = ["嬗变中文嬗变" * 4, "中文 abc 嬗", "abc ab a 中文变嬗" * 3, "变", "ab abc " * 9]


def base_folder(folder: Path, **sizes: Any) -> Path:
    """A random Llama with the small SentencePiece model, which puts BOS before a text."""
    return _sentencepiece(folder, build(), **sizes)


def grafted_folder(folder: Path, **sizes: Any) -> Path:
    """The same sizes with four pieces more."""
    return _sentencepiece(folder, extended(), **sizes)


def byte_folder(folder: Path, **sizes: Any) -> Path:
    """A random Llama with a byte-level tokenizer, which puts no BOS and names EOS only."""
    content = json.loads(trained_bytes())
    size = len(content["model"]["vocab"])
    content["added_tokens"] = [
        {
            "id": size, "content": "<|end|>", "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
    ]  # fmt: skip
    save_llama(folder, **{"vocab_size": size + 1, "eos_token_id": size, **sizes})
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def spoil(folder: Path, name: str = "model.norm.weight") -> Path:
    """Put a NaN into a tensor."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def write_docs(path: Path, docs: list[str]) -> Path:
    """Write documents as JSON lines."""
    rows = [json.dumps({"text": doc}, ensure_ascii=False) for doc in docs]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def _sentencepiece(folder: Path, proto: bytes, **sizes: Any) -> Path:
    save_llama(folder, **{"vocab_size": len(SentencePieces(proto).pieces), **sizes})
    write_tokenizer(proto, folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if "lm_head.weight" in tensors:  # what is drawn should be letters rather than parts of them
        tensors["lm_head.weight"][FIRST:] *= 20
        save_file(tensors, path, metadata={"format": "pt"})
    return folder
