"""The EOS of a tokenizer: what its configuration says, else what its model file does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..bases import BaseTokenizer, SentencePieceBase, locate_tokenizer
from ..errors import InputError, UsageError

__all__ = ["Ending", "find_eos"]

_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
_FORMS = ("tokenizer.json", "tokenizer.model")


class Ending(NamedTuple):
    """What ends a document."""

    piece: str
    id: int
    source: str
    """The file that says so."""


def find_eos(name: str, base: BaseTokenizer) -> Ending:
    """Find the EOS of a tokenizer.

    Configurations go before the model file, as for transformers: they stand in the folder, or
    beside a file and are named like it (`x.tokenizer_config.json` beside `x.tokenizer.json`).

    Args:
        name: What `base` was read from, see `bases.read_base`.
        base: The tokenizer.

    Raises:
        InputError: A configuration is no JSON, or names an EOS that is not in the vocabulary.
        UsageError: Nothing tells which piece it is.
    """
    path = locate_tokenizer(name)
    for config in _configs_of(path):
        piece = _read_eos(config)
        if piece:
            return Ending(piece, _find_id(piece, base, config), f"{config.name} says")
    id = _model_eos(base)
    if id < 0:
        raise UsageError(
            f"{name}: nothing tells its EOS; expected eos_token in {' or '.join(_CONFIGS)} "
            "beside it.",
            effect="Documents could not be told apart by what ends them.",
            way_out="Encode without --eos (the ends of documents are kept in any case), or name "
            "the folder that holds its configuration.",
        )
    return Ending(base.piece(id), id, f"{Path(base.name).name} says")


def _configs_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = [path / config for config in _CONFIGS]
    else:
        form = next((form for form in _FORMS if path.name.endswith(form)), None)
        head = path.name.removesuffix(form) if form else None
        found = [] if head is None else [path.with_name(head + config) for config in _CONFIGS]
    return [config for config in found if config.is_file()]


def _read_eos(config: Path) -> str:
    try:
        row: Any = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config}: not JSON: {error}.", way_out="Fetch it again.") from None
    token = row.get("eos_token") if isinstance(row, dict) else None
    piece = token.get("content") if isinstance(token, dict) else token
    return piece if isinstance(piece, str) else ""


def _find_id(piece: str, base: BaseTokenizer, config: Path) -> int:
    for id in range(base.size):
        if base.piece(id) == piece:
            return id
    raise InputError(
        f"{config}: its EOS is {piece!r}, which {base.name} does not hold.",
        effect="Documents would end in an id of something else.",
        way_out="Use a tokenizer and a configuration that belong together.",
    )


def _model_eos(base: BaseTokenizer) -> int:
    """Ask a SentencePiece model of any kind; -1 where it has none."""
    if isinstance(base, SentencePieceBase):
        return base.pieces.eos_id
    if base.name.endswith(".json"):
        return -1
    from sentencepiece import SentencePieceProcessor

    return int(SentencePieceProcessor(model_file=base.name).eos_id())
