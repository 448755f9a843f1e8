"""Which pieces fit a byte-level base, and the merge rules that make them.

On bytes a merge rule is a pair, and pairs join only inside pre-tokens. So a piece must be spelled
in two pieces by the rules before it, as for SentencePiece, and its text must be one pre-token that
the normaliser leaves alone. New rules come after all of the base's: the base joins first.

With `ignore_merges` (Llama 3) a pre-token that is in the vocabulary is taken whole. A piece that
the rules make of its own text is the same either way.
"""

from __future__ import annotations

from itertools import pairwise

from ..bases import BORDER, ByteLevelBase
from .piecerules import NOT_TWO, Misfit, PieceRow

__all__ = ["ByteRules", "byte_row"]

_WIDTHS = ((0x80, 1), (0xC2, 0), (0xE0, 2), (0xF0, 3), (0xF5, 4))
"""First bytes below the bound begin characters of so many bytes; 0: they begin none."""


def byte_row(base: ByteLevelBase, data: bytes) -> PieceRow:
    """Give the row of a piece that stands for `data`."""
    try:
        kind = "char" if len(data.decode()) == 1 else "rule"
    except UnicodeDecodeError:
        kind = "partial"
    return PieceRow(base.spell_bytes(data), kind)


class ByteRules:
    """Pieces and merge rules added to a byte-level base, one after another.

    Attributes:
        pairs: Added piece to the two pieces that its rule joins.
    """

    def __init__(self, base: ByteLevelBase) -> None:
        """Begin with none."""
        self._base = base
        self.pairs: dict[str, tuple[str, str]] = {}
        self._ranks: dict[tuple[str, str], int] = {}
        self._added_text = {
            base.piece(id) for id in range(base.size) if base.piece(id) and not base.is_normal(id)
        }

    def add(self, row: PieceRow) -> Misfit | None:
        """Add a piece and its rule, unless it does not fit; then tell why."""
        misfit = self._find_misfit(row)
        if misfit is None:
            self._enter(row.piece)
        return misfit

    def spell(self, piece: str) -> list[str]:
        """Spell a piece with the base's rules and those added so far."""
        data = self._base.read_piece(piece)
        symbols = [self._base.piece(id) for id in self._base.spell(data)]
        while True:
            joined = [
                (self._ranks[pair], i)
                for i, pair in enumerate(pairwise(symbols))
                if pair in self._ranks
            ]
            if not joined:
                return symbols
            _, i = min(joined)  # the earliest rule, leftmost first
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]

    def _show(self, piece: str) -> str:
        """Show a piece as text, or as bytes where it is no text."""
        try:
            return repr(self._base.read_piece(piece).decode())
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in self._base.read_piece(piece))
        except KeyError:
            return repr(piece)

    def _enter(self, piece: str) -> None:
        left, right = self.spell(piece)
        self.pairs[piece] = (left, right)
        self._ranks[left, right] = len(self._ranks)

    def _find_misfit(self, row: PieceRow) -> Misfit | None:
        piece = row.piece
        if piece in self.pairs or self._base.find_piece(piece) is not None:
            place = "the list" if piece in self.pairs else "the base"
            return Misfit(
                "there already",
                f"{place} has this piece already.",
                "One piece would have two ids and two embedding rows.",
            )
        misfit = self._check_text(row)
        if misfit:
            return misfit
        symbols = self.spell(piece)
        shown = " ".join(map(self._show, symbols))
        if len(symbols) != 2:
            return Misfit(
                NOT_TWO,
                f"the rules before it spell it {shown}; expected 2 pieces.",
                "No single merge rule would make it; added with several, it would change others.",
                "List the pieces that it is made of before it (of a character, its first bytes), "
                "or take it off the list.",
            )
        if (row.left or row.right) and [row.left, row.right] != symbols:
            return Misfit(
                "other parts than its row says",
                f"the rules before it spell it {shown}; its row says "
                f"{self._show(row.left)} {self._show(row.right)}.",
                "What the search scored would not be what the tokenizer does.",
                "Make the list with this base tokenizer.",
            )
        return None

    def _check_text(self, row: PieceRow) -> Misfit | None:
        """Find out whether a text can lead to the piece."""
        try:
            data = self._base.read_piece(row.piece)
        except KeyError:
            data = b""
        if not data:
            return Misfit(
                "no text of this base",
                "expected the base's byte alphabet, one visible character for each byte.",
                "No text could produce it.",
                "List it as text: a JSON string in pieces.txt.",
            )
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None if _begins_a_character(data) else _HALF
        (ids,) = self._base.encode_words([text])
        if BORDER in ids or any(self._base.piece(id) in self._added_text for id in ids.tolist()):
            return Misfit(
                "cut apart before merging",
                f"the base cuts {text!r} apart before it merges.",
                "No text could produce it.",
            )
        made = b"".join(map(self._base.piece_bytes, ids.tolist()))
        if made not in (data, b" " + data):  # some bases put a space before every text
            return Misfit(
                "changed by the normaliser",
                f"the base's normaliser turns {text!r} into {made.decode(errors='replace')!r}.",
                "No text could produce it.",
            )
        return None


_HALF = Misfit(
    "half a character",
    "its bytes are no text, and not the beginning of one character either.",
    "It would join parts of neighbouring characters, in other languages too.",
)


def _begins_a_character(data: bytes) -> bool:
    width = next((width for bound, width in _WIDTHS if data[0] < bound), 0)
    return len(data) < width and all(0x80 <= byte < 0xC0 for byte in data[1:])
