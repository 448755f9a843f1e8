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
from .literal import SURROUNDINGS
from .outcome import Check, Figure, cut_examples

__all__ = ["Firing", "check_firing", "check_reach", "find_lost"]

_FEW = 0.01
_MOST_IDLE = 0.5
_TOKENS_EACH = 50
"""Tokens of texts with the new scripts, for each added piece, from which on a corpus is large
enough to judge: most pieces of a vocabulary made for a language are met several times by then."""
_SHOWN = 5


def find_lost(tokenizer: BaseTokenizer, added: Sequence[Added]) -> list[str]:
    """List the added pieces that no text can produce."""
    if isinstance(tokenizer, SentencePieceBase):
        return [a.piece for a in added if not _spells_itself(tokenizer, a)]
    lost = [a for a in added if a.is_text]
    for around in SURROUNDINGS:
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
    """Judge: every added piece must be reachable; special tokens are better not."""
    added = [a for a in added if not a.special]
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


def check_firing(firing: Firing, added: Sequence[Added], num_tokens: int) -> Check:
    """Judge which added pieces the corpus never produces.

    Idle pieces are told. They are a failure where none of them is ever produced though the corpus
    has the new scripts, and where it is large and more than half of them are idle: such pieces
    are not of the language, or something keeps them from being made.

    Args:
        firing: Counts on the corpus.
        added: The added pieces.
        num_tokens: Tokens of the corpus's texts that hold a character of the new scripts.
    """
    added = [a for a in added if not a.special]
    idle = [a.shown for a in added if not firing.counts_V[a.id]]
    figures: dict[str, Figure] = {
        "added": len(added),
        "never produced": len(idle),
        "share": round(len(idle) / len(added), 6) if added else 0.0,
        "tokens of texts with the new scripts": num_tokens,
    }
    text = f"the corpus never produces {len(idle):,} of {len(added):,} added pieces"
    if not idle:
        return Check("use", "ok", text, figures)
    notes = []
    if len(idle) > _FEW * len(added):
        notes = ["Such rows would stay as they were initialised: leave the pieces out, or train "
                 "on a corpus that has them."]  # fmt: skip
    is_large = num_tokens >= _TOKENS_EACH * len(added)
    failed = num_tokens > 0 and (
        len(idle) == len(added) or (is_large and len(idle) > _MOST_IDLE * len(added))
    )
    if failed:
        text += f", in {num_tokens:,} tokens of texts with the new scripts"
    return Check(
        "use", "differs" if failed else "told", text, figures, [cut_examples(idle, 20)], notes
    )
