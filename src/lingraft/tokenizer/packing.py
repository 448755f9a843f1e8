"""Files to packed ids: `lingraft tokenizer encode`.

    NAME.npy       ids of all documents end to end, uint16 where the vocabulary allows, else uint32
    NAME.ends.npy  where each document ends, uint64; an empty document ends where it begins

`shards.open_tokens` opens them. Batches go to drafts beside as they come, so memory holds a few
batches; a draft gets its place when it is whole, the ids last.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import LockedError, UsageError
from ..exact import Encoder
from ..progress import Reporter, SilentReporter
from ..shards import RowWriter, token_dtype
from ..special import find_eos
from ..store import disk_errors
from ..streaming import (
    TextBatch,
    in_order,
    list_names,
    make_folder,
    num_jobs,
    read_batches,
)
from ..texts import find_texts

__all__ = ["EncodeResult", "encode"]

_ENDS_DTYPE = np.dtype(np.uint64)


@dataclass(frozen=True)
class EncodeResult:
    """Packed ids on disk."""

    out: Path
    ends: Path
    num_docs: int
    total_tokens: int
    size_bytes: int
    """UTF-8 bytes of the documents."""
    dtype: str
    """Of the ids: "uint16" or "uint32"."""
    vocab_size: int
    encoder: str
    """"compiled", "sentencepiece" or "tokenizers"."""
    reason: str
    """Why it is not the compiled one, or ""."""
    eos_id: int | None
    """What ends each document; None: nothing does."""
    num_surrogates: int = 0
    """Halves of surrogate pairs in the documents, each encoded as U+FFFD."""


def encode(
    files: str | Path | Sequence[str | Path],
    *,
    tokenizer: str | Path,
    out: str | Path,
    jobs: int | None = None,
    text_key: str = "text",
    eos: bool = False,
    reporter: Reporter | None = None,
) -> EncodeResult:
    """Encode the documents of files, in order, into one row of ids; equal bytes for any `jobs`.

    Args:
        files: Files, folders or patterns, see `texts.find_texts`.
        tokenizer: A `tokenizer.model`, a `tokenizer.json`, a folder of one, or a hub name.
        out: The `.npy` file of the ids; where documents end goes beside it.
        jobs: Threads; None: one a core. A library that encodes may use its own.
        text_key: Column of the text.
        eos: Whether the tokenizer's EOS is put after each document.
        reporter: Where progress goes.

    Raises:
        InputError: A file or the tokenizer cannot be read; nothing is left then.
        LockedError: Another process is writing `out`.
        UsageError: There is no such file, `out` cannot be one, or `eos` where none is known.
    """
    teller = reporter or SilentReporter()
    target, threads = _check_target(Path(out)), num_jobs(jobs)
    paths = find_texts(list_names("FILE", files))
    encoder = Encoder(tokenizer, warn=False)
    if encoder.reason:
        teller.note(f"encoded by {encoder.backend}: {encoder.reason}")
    ending = find_eos(str(tokenizer), encoder.base) if eos else None
    if ending is not None:
        teller.note(f"after each document: {ending.piece!r}, id {ending.id}, as {ending.source}")
    eos_id = None if ending is None else ending.id
    with disk_errors(target.parent, place="--out FILE"):
        make_folder(target.parent, "--out FILE")
        counts = _write(paths, text_key, encoder, eos_id, threads, target, teller)
    if not counts.num_docs:
        teller.note(f"no document in {len(paths):,} files: {target} is empty")
    return EncodeResult(
        out=target,
        ends=_ends_path(target),
        **counts._asdict(),
        dtype=token_dtype(encoder.base.size).name,
        vocab_size=encoder.base.size,
        encoder=encoder.backend,
        reason=encoder.reason,
        eos_id=eos_id,
    )


class _Counts(NamedTuple):
    num_docs: int
    total_tokens: int
    size_bytes: int
    num_surrogates: int


def _write(
    paths: Sequence[Path],
    text_key: str,
    encoder: Encoder,
    eos_id: int | None,
    threads: int,
    target: Path,
    teller: Reporter,
) -> _Counts:
    tail = np.array([] if eos_id is None else [eos_id], np.int32)
    num_docs = total_tokens = size_bytes = num_surrogates = 0

    def work(batch: TextBatch) -> tuple[list[npt.NDArray[np.int32]], int]:
        ids = encoder.encode_batch(batch.texts, num_threads=1)
        return ids, sum(len(text.encode()) for text in batch.texts)

    total_bytes = sum(path.stat().st_size for path in paths)
    with (
        _open_drafts(target) as (ids_file, ends_file),
        teller.task("encode", total_bytes, "bytes") as progress,
    ):
        rows = RowWriter(ids_file, token_dtype(encoder.base.size))
        ends = RowWriter(ends_file, _ENDS_DTYPE)
        for batch, (docs, num_bytes) in in_order(work, read_batches(paths, text_key), threads):
            if docs:
                sizes = [len(ids) + len(tail) for ids in docs]
                rows.append(np.concatenate([part for ids in docs for part in (ids, tail)]))
                ends.append(total_tokens + np.cumsum(sizes))
                total_tokens += sum(sizes)
            num_docs, size_bytes = num_docs + len(docs), size_bytes + num_bytes
            num_surrogates += batch.num_surrogates
            progress.advance(batch.read_bytes, f"{total_tokens:,} tokens")
        rows.finish()
        ends.finish()
    return _Counts(num_docs, total_tokens, size_bytes, num_surrogates)


def _check_target(out: Path) -> Path:
    if out.suffix != ".npy":
        raise UsageError(
            f"--out {out}: expected the name of a file that ends in .npy.",
            way_out=f"As --out {out.with_suffix('.npy') if out.name else 'ids.npy'}.",
        )
    for path in (out, _ends_path(out)):
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; a file is to be written there.",
                             way_out="Choose another name: --out FILE.")  # fmt: skip
    return out


def _ends_path(target: Path) -> Path:
    return target.with_suffix(".ends.npy")


@contextmanager
def _open_drafts(target: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open drafts of both files; move them in when all went well, else take them away.

    Their names are fixed: what a killed process left is written over by the next one.
    """
    drafts = [path.with_name(f".{path.name}.draft") for path in (target, _ends_path(target))]
    drafts[0].touch()
    with drafts[0].open("r+b") as ids_file:
        _hold(ids_file, drafts[0], target)
        try:
            ids_file.truncate(0)
            with drafts[1].open("wb") as ends_file:
                yield ids_file, ends_file
            target.unlink(missing_ok=True)  # ids of before would not fit the ends
            drafts[1].replace(_ends_path(target))
            drafts[0].replace(target)
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)


def _hold(file: BinaryIO, draft: Path, target: Path) -> None:
    """Lock a draft for this process; the lock dies with the process, even when killed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other process may just have moved it into place: this is then no draft any more.
        held = draft.exists() and draft.stat().st_ino == os.fstat(file.fileno()).st_ino
    except BlockingIOError:
        held = False
    if not held:
        raise LockedError(
            f"{target}: another process is writing it.",
            effect="Two would mix their ids.",
            way_out="Wait for it, or choose another name: --out OTHER.",
        )
