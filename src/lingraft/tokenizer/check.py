"""The proof that an extended tokenizer is the base, with some neighbours joined.

On the model: ids, pieces and scores of the base are unchanged, every added score is below all
of them, every added piece alone encodes as its own id. On texts: SentencePiece and the fast
tokenizer give the same ids; with every added piece taken apart again the ids are the base's;
texts without added characters have the base's ids as they are; decoding gives the text back
wherever the base gives it back. The first text that differs ends the check, shown piece by piece.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from ..bases import SentencePieceBase
from ..encoder import FastEncoder
from ..errors import VerifyError
from ..fast import fast_tokenizer
from ..pieces import SPACE, SentencePieces
from .added import added_pieces
from .differences import Side, cut_text, first_difference, show_sides
from .kept import model_changes
from .reach import find_lost

__all__ = ["Checker", "Compared", "check_base_kept", "find_unreachable"]

_WAY_OUT = "Do not ship this tokenizer; report the text with the base tokenizer's name."


class Compared(NamedTuple):
    """What a comparison of texts counted; sums add up."""

    num_texts: int = 0
    num_unchanged: int = 0
    """Texts without added characters: encoded exactly as by the base."""
    base_tokens: int = 0
    extended_tokens: int = 0
    num_chars: int = 0
    size_bytes: int = 0

    def plus(self, other: Compared) -> Compared:
        """Add two counts up."""
        return Compared(*(a + b for a, b in zip(self, other, strict=True)))


def check_base_kept(base: SentencePieces, extended: SentencePieces) -> None:
    """Check that the extended model starts with the base, and ranks the rest below it.

    Raises:
        VerifyError: It does not; the first id that differs is named.
    """
    changes = model_changes(base, extended)
    if changes:
        raise VerifyError(
            f"{extended.name}: {changes[0]}.",
            effect="The model would read other text than it was trained on.",
            way_out=_WAY_OUT,
        )
    size = len(base.pieces)
    ceiling = min(base.scores)
    for id in range(size, len(extended.pieces)):
        if extended.scores[id] >= ceiling:
            raise VerifyError(
                f"{extended.name}: piece {id} ({extended.pieces[id]!r}) has score "
                f"{extended.scores[id]}; expected less than {ceiling}.",
                effect="It would join before rules of the base, or tie with another piece.",
                way_out=_WAY_OUT,
            )
        ceiling = extended.scores[id]


def find_unreachable(extended: SentencePieces, num_base: int) -> list[str]:
    """List the added pieces that, alone, are not encoded as themselves."""
    base = SentencePieceBase(extended)
    return find_lost(base, added_pieces(base, num_base))


class Checker:
    """Compares base, extended SentencePiece model and fast tokenizer on texts."""

    def __init__(self, base: SentencePieces, extended: SentencePieces, fast: FastEncoder) -> None:
        """Prepare; `extended` must start with `base` (see `check_base_kept`)."""
        self._base, self._extended, self._fast = base, extended, fast
        added = extended.pieces[len(base.pieces) :]
        self._added_chars = frozenset("".join(added))
        self._spellings = {
            id: tuple(base.spell(piece)) for id, piece in enumerate(added, len(base.pieces))
        }

    def compare(self, texts: Sequence[str], where: str) -> Compared:
        """Encode and decode texts in every way.

        Args:
            texts: Any texts, some hundreds at a time.
            where: What messages call them.

        Raises:
            VerifyError: Two ways differ on a text.
        """
        base = self._base.encode_batch(texts)
        extended = self._extended.encode_batch(texts)
        fast = self._fast.encode_batch(texts)
        apart = [self._take_apart(ids) for ids in extended]
        for n, text in enumerate(texts):
            if extended[n] != fast[n]:
                sides = ("SentencePiece", extended[n]), ("fast", fast[n])
                raise self._difference(text, where, *sides, self._explain(text))
            if base[n] != apart[n]:
                sides = ("base", base[n]), ("extended, taken apart", apart[n])
                raise self._difference(text, where, *sides, "The base's own encoding is broken up.")
        plain = [n for n, text in enumerate(texts) if self._is_plain(text)]
        assert all(base[n] == extended[n] for n in plain), "an added piece has no added character"
        self._check_decoding(texts, base, extended, where)
        return Compared(
            num_texts=len(texts),
            num_unchanged=len(plain),
            base_tokens=sum(map(len, base)),
            extended_tokens=sum(map(len, extended)),
            num_chars=sum(map(len, texts)),
            size_bytes=sum(len(text.encode()) for text in texts),
        )

    def _is_plain(self, text: str) -> bool:
        """Whether no added piece can touch the text; ▁ stands in every text, as its prefix."""
        return SPACE not in self._added_chars and self._added_chars.isdisjoint(text)

    def _take_apart(self, ids: Sequence[int]) -> list[int]:
        parts: list[int] = []
        for id in ids:
            parts.extend(self._spellings.get(id, (id,)))
        return parts

    def _check_decoding(
        self,
        texts: Sequence[str],
        base: Sequence[Sequence[int]],
        extended: Sequence[Sequence[int]],
        where: str,
    ) -> None:
        """Where the base gives a text back, both forms of the extended tokenizer must."""
        given_back = self._base.decode_batch(base)
        decoded = {
            "SentencePiece": self._extended.decode_batch(extended),
            "fast": self._fast.decode_batch(extended),
        }
        for n, text in enumerate(texts):
            for name, results in decoded.items():
                if given_back[n] == text and results[n] != text:
                    raise VerifyError(
                        f"{where}: {name} does not decode a text that the base does.\n"
                        f"  text: {cut_text(text)}\n  decoded: {cut_text(results[n])}",
                        way_out=_WAY_OUT,
                    )

    def _explain(self, text: str) -> str:
        """Say whether the base's own two forms differ on the text, before anything was added."""
        fast = FastEncoder.parse(json.dumps(fast_tokenizer(self._base)))
        if fast.encode_batch([text])[0] == self._base.encode(text):
            return "The base's own two forms agree on it: the added pieces are at fault."
        return (
            "The base's own two forms differ on it too, before anything was added; a base whose "
            "pieces share one score does that."
        )

    def _difference(
        self,
        text: str,
        where: str,
        left: tuple[str, Sequence[int]],
        right: tuple[str, Sequence[int]],
        effect: str,
    ) -> VerifyError:
        """Show two encodings piece by piece, from a little before they part."""
        sides = Side(*left), Side(*right)
        first = first_difference(left[1], right[1])
        lines = [
            f"{where}: {left[0]} and {right[0]} encode a text differently, from token {first}.",
            f"text: {cut_text(text)}",
            *show_sides(*sides, self._extended.pieces.__getitem__),
        ]
        return VerifyError("\n  ".join(lines), effect=effect, way_out=_WAY_OUT)
