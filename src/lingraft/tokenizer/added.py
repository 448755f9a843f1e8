"""The pieces that an extended tokenizer has and its base has not."""

from __future__ import annotations

from dataclasses import dataclass

from ..basetypes import BaseTokenizer
from ..pieces import SPACE
from .literal import read_specials

__all__ = ["Added", "added_pieces", "added_specials", "show_bytes", "show_piece"]


@dataclass(frozen=True)
class Added:
    """An added piece that text can become.

    Attributes:
        id: Its id.
        piece: As spelled in the vocabulary.
        data: The bytes that it stands for.
        stands: Whether it is read out of the text as it stands, before any merge rule.
        special: Whether it is a special token: one that no text should become.
    """

    id: int
    piece: str
    data: bytes
    stands: bool
    special: bool = False

    @property
    def shown(self) -> str:
        """Its text as a person reads it; its bytes where it is no text."""
        return show_bytes(self.data)

    @property
    def text(self) -> str:
        """Its text; what is no whole character is left out."""
        return self.data.decode(errors="ignore")

    @property
    def is_text(self) -> bool:
        """Whether it begins and ends between characters."""
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return False
        return True


def added_pieces(tokenizer: BaseTokenizer, base_size: int) -> list[Added]:
    """List the added pieces that text can become, by id; special ones only if text does."""
    beside = [id for id, piece in added_specials(tokenizer, base_size) if piece]
    specials = read_specials(tokenizer, beside)
    found = []
    for id in range(base_size, tokenizer.size):
        piece, data = tokenizer.piece(id), tokenizer.piece_bytes(id)
        if data:
            found.append(Added(id, piece, data, not tokenizer.is_normal(id)))
        elif id in specials:
            found.append(Added(id, piece, specials[id], stands=False, special=True))
    return found


def added_specials(tokenizer: BaseTokenizer, base_size: int) -> list[tuple[int, str]]:
    """List id and piece of what was added and no text should become: specials and padding."""
    return [
        (id, tokenizer.piece(id))
        for id in range(base_size, tokenizer.size)
        if not tokenizer.piece_bytes(id)
    ]


def show_bytes(data: bytes) -> str:
    """Give the text of bytes, ▁ for a space; `<0xE5>` for each byte of what is no text."""
    try:
        return data.decode().replace(" ", SPACE)
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)


def show_piece(tokenizer: BaseTokenizer, id: int) -> str:
    """Give a piece as a person reads it: byte-level vocabularies have an alphabet of their own."""
    data = tokenizer.piece_bytes(id) if tokenizer.family == "byte-level" else b""
    return show_bytes(data) if data else tokenizer.piece(id)
