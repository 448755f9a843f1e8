"""Base tokenizers of both families, read from wherever they are.

*sentencepiece*: BPE with byte fallback, from a `tokenizer.model`, or from a `tokenizer.json` of
the same kind (byte fallback, ▁ for spaces). *byte-level*: BPE on bytes inside pre-tokens, as GPT-2
does it, from a `tokenizer.json`. Everything else is refused: new pieces grow by merge rules out of
the base's tokens, and no text may fall through to <unk>. Byte-level vocabularies that lack some
bytes are read; what that means, `fastbases` tells.

Special pieces are never read out of text: literal "<s>" stays text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .basetypes import BORDER, BaseTokenizer, RuleArrays, check_bytes, pack_rules
from .errors import InputError
from .fastbases import ByteLevelBase, FastSentencePieceBase, read_fast_base
from .hub import fetch_snapshot
from .pieces import Kind, SentencePieces, parse_model
from .sources import is_hub_source, locate_source

__all__ = [
    "BORDER",
    "BaseTokenizer",
    "ByteLevelBase",
    "FastSentencePieceBase",
    "RuleArrays",
    "SentencePieceBase",
    "find_tokenizer_file",
    "locate_tokenizer",
    "read_base",
]

_FILES = ("tokenizer.model", "tokenizer.json")
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class SentencePieceBase(BaseTokenizer):
    """A `tokenizer.model`, encoded by sentencepiece itself."""

    family = "sentencepiece"

    def __init__(self, pieces: SentencePieces) -> None:
        """Wrap a SentencePiece model.

        Raises:
            InputError: It has no byte fallback, or pieces marked as unused.
        """
        self.pieces, self.name = pieces, pieces.name
        self.size = len(pieces.pieces)
        self.digest = hashlib.sha256(pieces.proto).hexdigest()
        self._bytes = {pieces.piece_bytes(i)[0]: i for i in self._of_kind(Kind.BYTE)}
        check_bytes(self.name, pieces.has_byte_fallback, len(self._bytes))
        if Kind.UNUSED in pieces.kinds:
            raise InputError(
                f"{self.name}: has pieces marked as unused.",
                effect="They are made and taken apart again; no rule can grow out of them.",
                way_out="Mark them as normal, or use another base.",
            )
        spec = parse_model(pieces.proto, self.name).normalizer_spec
        self.has_normalizer = bool(spec.precompiled_charsmap) or not spec.escape_whitespaces

    @property
    def byte_ids(self) -> list[int]:
        """Ids of the 256 byte pieces."""
        return [self._bytes[byte] for byte in range(256)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the ids of each text, as sentencepiece does."""
        return self.pieces.encode_batch(texts)

    def piece(self, id: int) -> str:
        """Give a piece as spelled in the file."""
        return self.pieces.pieces[id]

    def piece_bytes(self, id: int) -> bytes:
        """Give the bytes that a piece stands for."""
        return self.pieces.piece_bytes(id)

    def is_normal(self, id: int) -> bool:
        """Whether a piece is an ordinary one."""
        return self.pieces.kinds[id] is Kind.NORMAL

    def spell(self, data: bytes) -> tuple[int, ...]:
        """Give the id of the character's piece, or of its bytes."""
        id = self.find_piece(data.decode())
        return (id,) if id is not None else tuple(self._bytes[byte] for byte in data)

    def find_piece(self, piece: str) -> int | None:
        """Give the id of an ordinary or user-defined piece."""
        id = self.pieces.ids.get(piece)
        known = id is not None and self.pieces.kinds[id] in (Kind.NORMAL, Kind.USER_DEFINED)
        return id if known else None

    def rule_arrays(self, keep: Callable[[str], bool] = lambda _: True) -> RuleArrays:
        """Give every pair of ordinary pieces that joins into one; higher scores go first."""
        normal = {self.pieces.pieces[i]: i for i in self._of_kind(Kind.NORMAL)}
        scores, rows = self.pieces.scores, list(_splits(normal, keep))
        ranks = {s: r for r, s in enumerate(sorted({scores[row[2]] for row in rows}, reverse=True))}
        return pack_rules([(*row, ranks[scores[row[2]]]) for row in rows])

    def _of_kind(self, kind: Kind) -> Iterator[int]:
        return (id for id, found in enumerate(self.pieces.kinds) if found is kind)


def read_base(name: str) -> BaseTokenizer:
    """Read a base tokenizer.

    Args:
        name: A `tokenizer.model`, a `tokenizer.json`, a folder that holds one of them (the former
            is preferred), `package:NAME/inner/path` to one of these, or a repository of the hub:
            `hub:OWNER/NAME`, or `OWNER/NAME` where there is no such path.

    Raises:
        InputError: There is no tokenizer in that place, or one of another kind.
        UsageError: There is no such place.
    """
    path = find_tokenizer_file(name)
    if path.suffix != ".json":
        return SentencePieceBase(SentencePieces.read(path))
    return read_fast_base(path)


def find_tokenizer_file(name: str) -> Path:
    """Find the file of a tokenizer; what `name` may be, `read_base` tells.

    Raises:
        InputError: The folder holds none, or there is no such file.
        UsageError: There is no such place.
    """
    path = locate_tokenizer(name)
    if path.is_dir():
        found = [path / file for file in _FILES if (path / file).is_file()]
        if not found:
            raise InputError(
                f"{name}: holds neither {' nor '.join(_FILES)}.", way_out="Name the file itself."
            )
        return found[0]
    return path


def locate_tokenizer(name: str) -> Path:
    """Find the file or folder of a tokenizer; what `name` may be, `read_base` tells.

    Raises:
        UsageError: There is no such place.
    """
    owner, slash, repository = name.partition("/")
    plain = bool(slash and owner and repository) and "/" not in repository and owner[0] not in ".~"
    named = plain and ":" not in name and Path(repository).suffix not in (".model", ".json")
    if is_hub_source(name) or (named and not Path(name).exists()):
        return fetch_snapshot(name, "model", "main", _FILES + _CONFIGS)
    return locate_source(name)


def _splits(
    normal: Mapping[str, int], keep: Callable[[str], bool]
) -> Iterator[tuple[int, int, int]]:
    """Give left, right and joined ids of every piece that passes `keep`, at every cut."""
    for piece, id in normal.items():
        if keep(piece):
            for cut in range(1, len(piece)):
                left, right = normal.get(piece[:cut]), normal.get(piece[cut:])
                if left is not None and right is not None:
                    yield left, right, id
