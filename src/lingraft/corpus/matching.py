"""Near duplicates among all documents, from their signatures: which of them go.

Two documents with an equal band are compared by the low bits of their signatures; if that tells
enough similarity, they belong together, and so do all that are linked that way. Of each such
group the first document stays.

Within the documents of a band's value, comparisons are with *leaders*: the first document is one,
and so is each that is like no leader before it, up to `MAX_LEADERS`. So a phrase that a million
pages share costs a million comparisons, not their square; a document that is like none of so many
leaders is compared with them only.

What belongs together follows from the signatures alone, so it does not matter how the documents
are split into parts and how much memory there is. With less of it, the values of a band are taken
in more ranges, and the files are read once (and once more) for each.

Shapes: D documents of a part, B bands, K hashes, N documents of all parts, V values of a band that
more than one document has, M documents that have them, L leaders.
Source: the estimate from low bits, Li & König 2010, arXiv 0910.3349; union-find with path
halving, Tarjan & van Leeuwen 1984.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..jit import jit, jit_inline
from ..progress import Progress
from .grams import Int64, UInt8, UInt64
from .methods import NearDuplicateSettings
from .minhash import NO_BAND

__all__ = ["MAX_LEADERS", "match", "min_equal"]

MAX_LEADERS = 64
"""Most documents with one value of a band that others are compared with."""

_RANGE_BYTES = 40
"""Memory for a document of a range while its values are sorted: its value and copies of it."""
_VALUE_BYTES = 400
"""Memory for a value that more than one document has: two leaders and their signatures."""
_BLOCK_DOCS = 1 << 16
_NUM_VALUES = 1 << 64


class _Leaders(NamedTuple):
    """For each value, a chain of documents that others are compared with."""

    heads_V: Int64
    """The last leader of each value, -1: none yet."""
    counts_V: Int64
    nexts_L: Int64
    docs_L: Int64
    lows_LK: UInt8


def match(
    bands: Sequence[Path],
    lows: Sequence[Path],
    num_docs: Sequence[int],
    settings: NearDuplicateSettings,
    memory_bytes: int,
    scratch: Path,
    progress: Progress,
) -> Int64:
    """Find the documents to drop.

    Args:
        bands: A `.npy` file a part: the band hashes of `signatures`, band after band, (B, D).
        lows: A `.npy` file a part: the low bits of `signatures`, (D, K).
        num_docs: Documents of each part.
        settings: Those that the documents were signed with.
        memory_bytes: About how much memory to use beside 224 bytes for a document of one part.
        scratch: Folder for a file of 8 bytes for each document, which has no name.
        progress: Told of each document once for each band.

    Returns:
        Numbers of documents, rising; they are numbered through all parts, from 0.
    """
    parts = [_Part(*part) for part in zip(bands, lows, _starts(num_docs), num_docs, strict=True)]
    total = sum(num_docs)
    num_ranges = max(1, math.ceil(total * _RANGE_BYTES / memory_bytes))
    equal = min_equal(settings.num_bands * settings.rows_per_band, settings.min_similarity)
    with _forest(total, scratch) as parents_N:
        for band in range(settings.num_bands):
            for n in range(num_ranges):
                low, high = (_NUM_VALUES * (n + k) // num_ranges for k in (0, 1))
                values_V = _shared_values(parts, band, low, high)
                step = max(1, memory_bytes // _VALUE_BYTES)
                for v in range(0, len(values_V), step):
                    _link(parts, band, values_V[v : v + step], equal, parents_N)
                progress.advance(total * (n + 1) // num_ranges - total * n // num_ranges)
        return _not_first(parents_N)


def min_equal(num_hashes: int, min_similarity: float) -> int:
    """Give how many low bytes must agree for an estimated similarity of `min_similarity`.

    One byte in 256 agrees by chance; the rest tells the Jaccard similarity.
    """
    by_chance = 1 / 256
    return math.ceil(num_hashes * (by_chance + min_similarity * (1 - by_chance)) - 1e-9)


class _Part(NamedTuple):
    """The signatures of some documents that follow each other."""

    bands: Path
    lows: Path
    start: int
    """Number of its first document."""
    num_docs: int

    def values_of(self, band: int) -> UInt64:
        """Read a band of every document."""
        if not self.num_docs:
            return np.empty(0, np.uint64)
        return np.array(np.load(self.bands, mmap_mode="r")[band])

    def lows_of(self, docs_M: Int64) -> UInt8:
        """Read the low bits of some documents, numbered within the part."""
        return np.asarray(np.load(self.lows, mmap_mode="r")[docs_M])


def _starts(num_docs: Sequence[int]) -> list[int]:
    return [0, *np.cumsum(num_docs, dtype=np.int64).tolist()][: len(num_docs)]


def _shared_values(parts: Sequence[_Part], band: int, low: int, high: int) -> UInt64:
    """Find the values from `low` to below `high` that more than one document has, rising."""
    found = [np.empty(0, np.uint64)]
    for part in parts:
        values_D = part.values_of(band)
        first, last = np.uint64(max(low, NO_BAND + 1)), np.uint64(high - 1)
        chosen = values_D[(values_D >= first) & (values_D <= last)]
        once, counts = np.unique(chosen, return_counts=True)
        # Twice is enough to tell, however many documents of the part have it.
        found += [once, once[counts > 1]]
    values = np.concatenate(found)
    found.clear()
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def _link(
    parts: Sequence[_Part], band: int, values_V: UInt64, equal: int, parents_N: Int64
) -> None:
    """Join the documents that have the same of these values and are alike."""
    num_leaders = 0
    leaders = _Leaders(
        np.full(len(values_V), -1, np.int64),
        np.zeros(len(values_V), np.int64),
        np.empty(0, np.int64),
        np.empty(0, np.int64),
        np.empty((0, 0), np.uint8),
    )
    for part in parts:
        values_D = part.values_of(band)
        places_D = np.searchsorted(values_V, values_D)
        places_D[places_D == len(values_V)] = 0
        docs = np.flatnonzero(values_V[places_D] == values_D)
        for begin in range(0, len(docs), _BLOCK_DOCS):
            docs_M = docs[begin : begin + _BLOCK_DOCS]
            lows_MK = part.lows_of(docs_M)
            leaders = _with_room(leaders, num_leaders, lows_MK)
            num_leaders = _join(
                places_D[docs_M],
                docs_M + part.start,
                lows_MK,
                leaders,
                num_leaders,
                equal,
                parents_N,
            )


def _with_room(leaders: _Leaders, num_leaders: int, lows_MK: UInt8) -> _Leaders:
    """Make room for as many more leaders as there are documents."""
    wanted = num_leaders + len(lows_MK)
    if wanted <= len(leaders.docs_L):
        return leaders
    room = max(wanted, num_leaders * 3 // 2)
    nexts_L, docs_L = np.empty(room, np.int64), np.empty(room, np.int64)
    lows_LK = np.empty((room, lows_MK.shape[1]), np.uint8)
    nexts_L[:num_leaders] = leaders.nexts_L[:num_leaders]
    docs_L[:num_leaders] = leaders.docs_L[:num_leaders]
    if num_leaders:
        lows_LK[:num_leaders] = leaders.lows_LK[:num_leaders]
    return _Leaders(leaders.heads_V, leaders.counts_V, nexts_L, docs_L, lows_LK)


@contextmanager
def _forest(total: int, scratch: Path) -> Iterator[Int64]:
    """Give an array in which each document is its own parent, in a file without a name."""
    if not total:
        yield np.empty(0, np.int64)
        return
    with tempfile.TemporaryFile(dir=scratch) as file:
        os.posix_fallocate(file.fileno(), 0, total * 8)  # a full disk tells now, not later
        parents_N = np.memmap(file, np.int64, "r+", shape=(total,)).view(np.ndarray)
    for begin in range(0, total, _BLOCK_DOCS):
        end = min(total, begin + _BLOCK_DOCS)
        parents_N[begin:end] = np.arange(begin, end)
    yield parents_N


def _not_first(parents_N: Int64) -> Int64:
    """Give the documents that belong to an earlier one: roots are the first of their group."""
    found = [np.empty(0, np.int64)]
    for begin in range(0, len(parents_N), _BLOCK_DOCS):
        block = parents_N[begin : begin + _BLOCK_DOCS]
        found.append(begin + np.flatnonzero(block != np.arange(begin, begin + len(block))))
    return np.concatenate(found)


@jit
def _join(
    places_M: Int64,
    docs_M: Int64,
    lows_MK: UInt8,
    leaders: _Leaders,
    num_leaders: int,
    equal: int,
    parents_N: Int64,
) -> int:
    """Compare documents with the leaders of their value; give the number of leaders then."""
    for m in range(len(docs_M)):
        place = places_M[m]
        leader, is_alike = leaders.heads_V[place], False
        while leader >= 0:
            if _count_equal(lows_MK[m], leaders.lows_LK[leader]) >= equal:
                is_alike = True
                _unite(parents_N, leaders.docs_L[leader], docs_M[m])
            leader = leaders.nexts_L[leader]
        if not is_alike and leaders.counts_V[place] < MAX_LEADERS:
            leaders.nexts_L[num_leaders] = leaders.heads_V[place]
            leaders.docs_L[num_leaders] = docs_M[m]
            leaders.lows_LK[num_leaders] = lows_MK[m]
            leaders.heads_V[place] = num_leaders
            leaders.counts_V[place] += 1
            num_leaders += 1
    return num_leaders


@jit_inline
def _count_equal(one_K: UInt8, other_K: UInt8) -> int:
    num = 0
    for k in range(len(one_K)):
        num += one_K[k] == other_K[k]
    return num


@jit_inline
def _root(parents_N: Int64, doc: int) -> int:
    while parents_N[doc] != doc:
        parents_N[doc] = parents_N[parents_N[doc]]
        doc = parents_N[doc]
    return doc


@jit_inline
def _unite(parents_N: Int64, one: int, other: int) -> None:
    """Put two documents into one group; its first document is its root."""
    first, second = _root(parents_N, one), _root(parents_N, other)
    parents_N[max(first, second)] = min(first, second)
