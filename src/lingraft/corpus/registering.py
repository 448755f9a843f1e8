"""`lingraft corpus list` and `add`: what a registry holds, and one more set in it.

A registry is a person's file: it is appended to, and what stands in it stays as it is, comments
and all. It is there whole at every moment; two processes that add at the same time take turns.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import InputError, UsageError
from ..store import disk_errors, write_text
from ..streaming import list_names, make_folder
from .locating import find_documents, find_registry
from .registry import (
    DOC,
    ENCODED,
    REGISTRY_NAME,
    ROOT,
    RegisteredSet,
    entry_text,
    parse_registry,
    read_registry,
)
from .settings import check_set_name

__all__ = ["AddResult", "ListedSplit", "add_set", "list_sets"]


@dataclass(frozen=True)
class ListedSplit:
    """One split of a registry, as it is on disk."""

    name: str
    split: str
    doc: Path
    """Where its documents should be."""
    files: tuple[Path, ...]
    """The files that hold them; none where they are not there."""
    size_bytes: int
    """Of the files, as stored."""
    encoded: Path
    """Where its token files should be."""
    has_tokens: bool
    """Whether anything is there."""


@dataclass(frozen=True)
class AddResult:
    """A set that was added."""

    registry: Path
    name: str
    created: bool
    """Whether the file was not there before."""
    text: str
    """What was added to it."""


def list_sets(registry: str | Path, *, data_dir: str | Path | None = None) -> list[ListedSplit]:
    """Tell what a registry holds and where it is, without reading any of it.

    Args:
        registry: The file, or a folder with a `datasets.toml`.
        data_dir: What `{DATA_DIR}` stands for; None: the file's own folder.

    Raises:
        InputError: The registry is bad, or several files could be meant by one of its names.
        UsageError: There is none.
    """
    path = find_registry(Path(registry), REGISTRY_NAME)
    sets = read_registry(path, None if data_dir is None else Path(data_dir))
    return [_list_split(name, split, found) for name, found in sets.items() for split in found.docs]


def _list_split(name: str, split: str, found: RegisteredSet) -> ListedSplit:
    doc, encoded = found.docs[split], found.encoded[split]
    files = find_documents(doc)
    size_bytes = sum(file.stat().st_size for file in files)
    return ListedSplit(name, split, doc, tuple(files), size_bytes, encoded, encoded.exists())


def add_set(
    registry: str | Path,
    name: str,
    *,
    root: str = ROOT,
    doc: str = DOC,
    encoded: str = ENCODED,
    splits: Sequence[str] = ("train", "valid"),
) -> AddResult:
    """Add a set to a registry; where there is none, make it.

    Args:
        registry: The file, or a folder for a `datasets.toml`.
        name: What mixtures and commands will call the set.
        root: Folder of the set; this and the next two with templates, see `registry`.
        doc: Its documents, under root.
        encoded: Its token files, under root.
        splits: Names of its splits.

    Raises:
        DiskFullError: It cannot be written.
        InputError: The registry that is there is bad, or the set would make it so.
        UsageError: The name cannot be, or is there already.
    """
    path = Path(registry)
    path = (path / REGISTRY_NAME if path.is_dir() else path).resolve()
    _check_name(name)
    entry = entry_text(
        name, list_names("--splits", splits), root=root, doc=doc, encoded=encoded
    )  # fmt: skip
    parse_registry(entry, path.parent, f"the set to add to {path}")
    with disk_errors(path.parent, place="REGISTRY"):
        make_folder(path.parent, "REGISTRY")
        with _turn(path):
            text, created = _read_text(path)
            _refuse_twice(name, text, path)
            line_end = "\r\n" if "\r\n" in text else "\n"
            added = f"{_gap(text)}{entry}".replace("\n", line_end)
            parse_registry(text + added, path.parent, str(path))
            write_text(path, text + added)
    return AddResult(path, name, created, entry)


def _check_name(name: str) -> None:
    try:
        check_set_name(name)
    except ValueError as error:
        raise UsageError(f"set name {name!r}: {error}") from None


def _read_text(path: Path) -> tuple[str, bool]:
    try:
        return path.read_bytes().decode(), False
    except FileNotFoundError:
        return "", True
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the registry: {error}.") from None


def _refuse_twice(name: str, text: str, path: Path) -> None:
    if name in parse_registry(text, path.parent, str(path)):
        raise UsageError(
            f"{path}: has a set '{name}' already.",
            effect="One of the two would be lost.",
            way_out="Choose another name, or change the entry in the file.",
        )


def _gap(text: str) -> str:
    """What must stand between a registry and one more entry."""
    if not text:
        return ""
    return "\n" if text.endswith("\n") else "\n\n"


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait until no other process adds to the registry at `path`.

    The lock is a file of its own: a registry is replaced, and folders of network file systems
    cannot be locked.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(lock, file):
                continue  # whoever had it before took it away
            try:
                yield
                return
            finally:
                lock.unlink()


def _is_still(path: Path, file: IO[str]) -> bool:
    """Tell whether an open file is still what stands at `path`; another process may take it away.

    One look at `path`: between two, it may go.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
