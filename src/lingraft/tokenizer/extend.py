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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError
from ..pieces import SPACE, Kind, SentencePieces, parse_model

__all__ = ["PieceRow", "added_scores", "extend_model", "parse_rows"]

_TOP = -1e9
"""Llama-like models give this score to runs of spaces, below every rule that was learned."""
_STEP = 64.0
"""Distance of neighbouring float32 numbers just below -1e9."""
_EFFECT = "Some texts would get other ids from SentencePiece than from the fast tokenizer."


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
        if not isinstance(row.piece, str) or row.kind not in ("char", "rule"):
            raise InputError(
                f"{name}:{number}: piece {row.piece!r} of kind {row.kind!r}; expected text, and "
                "'char' or 'rule'.",
                way_out="Make the list again: --redo vocab.",
            )
        rows.append(row)
    return rows


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
    if not rows:
        return base.proto
    ranks: dict[str, int] = {}
    for n, row in enumerate(rows):
        _refuse_unfit(base, ranks, n, row)
        ranks[row.piece] = n
    proto = parse_model(base.proto, base.name)
    scores = added_scores(min(base.scores), len(rows))
    for row, score in zip(rows, scores, strict=True):
        proto.pieces.add(piece=row.piece, score=float(score), type=int(Kind.NORMAL))
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


def _refuse_unfit(base: SentencePieces, ranks: Mapping[str, int], n: int, row: PieceRow) -> None:
    """Refuse a row that is not exactly one character or one rule."""
    where = f"added piece {n} ({row.piece!r}, {row.kind})"
    if not row.piece or " " in row.piece:
        raise InputError(
            f"{where}: expected text in which {SPACE} stands for every space.",
            effect="No text could produce it.",
            way_out="Take it off the list.",
        )
    if row.piece in base.ids or row.piece in ranks:
        place = "the base" if row.piece in base.ids else f"the list, at {ranks[row.piece]},"
        raise InputError(
            f"{where}: {place} has this piece already.",
            effect="One piece would have two ids and two embedding rows.",
            way_out="Take it off the list.",
        )
    symbols = _spell_so_far(base, ranks, row.piece)
    if row.kind == "char" and len(row.piece) == 1:
        return
    if row.kind == "char" or len(symbols) != 2 or not all(isinstance(s, str) for s in symbols):
        expected = "one character" if row.kind == "char" else "2 pieces"
        raise InputError(
            f"{where}: the rules before it spell it {_show(base, symbols)}; expected {expected}.",
            effect=_EFFECT,
            way_out="List the pieces that it is made of before it, or take it off the list.",
        )
    if (row.left or row.right) and [row.left, row.right] != symbols:
        raise InputError(
            f"{where}: the rules before it spell it {_show(base, symbols)}; its row says "
            f"{row.left!r} {row.right!r}.",
            effect="What the search scored would not be what the tokenizer does.",
            way_out="Make the list with this base tokenizer: --redo vocab.",
        )


def _spell_so_far(base: SentencePieces, ranks: Mapping[str, int], piece: str) -> list[str | int]:
    """Spell a piece with the base and the rules added so far: pieces, and ids of lone bytes."""
    symbols = _base_symbols(base, ranks, piece)
    while True:
        joined = [
            (ranks[a + b], i)
            for i, (a, b) in enumerate(pairwise(symbols))
            if isinstance(a, str) and isinstance(b, str) and a + b in ranks
        ]
        if not joined:
            return symbols
        _, i = min(joined)  # the earliest rule, leftmost first
        symbols[i : i + 2] = [f"{symbols[i]}{symbols[i + 1]}"]


def _base_symbols(base: SentencePieces, ranks: Mapping[str, int], piece: str) -> list[str | int]:
    symbols: list[str | int] = []
    ids = base.spell(piece)
    while ids:
        if base.kinds[ids[0]] is not Kind.BYTE:
            symbols.append(base.pieces[ids.pop(0)])
            continue
        width = _char_bytes(base.piece_bytes(ids[0])[0])
        spelled, ids = ids[:width], ids[width:]
        char = b"".join(base.piece_bytes(id) for id in spelled).decode()
        symbols.extend([char] if char in ranks else spelled)
    return symbols


def _char_bytes(lead: int) -> int:
    """Bytes of the UTF-8 character that starts with the byte `lead`."""
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _show(base: SentencePieces, symbols: Sequence[str | int]) -> str:
    return " ".join(repr(s) if isinstance(s, str) else base.pieces[s] for s in symbols)
