"""The tiny recipe on a tiny model whose tokenizer is a tokenizer.json on bytes."""

from __future__ import annotations

import json
from pathlib import Path

from byte_tokenizers import byte_level, without_bytes
from pico import save_llama

from recipes import write_tiny_recipe

__all__ = ["END_ID", "MISSING", "write_byte_recipe", "write_byte_tokenizer"]

MISSING = b"\xf1\xff"
END_ID = 256
"""Behind 254 bytes and what two merge rules make; the model has some rows more."""
_MERGES = [(b"t", b"h"), (b"th", b"e")]


def write_byte_recipe(folder: Path, *, tied: bool = True) -> Path:
    """Write a model, a recipe that grafts onto it, and its corpora; return the recipe's path."""
    model = folder / "model"
    model.mkdir()
    write_byte_tokenizer(model)
    save_llama(model, vocab_size=264, tie_word_embeddings=tied, max_position_embeddings=512)
    recipe = write_tiny_recipe(folder)
    text = recipe.read_text(encoding="utf-8")
    head, rest = text.split("[base]\n")
    _, rest = rest.split("[vocab]\n")
    text = f'{head}[base]\nmodel = "{model}"\n\n[vocab]\n{rest}'.replace("[0, 4]", "[0, 15]")
    recipe.write_text(text, encoding="utf-8")
    return recipe


def write_byte_tokenizer(folder: Path) -> None:
    """Write a tokenizer that lacks two bytes, adds no BOS, and ends documents with <end>."""
    spec = without_bytes(byte_level(_MERGES), MISSING)
    spec["model"]["vocab"] = {piece: id for id, piece in enumerate(spec["model"]["vocab"])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec["added_tokens"] = [{"id": END_ID, "content": "<end>", "special": True, **flags}]
    config = {"eos_token": "<end>", "tokenizer_class": "PreTrainedTokenizerFast"}
    for name, content in (("tokenizer.json", spec), ("tokenizer_config.json", config)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
