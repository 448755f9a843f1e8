"""ALP at every size, from the joins of one run.

The average log probability of a text D under a vocabulary V is

    ALP(D, V) = 1/|D| · Σ log p(t)  over all tokens t of D,    p(t) = c(t) / N,

with |D| its number of documents, c(t) the count of token t in D and N = Σ c(t). Hence

    ALP · |D| = Σ c(t) log c(t) - N log N,

and a rule a + b -> ab that joins n places changes c(a), c(b), c(ab) and N, nothing else. (ALP is
never positive; a vocabulary that fits the text better has the higher one.)

Source: B. Zheng et al. 2021, arXiv 2109.07306, equation 1. The sum over rules is ours.

Shapes: E evaluation texts, K rules; index k of a trace is the vocabulary after k rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bpe import Rules
from .segments import Int64, SegmentTable

__all__ = ["Curve", "trace_alp", "trace_curve"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """ALP of one number of single characters at every size; size counts all added pieces."""

    num_chars: int
    alp_EK: Float64
    """Nats a document, after 0, 1, ... rules."""
    tokens_EK: Int64
    """Tokens of all documents, after 0, 1, ... rules."""

    @property
    def end(self) -> int:
        """The largest size."""
        return self.num_chars + int(self.alp_EK.shape[1]) - 1

    def has(self, size: int) -> bool:
        """Tell whether the curve reaches `size`."""
        return self.num_chars <= size <= self.end

    def sample(self, most: int, *always: int) -> list[int]:
        """Pick at most `most` sizes, evenly, both ends among them, and those of `always`."""
        kept = [size for size in always if self.has(size)]
        even = np.linspace(self.num_chars, self.end, most - len(kept)).round().astype(int)
        return sorted({*even.tolist(), *kept})


def trace_curve(table: SegmentTable, num_chars: int, rules: Rules) -> Curve:
    """Follow ALP and the number of tokens of every evaluation text along the rules."""
    alps, tokens = [], []
    for column, text in enumerate(table.evaluation.values()):
        fixed_V, counts_S = table.token_counts(column, num_chars)
        joins_K = rules.joins_KW[:, 1 + column]
        pairs = zip(rules.left_K.tolist(), rules.right_K.tolist(), strict=True)
        alps.append(
            trace_alp(fixed_V.tolist(), counts_S.tolist(), pairs, joins_K.tolist(), text.num_docs)
        )
        total = int(fixed_V.sum() + counts_S.sum())
        tokens.append(total - np.concatenate([[0], np.cumsum(joins_K)]))
    return Curve(num_chars, np.array(alps), np.array(tokens, np.int64))


def trace_alp(
    fixed: Sequence[int],
    counts: Sequence[int],
    pairs: Iterable[tuple[int, int]],
    joins: Sequence[int],
    num_docs: int,
) -> list[float]:
    """Give ALP after 0, 1, ... rules.

    Args:
        fixed: Counts of the tokens that no rule touches.
        counts: Counts of the symbols before any rule.
        pairs: The two symbols that each rule joins; rule k makes symbol `len(counts) + k`.
        joins: How often each rule joins in this text.
        num_docs: Documents of the text.
    """
    live = [*counts, *joins]
    logs = math.fsum(_c_log_c(c) for c in (*fixed, *counts))
    total = sum(fixed) + sum(counts)
    trace = [(logs - _c_log_c(total)) / num_docs]
    for (left, right), joined in zip(pairs, joins, strict=True):
        if joined:
            for part in (left, right):  # one after the other: they may be the same symbol
                logs += _c_log_c(live[part] - joined) - _c_log_c(live[part])
                live[part] -= joined
            logs += _c_log_c(joined)
            total -= joined
        trace.append((logs - _c_log_c(total)) / num_docs)
    return trace


def _c_log_c(count: int) -> float:
    return count * math.log(count) if count else 0.0
