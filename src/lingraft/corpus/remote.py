"""`lingraft corpus fetch`: files of data sets into a folder, under their own names.

A file is gathered in `.fetching` and moved to its place when it is whole; `fetched.json` is
written last. Fetched again, a folder gets what is missing in it or has changed at its source, and
nothing is left unsaid: a file that is gone at its source, or that was there before and is not
ours, stops it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

from ..errors import InputError, UsageError
from ..progress import Progress, Reporter, SilentReporter
from ..sources import is_hub_source
from ..store import disk_errors, lock_folder, write_text
from ..streaming import list_names, num_jobs
from .fetched import FetchedFile, FetchedSource, FetchRecord, read_record, write_record
from .origins import PARTS_NAME, RECORD_NAME, Origin, RemoteFile, find_origin, is_wanted
from .transfer import Transfer, part_length, part_path

__all__ = ["FetchResult", "FileState", "fetch"]

_DONE = ".done"
"""Ends the name of the record of a file that is whole, while others are fetched."""
_FETCHED, _BEGUN, _MISSING, _CHANGED, _DAMAGED = "fetched", "begun", "missing", "changed", "damaged"


@dataclass(frozen=True)
class FileState:
    """One file, and how it stood before anything was fetched."""

    name: str
    source: str
    size_bytes: int | None
    """None: its server does not tell."""
    state: str
    """"fetched"; or why it is to be: "missing", "begun" (a part is there), "changed" at its
    source, "damaged" here (not the size that was fetched)."""


@dataclass(frozen=True)
class FetchResult:
    """What was fetched, or what would be."""

    folder: Path
    sources: tuple[FetchedSource, ...]
    files: tuple[FileState, ...]
    is_done: bool
    """Whether all files are there now; if not, it was only asked what would be fetched."""

    @property
    def to_fetch(self) -> tuple[FileState, ...]:
        """Files that were not there yet."""
        return tuple(file for file in self.files if file.state != _FETCHED)

    @property
    def record(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "folder": str(self.folder),
            "is_done": self.is_done,
            "sources": [source.model_dump() for source in self.sources],
            "files": [asdict(file) for file in self.files],
        }


class _Planned(NamedTuple):
    origin: Origin
    file: RemoteFile
    state: str


def fetch(
    sources: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    patterns: Sequence[str] = (),
    revision: str | None = None,
    jobs: int = 4,
    list_only: bool = False,
    reporter: Reporter | None = None,
) -> FetchResult:
    """Fetch the files of data sets into a folder.

    Args:
        sources: `hub:OWNER/NAME`, paths, or URLs that fsspec reads; see `origins`.
        out: Folder for the files.
        patterns: Files to take from repositories and folders; none: all that are not hidden.
        revision: Branch, tag or commit of hub repositories; None: main.
        jobs: Files fetched at a time.
        list_only: Whether it is only told what would be fetched.
        reporter: Where progress goes.

    Raises:
        DiskFullError: The folder cannot be written.
        InputError: A file cannot be read, is gone, changed, or is not what its source says.
        LockedError: Another process fetches into the folder.
        MissingPackageError: A package is needed to read such a source.
        UsageError: There is no such source, two files have one name, or one is in the way.
    """
    teller, threads, folder = reporter or SilentReporter(), num_jobs(jobs), Path(out)
    origins = _find_origins(list_names("SOURCE", sources), patterns, revision, folder)
    if list_only:
        planned = _plan(origins, folder, patterns)
        return _result(folder, origins, planned, is_done=False)
    with (
        disk_errors(folder, place="--out DIR"),
        lock_folder(folder, place="--out DIR", other="--out OTHER"),
    ):
        planned = _plan(origins, folder, patterns)
        parts = folder / PARTS_NAME
        if any(one.state != _FETCHED for one in planned):
            parts.mkdir(exist_ok=True)
            _fetch_all(planned, folder, threads, teller)
        _finish(origins, folder)
        _clear(parts)
    return _result(folder, origins, planned, is_done=True)


def _find_origins(
    sources: Sequence[str], patterns: Sequence[str], revision: str | None, folder: Path
) -> list[Origin]:
    if revision is not None and not any(map(is_hub_source, sources)):
        raise UsageError(
            f"--revision {revision}: no source is a hub repository.",
            effect="It would mean nothing.",
            way_out="Leave it out.",
        )
    for source in sources:
        inside = Path(source).expanduser()
        if inside.is_dir() and folder.resolve().is_relative_to(inside.resolve()):
            raise UsageError(
                f"--out {folder}: is inside the source '{source}'.",
                effect="What is fetched would be a source of itself.",
                way_out="Name another folder.",
            )
    asked = dict.fromkeys(sources)
    origins = [find_origin(source, patterns, revision or "main") for source in asked]
    _refuse_twice(origins)
    return origins


def _refuse_twice(origins: Sequence[Origin]) -> None:
    seen: dict[str, str] = {}
    for origin in origins:
        for file in origin.files:
            if file.name in seen:
                raise UsageError(
                    f"two files are named {file.name}: of '{seen[file.name]}' and of "
                    f"'{origin.source}'.",
                    effect="One would be written over the other.",
                    way_out="Fetch each source into its own folder.",
                )
            seen[file.name] = origin.source


def _plan(origins: Sequence[Origin], folder: Path, patterns: Sequence[str]) -> list[_Planned]:
    """Tell how each file stands in the folder.

    Raises:
        InputError: A file that was fetched is gone at its source.
        UsageError: A file is in the way.
    """
    known = _read_known(folder)
    for origin in origins:
        _refuse_vanished(origin, known, folder, patterns)
    return [
        _Planned(origin, file, _state(origin, file, known.get(file.name), folder))
        for origin in origins
        for file in origin.files
    ]


def _read_known(folder: Path) -> dict[str, FetchedFile]:
    """Read what is told of the folder's files: by its record, and by a call that was stopped."""
    record = read_record(folder / RECORD_NAME)
    known = {file.name: file for file in record.files} if record else {}
    for path in (folder / PARTS_NAME).glob(f"*{_DONE}"):
        file = FetchedFile.model_validate_json(path.read_bytes())
        known[file.name] = file
    return known


def _refuse_vanished(
    origin: Origin, known: Mapping[str, FetchedFile], folder: Path, patterns: Sequence[str]
) -> None:
    listed = {file.name for file in origin.files}
    gone = [
        name
        for name, file in known.items()
        if file.source == origin.source and name not in listed and is_wanted(name, patterns)
        and (folder / name).exists()
    ]  # fmt: skip
    if gone:
        more = f" and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        raise InputError(
            f"source '{origin.source}': {gone[0]}{more}, fetched before, is not there any more.",
            effect=f"{folder} would hold files of two states of the source.",
            way_out="Delete it from the folder, or fetch into another one.",
        )


def _state(origin: Origin, file: RemoteFile, known: FetchedFile | None, folder: Path) -> str:
    target = folder / file.name
    if known is None or known.source != origin.source:
        _refuse_in_the_way(target, folder, known)
    elif target.is_file():
        if target.stat().st_size != known.size_bytes:
            return _DAMAGED
        is_told = bool(file.version) or file.size_bytes is not None
        is_same = known.version == file.version and file.size_bytes in (None, known.size_bytes)
        return _FETCHED if is_told and is_same else _CHANGED
    part = part_path(folder / PARTS_NAME, origin.source, file.name)
    return _BEGUN if part_length(part, origin.source, file) else _MISSING


def _refuse_in_the_way(target: Path, folder: Path, known: FetchedFile | None) -> None:
    parents = [path for path in target.parents if path.is_relative_to(folder)]
    there = next((path for path in parents if path.exists() and not path.is_dir()), target)
    if not os.path.lexists(there):
        return
    owner = f"was fetched from '{known.source}'" if known else "was not fetched from anywhere"
    raise UsageError(
        f"{there}: is there already, and {owner}.",
        effect="It would be written over.",
        way_out="Name another folder (--out DIR), or move it away.",
    )


def _fetch_all(planned: Sequence[_Planned], folder: Path, threads: int, teller: Reporter) -> None:
    """Fetch what is not there, several files at a time; the first failure stops all."""
    left = [one for one in planned if one.state != _FETCHED]
    stop = Event()
    with (
        teller.task("fetch", sum(one.file.size_bytes or 0 for one in left), "bytes") as progress,
        ThreadPoolExecutor(min(threads, len(left))) as pool,
    ):
        tell = _in_turn(progress)
        futures = [pool.submit(_fetch_one, one, folder, tell, stop) for one in left]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # also Ctrl-C: parts stay as they are
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _in_turn(progress: Progress) -> Callable[[int], None]:
    lock = Lock()

    def tell(size_bytes: int) -> None:
        with lock:
            progress.advance(size_bytes)

    return tell


def _fetch_one(planned: _Planned, folder: Path, tell: Callable[[int], None], stop: Event) -> None:
    origin, file, _ = planned
    part = part_path(folder / PARTS_NAME, origin.source, file.name)
    transfer = Transfer(origin, file, part, tell, stop)
    size_bytes, sha256 = transfer.gather()
    done = FetchedFile(
        name=file.name,
        source=origin.source,
        commit=origin.commit,
        size_bytes=size_bytes,
        sha256=sha256,
        version=file.version,
    )
    # Told before it is placed: a file in its place that nothing tells of would be in the way.
    write_text(part.with_suffix(_DONE), done.model_dump_json() + "\n")
    transfer.place(folder / file.name)


def _finish(origins: Sequence[Origin], folder: Path) -> None:
    """Write the record; leave it as it is where nothing is new."""
    former = read_record(folder / RECORD_NAME)
    listed = {(origin.source, file.name): origin for origin in origins for file in origin.files}
    files = []
    for name, file in sorted(_read_known(folder).items()):
        origin = listed.get((file.source, name))
        if origin:
            files.append(file.model_copy(update={"commit": origin.commit}))
        elif (folder / name).is_file():
            files.append(file)
    asked = {source.source: source for source in _sources(origins)}
    before = {source.source: source for source in (former.sources if former else [])}
    for file in files:  # a source that was never fetched to its end is in no record yet
        unknown = FetchedSource(source=file.source, revision="", commit=file.commit)
        asked.setdefault(file.source, before.get(file.source, unknown))
    sources = sorted(asked.values(), key=lambda source: source.source)
    if former is None or (former.sources, former.files) != (sources, files):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_record(folder / RECORD_NAME, FetchRecord(time=now, sources=sources, files=files))


def _clear(parts: Path) -> None:
    """Remove what only a call that is not finished needs; parts of other sources stay."""
    for path in parts.glob(f"*{_DONE}"):
        path.unlink()
    if parts.is_dir() and not any(parts.iterdir()):
        parts.rmdir()


def _sources(origins: Sequence[Origin]) -> list[FetchedSource]:
    return [
        FetchedSource(source=one.source, revision=one.revision, commit=one.commit)
        for one in origins
    ]


def _result(
    folder: Path, origins: Sequence[Origin], planned: Sequence[_Planned], *, is_done: bool
) -> FetchResult:
    files = tuple(
        FileState(one.file.name, one.origin.source, one.file.size_bytes, one.state)
        for one in planned
    )
    return FetchResult(folder, tuple(_sources(origins)), files, is_done)
