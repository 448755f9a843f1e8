"""Auxiliary vectors: what stands near what in a corpus, for base and new pieces alike.

The base model knows nothing of a new piece, and the base pieces know nothing of the language.
A space in which both have a place is made from text alone: count which ids stand near which
(closer ones weigh more), turn counts into positive pointwise mutual information, and keep the
strongest directions of that matrix. It needs a corpus encoded with the extended tokenizer and
takes seconds a million tokens.

    PPMI(a, c) = max(0, ln( n(a, c) * N / (n(a) * n'(c)) )),   n'(c) ~ n(c)^0.75
    vectors    = U_A * sqrt(S_A) of its truncated SVD

Memory is bounded: only the most frequent ids are contexts, and when the table of pairs outgrows
`max_pairs`, its weakest pairs go (how many is told). One seed gives one result on one machine.

Shapes: V ids of the extended tokenizer, C contexts, A width of the vectors.
Sources: Levy & Goldberg 2014 (word vectors as a factored PMI matrix); Levy, Goldberg & Dagan
2015 (TACL 3: context exponent 0.75, square root of S, weights by distance); the randomised SVD:
Halko, Martinsson & Tropp 2011 (SIAM Review 53), algorithm 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..shards import TokenFile

__all__ = ["MIN_COUNT", "Auxiliary", "train_auxiliary"]

MIN_COUNT = 5
"""Ids seen less often have no vector worth trusting."""
_CHUNK_TOKENS = 1_000_000
_SMOOTHING = 0.75
_OVERSAMPLING = 16
_POWER_ITERATIONS = 4

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Auxiliary:
    """A vector for each id that was seen often enough."""

    vectors_VA: Float32
    """Rows of ids that were seen too rarely are zero."""
    counts_V: Int64
    """How often each id stands in the text that was read."""
    total_tokens: int
    """Tokens that were read."""
    dropped_pairs: int
    """Pairs that the bound on memory left out."""

    def seen(self, min_count: int = MIN_COUNT) -> npt.NDArray[np.bool_]:
        """Give, for each id, whether it has a vector and was seen `min_count` times."""
        seen: npt.NDArray[np.bool_] = np.any(self.vectors_VA != 0, axis=1)
        seen &= self.counts_V >= min_count
        return seen


def train_auxiliary(
    files: Sequence[TokenFile],
    num_ids: int,
    seed: int,
    *,
    width: int = 128,
    window: int = 5,
    num_contexts: int = 4_096,
    max_tokens: int = 20_000_000,
    max_pairs: int = 30_000_000,
    skip: Sequence[int] = (),
) -> Auxiliary:
    """Make vectors from token files.

    Args:
        files: Ids of the extended tokenizer; the first `max_tokens` of each file in turn.
        num_ids: V, ids of the extended tokenizer.
        seed: Decides the random directions of the SVD.
        width: A; less where the text has fewer contexts.
        window: How many ids to either side count as near.
        num_contexts: C, the most frequent ids that serve as contexts.
        max_tokens: Where reading stops.
        max_pairs: Pairs that are held at most; 16 bytes each, three times that while merging.
        skip: Ids that are no text (BOS, EOS).

    Returns:
        Vectors and counts of all ids.

    Raises:
        InputError: The files hold too little text, or ids that the tokenizer does not have.
    """
    counts_V, total = _count_ids(files, num_ids, max_tokens)
    counts_V[list(skip)] = 0
    contexts = _contexts(counts_V, num_contexts)
    if len(contexts) < 2:
        raise InputError(
            f"{total:,} tokens, and {len(contexts)} ids that stand {MIN_COUNT} times in them; "
            "expected thousands.",
            effect="No id would have neighbours to be known by.",
            way_out="Give a token folder with more text of the new language.",
        )
    table = _PairTable(max_pairs)
    for chunk in _chunks(files, max_tokens):
        _count_pairs(chunk, counts_V, contexts, window, table)
    keys, weights = table.finish()
    matrix = _ppmi(keys, weights, num_ids, len(contexts))
    vectors_VA = _factor(matrix, min(width, len(contexts)), seed)
    vectors_VA[counts_V < MIN_COUNT] = 0
    return Auxiliary(vectors_VA, counts_V, total, table.dropped)


def _chunks(files: Sequence[TokenFile], max_tokens: int) -> Iterator[tuple[Int64, Int64]]:
    """Give ids and the number of the document of each, a bounded stretch at a time."""
    left = max_tokens
    for file in files:
        stop = min(len(file.ids), left)
        left -= stop
        ends = np.asarray(file.ends, np.int64)
        for start in range(0, stop, _CHUNK_TOKENS):
            end = min(start + _CHUNK_TOKENS, stop)
            ids = np.asarray(file.ids[start:end], np.int64)
            yield ids, np.searchsorted(ends, np.arange(start, end), side="right")


def _count_ids(files: Sequence[TokenFile], num_ids: int, max_tokens: int) -> tuple[Int64, int]:
    counts_V, total = np.zeros(num_ids, np.int64), 0
    for ids, _ in _chunks(files, max_tokens):
        if len(ids) and ids.max() >= num_ids:
            raise InputError(
                f"a token file holds the id {ids.max()}; expected less than {num_ids}.",
                effect="Its ids are those of another tokenizer.",
                way_out="Encode the text with the extended tokenizer: lingraft encode.",
            )
        counts_V += np.bincount(ids, minlength=num_ids)
        total += len(ids)
    return counts_V, total


def _contexts(counts_V: Int64, num_contexts: int) -> Int64:
    """Ids of the most frequent pieces, ties by id."""
    order = np.argsort(-counts_V, kind="stable")[:num_contexts]
    return np.sort(order[counts_V[order] >= MIN_COUNT])


class _PairTable:
    """Sums of weights by key, sorted, of bounded size."""

    def __init__(self, max_pairs: int) -> None:
        self._max_pairs, self.dropped = max_pairs, 0
        self._parts: list[tuple[Int64, Int64]] = []

    def add(self, keys: Int64, weight: int) -> None:
        unique, counts = np.unique(keys, return_counts=True)
        self._parts.append((unique, counts * weight))
        if sum(len(part) for part, _ in self._parts) > 2 * self._max_pairs:
            self._merge()

    def finish(self) -> tuple[Int64, Int64]:
        self._merge()
        return self._parts[0]

    def _merge(self) -> None:
        if not self._parts:
            self._parts = [(np.empty(0, np.int64), np.empty(0, np.int64))]
            return
        keys = np.concatenate([part for part, _ in self._parts])
        weights = np.concatenate([part for _, part in self._parts])
        order = np.argsort(keys, kind="stable")
        keys, weights = keys[order], weights[order]
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else keys
        keys, weights = keys[starts], np.add.reduceat(weights, starts) if len(keys) else weights
        while len(keys) > self._max_pairs:
            kept = weights > weights.min()
            self.dropped += int(len(keys) - kept.sum())
            keys, weights = keys[kept], weights[kept]
        self._parts = [(keys, weights)]


def _count_pairs(
    chunk: tuple[Int64, Int64],
    counts_V: Int64,
    contexts: Int64,
    window: int,
    table: _PairTable,
) -> None:
    """Add every pair of a chunk, both ways round; near ones weigh `window`, far ones 1."""
    ids, docs = chunk
    place_V = np.full(len(counts_V), -1, np.int64)
    place_V[contexts] = np.arange(len(contexts))
    known = counts_V >= MIN_COUNT
    for distance in range(1, min(window, len(ids) - 1) + 1):
        same = docs[:-distance] == docs[distance:]
        left, right = ids[:-distance][same], ids[distance:][same]
        for here, there in ((left, right), (right, left)):
            counted = known[here] & (place_V[there] >= 0)
            keys = here[counted] * len(contexts) + place_V[there[counted]]
            table.add(keys, window + 1 - distance)


def _ppmi(keys: Int64, weights: Int64, num_rows: int, num_columns: int) -> Any:
    """Positive pointwise mutual information as a sparse (V, C) matrix, in nats."""
    from scipy import sparse  # type: ignore[import-untyped]

    rows, columns = np.divmod(keys, num_columns)
    of_row = np.bincount(rows, weights, num_rows)
    of_column = np.bincount(columns, weights, num_columns) ** _SMOOTHING
    of_column /= max(of_column.sum(), 1e-300)
    values = np.log(weights / (of_row[rows] * of_column[columns]))
    kept = values > 0
    return sparse.csr_matrix(
        (values[kept].astype(np.float32), (rows[kept], columns[kept])), (num_rows, num_columns)
    )


def _factor(matrix: Any, width: int, seed: int) -> Float32:
    """Rows of U * sqrt(S) of the truncated SVD; the largest entry of a direction is positive."""
    generator = np.random.default_rng(seed)
    columns = min(width + _OVERSAMPLING, matrix.shape[1])
    basis = matrix @ generator.standard_normal((matrix.shape[1], columns), np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(basis)[0]
        basis = matrix @ np.linalg.qr(matrix.T @ basis)[0]
    basis = np.linalg.qr(basis)[0]
    left, strengths, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    vectors = (basis @ left)[:, :width] * np.sqrt(strengths[:width])
    peaks = vectors[np.abs(vectors).argmax(axis=0), np.arange(width)]
    result: Float32 = np.ascontiguousarray(vectors * np.where(peaks < 0, -1, 1), np.float32)
    return result
