"""Documents, characters, bytes, lengths and tokens of text files, counted in one reading.

Tokens are those of the text alone: no BOS, no EOS. Threads take batches, so many tokenizers cost
one reading, and memory holds a few batches, whatever the size of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from ..streaming import TextBatch, in_order, read_batches
from .locating import read_any

if TYPE_CHECKING:
    from ..exact import Encoder

__all__ = ["DocumentCount", "count_documents", "length_histogram"]


@dataclass
class DocumentCount:
    """What documents hold."""

    num_docs: int = 0
    num_chars: int = 0
    size_bytes: int = 0
    """UTF-8 bytes of the texts."""
    tokens: list[int] = field(default_factory=list)
    """By tokenizer, in order."""
    num_surrogates: int = 0
    """Halves of surrogate pairs, each of which stands as U+FFFD."""
    lengths: Counter[int] = field(default_factory=Counter)
    """Documents by the number of binary digits of their characters' number."""

    def add(self, other: DocumentCount) -> None:
        """Add what other documents hold."""
        self.num_docs += other.num_docs
        self.num_chars += other.num_chars
        self.size_bytes += other.size_bytes
        self.num_surrogates += other.num_surrogates
        self.tokens = [a + b for a, b in zip(self.tokens, other.tokens, strict=True)]
        self.lengths += other.lengths


def count_documents(
    paths: Iterable[Path],
    encoders: Sequence[Encoder],
    text_key: str,
    threads: int,
    progress: Progress,
) -> DocumentCount:
    """Count what the documents of files hold.

    Args:
        paths: The files.
        encoders: Tokenizers to count tokens with.
        text_key: Column of the text.
        threads: How many batches are worked on at a time.
        progress: Told the bytes of files that were read.

    Raises:
        InputError: A row cannot be read.
    """

    def work(batch: TextBatch) -> DocumentCount:
        return _count_batch(batch, encoders)

    total = DocumentCount(tokens=[0] * len(encoders))
    for batch, count in in_order(work, read_batches(paths, text_key, read_any), threads):
        total.add(count)
        progress.advance(batch.read_bytes)
    return total


def _count_batch(batch: TextBatch, encoders: Sequence[Encoder]) -> DocumentCount:
    texts = batch.texts
    return DocumentCount(
        num_docs=len(texts),
        num_chars=sum(map(len, texts)),
        size_bytes=sum(len(text.encode()) for text in texts),
        tokens=[
            sum(len(ids) for ids in encoder.encode_batch(texts, num_threads=1))
            for encoder in encoders
        ],
        num_surrogates=batch.num_surrogates,
        lengths=Counter(len(text).bit_length() for text in texts),
    )


def length_histogram(lengths: Counter[int]) -> dict[str, Any]:
    """Make the histogram of `stats.json`: edges are 0, 1, 2, 4, 8 and so on.

    >>> length_histogram(Counter({2: 5, 3: 1}))
    {'edges': [2, 4, 8], 'counts': [5, 1]}
    """
    if not lengths:
        return {"edges": [0], "counts": []}
    digits = range(min(lengths), max(lengths) + 1)
    edges = [1 << n >> 1 for n in (*digits, digits.stop)]
    return {"edges": edges, "counts": [lengths[n] for n in digits]}
