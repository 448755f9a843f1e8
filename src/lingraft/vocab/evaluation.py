"""Evaluation texts: read whole, with every token of the base counted.

Shapes: V base ids, C codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..texts import RawDocument
from .alp import Curve, EvalFacts, trace_alp
from .alphabet import Alphabet
from .bpe import Rules
from .cut import count_codes
from .spool import batch_texts
from .symbols import Symbols

__all__ = ["Evaluation", "describe_evaluation", "read_evaluation", "trace_curve"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation text."""

    name: str
    num_docs: int
    num_chars: int
    num_bytes: int
    num_words: int
    """Words between spaces; 0 for scripts that are written without."""
    codes: Int32
    counts_C: Int64
    """How often each code occurs."""
    fixed_V: Int64
    """Counts of base tokens that are part of no symbol."""
    num_surrogates: int = 0
    """Halves of surrogate pairs, each of which stands as U+FFFD."""


def read_evaluation(
    name: str, docs: Iterable[RawDocument], alphabet: Alphabet, *, required: bool = True
) -> Evaluation:
    """Encode an evaluation text with the base.

    Args:
        name: What messages call it.
        docs: Its documents.
        alphabet: The base, seen through the target scripts.
        required: Whether it must hold characters of the scripts.

    Raises:
        InputError: It has no document, or no character of the scripts where it must.
    """
    num_docs = num_chars = num_bytes = num_words = num_surrogates = 0
    codes, fixed_V = [np.zeros(0, np.int32)], np.zeros(alphabet.num_base, np.int64)
    for batch, num_halves in batch_texts(docs):
        num_surrogates += num_halves
        num_docs += len(batch)
        num_chars += sum(map(len, batch))
        num_bytes += sum(len(text.encode()) for text in batch)
        num_words += sum(len(text.split()) for text in batch) if alphabet.word_start else 0
        found, fixed = alphabet.read(batch)
        codes.append(found)
        fixed_V += fixed
    counts_C = np.zeros(len(alphabet.flags_C), np.int64)
    all_codes = np.concatenate(codes)
    count_codes(all_codes, counts_C)
    if not num_chars or (required and not counts_C.any()):
        what = "has no character of the scripts" if num_chars else "has no text"
        raise InputError(
            f"evaluation text '{name}' {what} ({', '.join(alphabet.scripts)}).",
            effect="Nothing could be measured on it.",
            way_out="Give text of the new language, or name its scripts.",
        )
    return Evaluation(
        name,
        num_docs,
        num_chars,
        num_bytes,
        num_words,
        all_codes,
        counts_C,
        fixed_V,
        num_surrogates,
    )


def describe_evaluation(text: Evaluation, symbols: Symbols) -> EvalFacts:
    """Tell how the base encodes a text."""
    fixed, counts = symbols.token_counts(text.counts_C, text.fixed_V, 0)
    none = np.zeros(0, np.int64)
    return EvalFacts(
        name=text.name,
        num_docs=text.num_docs,
        num_chars=text.num_chars,
        num_bytes=text.num_bytes,
        num_words=text.num_words,
        base_tokens=int(fixed.sum() + counts.sum()),
        base_byte_tokens=_count_bytes(fixed, symbols),
        base_alp=float(trace_alp(fixed, counts, none, none, none, text.num_docs)[0]),
        num_surrogates=text.num_surrogates,
    )


def trace_curve(
    texts: Sequence[Evaluation], symbols: Symbols, num_chars: int, rules: Rules
) -> Curve:
    """Follow ALP and the number of tokens of every evaluation text along the rules.

    Args:
        texts: The evaluation texts; column 1 + i of the joins belongs to text i.
        symbols: What pieces are made of.
        num_chars: Single characters added.
        rules: Rules over the symbols of all characters that were searched for.
    """
    alps, tokens, byte_tokens = [], [], []
    # Rules number the symbols of the largest count of characters; these rows are of this one.
    for column, text in enumerate(texts):
        fixed, counts = symbols.token_counts(text.counts_C, text.fixed_V, num_chars)
        joins_K = rules.joins_KW[:, 1 + column]
        padded = np.zeros(rules.num_symbols, np.int64)
        padded[: len(counts)] = counts
        alps.append(trace_alp(fixed, padded, rules.left_K, rules.right_K, joins_K, text.num_docs))
        total = int(fixed.sum() + counts.sum())
        tokens.append(total - np.concatenate([[0], np.cumsum(joins_K)]))
        byte_tokens.append(_count_bytes(fixed, symbols))
    start = symbols.chars.num_added(num_chars)
    return Curve(
        num_chars,
        start,
        np.array(alps).reshape(len(texts), -1),
        np.array(tokens, np.int64).reshape(len(texts), -1),
        np.array(byte_tokens, np.int64),
    )


def _count_bytes(fixed: Int64, symbols: Symbols) -> int:
    """Count tokens that are no whole characters: byte pieces, parts of characters."""
    is_byte_V = symbols.byte_flags
    return int(fixed[: len(is_byte_V)][is_byte_V].sum() + fixed[len(is_byte_V) :].sum())
