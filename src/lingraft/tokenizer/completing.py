"""A base that lacks bytes, beside a tokenizer that was extended from it and has them.

The base loses such bytes. `extend` adds them first, without a merge rule, so what is said of the
extended tokenizer is said of two things: texts without these bytes against the base itself, and
texts with them against the base as it would be with pieces for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..basetypes import BaseTokenizer, Int32
from ..exact import Encoder

__all__ = ["WholeEncoder", "complete_as", "holds_bytes"]


def complete_as(base: BaseTokenizer, extended: BaseTokenizer) -> BaseTokenizer:
    """Give the base with the bytes that an extended tokenizer completes it by.

    It does if its first ids behind the base's (and behind special ones, which configs may add) are
    the bytes that the base lacks, each once. If it does not, the base is given as it is.
    """
    if not base.missing_bytes or extended.family != base.family:
        return base
    first = extended.find_piece(base.spell_bytes(base.missing_bytes[:1]))
    if first is None or any(extended.piece_bytes(id) for id in range(base.size, first)):
        return base
    whole = base.completed(first)
    ids = range(first, whole.size)
    is_like = whole.size <= extended.size and all(whole.piece(i) == extended.piece(i) for i in ids)
    return whole if is_like else base


def holds_bytes(text: str, wanted: bytes) -> bool:
    """Whether the UTF-8 of a text holds one of the bytes."""
    content = text.encode(errors="surrogatepass")
    return any(byte in content for byte in wanted)


class WholeEncoder:
    """Encodes by a base, but texts that it would lose bytes of by its completed form.

    Attributes:
        completed: The bytes that make the difference; none where both are one.
    """

    def __init__(self, base: BaseTokenizer, whole: BaseTokenizer) -> None:
        """Prepare both; `whole` is what `complete_as` gave."""
        self._base = Encoder(base)
        self.completed = b"" if whole is base else base.missing_bytes
        self._whole = Encoder(whole, warn=False) if self.completed else self._base

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> list[Int32]:
        """Give the ids of many texts."""
        if not self.completed:
            return self._base.encode_batch(texts, num_threads)
        lost = [holds_bytes(text, self.completed) for text in texts]
        sides = [
            iter(
                encoder.encode_batch(
                    [text for text, is_lost in zip(texts, lost, strict=True) if is_lost is side],
                    num_threads,
                )
            )
            for side, encoder in ((False, self._base), (True, self._whole))
        ]
        return [next(sides[is_lost]) for is_lost in lost]
