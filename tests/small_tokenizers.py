"""Small SentencePiece models: one built by hand, one trained on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from lingraft.pieces import Kind

BY_HAND = (
    ("▁▁", -1e9),
    ("ab", -1.0),
    ("▁a", -2.0),
    ("abc", -3.0),
    ("bc", -4.0),
    ("中文", -5.0),
    *((char, -10.0 - n) for n, char in enumerate("▁abc中文")),
)
FIRST = 3 + 256
"""Id of `▁▁`: after <unk>, <s>, </s> and the bytes."""


def build(
    pieces: Sequence[tuple[str, float]] = BY_HAND, change: Callable[[Any], None] = lambda _: None
) -> bytes:
    """Build a Llama-like model whose ordinary pieces are `pieces`; `change` may alter it."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.pieces.add(piece="<unk>", score=0.0, type=int(Kind.UNKNOWN))
    proto.pieces.add(piece="<s>", score=0.0, type=int(Kind.CONTROL))
    proto.pieces.add(piece="</s>", score=0.0, type=int(Kind.CONTROL))
    for value in range(256):
        proto.pieces.add(piece=f"<0x{value:02X}>", score=0.0, type=int(Kind.BYTE))
    for piece, score in pieces:
        proto.pieces.add(piece=piece, score=score, type=int(Kind.NORMAL))
    proto.trainer_spec.model_type = 2  # BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = False
    change(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def without_bytes(proto: Any) -> None:
    """A change for `build`: no byte pieces, so that unknown characters become <unk>."""
    kept = [p for p in proto.pieces if p.type != Kind.BYTE]
    del proto.pieces[:]
    proto.pieces.extend(kept)
    proto.trainer_spec.byte_fallback = False


@cache
def trained() -> bytes:
    """Train a byte-fallback BPE model of 400 pieces on a few lines of English and Chinese."""
    lines = [
        "the cat sat on the mat and the dog ate the cake",
        "def add(a, b):  return a + b",
        "what is the matter with that hat?",
        "我 们 在 这 里 看 书",
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
