"""Small byte-level tokenizers: one from merge rules by hand, one trained on the spot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from samples import ARABIC, CHINESE, VIETNAMESE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lingraft.vocab.chars import Row

NUM_BYTES = 256


def byte_level(merges: Sequence[tuple[bytes, bytes]] = (), **model: Any) -> dict[str, Any]:
    """Content of a `tokenizer.json`: id b is byte b, after them what each merge rule joins."""
    rules = [(spell(left), spell(right)) for left, right in merges]
    pieces = [spell(bytes([byte])) for byte in range(NUM_BYTES)] + [a + b for a, b in rules]
    tokenizer = Tokenizer(models.BPE({p: id for id, p in enumerate(pieces)}, rules))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    spec["model"].update(model)
    return spec


def spell(data: bytes) -> str:
    """Spell bytes as byte-level vocabularies do; written apart from the code under test."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(NUM_BYTES) if byte not in visible]
    return "".join(
        chr(byte) if byte in visible else chr(NUM_BYTES + hidden.index(byte)) for byte in data
    )


@cache
def trained_bytes() -> str:
    """Train a tokenizer of 420 pieces on Chinese, Arabic and Vietnamese: tokens straddle."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([*CHINESE, *ARABIC, *VIETNAMESE] * 2, trainer)
    content: str = tokenizer.to_str()
    return content


def extend(spec: dict[str, Any], rows: Sequence[Row], size: int) -> str:
    """Append new pieces and their merge rules to the content of a `tokenizer.json`."""
    model = spec["model"]
    vocab = dict(model["vocab"])
    for number, row in enumerate(rows):
        assert row.piece not in vocab, f"{row.piece!r} is there already"
        vocab[row.piece] = size + number
    old = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    merges = old + [(row.left, row.right) for row in rows]
    return json.dumps({**spec, "model": {**model, "vocab": vocab, "merges": merges}})


def without_bytes(spec: dict[str, Any], dropped: bytes) -> dict[str, Any]:
    """Take bytes out of a tokenizer, and all that merge rules make of them; ids stay."""
    chars = set(spell(dropped))
    model = spec["model"]
    vocab = {piece: id for piece, id in model["vocab"].items() if chars.isdisjoint(piece)}
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    merges = [pair for pair in pairs if chars.isdisjoint("".join(pair))]
    return {**spec, "model": {**model, "vocab": vocab, "merges": merges}}
