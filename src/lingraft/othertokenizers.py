"""Tokenizers that can be used and compared but not extended: unigram, WordPiece and the like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .bases import find_tokenizer_file, read_base
from .basetypes import BaseTokenizer, RuleArrays
from .encoder import FastEncoder
from .errors import InputError
from .fastspec import check_size, parse_object
from .pieces import SPACE, Kind

__all__ = ["OtherTokenizer", "read_tokenizer"]


class OtherTokenizer(BaseTokenizer):
    """A tokenizer that is used through its own library.

    Attributes:
        why: What keeps new pieces from being added to it.
    """

    family = "other"
    has_normalizer = True

    def __init__(self, path: Path, why: str) -> None:
        """Read a `.model` or a `tokenizer.json`.

        Raises:
            InputError: No library reads it.
        """
        self.name, self.why = str(path), why
        content = path.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        if path.suffix == ".json":
            self._read_fast(content)
        else:
            self._read_model(content)
        self._ids = {piece: id for id, piece in enumerate(self._pieces) if piece}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of each text, as its library does."""
        batch: list[list[int]] = self._encode(list(texts))
        return batch

    def piece(self, id: int) -> str:
        """Give a piece as spelled in the file."""
        return self._pieces[id]

    def piece_bytes(self, id: int) -> bytes:
        """Give the bytes that a piece stands for, as far as its spelling tells."""
        if id in self._bytes:
            return bytes([self._bytes[id]])
        return b"" if id in self._special else self._pieces[id].replace(SPACE, " ").encode()

    def is_normal(self, id: int) -> bool:
        """Whether a piece is no special one and no fallback byte."""
        return bool(self._pieces[id]) and id not in self._special and id not in self._bytes

    def find_piece(self, piece: str) -> int | None:
        """Give the id of a piece."""
        return self._ids.get(piece)

    def spell(self, data: bytes) -> tuple[int, ...]:
        """Refuse: pieces alone have no spelling here.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.name}: pieces cannot be spelled: {self.why}")

    def rule_arrays(self, keep: Callable[[str], bool] = lambda _: True) -> RuleArrays:
        """Refuse: there are no merge rules.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{self.name}: has no merge rules: {self.why}")

    def _read_model(self, content: bytes) -> None:
        import sentencepiece
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto()
        try:
            proto.ParseFromString(content)
            processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        except (DecodeError, RuntimeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.name}: not a SentencePiece model: {error}.") from None
        if not proto.pieces:
            raise InputError(f"{self.name}: not a SentencePiece model: it holds no pieces.")
        self._encode: Any = processor.encode
        self._pieces: list[str] = [piece.piece for piece in proto.pieces]
        kinds = [Kind(piece.type) for piece in proto.pieces]
        self._bytes = {
            id: int(self._pieces[id][1:-1], 16)
            for id, kind in enumerate(kinds)
            if kind is Kind.BYTE
        }
        special = (Kind.CONTROL, Kind.UNKNOWN)
        self._special = {id for id, kind in enumerate(kinds) if kind in special}
        self.size = len(self._pieces)
        self.has_byte_fallback = bool(proto.trainer_spec.byte_fallback)

    def _read_fast(self, content: bytes) -> None:
        try:
            text = content.decode()
            spec = parse_object(text, self.name)
            fast = FastEncoder.parse(text, self.name)
        except UnicodeDecodeError as error:
            raise InputError(f"{self.name}: not a fast tokenizer: {error}.") from None
        self._encode = fast.encode_batch
        added = spec.get("added_tokens") or []
        vocabulary = fast.vocabulary()
        self.size = 1 + max(vocabulary.values(), default=-1)
        check_size(self.size - 1, len(vocabulary), self.name)
        self._pieces = [""] * self.size
        for piece, id in vocabulary.items():
            self._pieces[id] = piece
        falls_back = bool(spec["model"].get("byte_fallback"))
        self._bytes = {
            vocabulary[f"<0x{byte:02X}>"]: byte
            for byte in range(256 if falls_back else 0)
            if f"<0x{byte:02X}>" in vocabulary
        }
        self._special = {token["id"] for token in added if token.get("special")}
        self.has_byte_fallback = len(self._bytes) == 256


def read_tokenizer(name: str) -> BaseTokenizer:
    """Read any tokenizer, as `read_base` does; one that it refuses, for use alone.

    Raises:
        InputError: There is no tokenizer in that place, or no library reads it.
        UsageError: There is no such place.
    """
    path = find_tokenizer_file(name)
    try:
        return read_base(str(path))
    except InputError as error:
        return OtherTokenizer(path, str(error).partition("\n")[0])
