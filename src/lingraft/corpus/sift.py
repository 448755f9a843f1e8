"""Sifting: a unit is read, cleaned and filtered; what is kept goes to buckets by its id.

    units/N.rows         kept documents, by bucket; N.index.npy tells where
    units/N.bands.npy    with N.lows.npy: their signatures, where near duplicates are looked for
    units/N.dropped      every dropped document, where that is asked for
    units/N.json         counts, and examples of what was dropped

Memory holds a batch of documents, and those that wait to be written; see `buckets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..lines import count_lines
from ..store import disk_errors
from ..texts import RawDocument
from ..work import tell_bytes
from .buckets import BucketWriter
from .dropped import Example, Examples, Row, RowWriter
from .indexing import read_index
from .judging import Judge, Verdict, as_json
from .nearby import BANDS, LOWS, SignatureWriter
from .plan import Piece, Plan, read_plan, unit_of
from .read import read_piece
from .results import UNITS, is_whole, writing

__all__ = ["Sift"]

_INDEX = "index.npy"
_BATCH_CHARS = 1 << 20
_BATCH_DOCS = 1 << 14
_TELL_BYTES = 1 << 20


@dataclass(frozen=True)
class Sift:
    """The step as units of work: one for each unit of the plan."""

    folder: str
    key: str
    label: str = "read"

    @property
    def _plan(self) -> Plan:
        return read_plan(self.folder, self.key)

    def __len__(self) -> int:
        """Number of units."""
        return len(self._plan.units)

    def size_bytes(self, n: int) -> int:
        """Bytes of files in unit `n`."""
        return self._plan.unit_bytes(n)

    def is_done(self, n: int) -> bool:
        """Whether the result of unit `n` is there."""
        return is_whole(self.folder, UNITS, n, self.key)

    def do(self, n: int) -> None:
        """Read unit `n`.

        Raises:
            DiskFullError: There is no room for its result.
            InputError: A file or a row cannot be read, or is not what it was.
        """
        plan = self._plan
        ends = ["rows", _INDEX]
        ends += [BANDS, LOWS] * (plan.settings.near_duplicates is not None)
        ends += ["dropped"] * plan.settings.keep_dropped
        with (
            disk_errors(Path(self.folder), place=plan.place),
            writing(self.folder, UNITS, n, self.key, ends) as (drafts, facts),
            ExitStack() as stack,
        ):
            watched = plan.settings.decontaminate is not None
            overlap = read_index(self.folder, self.key) if watched else None
            sieve = _Sieve(plan, n, Judge(plan, plan.set_of(n), overlap), drafts, stack)
            for batch in _batches(_read(plan, n)):
                sieve.take(batch)
            facts.update(sieve.finish())


class _Read(NamedTuple):
    """A raw document and the piece of the unit that it is from."""

    piece: int
    raw: RawDocument


def _read(plan: Plan, n: int) -> Iterator[_Read]:
    """Give the documents of a unit, and tell how far it is."""
    one = plan.sets[plan.set_of(n)]
    keep_bad = plan.settings.on_bad_row == "drop"
    for number, piece in enumerate(plan.units[n]):
        told = start = piece.begin if piece.kind == "bytes" else 0
        for raw in read_piece(unit_of(plan, piece), one.reader, one.text_key, keep_bad=keep_bad):
            if piece.kind != "groups" and raw.position - told > _TELL_BYTES:
                tell_bytes(raw.position - told)
                told = raw.position
            yield _Read(number, raw)
        tell_bytes(max(0, start + piece.size_bytes - told))


def _batches(docs: Iterator[_Read]) -> Iterator[list[_Read]]:
    """Collect documents, so that compiled code works on many at a time."""
    batch: list[_Read] = []
    size = 0
    for doc in docs:
        batch.append(doc)
        size += len(doc.raw.text)
        if size >= _BATCH_CHARS or len(batch) >= _BATCH_DOCS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass
class _Tally:
    """What is counted on the way."""

    num_docs: int = 0
    num_kept: int = 0
    num_surrogates: int = 0
    """Of kept documents, see `texts.RawDocument`."""
    dropped: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)
    overlaps: Counter[str] = field(default_factory=Counter)


class _Sieve:
    """Takes the documents of one unit in order, and writes its result."""

    def __init__(
        self, plan: Plan, n: int, judge: Judge, drafts: Mapping[str, Path], stack: ExitStack
    ) -> None:
        self._plan, self._n, self._judge = plan, n, judge
        self._tally = _Tally()
        self._examples = Examples()
        self._drafts = drafts
        rows = stack.enter_context(drafts["rows"].open("wb"))
        self._buckets = BucketWriter(rows, plan.num_buckets)
        self._signatures = SignatureWriter(drafts, stack) if BANDS in drafts else None
        self._rows = None
        if "dropped" in drafts:
            file = stack.enter_context(drafts["dropped"].open("wb"))
            self._rows = stack.enter_context(RowWriter(file))

    def take(self, batch: Sequence[_Read]) -> None:
        """Judge documents, and put each where it belongs."""
        verdicts, signatures = self._judge.judge([doc.raw for doc in batch])
        for doc, verdict in zip(batch, verdicts, strict=True):
            if verdict.overlap:
                self._tally.overlaps[verdict.overlap] += 1
            if verdict.reason:
                self._drop(doc, verdict)
            else:
                self._keep(doc, verdict)
            self._tally.num_docs += 1
        if self._signatures is not None and signatures:
            self._signatures.add(*signatures)

    def finish(self) -> dict[str, Any]:
        """Write what waits; give what the result's JSON file tells."""
        with self._drafts[_INDEX].open("wb") as file:
            np.save(file, self._buckets.finish())
        if self._signatures is not None:
            self._signatures.finish()
        tally = self._tally
        return {
            "num_docs": tally.num_docs,
            "num_kept": tally.num_kept,
            "num_surrogates": tally.num_surrogates,
            "dropped": tally.dropped,
            "masked": tally.masked,
            "overlaps": tally.overlaps,
            "examples": self._examples.kept,
            "line_ends": [_count_line_ends(self._plan, p) for p in self._plan.units[self._n]],
        }

    def _drop(self, doc: _Read, verdict: Verdict) -> None:
        tally, reason = self._tally, verdict.reason
        tally.dropped[reason] += 1
        line = doc.raw.line
        self._examples.add(Example(reason, self._n, tally.num_docs, doc.piece, line, verdict.text))
        if self._rows is not None:
            text = as_json(verdict.text, verdict.text.encode())
            self._rows.add(Row(reason, self._n, doc.piece, line, text))

    def _keep(self, doc: _Read, verdict: Verdict) -> None:
        tally, text, data = self._tally, verdict.text, verdict.data
        columns = (tally.num_docs, tally.num_kept, doc.piece, doc.raw.line, len(text), len(data))
        self._buckets.add(verdict.digest, as_json(text, data), *columns)
        tally.num_kept += 1
        tally.num_surrogates += doc.raw.num_surrogates
        tally.masked.update(verdict.masked)


def _count_line_ends(plan: Plan, piece: Piece) -> int:
    """Count line ends from one byte before a piece to one before its end; see `results.Totals`."""
    if piece.kind != "bytes":
        return 0
    path = Path(plan.files[piece.file].path)
    return count_lines(path, piece.end - 1, max(piece.begin - 1, 0))
