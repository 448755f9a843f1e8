"""Merge rules of either kind of file, seen the same way: which pair joins, and how early.

A SentencePiece model has no rules but scores: two neighbours join where their joined spelling is
a piece, the highest score first. A `tokenizer.json` lists its pairs, the earliest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..pieces import Kind, SentencePieces

__all__ = ["Join", "Rank", "list_ranks", "score_ranks", "trace"]

Rank = Callable[[str, str], float | None]
"""Rank of the rule that joins two neighbours; lower goes first; None: there is none."""


class Join(NamedTuple):
    """A rule at work: the symbols of text[begin:cut] and text[cut:end] became one."""

    begin: int
    cut: int
    end: int
    rank: float


def score_ranks(pieces: SentencePieces) -> Rank:
    """Give the ranks of a SentencePiece model."""
    ranks = {
        piece: -score
        for piece, score, kind in zip(pieces.pieces, pieces.scores, pieces.kinds, strict=True)
        if kind is Kind.NORMAL
    }
    return lambda left, right: ranks.get(left + right)


def list_ranks(rules: Sequence[tuple[str, str]]) -> Rank:
    """Give the ranks of listed rules: their places; a rule listed twice has the later one."""
    ranks: Mapping[tuple[str, str], int] = {rule: rank for rank, rule in enumerate(rules)}
    return lambda left, right: ranks.get((left, right))


def trace(text: str, rank: Rank, limit: float = float("inf")) -> tuple[list[str], list[Join]]:
    """Join the symbols of a text as the rules have it, the leftmost first among equal ranks.

    Args:
        text: Its characters are the first symbols.
        rank: The rules.
        limit: Only rules of lower rank are applied.

    Returns:
        The symbols that are left, and the joins in the order in which they were made.
    """
    symbols, begins, joins = list(text), list(range(len(text) + 1)), []
    ranks = [_below(rank(a, b), limit) for a, b in pairwise(symbols)]
    while ranks and (best := min(ranks)) < limit:
        i = ranks.index(best)
        joins.append(Join(begins[i], begins[i + 1], begins[i + 2], best))
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        del begins[i + 1], ranks[i]
        for at in (i - 1, i):
            if 0 <= at < len(ranks):
                ranks[at] = _below(rank(symbols[at], symbols[at + 1]), limit)
    return symbols, joins


def _below(rank: float | None, limit: float) -> float:
    return limit if rank is None or rank >= limit else rank
