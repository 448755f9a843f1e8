"""Base tokenizers from a `tokenizer.json`, of both families.

A byte-level vocabulary may lack some of the 256 bytes: one that was trained without them as its
initial alphabet does, as SmolLM2's (235 of 256). `tokenizers` drops such a byte without a word, and
what stands on both sides of it in a pre-token may join; with an `unk_token` that token stands for
it. So it is read as it is, and `completed` gives the tokenizer that loses nothing.

Sources: what happens to such bytes was tried with `tokenizers` 0.23.3, and tests repeat it. The
byte alphabet is that of GPT-2's published `encoder.py` (bytes_to_unicode).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .basetypes import BORDER, WAY_OUT, BaseTokenizer, Int32, RuleArrays, check_bytes, pack_rules
from .encoder import FastEncoder
from .errors import InputError
from .fastspec import append_to_json, parse_object, parse_spec, parts_of, read_merges
from .pieces import SPACE

__all__ = ["BYTE_OF", "ByteLevelBase", "FastSentencePieceBase", "read_fast_base"]

_UNLIKE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


class _FastBase(BaseTokenizer):
    """What both kinds of `tokenizer.json` share.

    Attributes:
        content: Of the file.
    """

    def __init__(self, content: str, name: str) -> None:
        """Load the content of a `tokenizer.json`; messages call it `name`.

        Raises:
            InputError: It is none, or damaged.
        """
        self.name = name
        self.content = content
        self.digest = hashlib.sha256(content.encode()).hexdigest()
        spec = parse_spec(content, name)
        self._encoder = FastEncoder.parse(content, name)
        self._vocab: dict[str, int] = spec["model"]["vocab"]
        self._added = {token["id"]: token for token in spec.get("added_tokens") or []}
        self.normalizers = parts_of(spec.get("normalizer"))
        self.pre_tokenizers = parts_of(spec.get("pre_tokenizer"))
        self.ignores_merges = bool(spec["model"].get("ignore_merges"))
        self._merges = read_merges(spec["model"]["merges"])
        self.size = 1 + max([*self._vocab.values(), *self._added])
        self._pieces = [""] * self.size
        for piece, id in self._vocab.items():
            self._pieces[id] = piece
        for id, token in self._added.items():
            self._pieces[id] = token["content"]

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Pieces of the vocabulary, added tokens only where they stand in it."""
        return self._vocab

    @property
    def added_tokens(self) -> Sequence[Mapping[str, Any]]:
        """The added tokens as the file has them."""
        return list(self._added.values())

    def normalize(self, text: str) -> str:
        """Give the text that is cut into pieces."""
        return self._encoder.normalize(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of each text, as `tokenizers` does."""
        return self._encoder.encode_batch(texts)

    def piece(self, id: int) -> str:
        """Give a piece as spelled in the vocabulary, an added one as its text."""
        return self._pieces[id]

    def is_normal(self, id: int) -> bool:
        """Whether a piece is in the vocabulary and no added token."""
        return bool(self._pieces[id]) and id not in self._added

    def find_piece(self, piece: str) -> int | None:
        """Give the id of a piece of the vocabulary."""
        return self._vocab.get(piece)

    def rule_arrays(self, keep: Callable[[str], bool] = lambda _: True) -> RuleArrays:
        """Give the merge rules in the order of the file."""
        ids = self._vocab
        rows = [
            (ids[left], ids[right], ids[left + right], rank)
            for rank, (left, right) in enumerate(self._merges)
            if keep(left + right)
        ]
        return pack_rules(rows)


class FastSentencePieceBase(_FastBase):
    """A `tokenizer.json` that does what SentencePiece BPE with byte fallback does."""

    family = "sentencepiece"

    def __init__(self, content: str, name: str = "tokenizer.json") -> None:
        """Load the content of a `tokenizer.json`.

        Raises:
            InputError: It does not load, or has not all 256 bytes.
        """
        super().__init__(content, name)
        falls_back = bool(parse_object(content, name)["model"].get("byte_fallback"))
        bytes_ = (self._vocab.get(f"<0x{byte:02X}>") for byte in range(256))
        self._bytes = {byte: id for byte, id in enumerate(bytes_) if id is not None}
        self._byte_of = {id: byte for byte, id in self._bytes.items()}
        check_bytes(name, falls_back, len(self._bytes))
        self.has_normalizer = not all(map(_only_marks_spaces, self.normalizers))

    @property
    def byte_ids(self) -> list[int]:
        """Ids of the 256 byte pieces."""
        return [self._bytes[byte] for byte in range(256)]

    def is_normal(self, id: int) -> bool:
        """Whether a piece is in the vocabulary, no added token and no byte."""
        return super().is_normal(id) and id not in self._byte_of

    def piece_bytes(self, id: int) -> bytes:
        """Give the bytes that a piece stands for."""
        if id in self._byte_of:
            return bytes([self._byte_of[id]])
        if self._added.get(id, {}).get("special"):
            return b""
        return self._pieces[id].replace(SPACE, " ").encode()

    def spell(self, data: bytes) -> tuple[int, ...]:
        """Give the id of the character's piece, or of its bytes."""
        id = self._vocab.get(data.decode())
        return (id,) if id is not None else tuple(self._bytes[byte] for byte in data)

    def spell_piece(self, piece: str) -> list[int]:
        """Give the ids that the merge rules alone make of a piece: no prefix, no special pieces."""
        return [token.id for token in self._encoder.model.tokenize(piece)]


class ByteLevelBase(_FastBase):
    """A `tokenizer.json` whose symbols are bytes, joined inside pre-tokens."""

    family = "byte-level"

    def __init__(self, content: str, name: str = "tokenizer.json") -> None:
        """Load the content of a `tokenizer.json`.

        Raises:
            InputError: It does not load, it has no byte at all, or bytes that it has not are a
                token without an id, on which `tokenizers` stops.
        """
        super().__init__(content, name)
        known = [char in self._vocab for char in _BYTE_CHARS]
        self.missing_bytes = bytes(byte for byte, is_known in enumerate(known) if not is_known)
        self.has_byte_fallback = not self.missing_bytes
        if len(self.missing_bytes) == len(_BYTE_CHARS):
            check_bytes(name, True, 0)
        self.has_normalizer = bool(self.normalizers)
        unknown = parse_object(content, name)["model"].get("unk_token")
        if self.missing_bytes and unknown is not None and unknown not in self._vocab:
            raise InputError(
                f"{name}: {len(self.missing_bytes)} bytes have no piece, and unk_token "
                f"{unknown!r}, which stands for them, has no id.",
                effect="tokenizers stops at the first text with such a byte.",
                way_out="Set model.unk_token to null, or to a piece of its vocabulary.",
            )

    @property
    def byte_ids(self) -> list[int]:
        """Ids of the 256 bytes; -1 for one that has no piece."""
        return [self._vocab.get(char, -1) for char in _BYTE_CHARS]

    def completed(self, first: int | None = None) -> ByteLevelBase:
        """Give the base with a piece for each byte that it lacks; itself where it lacks none.

        Its digest is this one's: no file has it.

        Raises:
            InputError: An added token is spelled as the byte's piece would be.
        """
        if not self.missing_bytes:
            return self
        chars = [_BYTE_CHARS[byte] for byte in self.missing_bytes]
        taken = {token["content"] for token in self._added.values()}.intersection(chars)
        if taken:
            raise InputError(
                f"{self.name}: has no piece for byte {BYTE_OF[min(taken)]:#04x}, and its added "
                f"token {min(taken)!r} has the spelling of one.",
                effect="The byte would be read as that token.",
                way_out="Rename the added token, or use another base.",
            )
        first = self.size if first is None else first
        spec = parse_object(self.content, self.name)
        spec = append_to_json(spec, first, chars, [], name=self.name)
        completed = ByteLevelBase(json.dumps(spec), self.name)
        completed.digest = self.digest
        return completed

    def encode_words(self, texts: Sequence[str]) -> list[Int32]:
        """Give the ids of each text with BORDER between pre-tokens."""
        return [_mark_borders(ids, words) for ids, words in self._encoder.encode_words(texts)]

    def piece_bytes(self, id: int) -> bytes:
        """Give the bytes that a piece stands for."""
        if id in self._added:
            token = self._added[id]
            return b"" if token["special"] else token["content"].encode()
        try:
            return bytes(BYTE_OF[char] for char in self._pieces[id])
        except KeyError:  # no spelling of bytes: no merge rule can reach it
            return b""

    def spell(self, data: bytes) -> tuple[int, ...]:
        """Give the ids that the merge rules make of the bytes; missing ones are dropped."""
        return tuple(token.id for token in self._rules.tokenize(self.spell_bytes(data)))

    def spell_bytes(self, data: bytes) -> str:
        """Give the spelling of bytes: one visible character each."""
        return "".join(_BYTE_CHARS[byte] for byte in data)

    def read_piece(self, piece: str) -> bytes:
        """Give the bytes of a piece from its spelling."""
        return bytes(BYTE_OF[char] for char in piece)

    @cached_property
    def _rules(self) -> Any:
        """The merge rules alone: with `ignore_merges` a whole pre-token would be looked up."""
        model = FastEncoder.parse(self.content, self.name).model
        model.ignore_merges = False
        return model


def read_fast_base(path: Path) -> BaseTokenizer:
    """Read a `tokenizer.json`.

    Raises:
        InputError: It is none, or of a kind that new pieces cannot be added to.
    """
    name = str(path)
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not a fast tokenizer: {error}.", way_out=WAY_OUT) from None
    model = parse_object(content, name).get("model")
    if not isinstance(model, dict):
        raise InputError(f"{name}: not a fast tokenizer: it has no model.", way_out=WAY_OUT)
    kind = model.get("type") or ("BPE" if "merges" in model else "unknown")
    if kind != "BPE":
        raise InputError(
            f"{name}: a tokenizer of type {kind}; expected BPE.",
            effect="Merge rules added to another algorithm would not be rules.",
            way_out=WAY_OUT,
        )
    if any(model.get(key) for key in _UNLIKE):
        found = ", ".join(f"{key} = {model[key]!r}" for key in _UNLIKE if model.get(key))
        raise InputError(
            f"{name}: BPE that new pieces cannot be added to: {found}; expected none of these.",
            effect="Its pieces would not be what their spelling says.",
            way_out=WAY_OUT,
        )
    cuts = parts_of(parse_spec(content, name).get("pre_tokenizer"))
    if any(part["type"] == "ByteLevel" for part in cuts):
        return ByteLevelBase(content, name)
    if model.get("byte_fallback") and all(map(_keeps_whole, cuts)):
        return FastSentencePieceBase(content, name)
    raise InputError(
        f"{name}: BPE that neither works on bytes nor falls back to them on whole texts.",
        effect="Characters that it does not know would be lost as <unk>.",
        way_out=WAY_OUT,
    )


def _keeps_whole(part: Mapping[str, Any]) -> bool:
    return str(part["type"]) == "Metaspace" and part.get("split") is False


def _only_marks_spaces(part: Mapping[str, Any]) -> bool:
    if part["type"] == "Prepend":
        return str(part["prepend"]) == SPACE
    return str(part["type"]) == "Replace" and dict(part["pattern"]) == {"String": " "}


def _mark_borders(ids: list[int], words: list[int]) -> Int32:
    ids_T = np.array(ids, np.int32)
    words_T = np.array(words, np.int32)
    return np.insert(ids_T, np.flatnonzero(np.diff(words_T)) + 1, np.int32(BORDER))


def _byte_chars() -> str:
    """Give the visible character of each byte: itself where it is visible, else from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in visible else next(hidden)) for byte in range(256))


_BYTE_CHARS = _byte_chars()
BYTE_OF = {char: byte for byte, char in enumerate(_BYTE_CHARS)}
