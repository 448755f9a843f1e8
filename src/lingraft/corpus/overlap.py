"""Documents that share text with a benchmark: a model trained on them has seen the answers.

A document overlaps an item if 13 words in a row are the same, in the item's question, or in its
question followed by one of its answers. A question of fewer words is looked for as a whole, if it
has 8 or more. Tokens are those of `grams.py`, so layout, case and punctuation do not matter. Where
words are not spaced a token is a character, and as many characters are asked for as 13 (and 8)
words have.

To look every n-gram up would wait for memory at every token. Whatever n tokens agree, one of the
k-grams in them begins at a place that is a multiple of n - k + 1; so only those are looked up, in
a filter of bits, and the n-grams around one that is there. It takes 12 bytes for an n-gram of the
benchmarks, and 2 to 4 for its bits.

Shapes: D documents, T tokens, G n-grams of all items, W words of a filter.
Source: Brown et al. 2020 (GPT-3), arXiv 2005.14165, appendix C.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..jit import jit
from .collecting import Collected, Grams, Int32, Probe, filter_bits
from .grams import MULTIPLIER, Int64, Tokens, UInt64, mix, power_of
from .items import find_benchmarks, read_items
from .methods import OverlapSettings

__all__ = ["PARTS", "Overlap"]

PARTS = ("hashes.npy", "items.npy", "filters.npy", "numbers.npy", "benchmarks.json")
"""Ends of the files of an index."""


class Overlap:
    """Finds the benchmark that a document shares text with.

    Attributes:
        digest: Tells whether two are made of the same n-grams.
        num_items: Items of each benchmark that are long enough to be looked for.
    """

    def __init__(
        self,
        grams: Grams,
        probes: Sequence[Probe],
        numbers_I: Int32,
        num_items: dict[str, int],
        digest: str,
        wheres: Sequence[str] = (),
    ) -> None:
        """Take an index; see `build` and `load`.

        Args:
            grams: N-grams of items.
            probes: What they are found by.
            numbers_I: The number of each item's benchmark.
            num_items: See above.
            digest: See above.
            wheres: File and row of each item, where they are known.
        """
        self.num_items, self.digest = num_items, digest
        self._grams, self._probes = grams, probes
        self._names, self._numbers_I, self._wheres = list(num_items), numbers_I, wheres

    @classmethod
    def build(cls, settings: OverlapSettings) -> Overlap:
        """Read benchmarks.

        Raises:
            InputError: A file cannot be read, or a benchmark has no item that is long enough.
            UsageError: There is no benchmark at a place, or two have one name.
        """
        collected = Collected(settings)
        num_items = {}
        for benchmark in find_benchmarks(settings.benchmarks):
            items = [item for path in benchmark.files for item in read_items(path)]
            num_items[benchmark.name] = collected.add(benchmark.name, items) if items else 0
            if not num_items[benchmark.name]:
                raise InputError(
                    f"benchmark '{benchmark.name}': none of its {len(items):,} items is long "
                    "enough to be looked for.",
                    effect="Texts that overlap it would be trained on.",
                    way_out="Check its files, or leave it out.",
                )
        return cls.of(collected, num_items)

    @classmethod
    def of(cls, collected: Collected, num_items: dict[str, int]) -> Overlap:
        """Make an index of what was collected."""
        numbers = {name: n for n, name in enumerate(num_items)}
        numbers_I = np.array([numbers[name] for name in collected.names], np.int32)
        grams, probes = collected.grams(), collected.probes()
        content = hashlib.sha256(grams.hashes_G.tobytes())
        for probe in probes:
            content.update(repr(probe[:-1]).encode() + probe.filter_W.tobytes())
        content.update("\0".join(numbers).encode() + numbers_I[grams.items_G].tobytes())
        digest = content.hexdigest()[:16]
        return cls(grams, probes, numbers_I, num_items, digest, collected.wheres)

    def save(self, paths: Mapping[str, Path]) -> None:
        """Write what `find` needs.

        Args:
            paths: A file for each of `PARTS`.
        """
        filters = [probe.filter_W for probe in self._probes] or [np.empty(0, np.uint64)]
        arrays: list[npt.NDArray[Any]] = [*self._grams, np.concatenate(filters), self._numbers_I]
        for end, array in zip(PARTS[:-1], arrays, strict=True):
            with paths[end].open("wb") as file:
                np.save(file, array)
        probes = [(p.size, p.stride, p.shortest, p.longest, len(p.filter_W)) for p in self._probes]
        told = {"digest": self.digest, "num_items": self.num_items, "probes": probes}
        paths[PARTS[-1]].write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, paths: Mapping[str, Path]) -> Overlap:
        """Map what `save` wrote into memory: processes that do so share it."""
        hashes_G, items_G, filters_W, numbers_I = (_mapped(paths[end]) for end in PARTS[:-1])
        told = json.loads(paths[PARTS[-1]].read_text(encoding="utf-8"))
        probes, begin = [], 0
        for size, stride, shortest, longest, num_words in told["probes"]:
            filter_W = filters_W[begin : begin + num_words]
            probes.append(Probe(size, stride, shortest, longest, power_of(size), filter_W))
            begin += num_words
        grams = Grams(hashes_G, items_G)
        return cls(grams, probes, numbers_I, told["num_items"], told["digest"])

    @property
    def size_bytes(self) -> int:
        """Memory that the index takes."""
        filters = sum(probe.filter_W.nbytes for probe in self._probes)
        return sum(array.nbytes for array in self._grams) + filters

    def find(self, texts: Sequence[str], tokens: Tokens) -> list[str]:
        """Give the name of a benchmark that each text overlaps, "" where it overlaps none.

        Args:
            texts: The texts.
            tokens: What `find_tokens` gave for them.
        """
        assert len(texts) == len(tokens.ends_D), "tokens of other texts"
        numbers_I, names = self._numbers_I, self._names
        return [names[numbers_I[item]] if item >= 0 else "" for item in self._find(tokens)]

    def find_items(self, tokens: Tokens) -> list[str]:
        """Give the file and row of the item that each text overlaps, "" where there is none."""
        assert len(self._wheres) == len(self._numbers_I), "an index that was loaded knows none"
        return [self._wheres[item] if item >= 0 else "" for item in self._find(tokens)]

    def _find(self, tokens: Tokens) -> list[int]:
        items_D = np.full(len(tokens.ends_D), -1, np.int32)
        for probe in self._probes:
            _find_items(tokens.tokens_T, tokens.ends_D, probe, self._grams, items_D)
        found: list[int] = items_D.tolist()
        return found


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Map an array, as one that may be written to: compiled code tells the two apart."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array.view(np.ndarray)


@jit
def _find_items(
    tokens_T: UInt64, ends_D: Int64, probe: Probe, grams: Grams, items_D: Int32
) -> None:
    begin = 0
    for d in range(len(ends_D)):
        if items_D[d] < 0:
            items_D[d] = _find_item(tokens_T[begin : ends_D[d]], probe, grams)
        begin = ends_D[d]


@jit
def _find_item(tokens_T: UInt64, probe: Probe, grams: Grams) -> int:
    """Give the item that a probe finds first in a document, or -1."""
    value, wait = np.uint64(0), probe.size - 1
    for t in range(len(tokens_T)):
        if t >= probe.size:
            value -= tokens_T[t - probe.size] * probe.power
        value = value * MULTIPLIER + tokens_T[t]
        if wait > 0:
            wait -= 1
            continue
        wait = probe.stride - 1
        word, bits = filter_bits(mix(value ^ np.uint64(probe.size)), probe.filter_W)
        if probe.filter_W[word] & bits == bits:
            start = t - probe.size + 1
            for first in range(max(0, start - probe.stride + 1), start + 1):
                item = _item_at(tokens_T[first:], probe, grams)
                if item >= 0:
                    return item
    return -1


@jit
def _item_at(tokens_T: UInt64, probe: Probe, grams: Grams) -> int:
    """Give the item that one of the n-grams here is of, the shortest first, or -1."""
    value = np.uint64(0)
    for t in range(min(probe.longest, len(tokens_T))):
        value = value * MULTIPLIER + tokens_T[t]
        if t + 1 >= probe.shortest:
            g = _place_of(mix(value ^ np.uint64(t + 1)), grams.hashes_G)
            if g >= 0:
                return int(grams.items_G[g])
    return -1


@jit
def _place_of(hash_: np.uint64, hashes_G: UInt64) -> int:
    """Find a hash among rising ones, or give -1."""
    low, high = 0, len(hashes_G)
    while low < high:
        middle = (low + high) // 2
        if hashes_G[middle] < hash_:
            low = middle + 1
        else:
            high = middle
    return low if low < len(hashes_G) and hashes_G[low] == hash_ else -1
