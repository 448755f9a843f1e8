"""From codes to rules: sketch, threshold, segments, training, and back where the cut was too deep.

The threshold is guessed from a sample: every n-th batch is trained on, and its last rule's joins,
scaled up and halved, are the guess. Afterwards it is checked: if the rules ran out at the
threshold before the largest size was reached, it is lowered and the search done again. So the
guess decides how long it takes and nothing else.

Source: the sample is ours, as is the cut (see `cut`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from .bpe import BARRIER, CutText, Rules, train_rules
from .cut import cut_codes, new_sketch, sketch_pairs
from .scratch import Scratch, write_array
from .spool import Spool
from .symbols import Symbols
from .table import NUM_HASHES, SegmentTable

__all__ = ["MOST_READERS", "Limits", "Search", "SearchFacts"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_SAMPLE_CODES = 3_000_000
_LEAST_CODES = 4 * _SAMPLE_CODES
"""Smaller texts are searched uncut: a sample would take as long as it saves."""
_SAMPLE_SHARE = 0.5
_LOWER = 4
MOST_READERS = 4
"""Threads that each read the whole text for their share of the hashes: more would only read."""
_OTHER_BYTES = 560 << 20
"""Memory of Python, of compiled code and of buffers, beside tables and training."""
_LEAST_ROOM_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """What the trainer is held to; see `VocabSettings`."""

    max_rules: Mapping[int, int]
    """Number of single characters -> most rules to learn with them."""
    max_chars: int
    min_count: int
    banned: tuple[str, ...] = ()
    threshold: int | None = None
    """Neighbours that meet fewer times are cut apart; None: guess and check, 0: never cut."""


@dataclass
class SearchFacts:
    """What happened on the way."""

    threshold: int = 0
    num_symbols: int = 0
    """Symbols of the distinct segments that rules were learned from."""
    num_segments: int = 0
    retries: list[int] = field(default_factory=list)
    """Thresholds that were too high."""
    spilled_bytes: int = 0
    hash_ranges: int = 0


class Search:
    """One search over a spool and evaluation texts."""

    def __init__(
        self,
        spool: Spool,
        evaluation: Sequence[Int32],
        symbols: Symbols,
        limits: Limits,
        *,
        folder: Path,
        jobs: int,
        memory_bytes: int | None,
    ) -> None:
        """Prepare a search.

        Args:
            spool: The training text.
            evaluation: Codes of each evaluation text.
            symbols: What pieces are made of.
            limits: What the trainer is held to.
            folder: Where segments, and arrays beyond `memory_bytes`, are kept.
            jobs: Threads.
            memory_bytes: Memory of the whole process that is aimed at; None: no limit.
        """
        self._spool, self._evaluation, self._symbols = spool, evaluation, symbols
        self._limits, self._folder, self._jobs = limits, folder, jobs
        self._room_bytes = None
        if memory_bytes is not None:
            self._room_bytes = max(memory_bytes - _OTHER_BYTES, _LEAST_ROOM_BYTES)
        self._num_chars = max(limits.max_rules, default=0)
        self._symbol_C = symbols.symbol_of_code(self._num_chars)
        self._sketch_B = new_sketch(spool.num_codes)
        self.facts = SearchFacts()

    def sketch(self, on_codes: Callable[[int], None]) -> None:
        """Count which symbols meet; calls `on_codes` with codes done.

        Each of up to `MOST_READERS` threads reads all, and tells of all.
        """
        readers = min(self._jobs, MOST_READERS)
        bounds = np.linspace(0, len(self._sketch_B), readers + 1).astype(int).tolist()

        def count(low: int, high: int) -> None:
            for codes in self._spool.batches():
                sketch_pairs(codes, self._sketch_B, low, high)
                on_codes(len(codes))

        with ThreadPoolExecutor(self._jobs) as pool:
            list(pool.map(count, bounds[:-1], bounds[1:]))

    def guess_threshold(self) -> int:
        """Train on a sample; give the joins below which text is cut."""
        least, total = self._limits.min_count, self._spool.num_codes
        if self._limits.threshold is not None:
            return self._limits.threshold
        if total < _LEAST_CODES:
            return least
        step = max(2, total // _SAMPLE_CODES)
        table = SegmentTable()
        for codes in islice(self._spool.batches(), 0, None, step):
            table.add(self._cut(codes, threshold=step))
        cells_N2 = np.concatenate([_WALL, table.cells()])
        text = self._text(cells_N2, np.array([len(cells_N2)]))
        most = max(self._limits.max_rules.values())
        rules = self._train(text, {self._num_chars: most}, 2, Scratch())[self._num_chars]
        if not len(rules):
            return least
        return max(least, int(_SAMPLE_SHARE * step * int(rules.joins_KW[-1, 0])))

    def learn(
        self, threshold: int, on_codes: Callable[[int], None], on_rules: Callable[[int], None]
    ) -> dict[int, Rules]:
        """Learn the rules; lower the threshold and do it again where it was too high."""
        least = self._limits.min_count
        while True:
            scratch = Scratch(self._folder, self._room_bytes)
            text = self._cut_all(threshold, scratch, on_codes)
            rules = self._train(
                text, self._limits.max_rules, max(least, threshold), scratch, on_rules
            )
            self.facts.spilled_bytes += scratch.spilled_bytes
            short = any(len(rules[c]) < most for c, most in self._limits.max_rules.items())
            if not short or threshold <= least:
                self.facts.threshold = threshold
                return rules
            self.facts.retries.append(threshold)
            threshold = max(least, threshold // _LOWER)

    def _train(
        self,
        text: CutText,
        max_rules: Mapping[int, int],
        min_count: int,
        scratch: Scratch,
        on_rules: Callable[[int], None] = lambda number: None,
    ) -> dict[int, Rules]:
        return train_rules(
            text,
            max_rules,
            max_chars=self._limits.max_chars,
            min_count=min_count,
            banned=self._limits.banned,
            jobs=self._jobs if self._room_bytes is None else 1,
            scratch=scratch,
            on_rules=on_rules,
        )

    def _text(self, cells_N2: Int32, bounds_W: Int64) -> CutText:
        num = self._num_chars
        return CutText(cells_N2, bounds_W, self._symbols.texts(num), self._symbols.needs(num))

    def _cut(self, codes: Int32, threshold: int) -> Int32:
        segments = np.empty(len(codes) + len(codes) // 2 + 2, np.int32)
        num = cut_codes(
            codes,
            self._symbol_C,
            self._symbols.alphabet.flags_C,
            self._sketch_B,
            threshold,
            segments,
        )
        return segments[:num].copy()

    def _cut_all(
        self, threshold: int, scratch: Scratch, on_codes: Callable[[int], None]
    ) -> CutText:
        """Cut all texts, count equal segments, and put them one after the other."""
        cut_path, cells_path = self._folder / "cut.bin", self._folder / "cells.bin"
        sizes = self._write_cut(cut_path, threshold, on_codes)
        with cells_path.open("wb") as file:
            write_array(file, _WALL)
            self._write_tables(file, cut_path, sizes)
            bounds = [file.tell() // _CELL_BYTES]
            cut_path.unlink()
            for codes in self._evaluation:
                table = SegmentTable()
                table.add(self._cut(codes, threshold))
                write_array(file, table.cells())
                bounds.append(file.tell() // _CELL_BYTES)
        cells_N2 = scratch.array((bounds[-1], 2), np.int32)
        with cells_path.open("rb") as file:
            for begin in range(0, len(cells_N2), _READ_CELLS):
                part = cells_N2[begin : begin + _READ_CELLS]
                part[...] = np.fromfile(file, np.int32, part.size).reshape(-1, 2)
        cells_path.unlink()
        return self._text(cells_N2, np.array(bounds))

    def _write_cut(self, path: Path, threshold: int, on_codes: Callable[[int], None]) -> list[int]:
        """Cut the training text, batches in order; give the length of each."""
        sizes = []

        def cut(codes: Int32) -> Int32:
            segments = self._cut(codes, threshold)
            on_codes(len(codes))
            return segments

        with path.open("wb") as file, ThreadPoolExecutor(self._jobs) as pool:
            batches = self._spool.batches()
            while group := list(islice(batches, 4 * self._jobs)):
                for segments in pool.map(cut, group):
                    write_array(file, segments)
                    sizes.append(len(segments))
        return sizes

    def _write_tables(self, file: BinaryIO, path: Path, sizes: Sequence[int]) -> None:
        """Count equal segments, a range of hashes a thread at a time."""
        num_ranges = min(self._jobs, MOST_READERS)
        if self._room_bytes is not None:
            # At worst all segments differ, and each pair of symbols is one.
            worst_bytes = 24 * sum(sizes)
            num_ranges = max(num_ranges, -(-worst_bytes // self._room_bytes) * self._jobs)
        self.facts.hash_ranges = num_ranges
        bounds = [NUM_HASHES * i // num_ranges for i in range(num_ranges + 1)]

        def count(low: int, high: int) -> SegmentTable:
            table = SegmentTable(low, high)
            for segments in _read_batches(path, sizes):
                table.add(segments)
            return table

        self.facts.num_symbols = self.facts.num_segments = 0
        with ThreadPoolExecutor(self._jobs) as pool:
            pairs = pairwise(bounds)
            while group := list(islice(pairs, self._jobs)):
                for table in pool.map(lambda pair: count(*pair), group):
                    self.facts.num_symbols += table.num_symbols
                    self.facts.num_segments += table.num_segments
                    write_array(file, table.cells())


_WALL = np.array([[BARRIER, 0]], np.int32)
_CELL_BYTES = 8
_READ_CELLS = 1 << 22


def _read_batches(path: Path, sizes: Iterable[int]) -> Iterable[Int32]:
    with path.open("rb") as file:
        for size in sizes:
            yield np.fromfile(file, np.int32, size)
