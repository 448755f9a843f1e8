"""What commands on texts share: batches of documents, threads in order, checks of the asked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import UsageError
from .texts import RawDocument, read_texts

__all__ = [
    "TextBatch",
    "in_order",
    "list_names",
    "make_folder",
    "num_cores",
    "num_jobs",
    "read_batches",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_BATCH_CHARS = 1 << 18  # small enough that a few files keep every thread busy
_MOST_JOBS = 1024


class TextBatch(NamedTuple):
    """Documents that follow each other."""

    texts: list[str]
    read_bytes: int
    """Bytes of files, as stored, that were read since the batch before."""
    num_surrogates: int = 0
    """Halves of surrogate pairs that stand as U+FFFD, see `texts.RawDocument`."""


def read_batches(
    paths: Iterable[Path],
    text_key: str,
    read: Callable[[Path, str], Iterable[RawDocument]] = read_texts,
) -> Iterator[TextBatch]:
    """Read the documents of files in batches of about a quarter of a million characters.

    Args:
        paths: The files, in order.
        text_key: Column of the text.
        read: Gives the documents of one file.

    Raises:
        InputError: A row cannot be read.
    """
    texts: list[str] = []
    size = read_bytes = num_surrogates = 0
    for path in paths:
        told, size_bytes = 0, path.stat().st_size
        for doc in read(path, text_key):
            texts.append(doc.text)
            size += len(doc.text) + 1  # empty ones need room, too
            num_surrogates += doc.num_surrogates
            if size >= _BATCH_CHARS:
                yield TextBatch(texts, read_bytes + doc.position - told, num_surrogates)
                texts, size, read_bytes, told, num_surrogates = [], 0, 0, doc.position, 0
        read_bytes += size_bytes - told
    yield TextBatch(texts, read_bytes, num_surrogates)


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[tuple[_Item, _Result]]:
    """Work on items in threads; give each with its result, in order, with few of them waiting."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[_Item, Future[_Result]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > threads + 1:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def list_names(name: str, names: Any) -> list[str]:
    """Read one name or a list of them.

    Raises:
        UsageError: There is none, or something that is no name.
    """
    found = [names] if isinstance(names, str | Path) else names
    if not isinstance(found, Sequence) or not all(isinstance(one, str | Path) for one in found):
        raise UsageError(f"{name} = {names!r}: expected names.")
    if not found:
        raise UsageError(f"{name}: none is given.", way_out="Name one or more.")
    return [str(one) for one in found]


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def num_jobs(jobs: int | None) -> int:
    """Give the number of threads; None: one a core.

    Raises:
        UsageError: It is none.
    """
    if jobs is None:
        return num_cores()
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not 1 <= jobs <= _MOST_JOBS:
        raise UsageError(f"jobs = {jobs!r}: expected a whole number from 1 to {_MOST_JOBS:,}.")
    return jobs


def make_folder(folder: Path, option: str) -> None:
    """Make a folder that is to hold results.

    Raises:
        UsageError: There can be none at that place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{folder}: cannot be made a folder: {error.strerror}.",
            way_out=f"Choose another place: {option}.",
        ) from None
