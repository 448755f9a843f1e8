"""Do the added rules wait until the base is done, and is there one rule for each piece?

Every added rule below every rule of the base: the base's rules run to their end first, so added
rules only join what the base's encoding left, in any text: the extended encoding is a coarsening
of the base's. Distinct ranks, each piece made by one rule of two pieces: SentencePiece (which knows
scores) and a list of pairs (which knows order) then do the same.

Rules of the base may stand lower where they live apart: pieces made of characters that no added
piece has, and that no other piece of the base has a part in. Llama's runs of spaces are such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..pieces import Kind, SentencePieces
from .forms import Forms
from .kept import merges_of, spec_of
from .rules import Rank, list_ranks, score_ranks, trace

__all__ = ["Priority", "check_priority"]


@dataclass(frozen=True)
class Priority:
    """What is wrong with the order of the added rules; nothing, where all lists are empty.

    Attributes:
        lowest: Rank or score of the base's last rule that an added one could compete with.
        above: Added pieces whose rule does not rank below the base's.
        tied: Added pieces that share their rank with another.
        underived: Added pieces that the rules before theirs do not spell in two pieces, with
            what they are spelled in.
        stands: Added pieces that are read out of the text before any rule.
    """

    lowest: str
    above: Sequence[str] = ()
    tied: Sequence[str] = ()
    underived: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stands: Sequence[str] = ()

    @property
    def coarsens(self) -> bool:
        """Whether every text's extended encoding is the base's with neighbours joined."""
        return not self.above and not self.stands

    @property
    def is_one_tokenizer(self) -> bool:
        """Whether scores and a list of pairs must agree on every text."""
        return not self.tied and not self.underived


def check_priority(extended: Forms, base_size: int, stands: Sequence[str]) -> Priority:
    """Check the added rules of a tokenizer.

    Args:
        extended: The extended tokenizer.
        base_size: Number of ids of the base.
        stands: Added pieces that are read as they stand.

    Raises:
        InputError: The tokenizer's rules cannot be read.
    """
    if extended.model is not None:
        return _check_scores(extended.model, base_size, stands)
    return _check_list(extended, base_size, stands)


def _check_scores(model: SentencePieces, base_size: int, stands: Sequence[str]) -> Priority:
    scores = dict(zip(model.pieces, model.scores, strict=True))
    normal = [id for id, kind in enumerate(model.kinds) if kind is Kind.NORMAL]
    base = [model.pieces[id] for id in normal if id < base_size]
    added = [model.pieces[id] for id in normal if id >= base_size]
    rules = [piece for piece in base if len(piece) > 1]
    low = _apart(rules, base, [p for p in added if len(p) > 1], scores)
    floor = min((scores[p] for p in rules if p not in low), default=float("inf"))
    counts = Counter(scores[p] for p in added if len(p) > 1)
    return Priority(
        lowest=f"score {floor:g}",
        # Not `>= floor`: a score that is no number is below nothing, and must not pass.
        above=[p for p in added if len(p) > 1 and not scores[p] < floor],
        tied=[p for p in added if len(p) > 1 and counts[scores[p]] > 1],
        underived=_underived(added, {p: -scores[p] for p in added}, score_ranks(model), scores),
        stands=stands,
    )


def _apart(
    rules: Sequence[str],
    base: Sequence[str],
    added: Sequence[str],
    scores: Mapping[str, float],
) -> frozenset[str]:
    """Give the base's pieces that rank below an added one but never meet one; none if they do."""
    highest = max((scores[piece] for piece in added), default=float("-inf"))
    low = frozenset(piece for piece in rules if scores[piece] <= highest)
    chars = frozenset("".join(low))
    if not low or len(low) == len(rules) or not chars.isdisjoint("".join(added)):
        return frozenset()
    if any(part in piece for piece in base if piece not in low for part in low):
        return frozenset()
    return low


def _check_list(extended: Forms, base_size: int, stands: Sequence[str]) -> Priority:
    spec = spec_of(extended)
    rules, vocab = merges_of(spec), spec["model"]["vocab"]
    last = -1
    first: dict[str, int] = {}
    for number, (left, right) in enumerate(rules):
        made = left + right
        if max(vocab[left], vocab[right], vocab[made]) < base_size:
            last = number
        elif vocab[made] >= base_size:
            first.setdefault(made, number)
    added = [p for p, id in sorted(vocab.items(), key=lambda item: item[1]) if id >= base_size]
    # Special pieces stand in the vocabulary for their ids only; no rule makes them.
    beside = {token["content"] for token in spec.get("added_tokens") or []}.union(stands)
    below = {piece: first.get(piece, len(rules)) for piece in added}
    return Priority(
        lowest=f"rule {last:,}",
        above=[piece for piece in added if below[piece] < last],
        underived=_underived(
            [p for p in added if p not in beside], below, list_ranks(rules), vocab
        ),
        stands=stands,
    )


def _underived(
    added: Iterable[str], own: Mapping[str, float], rank: Rank, known: Mapping[str, object]
) -> dict[str, Sequence[str]]:
    """Spell each piece by the rules before its own; give those that do not end in two pieces."""
    found: dict[str, Sequence[str]] = {}
    for piece in added:
        if len(piece) > 1:
            symbols = trace(piece, rank, own[piece])[0]
            whole = len(symbols) == 2 and all(symbol in known for symbol in symbols)
            if not whole or rank(symbols[0], symbols[1]) is None:
                found[piece] = symbols
    return found
