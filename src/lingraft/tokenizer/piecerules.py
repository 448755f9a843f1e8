"""Add pieces to a SentencePiece BPE model, below everything it has.

A piece may enter only if the rules before it spell it in exactly two pieces: then there is one
rule that makes it, SentencePiece (which knows scores, not rules) and the fast tokenizer (which
knows rules, not scores) apply the same one, and some text produces it.

How the piece is spelled so far needs no second encoder: all added rules rank below all of the
base's, so the base's spelling of the piece comes first, whole, and the added rules then join
parts of it. A character that the base spells in bytes becomes one symbol once it is added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..bases import FastSentencePieceBase
from ..errors import InputError
from ..pieces import SPACE, Kind, SentencePieces, parse_model

__all__ = [
    "EFFECT",
    "NOT_TWO",
    "Misfit",
    "PieceRow",
    "PieceRules",
    "Spelling",
    "added_scores",
    "append_pieces",
    "extend_model",
    "parse_rows",
]

_TOP = -1e9
"""Llama-like models give this score to runs of spaces, below every rule that was learned."""
_STEP = 64.0
"""Distance of neighbouring float32 numbers just below -1e9."""
EFFECT = "Some texts would get other ids from SentencePiece than from the fast tokenizer."
"""What a piece that no single rule makes would lead to."""
NOT_TWO = "not 2 pieces by the rules before it"
"""The reason of such a piece."""
_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
_KINDS = ("char", "rule", "partial")


@dataclass(frozen=True)
class PieceRow:
    """A row of `pieces.jsonl`; `left` and `right` are empty where the list does not say."""

    piece: str
    kind: str
    left: str = ""
    right: str = ""
    count: int = 0


def parse_rows(lines: Iterable[str], name: str) -> list[PieceRow]:
    """Read the rows of a piece list.

    Args:
        lines: JSON objects, one a line.
        name: What messages call the list.

    Raises:
        InputError: A line is not such a row; it is named.
    """
    rows: list[PieceRow] = []
    for number, line in enumerate(lines, 1):
        try:
            row = PieceRow(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise InputError(
                f"{name}:{number}: not a row of a piece list: {error}.",
                way_out="Make the list again: --redo vocab.",
            ) from None
        if not isinstance(row.piece, str) or row.kind not in _KINDS:
            raise InputError(
                f"{name}:{number}: piece {row.piece!r} of kind {row.kind!r}; expected text, and "
                "'char', 'rule' or 'partial'.",
                way_out="Make the list again: --redo vocab.",
            )
        rows.append(row)
    return rows


class Misfit(NamedTuple):
    """Why a piece cannot be added.

    Attributes:
        reason: In a few words, the same for all pieces of this sort.
        what: About this piece.
        effect: What adding it would have led to.
        way_out: What its list can do.
    """

    reason: str
    what: str
    effect: str
    way_out: str = "Take it off the list."

    def error(self, where: str) -> InputError:
        """Give the refusal of the piece at `where`."""
        return InputError(f"{where}: {self.what}", effect=self.effect, way_out=self.way_out)


@dataclass(frozen=True)
class Spelling:
    """A SentencePiece-like base, as far as adding pieces asks."""

    ids: Mapping[str, int]
    piece: Callable[[int], str]
    is_normal: Callable[[int], bool]
    spell: Callable[[str], Sequence[int]]
    """Ids of a piece alone."""

    @classmethod
    def of_model(cls, base: SentencePieces) -> Spelling:
        """See a `tokenizer.model`."""
        return cls(
            ids=base.ids,
            piece=base.pieces.__getitem__,
            is_normal=lambda id: base.kinds[id] is Kind.NORMAL,
            spell=base.spell,
        )

    @classmethod
    def of_fast(cls, base: FastSentencePieceBase) -> Spelling:
        """See a `tokenizer.json` of this kind."""
        return cls(
            ids={base.piece(id): id for id in range(base.size)},
            piece=base.piece,
            is_normal=base.is_normal,
            spell=base.spell_piece,
        )


class PieceRules:
    """Pieces added to a SentencePiece-like base, one after another.

    Attributes:
        ranks: Added piece to its place among them.
    """

    def __init__(self, base: Spelling) -> None:
        """Begin with none."""
        self._base = base
        self.ranks: dict[str, int] = {}

    def add(self, row: PieceRow) -> Misfit | None:
        """Add a piece, unless it does not fit; then tell why."""
        misfit = self._find_misfit(row)
        if misfit is None:
            self.ranks[row.piece] = len(self.ranks)
        return misfit

    def splits(self, piece: str) -> list[tuple[str, str]]:
        """Give every pair of pieces that joins into `piece`, in the order of `fast.merge_rules`."""
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        places = [(self._place(left), self._place(right)) for left, right in pairs]
        known = [(p, pair) for p, pair in zip(places, pairs, strict=True) if None not in p]
        return [pair for _, pair in sorted(known)]

    def _place(self, piece: str) -> int | None:
        if piece in self.ranks:
            return len(self._base.ids) + self.ranks[piece]
        id = self._base.ids.get(piece)
        return id if id is not None and self._base.is_normal(id) else None

    def _check_text(self, row: PieceRow) -> Misfit | None:
        """Find out whether the piece is text, and not there yet."""
        piece, ranks = row.piece, self.ranks
        if row.kind == "partial":
            return Misfit(
                "half a character",
                "bytes of a half character; SentencePiece cuts text into whole ones.",
                "No text could produce it.",
                "Take it off the list: such pieces are for byte-level bases.",
            )
        if not piece or " " in piece:
            return Misfit(
                "no text of SentencePiece",
                f"expected text in which {SPACE} stands for every space.",
                "No text could produce it.",
            )
        if piece in self._base.ids or piece in ranks:
            place = "the base" if piece in self._base.ids else f"the list, at {ranks[piece]},"
            return Misfit(
                "there already",
                f"{place} has this piece already.",
                "One piece would have two ids and two embedding rows.",
            )
        return None

    def _find_misfit(self, row: PieceRow) -> Misfit | None:
        misfit, piece = self._check_text(row), row.piece
        if misfit:
            return misfit
        symbols = self._spell_so_far(piece)
        if row.kind == "char" and len(piece) == 1:
            return None
        if row.kind == "char" or len(symbols) != 2 or not all(isinstance(s, str) for s in symbols):
            expected = "one character" if row.kind == "char" else "2 pieces"
            return Misfit(
                NOT_TWO,
                f"the rules before it spell it {self._show(symbols)}; expected {expected}.",
                EFFECT,
                "List the pieces that it is made of before it, or take it off the list.",
            )
        if (row.left or row.right) and [row.left, row.right] != symbols:
            return Misfit(
                "other parts than its row says",
                f"the rules before it spell it {self._show(symbols)}; its row says "
                f"{row.left!r} {row.right!r}.",
                "What the search scored would not be what the tokenizer does.",
                "Make the list with this base tokenizer: --redo vocab.",
            )
        return None

    def _spell_so_far(self, piece: str) -> list[str | int]:
        """Spell a piece with the base and the rules so far: pieces, and ids that cannot join."""
        symbols = self._base_symbols(piece)
        while True:
            joined = [
                (self.ranks[a + b], i)
                for i, (a, b) in enumerate(pairwise(symbols))
                if isinstance(a, str) and isinstance(b, str) and a + b in self.ranks
            ]
            if not joined:
                return symbols
            _, i = min(joined)  # the earliest rule, leftmost first
            symbols[i : i + 2] = [f"{symbols[i]}{symbols[i + 1]}"]

    def _base_symbols(self, piece: str) -> list[str | int]:
        symbols: list[str | int] = []
        ids = list(self._base.spell(piece))
        while ids:
            spelled, is_normal = self._base.piece(ids[0]), self._base.is_normal(ids[0])
            if is_normal or not _BYTE_PIECE.fullmatch(spelled):
                symbols.append(spelled if is_normal else ids[0])
                del ids[0]
                continue
            width = _char_bytes(int(spelled[1:-1], 16))
            bytes_, ids = ids[:width], ids[width:]
            char = bytes(int(self._base.piece(id)[1:-1], 16) for id in bytes_).decode()
            symbols.extend([char] if char in self.ranks else bytes_)
        return symbols

    def _show(self, symbols: Sequence[str | int]) -> str:
        return " ".join(repr(s) if isinstance(s, str) else self._base.piece(s) for s in symbols)


def extend_model(base: SentencePieces, rows: Sequence[PieceRow]) -> bytes:
    """Append pieces to a model.

    Args:
        base: The base tokenizer; its ids, pieces and scores stay as they are.
        rows: Pieces in the order of their ids to come, which is also that of their rules.

    Returns:
        Content of the extended `tokenizer.model`; the base's own bytes where `rows` is empty.

    Raises:
        InputError: A piece is there already, or is not spelled in two pieces by the rules
            before it, or not in the two that its row names.
    """
    rules = PieceRules(Spelling.of_model(base))
    for n, row in enumerate(rows):
        misfit = rules.add(row)
        if misfit:
            raise misfit.error(f"added piece {n} ({row.piece!r}, {row.kind})")
    return append_pieces(base, [(row.piece, Kind.NORMAL) for row in rows])


def append_pieces(
    base: SentencePieces, added: Sequence[tuple[str, Kind]], scores: Sequence[float] | None = None
) -> bytes:
    """Append pieces that are known to fit, below everything the base has.

    Args:
        base: The base tokenizer.
        added: Pieces and what they are, in the order of their ids to come.
        scores: None: `added_scores`, also for control pieces, which do not use them.

    Returns:
        Content of the extended `tokenizer.model`; the base's own bytes where nothing is added.
    """
    if not added:
        return base.proto
    proto = parse_model(base.proto, base.name)
    below = added_scores(min(base.scores), len(added)) if scores is None else scores
    for (piece, kind), score in zip(added, below, strict=True):
        proto.pieces.add(piece=piece, score=float(score), type=int(kind))
    proto.trainer_spec.vocab_size = len(proto.pieces)
    # Older files may hold samples of how the base encodes, which loading checks; today's
    # schema does not know that field.
    proto.DiscardUnknownFields()
    return bytes(proto.SerializeToString(deterministic=True))


def added_scores(lowest: float, count: int) -> np.ndarray:
    """Give `count` scores below `lowest` and below -1e9, descending, distinct in float32."""
    top = min(lowest, _TOP)
    step = max(_STEP, float(np.spacing(np.float32(-top))))
    while True:
        scores = (top - step * np.arange(1, count + 1, dtype=np.float64)).astype(np.float32)
        if scores.size == 0 or (scores[0] < top and bool(np.all(np.diff(scores) < 0))):
            return scores
        step *= 2  # so many pieces that float32 grew coarser on the way


def _char_bytes(lead: int) -> int:
    """Bytes of the UTF-8 character that starts with the byte `lead`."""
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
