"""One tokenizer in every form that lies beside it: tokenizer.model, tokenizer.json, configs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bases import BaseTokenizer, SentencePieceBase, locate_tokenizer, read_base
from ..errors import InputError
from ..pieces import SentencePieces

__all__ = ["Forms", "read_forms"]


@dataclass(frozen=True)
class Forms:
    """A tokenizer and its files.

    Attributes:
        name: What the user called it.
        base: The tokenizer, from `tokenizer.model` where there is one.
        model: The SentencePiece model; None for a tokenizer.json alone.
        fast_file: The `tokenizer.json`; None where there is none.
        folder: Where its configs stand; None for a file that was named itself.
        config: Content of `tokenizer_config.json`; empty where there is none.
    """

    name: str
    base: BaseTokenizer
    model: SentencePieces | None
    fast_file: Path | None
    folder: Path | None
    config: Mapping[str, Any]


def read_forms(name: str) -> Forms:
    """Read a tokenizer file, a folder of one, or a hub name, with all that belongs to it.

    Raises:
        InputError: There is none, it is of a kind that cannot be extended, or a config is no JSON.
        UsageError: There is no such place.
    """
    path = locate_tokenizer(name)
    folder = path if path.is_dir() else None
    base = read_base(str(path))
    fast_file = folder / "tokenizer.json" if folder else path if path.suffix == ".json" else None
    return Forms(
        name=name,
        base=base,
        model=base.pieces if isinstance(base, SentencePieceBase) else None,
        fast_file=fast_file if fast_file is not None and fast_file.is_file() else None,
        folder=folder,
        config=_read_config(folder),
    )


def _read_config(folder: Path | None) -> Mapping[str, Any]:
    path = folder / "tokenizer_config.json" if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}.", way_out="Fetch it again.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected a JSON object.", way_out="Fetch it again.")
    return config
