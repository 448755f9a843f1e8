"""N-grams of benchmarks as their items are read, and the filters that they are found by.

A question is looked for alone and with each of its answers behind it. Most n-grams of an item
stand in several of its texts; each is kept once, with the first item that has it.

Shapes: D texts, T tokens, G n-grams, W words of a filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..jit import jit, jit_inline
from .grams import IS_SPACED, Tokens, UInt64, find_tokens, ngram_hashes, power_of
from .items import Item
from .methods import OverlapSettings

__all__ = ["Collected", "Grams", "Int32", "Probe", "filter_bits"]

Int32 = npt.NDArray[np.int32]

_BATCH_CHARS = 1 << 20
_BITS_OF_GRAM = 16
_MIN_BITS = 1 << 20


class Probe(NamedTuple):
    """Where documents are looked at, and for what."""

    size: int
    """Tokens of the n-grams in the filter."""
    stride: int
    """Only every so many are looked up."""
    shortest: int
    longest: int
    """Tokens that must agree around one that is there."""
    power: np.uint64
    filter_W: UInt64


class Grams(NamedTuple):
    """The n-grams that must agree."""

    hashes_G: UInt64
    """Rising, each once."""
    items_G: Int32
    """The first item that has it."""


class _Lengths(NamedTuple):
    """How many tokens must agree, for texts whose words are spaced or are not."""

    is_spaced: bool
    whole: int
    """Of a text that is longer."""
    least: int
    """Of a question that is shorter: all of it, if it has as many."""


class Collected:
    """N-grams of items as they come."""

    def __init__(self, settings: OverlapSettings) -> None:
        """Begin with none."""
        self.wheres: list[str] = []
        self.names: list[str] = []
        self._hashes: list[UInt64] = []
        self._items: list[Int32] = []
        self._lengths = (
            _Lengths(True, settings.gram_words, min(settings.min_words, settings.gram_words)),
            _Lengths(False, settings.gram_chars, min(settings.min_chars, settings.gram_chars)),
        )
        self._probed: dict[tuple[_Lengths, bool], list[UInt64]] = {}

    def add(self, name: str, items: Sequence[Item]) -> int:
        """Take the items of a benchmark; give how many are long enough."""
        texts: dict[str, tuple[int, bool]] = {}
        for item in items:
            for n, text in enumerate(_texts_of(item)):
                texts.setdefault(text, (len(self.wheres), n == 0))
            self.wheres.append(item.where)
            self.names.append(name)
        used = [self._add_texts(batch) for batch in _batches(texts)]
        return len(np.unique(np.concatenate(used)))

    def _add_texts(self, texts: Mapping[str, tuple[int, bool]]) -> Int32:
        """Take texts, each with its item and whether it is a question; give the items used."""
        tokens = find_tokens(list(texts))
        owners_D = np.array([owner for owner, _ in texts.values()], np.int32)
        is_question_D = np.array([is_question for _, is_question in texts.values()])
        is_spaced_D = _is_spaced(tokens)
        counts_D = np.diff(tokens.ends_D, prepend=0)
        is_used_D = np.zeros(len(texts), bool)
        for lengths in self._lengths:
            is_own_D = is_spaced_D == lengths.is_spaced
            is_long_D = is_own_D & (counts_D >= lengths.whole)
            is_short_D = is_own_D & ~is_long_D & is_question_D & (counts_D >= lengths.least)
            self._take(tokens, owners_D, lengths, is_long_D, is_short_D)
            is_used_D |= is_long_D | is_short_D
        used: Int32 = owners_D[is_used_D]
        return used

    def _take(
        self,
        tokens: Tokens,
        owners_D: Int32,
        lengths: _Lengths,
        is_long_D: npt.NDArray[np.bool_],
        is_short_D: npt.NDArray[np.bool_],
    ) -> None:
        grams = ngram_hashes(tokens, lengths.whole, whole_if_short=True)
        num_D = np.diff(grams.ends_D, prepend=0)
        is_kept_G = np.repeat(is_long_D | is_short_D, num_D)
        # Most n-grams of an item stand in each of its texts: kept once, they take little memory.
        hashes, firsts = np.unique(grams.hashes_G[is_kept_G], return_index=True)
        self._hashes.append(hashes)
        self._items.append(np.repeat(owners_D, num_D)[is_kept_G][firsts])
        inner = ngram_hashes(tokens, _inner_size(lengths.whole))
        is_kept_G = np.repeat(is_long_D, np.diff(inner.ends_D, prepend=0))
        self._probed.setdefault((lengths, True), []).append(np.unique(inner.hashes_G[is_kept_G]))
        first = ngram_hashes(tokens, lengths.least)
        heads = first.hashes_G[(first.ends_D - np.diff(first.ends_D, prepend=0))[is_short_D]]
        self._probed.setdefault((lengths, False), []).append(heads)

    def grams(self) -> Grams:
        """Give the n-grams that must agree."""
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")  # of equal ones the first item stays first
        hashes = hashes[order]
        is_first = np.concatenate(([True], hashes[1:] != hashes[:-1]))
        return Grams(hashes[is_first], np.concatenate(self._items)[order[is_first]])

    def probes(self) -> list[Probe]:
        """Give the probes that anything can be found by."""
        probes = []
        for (lengths, is_long), parts in self._probed.items():
            hashes = np.sort(np.concatenate(parts))
            num_hashes = int(np.count_nonzero(np.diff(hashes))) + min(1, len(hashes))
            if not num_hashes:
                continue
            num_bits = max(_MIN_BITS, 1 << (num_hashes * _BITS_OF_GRAM).bit_length())
            filter_W = np.zeros(num_bits // 64, np.uint64)
            _fill(hashes, filter_W)
            size = _inner_size(lengths.whole) if is_long else lengths.least
            stride = lengths.whole - size + 1 if is_long else 1
            least = lengths.whole if is_long else lengths.least
            most = lengths.whole if is_long else lengths.whole - 1
            probes.append(Probe(size, stride, least, most, power_of(size), filter_W))
        return probes


def _texts_of(item: Item) -> list[str]:
    return [item.question, *(f"{item.question}\n{answer}" for answer in item.answers)]


def _batches(texts: Mapping[str, tuple[int, bool]]) -> Iterator[dict[str, tuple[int, bool]]]:
    """Give some texts at a time: tokens take many times the memory of their text."""
    batch: dict[str, tuple[int, bool]] = {}
    size = 0
    for text, found in texts.items():
        batch[text] = found
        size += len(text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = {}, 0
    yield batch


def _inner_size(whole: int) -> int:
    """Give the size of the n-grams that are looked up to find longer ones: about half."""
    return whole // 2 + 1


def _is_spaced(tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Tell of each text whether more of its characters are in words than alone."""
    signs_T = np.where(tokens.kinds_T & IS_SPACED, tokens.sizes_T, -tokens.sizes_T)
    sums_T1 = np.concatenate(([0], np.cumsum(signs_T, dtype=np.int64)))
    is_spaced_D: npt.NDArray[np.bool_] = np.diff(sums_T1[tokens.ends_D], prepend=0) > 0
    return is_spaced_D


@jit_inline
def filter_bits(hash_: np.uint64, filter_W: UInt64) -> tuple[np.uint64, np.uint64]:
    """Give the word of a hash and its bits there: a Bloom filter in one word of memory."""
    word = (hash_ >> np.uint64(18)) & np.uint64(len(filter_W) - 1)
    bits = np.uint64(1) << (hash_ & np.uint64(63))
    bits |= np.uint64(1) << ((hash_ >> np.uint64(6)) & np.uint64(63))
    return word, bits | np.uint64(1) << ((hash_ >> np.uint64(12)) & np.uint64(63))


@jit
def _fill(hashes: UInt64, filter_W: UInt64) -> None:
    for hash_ in hashes:
        word, bits = filter_bits(hash_, filter_W)
        filter_W[word] |= bits
