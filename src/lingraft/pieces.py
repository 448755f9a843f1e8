"""SentencePiece BPE models: pieces, their bytes and their ids.

Three things, never mixed: a *piece* is what the vocabulary file spells ("▁the", "<0xE5>"), its
*bytes* are the text it stands for (" the", one byte 0xE5), its *id* is its place in the file.

A piece alone is spelled by a copy of the model without dummy prefix and normaliser: the very
merge loop, given the bare string. So `spell` holds no second implementation that could differ.

Source of the file format: sentencepiece's own schema, `sentencepiece_model.proto`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import InputError

__all__ = ["SPACE", "Kind", "SentencePieces", "parse_model"]

SPACE = "\u2581"
"""The sign ▁ that stands for a space inside pieces."""
_MODEL_BPE = 2  # TrainerSpec.ModelType


class Kind(IntEnum):
    """What a piece is to SentencePiece; the numbers are those of its schema."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def parse_model(content: bytes, name: str) -> Any:
    """Parse a SentencePiece BPE model into its `ModelProto`.

    Args:
        content: The file's bytes.
        name: What messages call it.

    Raises:
        InputError: It is not a SentencePiece model, or not one that uses BPE.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    way_out = "Give the tokenizer.model of a Llama, Mistral or Mixtral."
    try:
        proto.ParseFromString(content)
    except DecodeError:
        raise InputError(f"{name}: not a SentencePiece model.", way_out=way_out) from None
    if not proto.pieces:
        raise InputError(f"{name}: a SentencePiece model without pieces.", way_out=way_out)
    broken = next((n for n, p in enumerate(proto.pieces) if not isinstance(p.piece, str)), -1)
    if broken >= 0:
        raise InputError(
            f"{name}: piece {broken} is no UTF-8: {proto.pieces[broken].piece!r}.",
            effect="It would be a piece of no text.",
            way_out="Fetch the file again.",
        )
    if proto.trainer_spec.model_type != _MODEL_BPE:
        kind = proto.trainer_spec.ModelType.Name(proto.trainer_spec.model_type)
        raise InputError(
            f"{name}: a SentencePiece model of type {kind}; expected BPE.",
            effect="Merge rules added to another algorithm would not be rules.",
            way_out=way_out,
        )
    return proto


class SentencePieces:
    """One SentencePiece BPE model.

    Attributes:
        name: What messages call it.
        proto: Its file content.
        pieces: Pieces as spelled in the file; the index is the id.
        scores: float32 scores; among pairs that can merge, the highest score goes first.
        kinds: What each piece is.
        ids: Piece to id.
        bos_id, eos_id, unk_id: Ids of `<s>`, `</s>` and `<unk>`.
        has_byte_fallback: Whether unknown characters become byte pieces instead of `<unk>`.
    """

    def __init__(self, proto: bytes, name: str = "tokenizer.model") -> None:
        """Load a model from a file's content; `read` is the way from a path.

        Raises:
            InputError: Not a SentencePiece BPE model, a damaged one, or one without BOS or EOS.
        """
        import sentencepiece

        model = parse_model(proto, name)
        self.name, self.proto = name, proto
        self.pieces: tuple[str, ...] = tuple(p.piece for p in model.pieces)
        self.scores: tuple[float, ...] = tuple(p.score for p in model.pieces)
        self.kinds: tuple[Kind, ...] = tuple(Kind(p.type) for p in model.pieces)
        self.ids: dict[str, int] = {piece: id for id, piece in enumerate(self.pieces)}
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except (RuntimeError, UnicodeDecodeError) as error:  # a message may be no UTF-8, too
            raise InputError(
                f"{name}: SentencePiece cannot load it: {error}.", way_out="Fetch the file again."
            ) from None
        self.bos_id = self._special("BOS", self._processor.bos_id())
        self.eos_id = self._special("EOS", self._processor.eos_id())
        self.unk_id: int = self._processor.unk_id()
        self.has_byte_fallback = bool(model.trainer_spec.byte_fallback)

    @classmethod
    def read(cls, path: Path) -> SentencePieces:
        """Read a `.model` file.

        Raises:
            InputError: There is no such file, or `__init__` refuses its content.
        """
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise InputError(f"{path}: no such file; expected a SentencePiece model.") from None
        return cls(content, str(path))

    def encode(self, text: str) -> list[int]:
        """Give the ids of a text as SentencePiece does: dummy prefix, no BOS, no EOS."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of many texts, on all cores; as `encode` for each."""
        batch: list[list[int]] = self._processor.encode(list(texts))
        return batch

    def normalize(self, text: str) -> str:
        """Give the text that is cut into pieces: normalised, spaces marked, prefix before it."""
        return str(self._processor.normalize(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids; bytes that are no UTF-8 become U+FFFD."""
        text: str = self._processor.decode(list(ids))
        return text

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Give the texts of many id lists, on all cores; as `decode` for each."""
        texts: list[str] = self._processor.decode([list(ids) for ids in batch])
        return texts

    def spell(self, piece: str) -> list[int]:
        """Give the ids of a piece alone: no dummy prefix, bytes where a character is unknown.

        Raises:
            InputError: A character is unknown and the model has no byte pieces.
        """
        ids: list[int] = self._bare.encode(piece)
        if self.unk_id in ids:
            raise InputError(
                f"{self.name}: cannot spell {piece!r}: a character is unknown, and the model has "
                "no byte pieces.",
                effect="Its spelling would be <unk>, the same for every such piece.",
                way_out="Use a base tokenizer with byte fallback.",
            )
        return ids

    def piece_bytes(self, id: int) -> bytes:
        """Give the bytes a piece stands for: ▁ is a space, a control piece is empty."""
        piece, kind = self.pieces[id], self.kinds[id]
        if kind is Kind.BYTE:
            return bytes([int(piece[1:-1], 16)])
        if kind in (Kind.CONTROL, Kind.UNKNOWN):
            return b""
        return piece.replace(SPACE, " ").encode()

    @cached_property
    def _bare(self) -> Any:
        """The same merge rules on the bare string."""
        import sentencepiece

        proto = parse_model(self.proto, self.name)
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.precompiled_charsmap = b""
        proto.normalizer_spec.add_dummy_prefix = False
        proto.normalizer_spec.remove_extra_whitespaces = False
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    def _special(self, role: str, id: int) -> int:
        if id < 0:
            raise InputError(
                f"{self.name}: has no {role} piece.",
                effect="Documents could not be told apart in training.",
                way_out="Give the tokenizer of a Llama-like model.",
            )
        return id
