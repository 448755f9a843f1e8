"""Small extended tokenizers, right ones and ones that are broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from byte_tokenizers import byte_level
from sentencepiece import sentencepiece_model_pb2
from small_tokenizers import build

from lingraft.fast import write_tokenizer
from lingraft.pieces import Kind, SentencePieces

ADDED = (("嬗", -2e9), ("变", -2.1e9), ("嬗变", -2.2e9), ("变嬗", -2.3e9))
"""Pieces below every rule of `small_tokenizers.build`."""
BASE = SentencePieces(build())
SIZE = len(BASE.pieces)
ZHONG, WEN = "中".encode(), "文".encode()
BASE_RULES = [(ZHONG[:1], ZHONG[1:2]), (b"a", b"b")]
ADDED_RULES = [(ZHONG[:2], ZHONG[2:]), (WEN[:1], WEN[1:2]), (WEN[:2], WEN[2:]), (ZHONG, WEN)]


def extended(
    pieces: Sequence[tuple[str, float]] = ADDED,
    change: Callable[[Any], None] = lambda _: None,
    kind: Kind = Kind.NORMAL,
) -> bytes:
    """The small model with `pieces` behind it; `change` may alter the result."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(build())
    for piece, score in pieces:
        proto.pieces.add(piece=piece, score=score, type=int(kind))
    proto.trainer_spec.vocab_size = len(proto.pieces)
    change(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def write_model(folder: Path, proto: bytes) -> Path:
    """Write a `tokenizer.model` alone; give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(proto)
    return folder / "tokenizer.model"


def write_folder(folder: Path, proto: bytes) -> Path:
    """Write every form of a model; give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(proto, folder)
    return folder


def write_bytes_file(
    folder: Path,
    rules: Sequence[tuple[bytes, bytes]],
    change: Callable[[Any], object] = lambda _: None,
) -> Path:
    """Write the `tokenizer.json` of byte-level rules; give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = byte_level(rules)
    change(spec)
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder / "tokenizer.json"
