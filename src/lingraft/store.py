"""Artefacts on disk: drafts, atomic renames, the manifest written last.

A stage writes into `.draft-NN-stage`. When it is done the files are hashed and synced to
disk, `manifest.json` is written last, and the folder is renamed into place: a folder under
its final name is complete, always. A killed stage leaves its draft; the next run hands the
same draft to a stage that can go on from it, if the identity is still the same, and throws
it away otherwise.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .errors import DiskFullError, InputError, LockedError, UsageError, VerifyError
from .manifest import Facts, FileEntry, Identity, Manifest, file_sha256, read_manifest
from .progress import Progress, Reporter

__all__ = [
    "Artefact",
    "Draft",
    "disk_errors",
    "link_or_copy",
    "lock_folder",
    "open_artefact",
    "open_draft",
    "require_space",
    "sync_file",
    "verify_artefact",
    "write_json",
    "write_text",
]

_SCRATCH = "scratch"
_IDENTITY = "identity.json"  # which identity a draft belongs to
_PARTIAL = ".partial"  # ends the name of a file that is being written


@dataclass(frozen=True)
class Artefact:
    """A finished stage folder and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def facts(self) -> Mapping[str, Any]:
        """The stage's facts as plain JSON values."""
        return self.manifest.facts

    def file(self, name: str) -> Path:
        """Path of one of the artefact's files.

        Raises:
            VerifyError: The manifest lists no such file.
        """
        if not any(entry.path == name for entry in self.manifest.files):
            raise VerifyError(f"{self.path}: its manifest lists no file '{name}'.")
        return self.path / name


def open_artefact(path: Path) -> Artefact:
    """Open a finished stage folder; see `read_manifest` for errors."""
    return Artefact(path, read_manifest(path))


def verify_artefact(artefact: Artefact, *, full: bool) -> list[str]:
    """List what differs between the manifest and the disk: missing files, sizes, hashes.

    Args:
        artefact: The artefact to look at.
        full: Also hash every file and the manifest's own digest; otherwise only existence and
            size are compared.
    """
    wrong: list[str] = []
    if full and not artefact.manifest.is_consistent:
        wrong.append(f"{artefact.path / 'manifest.json'}: its digest is not that of its content")
    for entry in artefact.manifest.files:
        path = artefact.path / entry.path
        if not path.is_file():
            wrong.append(f"{path}: missing")
        elif path.stat().st_size != entry.size_bytes:
            wrong.append(f"{path}: {path.stat().st_size} bytes, expected {entry.size_bytes}")
        elif full and (sha := file_sha256(path)) != entry.sha256:
            wrong.append(f"{path}: sha256 {sha[:12]}..., expected {entry.sha256[:12]}...")
    return wrong


@dataclass
class Draft:
    """The folder that a stage is filling, with what it needs while it works.

    `path` becomes the artefact. `scratch` lies inside it, survives a kill, and is removed
    when the draft is sealed: checkpoints and half-done work go there.
    """

    path: Path
    final: Path
    identity: Identity
    reporter: Reporter
    _aside: list[str] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of the run; the only source of randomness that a stage may use."""
        return self.identity.seed

    @property
    def scratch(self) -> Path:
        """Folder for work in progress; made on first use."""
        folder = self.path / _SCRATCH
        folder.mkdir(exist_ok=True)
        return folder

    @contextmanager
    def progress(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        """Show progress of `total` units of work, starting from `done` (on resume)."""
        with self.reporter.task(label, total, unit, done) as progress:
            yield progress

    def note(self, text: str) -> None:
        """Tell the user one line, and log it."""
        self.reporter.note(text)

    def set_aside(self, pattern: str) -> None:
        """Keep files that match `pattern` out of the digest (logs with times in them)."""
        self._aside.append(pattern)

    def know_sha256(self, name: str, sha256: str) -> None:
        """Tell the hash of a file that was hashed while it was written; `seal` takes it over."""
        self._known[name] = sha256

    def seal(self, facts: Facts, circumstances: dict[str, Any]) -> Artefact:
        """Hash and sync the files, write the manifest, then `finish`."""
        for left in self.path.rglob(f"*{_PARTIAL}"):
            left.unlink()  # of a write that a kill cut short, in a draft that was gone on with
        entries, aside = self._entries()
        circumstances = {**circumstances, "files_set_aside": aside}
        manifest = Manifest.build(self.identity, entries, facts, circumstances)
        write_text(self.path / "manifest.json", manifest.model_dump_json(indent=1) + "\n")
        return self.finish()

    @property
    def is_sealed(self) -> bool:
        """Whether a killed run had written the manifest already: only `finish` is left to do."""
        return (self.path / "manifest.json").is_file()

    def finish(self) -> Artefact:
        """Clear away what is not part of the artefact, and rename into place.

        An artefact already under the final name (a redo) is replaced; at every moment either
        the former or the new one is complete.
        """
        shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
        (self.path / _IDENTITY).unlink(missing_ok=True)
        _sync_folder(self.path)
        former = self.final.with_name(f".former-{self.final.name}")
        shutil.rmtree(former, ignore_errors=True)
        if self.final.exists():
            self.final.rename(former)
        self.path.rename(self.final)
        _sync_folder(self.final.parent)
        shutil.rmtree(former, ignore_errors=True)
        return open_artefact(self.final)

    def _entries(self) -> tuple[list[FileEntry], list[str]]:
        entries: list[FileEntry] = []
        aside: list[str] = []
        for path in sorted(p for p in self.path.rglob("*") if p.is_file()):
            name = path.relative_to(self.path).as_posix()
            if name == _IDENTITY or name.startswith(f"{_SCRATCH}/"):
                continue
            if any(fnmatch(name, pattern) for pattern in self._aside):
                aside.append(name)
                continue
            sync_file(path)
            sha256 = self._known.get(name) or file_sha256(path)
            entries.append(FileEntry(path=name, size_bytes=path.stat().st_size, sha256=sha256))
        return entries, aside


def open_draft(final: Path, identity: Identity, reporter: Reporter, *, resumable: bool) -> Draft:
    """Open the draft of the artefact `final`: a former one to go on from, or an empty one.

    Args:
        final: Where the artefact will stand.
        identity: What decides its bytes; a draft of another identity is thrown away.
        reporter: Where progress goes.
        resumable: Whether the stage can go on from what a killed run left. A draft that was
            sealed but not renamed is whole, and is handed back in any case.
    """
    path = final.with_name(f".draft-{final.name}")
    mark = path / _IDENTITY
    same = mark.is_file() and mark.read_text(encoding="utf-8") == identity.digest
    if (path / "manifest.json").is_file():
        resumable = same = read_manifest(path).identity == identity
    if not (resumable and same):
        if next((path / _SCRATCH).rglob("checkpoint-*.json"), None):
            reporter.note(
                f"WARNING: {path}: its checkpoints are of other settings, inputs or code; they are "
                "thrown away, and the stage begins anew."
            )
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        write_text(mark, identity.digest)
    return Draft(path, final, identity, reporter)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write JSON for people and programs: indented, sorted as given, never NaN."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """Give `source` a second name; copy where the file system cannot."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy inside the kernel; file systems that can share blocks then do so."""
    with source.open("rb") as reader, target.open("wb") as writer:
        left = os.fstat(reader.fileno()).st_size
        try:
            while left > 0 and (done := os.copy_file_range(reader.fileno(), writer.fileno(), left)):
                left -= done
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            shutil.copyfileobj(reader, writer, 1 << 22)


@contextmanager
def lock_folder(
    folder: Path, *, place: str = "--set run.folder=PATH", other: str = "--set run.name=OTHER"
) -> Iterator[None]:
    """Hold `folder` for this process; the lock dies with the process, even when killed.

    Args:
        folder: Made if it is not there.
        place: How messages tell to name another place.
        other: How messages tell to use another folder at the same time.

    Raises:
        LockedError: Another process holds it.
        UsageError: There can be no folder at that place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UsageError(
            f"{folder}: cannot be made a folder: {error.strerror}.",
            way_out=f"Choose another place: {place}.",
        ) from None
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(
                f"{folder}: another run is at work here (process {holder}).",
                effect="Two runs in one folder would overwrite each other's drafts.",
                way_out=f"Wait for it, stop it, or use another name: {other}.",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


_CANNOT_WRITE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES,
)  # fmt: skip


@contextmanager
def disk_errors(folder: Path, *, place: str = "--set run.folder=PATH") -> Iterator[None]:
    """Turn 'no space left', 'read-only' and 'no rights' into a message with a way out."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EACCES and not _is_inside(error.filename, folder):
            raise InputError(
                f"{error.filename}: cannot be read: {error.strerror}.",
                effect="What it holds would be missing, unseen.",
                way_out="Give this user the right to read it, or name another source.",
            ) from error
        if error.errno not in _CANNOT_WRITE:
            raise
        free_mb = shutil.disk_usage(folder if folder.exists() else Path.cwd()).free // 2**20
        raise DiskFullError(
            f"{error.filename or folder}: cannot write: {error.strerror} ({free_mb} MiB free).",
            effect="What is finished is whole; the rest is kept as a draft.",
            way_out=f"Make space or use another disk ({place}), and run again.",
        ) from error


def require_space(folder: Path, size_bytes: int, *, place: str = "--out DIR") -> None:
    """Refuse work whose result has no room, before its first byte is written.

    Args:
        folder: Where the result will stand; it need not exist yet.
        size_bytes: Bytes that will be written there, of files that are not linked.
        place: How the message tells to name another disk.

    Raises:
        DiskFullError: Fewer bytes than these are free.
    """
    standing = folder.absolute()
    while not standing.exists():
        standing = standing.parent
    free_bytes = shutil.disk_usage(standing).free
    if free_bytes < size_bytes:
        raise DiskFullError(
            f"{folder}: {size_bytes / 1e9:.2f} GB are to be written, and {free_bytes / 1e9:.2f} GB "
            "are free.",
            effect="Nothing was written.",
            way_out=f"Make space or use another disk ({place}), and run again.",
        )


def _is_inside(path: str | None, folder: Path) -> bool:
    return path is None or Path(path).resolve().is_relative_to(folder.resolve())


def sync_file(path: Path) -> None:
    """Have what was written to a file, by whomever, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    sync_file(path)
