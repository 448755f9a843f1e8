"""The first step of encoding: each unit of the texts to ids, in files of its own.

    NUMBER.npy, .ends.npy, .bytes.npy   as token files have them, see `shards`
    NUMBER.json                         what is in them, and what they were made from; written last

A unit does not depend on who encodes it, nor on how many do: so any number of processes, threads
and machines write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..exact import Encoder
from ..manifest import canonical_json
from ..shards import RowWriter, token_dtype, token_paths
from ..slices import Slice
from ..store import disk_errors
from ..streaming import in_order
from ..texts import RawDocument
from ..units import Unit, read_told
from .documents import bracket

__all__ = ["EncodeWork", "Span", "keep_encoder", "part_path"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_VERSION = 1
"""Raise when other ids are written for the same text: parts of before are then made again."""
_BATCH_CHARS = 1 << 18  # small enough that every thread is busy, and that memory stays small
_ENDS_DTYPE, _SIZES_DTYPE = np.dtype(np.uint64), np.dtype(np.uint32)


@dataclass(frozen=True)
class Span:
    """One unit, encoded."""

    identity: str
    num_docs: int
    num_empty: int
    """Documents without text; they are left out."""
    total_tokens: int
    size_bytes: int
    """UTF-8 bytes of the texts."""
    num_surrogates: int
    """Halves of surrogate pairs in the texts, each encoded as U+FFFD."""


class _Batch(NamedTuple):
    """Documents, or a slice of a long one."""

    texts: Sequence[str] = ()
    part: Slice | None = None
    is_cut: bool = False
    """Whether the document of the slice goes on in the batch that follows."""
    size_bytes: int = 0
    """UTF-8 bytes of that document, in its last slice."""
    num_surrogates: int = 0


@dataclass(frozen=True)
class EncodeWork:
    """Texts to parts, a unit at a time; see `work.Work`."""

    units: tuple[Unit, ...]
    tokenizer: str
    digest: str
    """Of the tokenizer, as it was when the work was planned."""
    bos_id: int | None
    eos_id: int | None
    text_key: str
    folder: str
    threads: int
    label: str = "encode"

    def __len__(self) -> int:
        """Give the number of units."""
        return len(self.units)

    def size_bytes(self, n: int) -> int:
        """Give the bytes of a unit."""
        return self.units[n].size_bytes

    def identity(self, n: int) -> str:
        """Digest all that decides the bytes of a part."""
        unit = self.units[n]
        stat = Path(unit.path).stat()
        what = [_VERSION, *unit, stat.st_size, stat.st_mtime_ns]
        what += [self.digest, self.bos_id, self.eos_id, self.text_key]
        return hashlib.sha256(canonical_json(what).encode()).hexdigest()

    def is_done(self, n: int) -> bool:
        """Whether a part is there, whole, and of the same things."""
        return self.find(n) is not None

    def find(self, n: int) -> Span | None:
        """Give what is in a part, if it is done."""
        path = part_path(self.folder, n)
        try:
            span = Span(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):  # TypeError: other fields
            return None
        whole = all(file.is_file() for file in token_paths(path))
        return span if whole and span.identity == self.identity(n) else None

    def do(self, n: int) -> None:
        """Encode a unit; its JSON file comes last.

        Drafts have a name that no other process uses: two that encode the same unit, as a task
        that was given up and its second try, write the same bytes and cannot mix them.
        """
        path = part_path(self.folder, n)
        draft = path.with_name(f"{path.stem}.{socket.gethostname()}-{os.getpid()}.draft.npy")
        record, record_draft = path.with_suffix(".json"), draft.with_suffix(".json")
        files = list(zip(token_paths(draft), token_paths(path), strict=True))
        try:
            with disk_errors(path.parent, place="--out DIR"):
                span = self._write(n, draft)
                record_draft.write_text(json.dumps(asdict(span)), encoding="utf-8")
                record.unlink(missing_ok=True)  # or files half replaced would pass for whole
                for source, target in [*files, (record_draft, record)]:
                    source.replace(target)
        finally:
            for source in [*token_paths(draft), record_draft]:
                source.unlink(missing_ok=True)

    def _write(self, n: int, draft: Path) -> Span:
        encoder = _encoder(self.tokenizer, self.digest)
        ids_path, ends_path, sizes_path = token_paths(draft)
        with ids_path.open("wb") as a, ends_path.open("wb") as b, sizes_path.open("wb") as c:
            writer = _Writer(a, b, c, token_dtype(encoder.base.size), self.bos_id, self.eos_id)
            batches = _batches(read_told(self.units[n], self.text_key), encoder)

            def work(batch: _Batch) -> tuple[Int32, Int64]:
                if batch.part is None:
                    return encoder.encode_packed(batch.texts)
                ids_T = encoder.encode_slice(batch.part)
                return ids_T, np.array([len(ids_T)])

            for batch, (ids_T, ends_D) in in_order(work, batches, self.threads):
                writer.append(batch, ids_T, ends_D)
            return writer.finish(self.identity(n))


class _Writer:
    """Writes the three rows of a part."""

    def __init__(
        self,
        ids: BinaryIO,
        ends: BinaryIO,
        sizes: BinaryIO,
        dtype: np.dtype[np.uint16] | np.dtype[np.uint32],
        bos_id: int | None,
        eos_id: int | None,
    ) -> None:
        self._ids, self._ends = RowWriter(ids, dtype), RowWriter(ends, _ENDS_DTYPE)
        self._sizes = RowWriter(sizes, _SIZES_DTYPE)
        self._bos_id, self._eos_id = bos_id, eos_id
        self._num_empty = self._size_bytes = self._num_surrogates = 0

    def append(self, batch: _Batch, ids_T: Int32, ends_D: Int64) -> None:
        self._num_surrogates += batch.num_surrogates
        if batch.part is not None:
            self._append_slice(batch, batch.part, ids_T, ends_D)
            return
        texts = batch.texts
        filled = [text for text in texts if text]
        if len(filled) < len(texts):  # without ids, so only their ends are to be left out
            self._num_empty += len(texts) - len(filled)
            ends_D = ends_D[[n for n, text in enumerate(texts) if text]]
        sizes = [len(text) if text.isascii() else len(text.encode()) for text in filled]
        ids_T, ends_D = bracket(ids_T, ends_D, self._bos_id, self._eos_id)
        self._end_documents(ends_D + self._ids.length, sizes)
        self._ids.append(ids_T)

    def _append_slice(self, batch: _Batch, part: Slice, ids_T: Int32, ends_D: Int64) -> None:
        bos_id = None if part.goes_on else self._bos_id
        eos_id = None if batch.is_cut else self._eos_id
        ids_T, ends_D = bracket(ids_T, ends_D, bos_id, eos_id)
        if not batch.is_cut:
            self._end_documents(ends_D + self._ids.length, [batch.size_bytes])
        self._ids.append(ids_T)

    def _end_documents(self, ends_D: Int64, sizes: Sequence[int]) -> None:
        self._ends.append(ends_D)
        self._sizes.append(np.array(sizes, np.int64))
        self._size_bytes += sum(sizes)

    def finish(self, identity: str) -> Span:
        for row in (self._ids, self._ends, self._sizes):
            row.finish()
        return Span(
            identity,
            self._ends.length,
            self._num_empty,
            self._ids.length,
            self._size_bytes,
            self._num_surrogates,
        )


def part_path(folder: str, n: int) -> Path:
    """Where the ids of unit `n` lie."""
    return Path(folder) / f"{n:06d}.npy"


_ENCODERS: dict[tuple[str, str], Encoder] = {}


def keep_encoder(tokenizer: str, encoder: Encoder) -> None:
    """Let the units of this process use an encoder that was made already."""
    _ENCODERS.clear()  # one at a time: its tables are large
    _ENCODERS[tokenizer, encoder.base.digest] = encoder


def _encoder(tokenizer: str, digest: str) -> Encoder:
    """Read a tokenizer once a process, not once a unit."""
    if (tokenizer, digest) not in _ENCODERS:
        keep_encoder(tokenizer, Encoder(tokenizer, warn=False))
    return _ENCODERS.get((tokenizer, digest)) or _changed(tokenizer)


def _changed(tokenizer: str) -> Encoder:
    """Refuse a tokenizer that is not the one that the work was planned with.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"{tokenizer}: not the same here and now as where the work was planned.",
        effect="Ids of two tokenizers would stand in one file.",
        way_out="Run the same command again.",
    )


def _batches(docs: Iterator[RawDocument], encoder: Encoder) -> Iterator[_Batch]:
    """Collect short documents, and slice long ones, which need not be in memory as ids."""
    texts: list[str] = []
    size = num_surrogates = 0
    for doc in docs:
        is_long = len(doc.text) >= _BATCH_CHARS
        if not is_long:
            texts.append(doc.text)
            size += len(doc.text) + 1  # empty ones need room, too
            num_surrogates += doc.num_surrogates
        if texts and (is_long or size >= _BATCH_CHARS):
            yield _Batch(texts, num_surrogates=num_surrogates)
            texts, size, num_surrogates = [], 0, 0
        if is_long:
            yield from _slice(doc, encoder)
    if texts:
        yield _Batch(texts, num_surrogates=num_surrogates)


def _slice(doc: RawDocument, encoder: Encoder) -> Iterator[_Batch]:
    parts = encoder.slices(doc.text)
    part = next(parts)
    for later in parts:
        yield _Batch(part=part, is_cut=True)
        part = later
    steps = range(0, len(doc.text), _BATCH_CHARS)
    size_bytes = sum(len(doc.text[n : n + _BATCH_CHARS].encode()) for n in steps)
    yield _Batch(part=part, size_bytes=size_bytes, num_surrogates=doc.num_surrogates)
