"""From a SentencePiece BPE model to the files that `tokenizers` and transformers read.

The same tokenizer in another form. SentencePiece joins any two neighbours whose joined
spelling is a piece, highest score first, leftmost first among equals; `tokenizers` wants a
list of pairs, earliest first. So every split of a piece into two pieces becomes a merge rule
at the piece's place in the order of scores. Built here, not by transformers' converters,
because what they build changes with their version, and a tokenizer must not.

User-defined pieces are cut out of the text before anything merges, the longest first, left to
right, after spaces became ▁. Added tokens of `tokenizers` cannot say that: the text behind one
would get a prefix of its own. A pre-tokenizer that splits at them can, with `ignore_merges`, which
looks a whole part up in the vocabulary. So would a part that spells a control piece ("<s>"): a
second split breaks such a part where the merge rules leave a seam anyway.

What SentencePiece can do and this form cannot is refused. A normaliser's character map is such a
thing: SentencePiece replaces the longest match and spares user-defined pieces, `tokenizers`
looks at one grapheme at a time and spares none (a test shows texts on which they part).

Source of the layout: tokenizer.json as published with Mixtral-8x7B-v0.1 (a test compares).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import InputError
from .pieces import SPACE, Kind, SentencePieces, parse_model
from .store import write_json, write_text

__all__ = [
    "fast_config",
    "fast_tokenizer",
    "merge_rules",
    "special_entry",
    "special_names",
    "write_tokenizer",
]

_NO_LIMIT = int(1e30)
"""What transformers writes where a tokenizer limits no length; config.json has the model's."""


def write_tokenizer(proto: bytes, folder: Path, name: str = "tokenizer.model") -> None:
    """Write a tokenizer as every library reads it.

    `tokenizer.model` (the bytes as given), `tokenizer.json`, `tokenizer_config.json` and
    `special_tokens_map.json`; `AutoTokenizer` loads the folder without converting anything.

    Args:
        proto: Content of a SentencePiece BPE model.
        folder: Existing folder; a model's config.json may stand in it.
        name: What messages call the model.

    Raises:
        InputError: The model has something that the fast form cannot say.
    """
    pieces = SentencePieces(proto, name)
    fast = json.dumps(fast_tokenizer(pieces), ensure_ascii=False, separators=(",", ":"))
    write_text(folder / "tokenizer.json", fast + "\n")
    write_json(folder / "tokenizer_config.json", fast_config(pieces))
    write_json(folder / "special_tokens_map.json", special_names(pieces))
    (folder / "tokenizer.model").write_bytes(proto)


def fast_tokenizer(pieces: SentencePieces) -> dict[str, Any]:
    """Give the content of `tokenizer.json`.

    Raises:
        InputError: The model has something that the fast form cannot say.
    """
    spec = parse_model(pieces.proto, pieces.name)
    _refuse_what_fast_cannot_say(pieces, spec)
    prefixed = bool(spec.normalizer_spec.add_dummy_prefix)
    bos = pieces.pieces[pieces.bos_id]
    normalizers: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    ]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefixed:
        normalizers.insert(0, {"type": "Prepend", "prepend": SPACE})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, **entry} for id, entry in _special_entries(pieces).items()],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": _cut_out_user_defined(pieces),
        "post_processor": _template(bos, pieces.bos_id),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces.pieces[pieces.unk_id],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": pieces.has_byte_fallback,
            "ignore_merges": Kind.USER_DEFINED in pieces.kinds,
            "vocab": pieces.ids,
            "merges": merge_rules(pieces),
        },
    }


def merge_rules(pieces: SentencePieces) -> list[tuple[str, str]]:
    """Give every pair of pieces that joins into a piece, in the order in which pairs go first.

    The order is that of scores, highest first; equal scores (Mixtral gives -1e9 to every run
    of spaces) by id of the piece, then by ids of its parts, as the published files have it.
    """
    rules: list[tuple[float, int, int, int]] = []
    normal = {p: i for p, i in pieces.ids.items() if pieces.kinds[i] is Kind.NORMAL}
    for piece, id in normal.items():
        for cut in range(1, len(piece)):
            left, right = normal.get(piece[:cut]), normal.get(piece[cut:])
            if left is not None and right is not None:
                rules.append((-pieces.scores[id], id, left, right))
    rules.sort()
    return [(pieces.pieces[left], pieces.pieces[right]) for _, _, left, right in rules]


def _refuse_what_fast_cannot_say(pieces: SentencePieces, spec: Any) -> None:
    norm = spec.normalizer_spec
    reasons = {
        f"its normaliser is '{norm.name}', expected none": bool(norm.precompiled_charsmap),
        "it removes extra spaces": norm.remove_extra_whitespaces,
        "it leaves spaces unescaped": not norm.escape_whitespaces,
        "it puts ▁ at the end of words": spec.trainer_spec.treat_whitespace_as_suffix,
        "it has pieces marked as unused": Kind.UNUSED in pieces.kinds,
    }
    found = [reason for reason, applies in reasons.items() if applies]
    if found:
        raise InputError(
            f"{pieces.name}: has no equal fast tokenizer: {'; '.join(found)}.",
            effect="tokenizer.json and tokenizer.model would give different ids for one text.",
            way_out="Use a base with a Llama-like SentencePiece model.",
        )


def _cut_out_user_defined(pieces: SentencePieces) -> dict[str, Any] | None:
    """Give the pre-tokenizer that cuts user-defined pieces out; None where there are none."""
    own = [p.replace(" ", SPACE) for p, k in zip(pieces.pieces, pieces.kinds, strict=True) if
           k is Kind.USER_DEFINED]  # fmt: skip
    if not own:
        return None
    longest_first = sorted(own, key=lambda piece: (-len(piece), piece))
    patterns = ["|".join(map(_escape, longest_first)), "|".join(_seams(pieces, own))]
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False}
            for p in patterns
            if p
        ],
    }


def _seams(pieces: SentencePieces, own: Iterable[str]) -> Iterator[str]:
    r"""Give a pattern for every part that is in the vocabulary but that no merging gives.

    It matches the part's head, up to a seam: a place that no merge rule crosses in that part.
    Patterns are `\Ahead(?=tail\z)`: `\A` and `\z` are the ends of the part, not of the text.

    Raises:
        InputError: A piece has no such place.
    """
    bare = {piece: pieces.spell(piece) for piece in pieces.ids}
    wrong = {piece for piece, ids in bare.items() if ids != [pieces.ids[piece]]}
    for piece in sorted(wrong, key=pieces.ids.__getitem__):
        if any(part in piece for part in own):
            continue  # the first split has cut it
        heads = _heads(pieces, piece, bare[piece])
        seam = next((n for n in heads if not {piece[:n], piece[n:]} & wrong), None)
        if seam is None:
            raise InputError(
                f"{pieces.name}: has no equal fast tokenizer: no seam in its piece {piece!r}.",
                effect="tokenizer.json would read the text of this piece as the piece.",
                way_out="Use a base without user-defined pieces.",
            )
        yield rf"\A{_escape(piece[:seam])}(?={_escape(piece[seam:])}\z)"


def _heads(pieces: SentencePieces, piece: str, ids: Iterable[int]) -> list[int]:
    """Give the places between the tokens of a piece, in characters."""
    data, ends, size = piece.encode(), [], 0
    for id in ids:
        spelled = pieces.piece_bytes(id)
        size += len(spelled.decode(errors="ignore").replace(" ", SPACE).encode() or spelled)
        try:
            ends.append(len(data[:size].decode()))
        except UnicodeDecodeError:
            continue  # inside a character
    return ends[:-1]


def _escape(text: str) -> str:
    """Spell text as a pattern that matches it and nothing else."""
    return "".join(c if c.isalnum() or ord(c) > 0x7F else f"\\x{ord(c):02x}" for c in text)


def _special_entries(pieces: SentencePieces) -> dict[int, dict[str, Any]]:
    """Control pieces and <unk>, by id; they are never produced by merging."""
    return {
        id: special_entry(pieces.pieces[id])
        for id, kind in enumerate(pieces.kinds)
        if kind in (Kind.UNKNOWN, Kind.CONTROL)
    }


def special_entry(content: str) -> dict[str, Any]:
    """Give what stands in `added_tokens` for a special piece, but for its id."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": content, **flags, "special": True}


def special_names(pieces: SentencePieces) -> dict[str, str]:
    """Give the content of `special_tokens_map.json`."""
    roles = {"bos": pieces.bos_id, "eos": pieces.eos_id, "unk": pieces.unk_id}
    return {f"{role}_token": pieces.pieces[id] for role, id in roles.items()}


def _template(bos: str, bos_id: int) -> dict[str, Any]:
    def part(kind: str, name: str, type_id: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": type_id}}

    first = [part("SpecialToken", bos, 0), part("Sequence", "A", 0)]
    second = [part("SpecialToken", bos, 1), part("Sequence", "B", 1)]
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }


def fast_config(pieces: SentencePieces) -> dict[str, Any]:
    """Give the content of `tokenizer_config.json`."""
    # This class takes tokenizer.json as it is; LlamaTokenizer would rebuild parts of it.
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(id): e for id, e in _special_entries(pieces).items()},
        **special_names(pieces),
        "clean_up_tokenization_spaces": False,
        "model_max_length": _NO_LIMIT,
    }
