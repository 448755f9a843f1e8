"""A model folder from the hub or from disk, looked at before anything is built on it."""

from __future__ import annotations

from pathlib import Path

from ..bases import read_base
from ..errors import InputError
from ..matrices import check_rows, find_matrices
from ..models import ModelFolder
from ..special import find_eos

__all__ = ["FAST_FILES", "MODEL_FILES", "check_model", "files_beside"]

FAST_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""A fast tokenizer, and what tells its special tokens."""
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",  # not consolidated*.safetensors: the same weights once more
    "model.safetensors.index.json",
    "tokenizer.model",
    *FAST_FILES,
)
"""What a graft needs of a hub repository."""


def check_model(folder: Path, tokenizer: Path) -> ModelFolder:
    """Open a model folder and see that a language can be grafted onto it.

    Args:
        folder: The model.
        tokenizer: Its tokenizer.model or tokenizer.json.

    Raises:
        InputError: It is no causal language model in safetensors, its tokenizer cannot be
            extended, or the two do not belong together.
        UsageError: Nothing tells which piece ends a document.
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
            f"{tokenizer}: no such file; expected the model's tokenizer.model or tokenizer.json.",
            effect="Nothing would tell which piece each row of the model stands for.",
            way_out="Name the file in base.tokenizer, or choose a model that has one.",
        )
    base = read_base(str(tokenizer))
    if tokenizer.suffix == ".json":
        check_rows(model, find_matrices(model), base.size)
        find_eos(str(tokenizer), base)
        return model
    rows = model.config.get("vocab_size")
    if rows != base.size:
        raise InputError(
            f"{folder / 'config.json'}: vocab_size = {rows}, but {tokenizer} has {base.size} "
            "pieces.",
            effect="Ids of added pieces would meet rows of something else.",
            way_out="Give the tokenizer.model that the model was trained with.",
        )
    return model


def files_beside(tokenizer: Path) -> dict[str, Path]:
    """Give a fast tokenizer's files that are there: name in a model folder -> path.

    They are named like it: `x.tokenizer_config.json` stands beside `x.tokenizer.json`.
    """
    main = FAST_FILES[0]
    found = {main: tokenizer}
    if tokenizer.name.endswith(main):
        head = tokenizer.name.removesuffix(main)
        found |= {name: tokenizer.with_name(head + name) for name in FAST_FILES[1:]}
    return {name: path for name, path in found.items() if path.is_file()}
