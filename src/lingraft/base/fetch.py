"""A model folder from the hub or from disk, looked at before anything is built on it."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..models import ModelFolder
from ..pieces import SentencePieces

__all__ = ["MODEL_FILES", "check_model"]

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",  # not consolidated*.safetensors: the same weights once more
    "model.safetensors.index.json",
    "tokenizer.model",
)
"""What a graft needs of a hub repository."""


def check_model(folder: Path, tokenizer: Path) -> ModelFolder:
    """Open a model folder and see that a language can be grafted onto it.

    Args:
        folder: The model.
        tokenizer: Its SentencePiece file.

    Raises:
        InputError: It is no causal language model in safetensors, its tokenizer is not a
            SentencePiece file, or the two do not belong together.
    """
    model = ModelFolder(folder)
    architectures = model.config.get("architectures") or []
    if not any(str(name).endswith("ForCausalLM") for name in architectures):
        raise InputError(
            f"{folder / 'config.json'}: architectures = {architectures}; "
            "expected one that ends in ForCausalLM.",
            way_out="Give a causal language model.",
        )
    if not tokenizer.is_file():
        raise InputError(
            f"{tokenizer}: no such file; expected the model's SentencePiece file.",
            effect="Only SentencePiece vocabularies can be extended.",
            way_out="Name the file in base.tokenizer, or choose a model that has one.",
        )
    rows, pieces = model.config.get("vocab_size"), len(SentencePieces.read(tokenizer).pieces)
    if rows != pieces:
        raise InputError(
            f"{folder / 'config.json'}: vocab_size = {rows}, but {tokenizer} has {pieces} pieces.",
            effect="Ids of added pieces would meet rows of something else.",
            way_out="Give the tokenizer.model that the model was trained with.",
        )
    return model
