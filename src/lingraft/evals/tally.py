"""Sums over documents, and the figures that come out of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from .settings import ModelScore

__all__ = ["Tally", "pool"]


class Tally(NamedTuple):
    """What one model made of some documents; tallies of other documents can be added."""

    nats: float
    num_docs: int
    num_chars: int
    size_bytes: int
    total_tokens: int
    """Tokens predicted: each document's own and its EOS."""

    def score(self) -> ModelScore:
        """Turn sums into figures; EOS counts in bits per byte, not in tokens per character."""
        return ModelScore(
            bpb=self.nats / math.log(2) / self.size_bytes,
            num_docs=self.num_docs,
            num_chars=self.num_chars,
            size_bytes=self.size_bytes,
            total_tokens=self.total_tokens,
            tokens_per_char=(self.total_tokens - self.num_docs) / self.num_chars,
        )


def pool(tallies: Iterable[Tally]) -> Tally:
    """Add tallies up: longer sets weigh more, as if they were one set."""
    columns = list(zip(*tallies, strict=True))
    nats, num_docs, num_chars, size_bytes, total_tokens = map(sum, columns)
    return Tally(nats, num_docs, num_chars, size_bytes, total_tokens)
