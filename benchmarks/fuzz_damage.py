"""Damaged tokenizer files for `fuzz_tokenizers.py`: in their bytes, or in what they say.

Everything is drawn from one `random.Random`, so a case is its seed and number. A damage has a
name, so that findings can be told apart by what was done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from fuzz_texts import SPACE, log_size

_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 31, 1 << 40, 1 << 70, 1e308, 0.5),
    *("", "x", SPACE, "\ud800", [], {}, [[]], [None]),
)
_IDS = (-1, 1 << 20, 10**7, 10**9, 1 << 31, (1 << 32) - 1, 1 << 32)
_SCORES = (math.nan, math.inf, -math.inf, 0.0, -0.0, 3.4e38, -1e9, 1e-45)
_WHOLE = (b"", b"\0", b"[" * 100_000, b'{"a":' * 100_000, b"{}", b"null", b"\xff" * 99)
_PREPARED: Mapping[str, tuple[Any, ...]] = {
    "normalizer": (
        None,
        {"type": "NFKC"},
        {"type": "Lowercase"},
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
        {"type": "Sequence", "normalizers": []},
    ),
    "pre_tokenizer": (
        None,
        {"type": "Whitespace"},
        {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": False},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Removed", "invert": True},
        {"type": "Sequence", "pretokenizers": []},
    ),
}
_AFFIXES = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")


def damage(rng: Random, content: bytes, suffix: str) -> tuple[bytes, str]:
    """Damage a tokenizer's file.

    Args:
        rng: Where chance comes from.
        content: The file.
        suffix: ".json" or ".model".

    Returns:
        The damaged file, and the name of what was done to it.
    """
    if rng.random() < 0.25:
        name = rng.choice(sorted(_BYTES))
        data = bytearray(content)
        _BYTES[name](rng, data)
        return bytes(data), name
    return _damage_json(rng, content) if suffix == ".json" else _damage_model(rng, content)


def _flip(rng: Random, data: bytearray) -> None:
    for _ in range(log_size(rng, 50)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _take_out(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + log_size(rng, len(data))]


def _splice(rng: Random, data: bytearray) -> None:
    at, other = rng.randrange(len(data)), rng.randrange(len(data))
    data[at:at] = data[other : other + log_size(rng, len(data))]


def _zero(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    end = min(len(data), at + log_size(rng, len(data)))
    data[at:end] = bytes(end - at)


def _noise(rng: Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at : at + rng.randint(0, 20)] = rng.randbytes(log_size(rng, 40))


def _replace(rng: Random, data: bytearray) -> None:
    data[:] = rng.choice(_WHOLE)


_BYTES: Mapping[str, Callable[[Random, bytearray], None]] = {
    "bits flipped": _flip,
    "cut": _cut,
    "part taken out": _take_out,
    "spliced": _splice,
    "zeroed": _zero,
    "noise": _noise,
    "another file": _replace,
}


def _damage_json(rng: Random, content: bytes) -> tuple[bytes, str]:
    spec, names = json.loads(content), []
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        name = rng.choice(sorted(_RULES)) if rng.random() < 0.5 else "any value"
        try:
            _RULES.get(name, _change_anything)(rng, spec)
        except (KeyError, TypeError, AttributeError, IndexError, ValueError):
            continue  # an earlier damage took away what this one would change
        names.append(name)
    data = json.dumps(spec, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    return data, ", ".join(sorted(set(names)))


def _change_anything(rng: Random, spec: Any) -> None:
    """Take away, replace or double something, small parts of the file as often as large ones."""
    node = spec
    for _ in range(rng.randint(0, 6)):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        inner = [key for key in keys if isinstance(node[key], (dict, list)) and node[key]]
        if not inner:
            break
        node = node[rng.choice(inner)]
    key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    if rng.random() < 0.4:
        del node[key]
    elif isinstance(node, list) and rng.random() < 0.3:
        node.insert(rng.randrange(len(node) + 1), node[key])
    else:
        node[key] = rng.choice(_VALUES)


def _two(rng: Random, spec: Any) -> tuple[Any, Any, str, str]:
    """Give vocabulary, rules and two pieces."""
    vocab = spec["model"]["vocab"]
    return vocab, spec["model"]["merges"], rng.choice(list(vocab)), rng.choice(list(vocab))


def _set_id(rng: Random, spec: Any) -> None:
    vocab, _, piece, _ = _two(rng, spec)
    vocab[piece] = rng.choice(_IDS)


def _same_id(rng: Random, spec: Any) -> None:
    vocab, _, piece, other = _two(rng, spec)
    vocab[piece] = vocab[other]


def _empty_piece(rng: Random, spec: Any) -> None:
    vocab = _two(rng, spec)[0]
    vocab[""] = len(vocab)


def _rename_piece(rng: Random, spec: Any) -> None:
    vocab, _, piece, other = _two(rng, spec)
    vocab[other] = vocab.pop(piece)


def _set_rule(rng: Random, spec: Any) -> None:
    _, merges, piece, other = _two(rng, spec)
    rules = ([piece, other], ["", piece], [piece, ""], [piece], [piece, other, piece], "", "a b c")
    merges[rng.randrange(len(merges))] = rng.choice(rules)


def _double_rule(rng: Random, spec: Any) -> None:
    merges = _two(rng, spec)[1]
    merges.insert(rng.randrange(len(merges)), rng.choice(merges))


def _shuffle_rules(rng: Random, spec: Any) -> None:
    rng.shuffle(_two(rng, spec)[1])


def _cyclic_rules(rng: Random, spec: Any) -> None:
    vocab, merges, a, b = _two(rng, spec)
    rules = [[a, b], [a + b, b], [b, a + b], [a, b + b], [b, b], [a + b, a + b]]
    for left, right in rules:
        vocab.setdefault(left + right, max(vocab.values()) + 1)
    rng.shuffle(rules)
    at = rng.choice((0, len(merges)))
    merges[at:at] = rules


def _add_token(rng: Random, spec: Any) -> None:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    content = rng.choice((_two(rng, spec)[2], "", " ", "<s>", "的", "x" * 2000))
    token = {"id": rng.choice((0, 5, *_IDS)), "content": content}
    token |= {flag: rng.random() < 0.5 for flag in flags}
    spec["added_tokens"] = [*(spec.get("added_tokens") or []), token]


def _model_flags(rng: Random, spec: Any) -> None:
    for flag in ("byte_fallback", "ignore_merges", "fuse_unk"):
        spec["model"][flag] = rng.random() < 0.5


def _affix(rng: Random, spec: Any) -> None:
    values = (0.0, 0.5, 1.0, 7, "", "##", _two(rng, spec)[2])
    spec["model"][rng.choice(_AFFIXES)] = rng.choice(values)


def _part(rng: Random, spec: Any) -> None:
    name = rng.choice(sorted(_PREPARED))
    spec[name] = rng.choice(_PREPARED[name])


_RULES: Mapping[str, Callable[[Random, Any], None]] = {
    "huge id": _set_id,
    "id twice": _same_id,
    "empty piece": _empty_piece,
    "piece renamed": _rename_piece,
    "rule replaced": _set_rule,
    "rule twice": _double_rule,
    "rules shuffled": _shuffle_rules,
    "cyclic rules": _cyclic_rules,
    "added token": _add_token,
    "model flags": _model_flags,
    "affix": _affix,
    "normalizer or pre-tokenizer": _part,
}


def _damage_model(rng: Random, content: bytes) -> tuple[bytes, str]:
    from sentencepiece import sentencepiece_model_pb2

    proto, names = sentencepiece_model_pb2.ModelProto(), []
    proto.ParseFromString(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if proto.pieces:
            names.append(rng.choice(sorted(_FIELDS)))
            _FIELDS[names[-1]](rng, proto)
    return bytes(proto.SerializeToString()), ", ".join(sorted(set(names)))


def _piece_twice(rng: Random, proto: Any) -> None:
    rng.choice(proto.pieces).piece = rng.choice(proto.pieces).piece


def _piece_text(rng: Random, proto: Any) -> None:
    piece = rng.choice(proto.pieces)
    joined = piece.piece + rng.choice(proto.pieces).piece
    piece.piece = rng.choice(("", SPACE, "\0", "x" * 70_000, "的" * 300, "\n", joined))


def _piece_score(rng: Random, proto: Any) -> None:
    rng.choice(proto.pieces).score = rng.choice(_SCORES)


def _scores_equal(rng: Random, proto: Any) -> None:
    for piece in proto.pieces:
        piece.score = 0.0


def _scores_shuffled(rng: Random, proto: Any) -> None:
    scores = [piece.score for piece in proto.pieces]
    rng.shuffle(scores)
    for piece, score in zip(proto.pieces, scores, strict=True):
        piece.score = score


def _piece_kind(rng: Random, proto: Any) -> None:
    rng.choice(proto.pieces).type = rng.randint(1, 6)


def _piece_gone(rng: Random, proto: Any) -> None:
    at = rng.randrange(len(proto.pieces))
    del proto.pieces[at : rng.choice((at + 1, at + 1, len(proto.pieces)))]


def _piece_added(rng: Random, proto: Any) -> None:
    a, b = rng.choice(proto.pieces), rng.choice(proto.pieces)
    proto.pieces.add(piece=a.piece + b.piece, score=rng.choice((0.0, -1e9, b.score)), type=1)


def _charsmap(rng: Random, proto: Any) -> None:
    proto.normalizer_spec.precompiled_charsmap = rng.choice((b"", b"\0" * 9, rng.randbytes(64)))


def _spaces(rng: Random, proto: Any) -> None:
    for flag in ("add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        setattr(proto.normalizer_spec, flag, rng.random() < 0.5)


def _model_type(rng: Random, proto: Any) -> None:
    proto.trainer_spec.model_type = rng.randint(1, 4)


def _suffix(rng: Random, proto: Any) -> None:
    proto.trainer_spec.treat_whitespace_as_suffix = True


def _fallback(rng: Random, proto: Any) -> None:
    proto.trainer_spec.byte_fallback = not proto.trainer_spec.byte_fallback


def _special_name(rng: Random, proto: Any) -> None:
    name = rng.choice(("unk_piece", "bos_piece", "eos_piece", "unk_surface"))
    setattr(proto.trainer_spec, name, rng.choice(("", "x", rng.choice(proto.pieces).piece)))


_FIELDS: Mapping[str, Callable[[Random, Any], None]] = {
    "piece twice": _piece_twice,
    "piece replaced": _piece_text,
    "piece's score": _piece_score,
    "piece's kind": _piece_kind,
    "pieces gone": _piece_gone,
    "piece added": _piece_added,
    "scores equal": _scores_equal,
    "scores shuffled": _scores_shuffled,
    "charsmap": _charsmap,
    "settings of spaces": _spaces,
    "model type": _model_type,
    "whitespace as suffix": _suffix,
    "byte fallback": _fallback,
    "special pieces' names": _special_name,
}
