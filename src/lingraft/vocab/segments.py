"""The text as the search sees it: segments of symbols that may join, each with its weights.

Every document is encoded by the base tokenizer. A token made only of target-script characters
is a symbol; so is a target-script character that the base spells in bytes, because it may
become a piece of its own. Everything else is a barrier: no new piece reaches across it. So the
symbols are the base's own tokens in place, and what is learned from them is what the extended
tokenizer does. Equal segments are kept once, with one weight for training and one for each
evaluation text.

Symbols: [0, num_base) are base pieces in the order of ids; after them characters by falling
count in the training text, ties by code point. With c single characters added, the first c of
these are pieces; the others stay bytes: counted, never joined.

Shapes: V base pieces, S symbols, E evaluation texts, W = 1 + E weights, G segments, N positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..pieces import Kind, SentencePieces
from ..text import in_scripts, script_runs

__all__ = ["BARRIER", "EvalText", "SegmentTable", "read_segments"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

BARRIER = -1
"""The symbol that joins with nothing; one stands at both ends of every segment."""
_BATCH_DOCS = 1024


@dataclass(frozen=True)
class EvalText:
    """What of an evaluation text no vocabulary can change."""

    num_docs: int
    num_chars: int
    """Characters of all documents, of any script."""
    fixed_V: Int64
    """Counts of base tokens outside the segments."""


@dataclass(frozen=True)
class SegmentTable:
    """All segments of the training and evaluation texts."""

    symbols_N: Int32
    """Segments one after the other, a BARRIER before, between and after them."""
    segment_N: Int32
    """Which segment a position belongs to (at a barrier: any)."""
    weights_GW: Int64
    """How often each segment occurs: in the training text, then in each evaluation text."""
    counts_SW: Int64
    """How often each symbol occurs, in segments of one symbol too."""
    texts: tuple[str, ...]
    """Text of each symbol."""
    num_base: int
    evaluation: Mapping[str, EvalText]
    byte_ids: tuple[int, ...]
    """Base ids of the 256 bytes."""

    @property
    def num_candidates(self) -> int:
        """Characters of the training text that could be added."""
        return int(np.count_nonzero(self.counts_SW[self.num_base :, 0]))

    def num_pieces(self, num_chars: int) -> int:
        """Symbols that are pieces once `num_chars` characters are added."""
        return self.num_base + num_chars

    def symbols_with(self, num_chars: int) -> Int32:
        """`symbols_N` where only the first `num_chars` added characters are pieces."""
        stays = self.symbols_N < self.num_pieces(num_chars)
        return np.where(stays, self.symbols_N, np.int32(BARRIER))

    def token_counts(self, column: int, num_chars: int) -> tuple[Int64, Int64]:
        """Count the tokens of an evaluation text before any rule.

        Args:
            column: Which evaluation text: its place in `evaluation`.
            num_chars: Single characters added.

        Returns:
            Counts of the base tokens that no rule touches (V), bytes of characters that are no
            pieces included, and counts of the symbols that are pieces.
        """
        num_pieces = self.num_pieces(num_chars)
        counts_S = self.counts_SW[:, 1 + column]
        fixed_V = list(self.evaluation.values())[column].fixed_V.copy()
        for symbol in range(num_pieces, len(self.texts)):
            for byte in self.texts[symbol].encode():
                fixed_V[self.byte_ids[byte]] += counts_S[symbol]
        return fixed_V, counts_S[:num_pieces]


def read_segments(
    base: SentencePieces,
    scripts: Sequence[str],
    training: Iterable[str],
    evaluation: Mapping[str, Iterable[str]],
) -> SegmentTable:
    """Encode the texts with the base and collect their segments.

    Args:
        base: The base tokenizer, with byte fallback.
        scripts: Unicode scripts whose characters new pieces may hold.
        training: Documents that rules are learned on.
        evaluation: Documents that ALP is measured on, by name; names are kept in order.

    Raises:
        InputError: The base has no byte pieces, or a text has no document or no character of
            the scripts.
    """
    reader = _Reader(base, scripts)
    tallies = [reader.read(training, "the training text")]
    tallies += [reader.read(docs, f"evaluation text '{name}'") for name, docs in evaluation.items()]
    texts, order = _order_symbols(reader, tallies[0])
    symbols_N, segment_N, weights_GW = _merge_segments(tallies, order)
    counts_SW = np.zeros((len(texts), len(tallies)), np.int64)
    for w, tally in enumerate(tallies):
        for code, count in tally.codes.items():
            counts_SW[order[code], w] += count
    facts = [EvalText(t.num_docs, t.num_chars, t.fixed_V) for t in tallies[1:]]
    return SegmentTable(
        symbols_N=symbols_N,
        segment_N=segment_N,
        weights_GW=weights_GW,
        counts_SW=counts_SW,
        texts=texts,
        num_base=len(reader.base_ids),
        evaluation=dict(zip(evaluation, facts, strict=True)),
        byte_ids=reader.byte_ids,
    )


@dataclass
class _Tally:
    """One text, counted. A *code* is a base id, or V + code point for a character in bytes."""

    segments: Counter[bytes]
    codes: Counter[int]
    fixed_V: Int64
    num_docs: int = 0
    num_chars: int = 0


class _Reader:
    """Splits documents into segments of codes."""

    def __init__(self, base: SentencePieces, scripts: Sequence[str]) -> None:
        self._base, self._scripts = base, scripts
        self.num_pieces = len(base.pieces)
        self.byte_ids = _byte_ids(base)
        self.base_ids = [
            id
            for id, (piece, kind) in enumerate(zip(base.pieces, base.kinds, strict=True))
            if kind is Kind.NORMAL and list(script_runs(piece, scripts)) == [piece]
        ]
        self._code_V = np.full(self.num_pieces, BARRIER, np.int32)
        self._code_V[self.base_ids] = self.base_ids
        self._byte_V = np.full(self.num_pieces, -1, np.int32)
        self._byte_V[list(self.byte_ids)] = range(256)
        self._known: dict[int, bool] = {}

    def text_of(self, code: int) -> str:
        last = code - self.num_pieces
        return chr(last) if last >= 0 else self._base.pieces[code]

    def target_points(self) -> list[int]:
        """Code points of the scripts that were met in bytes, in order."""
        return sorted(point for point, target in self._known.items() if target)

    def read(self, docs: Iterable[str], name: str) -> _Tally:
        tally = _Tally(Counter(), Counter(), np.zeros(self.num_pieces, np.int64))
        for texts in _batches(docs):
            tally.num_docs += len(texts)
            tally.num_chars += sum(map(len, texts))
            self._count(self._base.encode_batch(texts), tally)
        if not tally.codes:
            what = "has no document" if not tally.num_docs else "has no character of the scripts"
            raise InputError(
                f"{name} {what} ({', '.join(self._scripts)}).",
                effect="There would be nothing to learn from, or to measure on.",
                way_out="Change vocab.sets, vocab.evaluation or vocab.scripts.",
            )
        return tally

    def _count(self, batch: list[list[int]], tally: _Tally) -> None:
        """Add a batch of encoded documents to the counts."""
        # One id of no piece closes every document, so that no segment runs into the next.
        ids_T = np.fromiter((id for ids in batch for id in (*ids, -1)), np.int64)
        codes_T, fixed_T = self._codes(ids_T)
        tally.fixed_V += np.bincount(fixed_T, minlength=self.num_pieces)
        inside = codes_T >= 0
        values, counts = np.unique(codes_T[inside], return_counts=True)
        tally.codes.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0))
        long = (edges[1::2] - edges[0::2]) > 1
        content, width = codes_T.tobytes(), codes_T.itemsize
        spans = zip(edges[0::2][long].tolist(), edges[1::2][long].tolist(), strict=True)
        tally.segments.update(content[width * i : width * j] for i, j in spans)

    def _codes(self, ids_T: Int64) -> tuple[Int32, Int64]:
        """Turn ids (-1 between documents) into codes, one a token or a character in bytes.

        Returns:
            The codes, BARRIER where nothing may join; and the ids of all tokens that are part
            of no symbol.
        """
        codes_T = np.where(ids_T >= 0, self._code_V[ids_T], np.int32(BARRIER))
        bytes_T = np.where(ids_T >= 0, self._byte_V[ids_T], np.int32(-1))
        follows = (bytes_T >= 0x80) & (bytes_T < 0xC0)
        leads = np.flatnonzero(bytes_T >= 0xC0)
        points = _code_points(bytes_T, leads)
        target = self._are_target(points)
        codes_T[leads[target]] = self.num_pieces + points[target]
        fixed = (codes_T == BARRIER) & (ids_T >= 0)
        for step in (1, 2, 3):  # the other bytes of a target character belong to its code
            places = leads[target & (points >= (0x80, 0x800, 0x10000)[step - 1])]
            fixed[places + step] = False
        return codes_T[~follows], ids_T[fixed]

    def _are_target(self, points: Int64) -> npt.NDArray[np.bool_]:
        values, inverse = np.unique(points, return_inverse=True)
        for point in values.tolist():
            if point not in self._known:
                self._known[point] = in_scripts(chr(point), self._scripts)
        flags = np.array([self._known[point] for point in values.tolist()], np.bool_)
        return flags[inverse]


def _byte_ids(base: SentencePieces) -> tuple[int, ...]:
    ids = {base.piece_bytes(i)[0]: i for i, kind in enumerate(base.kinds) if kind is Kind.BYTE}
    if not base.has_byte_fallback or len(ids) != 256:
        raise InputError(
            f"{base.name}: the base tokenizer has {len(ids)} of 256 byte pieces.",
            effect="Characters that it does not know would be lost as <unk>.",
            way_out="Use a base with byte fallback, as those of Mixtral and Llama.",
        )
    return tuple(ids[byte] for byte in range(256))


def _code_points(bytes_T: Int32, leads: Int64) -> Int64:
    """Decode the UTF-8 character that starts at each lead byte; SentencePiece writes whole ones."""
    padded = np.concatenate([bytes_T, np.zeros(3, bytes_T.dtype)]).astype(np.int64)
    lead, b, c, d = (padded[leads + step] for step in range(4))
    two = (lead & 0x1F) << 6 | (b & 0x3F)
    three = (lead & 0x0F) << 12 | (b & 0x3F) << 6 | (c & 0x3F)
    four = (lead & 0x07) << 18 | (b & 0x3F) << 12 | (c & 0x3F) << 6 | (d & 0x3F)
    points: Int64 = np.where(lead < 0xE0, two, np.where(lead < 0xF0, three, four))
    return points


def _order_symbols(reader: _Reader, training: _Tally) -> tuple[tuple[str, ...], dict[int, int]]:
    """Number the symbols; give their texts and the number of each code."""
    known = reader.num_pieces
    points = reader.target_points()
    points.sort(key=lambda point: -training.codes[known + point])  # stable: ties by code point
    codes = reader.base_ids + [known + point for point in points]
    return tuple(map(reader.text_of, codes)), {code: s for s, code in enumerate(codes)}


def _merge_segments(
    tallies: Sequence[_Tally], order: Mapping[int, int]
) -> tuple[Int32, Int32, Int64]:
    """Put equal segments of all texts together; give symbols_N, segment_N and weights_GW."""
    rows: dict[bytes, int] = {}
    for tally in tallies:
        for segment in tally.segments:
            rows.setdefault(segment, len(rows))
    weights_GW = np.zeros((len(rows), len(tallies)), np.int64)
    for w, tally in enumerate(tallies):
        places = np.fromiter((rows[segment] for segment in tally.segments), np.int64)
        weights_GW[places, w] = np.fromiter(tally.segments.values(), np.int64)
    lengths_G = np.fromiter((len(segment) // 4 for segment in rows), np.int64, len(rows))
    wall = np.int32(BARRIER).tobytes()
    codes_N = np.frombuffer(wall + b"".join(s + wall for s in rows), np.int32)
    number_of = np.full(max(order, default=0) + 2, BARRIER, np.int32)  # the last: BARRIER itself
    number_of[list(order)] = list(order.values())
    segment_N = np.zeros(len(codes_N), np.int32)
    segment_N[1:] = np.repeat(np.arange(len(rows), dtype=np.int32), lengths_G + 1)
    return number_of[codes_N], segment_N, weights_GW


def _batches(docs: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(docs)
    while batch := list(islice(iterator, _BATCH_DOCS)):
        yield batch
