"""Where the files of a recipe's set are: a path, a package, Python itself, or a hub repository.

`hub:OWNER/NAME` is fetched by huggingface_hub into its usual cache: what is there already is not
fetched again, an interrupted fetch goes on, HF_ENDPOINT names a mirror, and a token comes from
its own places (HF_TOKEN, a login). It never passes through here, so nothing here can log it.

A branch as `main` moves, and only the hub knows where to. So a revision that is no commit says
nothing about the bytes; each file tells the commit that it came from, and a stage records it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..hub import fetch_snapshot
from ..sources import is_hub_source, locate_source

__all__ = ["SourceFile", "find_commits", "find_files"]

_SKIPPED_FOLDERS = frozenset(
    ("__pycache__", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests")
)
"""Of Python folders: tests are no prose, and packages are named as sources of their own."""
_SKIPPED_FILES = "_sysconfigdata*"
"""Written when Python was built: paths of that machine."""


class SourceFile(NamedTuple):
    """One file of a set."""

    path: Path
    label: str
    """How a recipe could name it: the same on every machine."""
    commit: str = ""
    """Commit of the hub repository that it came from; "" for other sources."""


def find_files(
    sources: Sequence[str], reader: str, patterns: Sequence[str], revision: str
) -> list[SourceFile]:
    """Find the files of a set, each once, in the order of the sources and then of their names.

    Args:
        sources: As in a recipe; a file is taken as it is, a folder is searched.
        reader: Decides which names are taken from folders where there are no patterns.
        patterns: Names to take from folders and repositories; `*` matches `/` as well.
        revision: Commit, tag or branch of a hub repository.

    Raises:
        InputError: A source gives no file, or a repository cannot be fetched.
        UsageError: There is nothing at the place that a source names.
    """
    wanted = [p for pattern in patterns or _endings(reader) for p in (pattern, f"*/{pattern}")]
    found: dict[str, SourceFile] = {}
    for source in sources:
        commit = ""
        if is_hub_source(source):
            root = fetch_snapshot(source, "dataset", revision, wanted)
            commit = root.name  # the library keeps each commit in a folder of its name
        else:
            root = locate_source(source)
        files = [
            file._replace(commit=commit)
            for file in _files_at(root, source, wanted, python=reader == "python-strings")
        ]
        if not files:
            raise InputError(
                f"source '{source}': no file is named {' or '.join(patterns or _endings(reader))}.",
                effect="The set would be empty.",
                way_out="Set patterns and reader of the set to fit its files.",
            )
        for file in files:
            # Not resolved: equal files of a hub repository are links to one blob.
            found.setdefault(os.path.abspath(file.path), file)  # noqa: PTH100
    return list(found.values())


def find_commits(sources: Sequence[str], files: Sequence[SourceFile]) -> dict[str, str]:
    """Tell which commit each hub repository was read at.

    Args:
        sources: As in a recipe.
        files: What `find_files` gave for them.
    """
    return {
        source: file.commit
        for source in sources
        if is_hub_source(source)
        for file in files
        if file.label.startswith(f"{source}/")
    }


def _endings(reader: str) -> list[str]:
    from .read import SUFFIXES

    return [f"*{suffix}" for suffix in SUFFIXES[reader]]


def _files_at(
    root: Path, source: str, wanted: Sequence[str], *, python: bool
) -> Iterator[SourceFile]:
    if root.is_file():
        yield SourceFile(root, source)
        return
    slash = "" if source.endswith((":", "/")) else "/"
    for name in sorted(_names(root, skipped=_SKIPPED_FOLDERS if python else frozenset())):
        taken = any(fnmatchcase(name, pattern) for pattern in wanted)
        if taken and not (python and fnmatchcase(Path(name).name, _SKIPPED_FILES)):
            yield SourceFile(root / name, f"{source}{slash}{name}")


def _names(root: Path, skipped: frozenset[str]) -> Iterator[str]:
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = [f for f in folders if f not in skipped and not f.startswith(".")]
        for file in files:
            if not file.startswith("."):
                yield (Path(folder) / file).relative_to(root).as_posix()


def _raise(error: OSError) -> None:
    """Stop at a folder that cannot be listed; os.walk would pass over it in silence."""
    raise error
