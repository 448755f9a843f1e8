"""The training text as codes on disk: read once, in order, by any number of threads.

Every input file becomes one file of codes and one small JSON file that is written last. A search
that was stopped goes on with the files that are whole; other machines may write some of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from ..exact import Encoder
from ..texts import RawDocument, read_texts
from .alphabet import Alphabet
from .cut import count_codes
from .scan import RunScanner
from .scratch import write_array

__all__ = ["Batch", "Part", "Spool", "batch_texts", "make_scan", "part_key", "read_part"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_BATCH_CHARS = 1 << 20
_VERSION = 1
"""Raise when other codes are read from the same text: parts of before are then read again."""
_CODE_BYTES = 4
_ENDS = ("codes", "counts.npy", "json")
"""Files of a part, in the order in which they are put in place."""


class Batch(NamedTuple):
    """Documents that are scanned together."""

    texts: Sequence[str]
    num_surrogates: int = 0
    """Halves of surrogate pairs that stand as U+FFFD in them, see `texts.RawDocument`."""


@dataclass(frozen=True)
class Part:
    """One input file, read."""

    identity: str
    """Digest of what decides the codes: the file, the base, the scripts."""
    num_docs: int
    num_chars: int
    num_bytes: int
    """UTF-8 bytes of the documents."""
    batches: tuple[int, ...]
    """Codes in each batch; a document is never in two."""
    num_surrogates: int = 0
    """Halves of surrogate pairs; 0 in a part that was written before they were counted."""


class Spool:
    """A folder of codes."""

    def __init__(self, folder: Path, num_codes: int) -> None:
        """Keep codes in `folder`; there are `num_codes` different ones."""
        self.folder, self._num_codes = folder, num_codes
        self.parts: list[tuple[str, Part]] = []
        self.counts_C = np.zeros(num_codes, np.int64)

    @property
    def num_codes(self) -> int:
        """Codes of the text, BARRIERs too."""
        return sum(sum(part.batches) for _, part in self.parts)

    def add(self, name: str, part: Part) -> None:
        """Take up a part that is whole."""
        self.parts.append((name, part))
        if part.batches:
            counts = np.load(self.folder / f"{name}.counts.npy", allow_pickle=False)
            self.counts_C[counts[0]] += counts[1]

    def find(self, name: str, identity: str) -> Part | None:
        """Give a part that was written before, if it is the same."""
        try:
            row = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        part = Part(**{**row, "batches": tuple(row["batches"])})
        whole = part.identity == identity and self._size(name) == sum(part.batches) * _CODE_BYTES
        return part if whole else None

    def _size(self, name: str) -> int:
        path = self.folder / f"{name}.codes"
        return path.stat().st_size if path.exists() else -1

    def batches(self) -> Iterator[Int32]:
        """Give all codes, batch by batch."""
        for name, part in self.parts:
            with (self.folder / f"{name}.codes").open("rb") as file:
                for num in part.batches:
                    yield np.fromfile(file, np.int32, num)

    def write(self, name: str, identity: str, batches: Iterable[tuple[Batch, Int32]]) -> Part:
        """Write one part; its JSON file comes last.

        Everything is written beside its place first, under a name that no other process uses:
        two that write the same part, as a task that was given up and its second try, write the
        same bytes and cannot mix them.
        """
        suffix = f"{socket.gethostname()}-{os.getpid()}.draft"
        drafts = {end: self.folder / f"{name}.{end}.{suffix}" for end in _ENDS}
        try:
            part = self._write_drafts(drafts, identity, batches)
            # Or a part of before, half replaced, would pass for whole.
            (self.folder / f"{name}.json").unlink(missing_ok=True)
            for end, draft in drafts.items():
                draft.replace(self.folder / f"{name}.{end}")
        finally:
            for draft in drafts.values():
                draft.unlink(missing_ok=True)
        return part

    def _write_drafts(
        self,
        drafts: Mapping[str, Path],
        identity: str,
        batches: Iterable[tuple[Batch, Int32]],
    ) -> Part:
        num_docs = num_chars = num_bytes = num_surrogates = 0
        sizes: list[int] = []
        counts_C = np.zeros(self._num_codes, np.int64)
        with drafts["codes"].open("wb") as file:
            for (texts, num_halves), codes in batches:
                num_docs += len(texts)
                num_chars += sum(map(len, texts))
                num_bytes += sum(len(text.encode()) for text in texts)
                num_surrogates += num_halves
                count_codes(codes, counts_C)
                write_array(file, codes)
                sizes.append(len(codes))
        part = Part(identity, num_docs, num_chars, num_bytes, tuple(sizes), num_surrogates)
        found = np.flatnonzero(counts_C)
        with drafts["counts.npy"].open("wb") as file:
            np.save(file, np.stack([found, counts_C[found]]))
        drafts["json"].write_text(json.dumps(asdict(part)), encoding="utf-8")
        return part


def read_part(
    spool: Spool,
    path: Path,
    text_key: str,
    alphabet: Alphabet,
    scan: Callable[[Sequence[str]], Int32],
    pool: ThreadPoolExecutor,
    ahead: int,
    on_bytes: Callable[[int], None],
) -> tuple[str, Part]:
    """Read one file into the spool, or find it there.

    Args:
        spool: Where it goes.
        path: A text file, see `texts.read_texts`.
        text_key: Column of the text.
        alphabet: What decides the codes.
        scan: Text to codes.
        pool: Threads that scan.
        ahead: Batches that may wait for the pool.
        on_bytes: Called with bytes of the file as they are read.
    """
    size_bytes = path.stat().st_size
    name, identity = part_key(path, text_key, alphabet)
    found = spool.find(name, identity)
    if found is not None:
        on_bytes(size_bytes)
        return name, found
    batches = batch_texts(_told(path, text_key, size_bytes, on_bytes))
    return name, spool.write(name, identity, _scanned(batches, scan, pool, ahead))


def part_key(path: Path, text_key: str, alphabet: Alphabet) -> tuple[str, str]:
    """Give the name of a file's part, and a digest of what decides its codes."""
    stat, place = path.stat(), str(path.resolve())
    what = [_VERSION, regex.__version__, place, stat.st_size, stat.st_mtime_ns, text_key]
    what += [alphabet.base.digest, alphabet.scripts, alphabet.word_start]
    identity = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:16], identity


def batch_texts(docs: Iterable[RawDocument]) -> Iterator[Batch]:
    """Collect documents to batches of about a million characters."""
    texts: list[str] = []
    size = num_surrogates = 0
    for doc in docs:
        texts.append(doc.text)
        size += len(doc.text)
        num_surrogates += doc.num_surrogates
        if size >= _BATCH_CHARS:
            yield Batch(texts, num_surrogates)
            texts, size, num_surrogates = [], 0, 0
    if texts:
        yield Batch(texts, num_surrogates)


def make_scan(alphabet: Alphabet) -> Callable[[Sequence[str]], Int32]:
    """Give the fastest exact way from texts to codes."""
    if not alphabet.needs_general_path:
        return RunScanner(alphabet).scan
    encoder = Encoder(alphabet.base, warn=False)
    return lambda texts: alphabet.read_ids(encoder.encode_words(texts))[0]


def _told(
    path: Path, text_key: str, size_bytes: int, on_bytes: Callable[[int], None]
) -> Iterator[RawDocument]:
    told = 0
    for doc in read_texts(path, text_key):
        if doc.position - told > 1 << 20:
            on_bytes(doc.position - told)
            told = doc.position
        yield doc
    on_bytes(size_bytes - told)


def _scanned(
    batches: Iterable[Batch],
    scan: Callable[[Sequence[str]], Int32],
    pool: ThreadPoolExecutor,
    ahead: int,
) -> Iterator[tuple[Batch, Int32]]:
    """Scan batches in the pool; give them in order, with few of them waiting."""
    waiting: deque[tuple[Batch, Future[Int32]]] = deque()
    for batch in batches:
        waiting.append((batch, pool.submit(scan, batch.texts)))
        if len(waiting) > ahead:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()
