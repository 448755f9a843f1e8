"""ALP at every size, from the joins of one run.

The average log probability of a text D under a vocabulary V is

    ALP(D, V) = 1/|D| · Σ log p(t)  over all tokens t of D,    p(t) = c(t) / N,

with |D| its number of documents, c(t) the count of token t in D and N = Σ c(t). Hence

    ALP · |D| = Σ c(t) log c(t) - N log N,

and a rule a + b -> ab that joins n places changes c(a), c(b), c(ab) and N, nothing else. (ALP is
never positive; a vocabulary that fits the text better has the higher one.)

Every term c log c that is taken away is the very float that was once put in, so what is left of
rounding is the error of the sum itself. It is kept to a few units in the last place of N log N by
Neumaier's compensation, however many rules there are.

Source: B. Zheng et al. 2021, arXiv 2109.07306, equation 1; A. Neumaier 1974, Z. Angew. Math.
Mech. 54. The sum over rules is ours.

Shapes: E evaluation texts, F tokens that no rule touches, S symbols before any rule, K rules;
index k of a trace is the vocabulary after k rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..jit import jit

__all__ = ["Curve", "EvalFacts", "Float64", "Int64", "alp_per_byte", "trace_alp"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EvalFacts:
    """An evaluation text, and how the base tokenizer encodes it."""

    name: str
    num_docs: int
    num_chars: int
    """Code points, those that no token may cross included."""
    num_bytes: int
    """UTF-8 bytes."""
    num_words: int
    """Words between spaces; 0 where the text is written without spaces between words."""
    base_tokens: int
    base_byte_tokens: int
    """Tokens of the base that are byte pieces, or parts of a character."""
    base_alp: float
    """Nats a document."""
    num_surrogates: int = 0
    """Halves of surrogate pairs, each of which stands as U+FFFD."""


@dataclass(frozen=True)
class Curve:
    """ALP of one number of single characters at every size; size counts all added pieces."""

    num_chars: int
    start: int
    """Added pieces before any rule: single characters, and what byte-level bases need for them."""
    alp_EK: Float64
    """Nats a document, after 0, 1, ... rules."""
    tokens_EK: Int64
    """Tokens of all documents, after 0, 1, ... rules."""
    byte_tokens_E: Int64
    """Tokens that are byte pieces, or parts of a character; no rule changes them."""

    @property
    def end(self) -> int:
        """The largest size."""
        return self.start + int(self.alp_EK.shape[1]) - 1

    def first_texts(self, num: int) -> Curve:
        """Give the curve of the first `num` texts alone."""
        return Curve(
            self.num_chars,
            self.start,
            self.alp_EK[:num],
            self.tokens_EK[:num],
            self.byte_tokens_E[:num],
        )

    def has(self, size: int) -> bool:
        """Tell whether the curve reaches `size`."""
        return self.start <= size <= self.end

    def sample(self, most: int, *always: int) -> list[int]:
        """Pick at most `most` sizes, evenly, both ends among them, and those of `always`."""
        kept = [size for size in always if self.has(size)]
        even = np.linspace(self.start, self.end, most - len(kept)).round().astype(int)
        return sorted({*even.tolist(), *kept})


def alp_per_byte(curve: Curve, evals: Sequence[EvalFacts]) -> Float64:
    """Give the curve's ALP in nats per UTF-8 byte, of shape (E, K + 1).

    Documents differ in length from text to text; bytes are the same measure in all of them.
    """
    docs_per_byte_E = np.array([text.num_docs / text.num_bytes for text in evals])
    per_byte_EK: Float64 = curve.alp_EK * docs_per_byte_E[:, None]
    return per_byte_EK


def trace_alp(
    fixed: npt.ArrayLike,
    counts: npt.ArrayLike,
    left_K: npt.ArrayLike,
    right_K: npt.ArrayLike,
    joins_K: npt.ArrayLike,
    num_docs: int,
) -> Float64:
    """Give ALP after 0, 1, ... rules, in nats per document.

    Runs without Python's lock, so texts and counts of characters can be traced side by side.

    Args:
        fixed: F counts of the tokens that no rule touches.
        counts: S counts of the symbols before any rule.
        left_K: Left symbol of each rule; rule k makes symbol S + k.
        right_K: Right symbol of each rule; it may be the left one.
        joins_K: How often each rule joins in this text.
        num_docs: Documents of the text, 1 or more.

    Returns:
        K + 1 values.
    """
    assert num_docs > 0, "ALP is a mean over documents, and there are none"
    integers = [
        np.ascontiguousarray(a, np.int64) for a in (fixed, counts, left_K, right_K, joins_K)
    ]
    assert len({len(a) for a in integers[2:]}) == 1, "a rule has a left, a right and its joins"
    trace: Float64 = _trace(
        integers[0], integers[1], integers[2], integers[3], integers[4], num_docs
    )
    assert np.isfinite(trace).all(), "a rule joins more of a symbol than there is"
    return trace


@jit
def _trace(fixed: Any, counts: Any, left_K: Any, right_K: Any, joins_K: Any, num_docs: int) -> Any:
    num_symbols, num_rules = len(counts), len(joins_K)
    live = np.concatenate((counts, joins_K))
    trace = np.empty(num_rules + 1)
    logs, lost = 0.0, 0.0  # the sum, and what rounding took from it
    total = fixed.sum() + counts.sum()
    for count in fixed:
        logs, lost = _add(logs, lost, _c_log_c(count))
    for count in counts:
        logs, lost = _add(logs, lost, _c_log_c(count))
    trace[0] = (logs - _c_log_c(total) + lost) / num_docs
    for k in range(num_rules):
        joined = joins_K[k]
        if joined:
            for part in (left_K[k], right_K[k]):  # one after the other: they may be one symbol
                assert 0 <= part < num_symbols + k
                logs, lost = _add(logs, lost, -_c_log_c(live[part]))
                live[part] -= joined
                logs, lost = _add(logs, lost, _c_log_c(live[part]))
            logs, lost = _add(logs, lost, _c_log_c(joined))
            total -= joined
        trace[k + 1] = (logs - _c_log_c(total) + lost) / num_docs
    return trace


@jit
def _add(total: float, lost: float, term: float) -> tuple[float, float]:
    """Add with Neumaier's compensation: what the sum cannot hold goes to `lost`."""
    sum_ = total + term
    if abs(total) >= abs(term):
        return sum_, lost + ((total - sum_) + term)
    return sum_, lost + ((term - sum_) + total)


@jit
def _c_log_c(count: int) -> float:
    if count < 0:
        return math.nan
    return count * math.log(count) if count else 0.0
