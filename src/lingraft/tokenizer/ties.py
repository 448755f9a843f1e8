"""Why a SentencePiece model and its fast form disagree: scores that several pieces share.

Among equal scores SentencePiece joins the leftmost pair, whichever pieces it is made of; the fast
form has one place in its list for every pair. So both make the joins of a text in another order,
and the pieces that come first differ. The widely copied recipe gives every added piece score 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from ..fast import merge_rules
from ..pieces import SPACE, Kind, SentencePieces
from .parity import Difference
from .rules import Join, list_ranks, score_ranks, trace

__all__ = ["explain_ties"]


def explain_ties(
    model: SentencePieces, base_size: int | None, differences: Sequence[Difference]
) -> list[str]:
    """Explain shared scores, and how they lead apart on texts.

    Args:
        model: The extended model.
        base_size: Number of ids of the base; None: it is not known.
        differences: Texts that SentencePiece and the fast form encode differently.

    Returns:
        Paragraphs; none where no score is shared.
    """
    begin = base_size or 0
    ids = [
        id
        for id in range(begin, len(model.pieces))
        if model.kinds[id] is Kind.NORMAL and len(model.pieces[id]) > 1
    ]
    counts = Counter(model.scores[id] for id in ids)
    shared = [(score, n) for score, n in counts.items() if n > 1]
    if not shared:
        return []
    score, most = max(shared, key=lambda item: (item[1], item[0]))
    what = "added pieces" if base_size else "pieces"
    total = sum(n for _, n in shared)
    everyone = sum(s == score for s in model.scores[begin:])
    notes = [
        f"{total:,} of the {len(ids):,} rules of {what} share their score with another: "
        f"{most:,} have score {_of(score)}{_place(model, begin, score)} (of all {what}, "
        f"{everyone:,} have this score). SentencePiece breaks ties by position, the leftmost pair "
        "first, and ignores what a piece was made of; the fast form ranks pairs by their order in "
        "a list. The pieces made first differ, and what is left over with them."
    ]
    rules = merge_rules(model)
    conflicts = (_conflict(model, rules, difference) for difference in differences)
    return [*notes, *[conflict for conflict in conflicts if conflict]]


def _place(model: SentencePieces, base_size: int, score: float) -> str:
    rules = [
        model.scores[id]
        for id in range(base_size)
        if model.kinds[id] is Kind.NORMAL and len(model.pieces[id]) > 1
    ]
    if not rules:
        return ""
    higher = sum(other >= score for other in rules)
    if not higher:
        return ", which is above every rule of the base"
    return f", which {higher:,} of the base's {len(rules):,} rules are not below"


def _conflict(
    model: SentencePieces, rules: Sequence[tuple[str, str]], difference: Difference
) -> str | None:
    """Name the pair of rules at which the two orders part, in the first stretch that differs."""
    stretch = _stretch(model, difference.left.ids, difference.right.ids)
    if stretch is None:
        return None
    theirs = trace(stretch, list_ranks(rules))[1]
    for mine in trace(stretch, score_ranks(model))[1]:
        other = next((join for join in theirs if _cross(mine, join)), None)
        if other is not None:
            return (
                f"{difference.where}: in {stretch!r}, SentencePiece joins {_spell(stretch, mine)} "
                f"(score {_of(-mine.rank)}) where the fast form joins {_spell(stretch, other)} "
                f"(rule {int(other.rank):,} of its list, score "
                f"{_of(_score(model, stretch, other))}): both cannot be."
            )
    return None


def _stretch(model: SentencePieces, left: Sequence[int], right: Sequence[int]) -> str | None:
    """Give the shortest text, ▁ for spaces, that both encode between the same two places."""
    ends = [list(accumulate(len(model.piece_bytes(id)) for id in ids)) for ids in (left, right)]
    first = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    if first is None:
        return None
    begin = ends[0][first - 1] if first else 0
    later = sorted(end for end in set(ends[0]) & set(ends[1]) if end > begin)
    data = b"".join(model.piece_bytes(id) for id in left)
    for end in later:
        try:
            return data[begin:end].decode().replace(" ", SPACE)
        except UnicodeDecodeError:
            continue  # inside a character that is spelled in bytes
    return None


def _cross(mine: Join, other: Join) -> bool:
    """Whether two joins overlap without one holding the other."""
    return (
        mine.begin < other.begin < mine.end < other.end
        or other.begin < mine.begin < other.end < mine.end
    )


def _spell(text: str, join: Join) -> str:
    return f"{text[join.begin : join.cut]} + {text[join.cut : join.end]}"


def _score(model: SentencePieces, text: str, join: Join) -> float:
    return model.scores[model.ids[text[join.begin : join.end]]]


def _of(score: float) -> str:
    return f"{score + 0.0:g}"
