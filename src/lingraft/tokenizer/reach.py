"""Which added pieces can no text produce, and which does a corpus never?

Whether a piece can be produced is a question to the piece alone: rules that would join across its
edges must not be at work before it is whole, and inside it they are the same in every text. So a
piece that, alone, is not encoded as itself never appears. On bytes a pre-tokenizer stands before
the rules; there the piece is tried alone and in a few surroundings. A piece that ends inside a
character is no text: it is asked of the rules alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..bases import BaseTokenizer, SentencePieceBase
from ..basetypes import Int32
from .added import Added, show_piece
from .outcome import Check, cut_examples

__all__ = ["Firing", "check_firing", "check_reach", "find_lost"]

_AROUND = ("{}", " {}", "{} ", "a{}", "{}a", "a {}", "\n{}", "{}\n", ".{}", "{}.", "1{}", "{}1",
           "\u4e2d{}", "{}\u4e2d", "\u0628{}", "\u0e01{}")  # fmt: skip
"""Surroundings in which a piece is tried: other kinds of characters cut at other places."""
_FEW = 0.01
_SHOWN = 5


def find_lost(tokenizer: BaseTokenizer, added: Sequence[Added]) -> list[str]:
    """List the added pieces that no text can produce."""
    if isinstance(tokenizer, SentencePieceBase):
        return [a.piece for a in added if not _spells_itself(tokenizer, a)]
    lost = [a for a in added if a.is_text]
    for around in _AROUND:
        encoded = tokenizer.encode_batch([around.format(a.data.decode()) for a in lost])
        lost = [a for a, ids in zip(lost, encoded, strict=True) if a.id not in ids]
        if not lost:
            break
    partial = [a for a in added if not a.is_text and tokenizer.spell(a.data) != (a.id,)]
    return [a.piece for a in sorted([*lost, *partial], key=lambda a: a.id)]


def _spells_itself(tokenizer: SentencePieceBase, added: Added) -> bool:
    if added.stands:
        return True  # cut out of the text wherever it stands
    return tokenizer.pieces.spell(added.piece) == [added.id]


def check_reach(tokenizer: BaseTokenizer, added: Sequence[Added]) -> Check:
    """Judge: every added piece must be reachable."""
    lost = frozenset(find_lost(tokenizer, added))
    names = [a.shown for a in added if a.piece in lost]
    figures = {"added": len(added), "unreachable": len(lost)}
    if not lost:
        return Check("reach", "ok", f"some text produces each of {len(added):,} pieces", figures)
    return Check(
        "reach",
        "differs",
        f"{len(lost):,} of {len(added):,} added pieces can never be produced",
        figures,
        [cut_examples(names, 20), *_spellings(tokenizer, added, lost)],
        ["Their rows would be trained on nothing: each, alone, is encoded as other pieces."],
    )


def _spellings(tokenizer: BaseTokenizer, added: Sequence[Added], lost: frozenset[str]) -> list[str]:
    """Show what the first of the lost pieces are encoded as, alone."""
    chosen = [a for a in added if a.piece in lost and a.is_text][:_SHOWN]
    if isinstance(tokenizer, SentencePieceBase):
        encoded = [tokenizer.pieces.spell(a.piece) for a in chosen]
    else:
        encoded = tokenizer.encode_batch([a.data.decode() for a in chosen])
    return [
        f"{a.shown!r} is encoded {' | '.join(show_piece(tokenizer, id) for id in ids)}"
        for a, ids in zip(chosen, encoded, strict=True)
    ]


class Firing:
    """Counts how often each id is produced."""

    def __init__(self, size: int) -> None:
        """Begin at zero for `size` ids."""
        self.counts_V: npt.NDArray[np.int64] = np.zeros(size, np.int64)

    def add(self, ids: Sequence[Int32]) -> None:
        """Count the ids of some texts."""
        if ids:
            self.counts_V += np.bincount(np.concatenate(ids), minlength=len(self.counts_V))


def check_firing(firing: Firing, added: Sequence[Added]) -> Check:
    """Tell which added pieces the corpus never produces; that is no failure."""
    idle = [a.shown for a in added if not firing.counts_V[a.id]]
    figures = {
        "added": len(added),
        "never produced": len(idle),
        "share": round(len(idle) / len(added), 6) if added else 0.0,
    }
    text = f"the corpus never produces {len(idle):,} of {len(added):,} added pieces"
    if not idle:
        return Check("use", "ok", text, figures)
    notes = []
    if len(idle) > _FEW * len(added):
        notes = ["Such rows would stay as they were initialised: leave the pieces out, or train "
                 "on a corpus that has them."]  # fmt: skip
    return Check("use", "told", text, figures, [cut_examples(idle, 20)], notes)
