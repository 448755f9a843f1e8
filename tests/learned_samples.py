"""Tiny models, pieces and texts for the learned methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from token_files import write_folder
from transformers import LlamaConfig, LlamaForCausalLM

from lingraft.embed.added import Added

BOS = 1
SPELLINGS = [(2, 3), (2, 3, 4), (5, 2), (5, 5)]
"""Of base ids; all that is on the way to a longer piece is a piece, so the longest always wins."""
NUM_BASE = 6
AB, ABC, CA, CC = range(NUM_BASE, NUM_BASE + len(SPELLINGS))
DOCS = [[BOS, AB, 0, ABC, 4, CA, 3, CC, 0, AB, 5], [BOS, CC, CA, ABC, AB, 4, 0, 3, ABC, 5, 0]]


def added(spellings: Sequence[tuple[int, ...]] = SPELLINGS, num_base: int = NUM_BASE) -> Added:
    """Pieces about which only their spelling is known."""
    letters = [chr(ord("a") + id).encode() for id in range(num_base)]
    pieces = [b"".join(letters[id] for id in ids) for ids in spellings]
    return Added(
        num_base=num_base,
        texts=[piece.decode() for piece in pieces],
        pieces=pieces,
        kinds=["spelled" if len(ids) > 1 else "special" for ids in spellings],
        spellings=list(spellings),
        text_spellings=list(spellings),
        parents=[None] * len(spellings),
        base_pieces=letters,
    )


def tiny_llama(**sizes: Any) -> Any:
    """A frozen random Llama whose states differ well between inputs."""
    torch.manual_seed(5)
    shape = {
        "vocab_size": NUM_BASE,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "initializer_range": 0.5,
        "max_position_embeddings": 64,
        **sizes,
    }
    model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def save_llama(folder: Path, **sizes: Any) -> Path:
    """The same in a folder."""
    tiny_llama(**sizes).save_pretrained(folder)
    return folder


def token_folder(folder: Path, times: int = 30, **options: Any) -> Path:
    """Token files of DOCS, many times over."""
    size = NUM_BASE + len(SPELLINGS)
    files = {"zh-train": DOCS * times, "zh-valid": DOCS}
    return write_folder(folder, files, vocab_size=size, **options)
