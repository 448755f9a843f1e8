"""BOS and EOS of a tokenizer: what its configuration says, else what its own file does."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from .bases import (
    BaseTokenizer,
    ByteLevelBase,
    FastSentencePieceBase,
    SentencePieceBase,
    locate_tokenizer,
)
from .errors import InputError, UsageError
from .fastspec import parse_object

__all__ = ["Bounds", "SpecialPiece", "adds_bos", "find_bos", "find_bounds", "find_eos"]

_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
_FORMS = ("tokenizer.json", "tokenizer.model")
_PROBE = {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"}
"""A vocabulary to ask a post-processor with."""


class SpecialPiece(NamedTuple):
    """What begins or ends a document."""

    piece: str
    id: int
    source: str
    """The file that says so."""


class Bounds(NamedTuple):
    """Ids around a document that is scored: something must stand before its first token."""

    begin_id: int
    """BOS where the tokenizer adds it by itself, else EOS: in packed training text the document
    before ends with it."""
    end_id: int
    """EOS."""


def find_eos(name: str, base: BaseTokenizer) -> SpecialPiece:
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
    found = _find(name, base, "eos")
    if found is None:
        raise UsageError(
            f"{name}: nothing tells its EOS; expected eos_token in {' or '.join(_CONFIGS)} "
            "beside it.",
            effect="Documents could not be told apart by what ends them.",
            way_out="Encode without EOS (the ends of documents are kept in any case), or name "
            "the folder that holds its configuration.",
        )
    return found


def find_bos(name: str, base: BaseTokenizer) -> SpecialPiece:
    """Find the BOS of a tokenizer, as `find_eos` finds its EOS.

    Raises:
        InputError: A configuration is no JSON, or names a BOS that is not in the vocabulary.
        UsageError: Nothing tells which piece it is.
    """
    found = _find(name, base, "bos")
    if found is None:
        raise UsageError(
            f"{name}: nothing tells its BOS; expected bos_token in {' or '.join(_CONFIGS)} "
            "beside it.",
            way_out="Encode without BOS, or name the folder that holds its configuration.",
        )
    return found


def adds_bos(name: str, base: BaseTokenizer) -> bool:
    """Whether the tokenizer puts BOS before a text by itself.

    Its configuration says so (`add_bos_token`). Where none does, a `tokenizer.json` does what
    its post-processor does, as Llama 3's; and a SentencePiece model of Llama's kind, with a BOS
    of its own, is taken to: transformers and mistral-common do. (transformers 5 passes over
    `add_bos_token` where there is a `tokenizer.json`, and goes by its post-processor alone.)

    Raises:
        InputError: A configuration is no JSON, or names a BOS that is not in the vocabulary, or
            something other than BOS stands before a text.
    """
    for config in _configs_of(locate_tokenizer(name)):
        said = _read(config).get("add_bos_token")
        if isinstance(said, bool):
            return said
    if isinstance(base, SentencePieceBase):
        return base.pieces.bos_id >= 0
    heads = _put_before(base)
    if not heads:
        return False
    bos = _find(name, base, "bos")
    if bos is None or [bos.id] != heads:
        shown = ", ".join(repr(base.piece(id)) for id in heads)
        expected = "a single piece" if bos is None else f"{bos.piece!r} alone ({bos.source} so)"
        raise InputError(
            f"{base.name}: puts {shown} before a text; expected {expected}, its BOS.",
            effect="Documents would begin in something that the model did not begin in.",
            way_out="Say in its tokenizer_config.json which piece begins a text (bos_token), and "
            "whether it is added (add_bos_token: true or false).",
        )
    return True


def find_bounds(name: str, base: BaseTokenizer) -> Bounds:
    """Find what stands before and after a document that is scored.

    Args:
        name: What `base` was read from, see `bases.read_base`.
        base: The tokenizer.

    Raises:
        InputError: A configuration is no JSON, or names a piece that is not in the vocabulary,
            or something other than BOS stands before a text.
        UsageError: Nothing tells which piece is EOS, or BOS where it is added.
    """
    end_id = find_eos(name, base).id
    return Bounds(find_bos(name, base).id if adds_bos(name, base) else end_id, end_id)


def _find(name: str, base: BaseTokenizer, kind: str) -> SpecialPiece | None:
    for config in _configs_of(locate_tokenizer(name)):
        token = _read(config).get(f"{kind}_token")
        piece = token.get("content") if isinstance(token, dict) else token
        if isinstance(piece, str) and piece:
            id = _find_id(piece, base, config, kind.upper())
            return SpecialPiece(piece, id, f"{config.name} says")
    id = _model_id(base, kind)
    return None if id < 0 else SpecialPiece(base.piece(id), id, f"{Path(base.name).name} says")


def _configs_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = [path / config for config in _CONFIGS]
    else:
        form = next((form for form in _FORMS if path.name.endswith(form)), None)
        head = path.name.removesuffix(form) if form else None
        found = [] if head is None else [path.with_name(head + config) for config in _CONFIGS]
    return [config for config in found if config.is_file()]


def _read(config: Path) -> dict[str, Any]:
    try:
        row: Any = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config}: not JSON: {error}.", way_out="Fetch it again.") from None
    return row if isinstance(row, dict) else {}


def _find_id(piece: str, base: BaseTokenizer, config: Path, kind: str) -> int:
    for id in range(base.size):
        if base.piece(id) == piece:
            return id
    raise InputError(
        f"{config}: its {kind} is {piece!r}, which {base.name} does not hold.",
        effect="Documents would begin or end in an id of something else.",
        way_out="Use a tokenizer and a configuration that belong together.",
    )


def _model_id(base: BaseTokenizer, kind: str) -> int:
    """Ask a SentencePiece model of any kind, or for BOS a `tokenizer.json`; -1: it has none."""
    if isinstance(base, SentencePieceBase):
        return base.pieces.eos_id if kind == "eos" else base.pieces.bos_id
    if base.name.endswith(".json"):
        heads = _put_before(base) if kind == "bos" else []
        return heads[0] if len(heads) == 1 else -1
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=base.name)
    return int(processor.eos_id() if kind == "eos" else processor.bos_id())


def _put_before(base: BaseTokenizer) -> list[int]:
    """Give the ids that the post-processor of a `tokenizer.json` puts before any text."""
    if not base.name.endswith(".json"):
        return []
    from tokenizers import Tokenizer

    if isinstance(base, ByteLevelBase | FastSentencePieceBase):
        content = base.content
    else:
        content = Path(base.name).read_text(encoding="utf-8")
    processor = parse_object(content, base.name).get("post_processor")
    probe = Tokenizer.from_str(json.dumps({"model": _PROBE, "post_processor": processor}))
    found = probe.encode("x")
    ids = zip(found.ids, found.special_tokens_mask, strict=True)
    return [id for id, _ in takewhile(lambda pair: pair[1], ids)]
