"""Fetch a repository from the hub; what the library raises becomes a message with a way out.

Files go into huggingface_hub's own cache: a file that is there is not fetched again. A file whose
download was cut short is fetched from its beginning: since version 2 the library keeps no part of
it. `open_hub` reads files from any byte on, for those who keep parts themselves. A token, where
one is needed, comes from the library's own places (HF_TOKEN, a login); it never passes through
here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .errors import InputError, LingraftError, UsageError

__all__ = ["Repository", "RepositoryFile", "fetch_snapshot", "list_repository", "open_hub"]

Kind = Literal["model", "dataset"]


class RepositoryFile(NamedTuple):
    """One file of a repository."""

    name: str
    """With the folders that it lies in."""
    size_bytes: int
    version: str
    """Changes when its bytes do."""
    sha256: str
    """Of its bytes, where the hub knows; else ""."""


class Repository(NamedTuple):
    """A repository at one commit."""

    commit: str
    files: list[RepositoryFile]


def fetch_snapshot(source: str, kind: Kind, revision: str, patterns: Sequence[str]) -> Path:
    """Fetch the files of `source` that match `patterns`; give their folder.

    Args:
        source: `hub:OWNER/NAME`.
        kind: What the repository holds.
        revision: Commit, tag or branch.
        patterns: Names to fetch, with wildcards.

    Raises:
        UsageError: `source` is not the name of a repository.
        InputError: There is no such repository or revision, it needs consent or a login, or
            it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _explained(source, kind, revision):
        folder = snapshot_download(
            source.removeprefix("hub:"),
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
    return Path(folder)


def list_repository(source: str, kind: Kind, revision: str) -> Repository:
    """Tell what files a repository has, and which commit a revision is now.

    Args:
        source: `hub:OWNER/NAME`.
        kind: What the repository holds.
        revision: Commit, tag or branch.

    Raises:
        UsageError: `source` is not the name of a repository.
        InputError: There is no such repository or revision, it needs consent or a login, or
            it cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api, name = HfApi(endpoint=os.environ.get("HF_ENDPOINT")), source.removeprefix("hub:")
    with _explained(source, kind, revision):
        commit = api.repo_info(name, repo_type=kind, revision=revision).sha
        if not commit:
            raise InputError(
                f"source '{source}': the hub does not tell which commit '{revision}' is.",
                effect="What was fetched could not be told from what it will be tomorrow.",
                way_out="Use another mirror (HF_ENDPOINT).",
            )
        rows = api.list_repo_tree(name, repo_type=kind, revision=commit, recursive=True)
        files = [
            RepositoryFile(row.path, row.size, row.blob_id, row.lfs.sha256 if row.lfs else "")
            for row in rows
            if isinstance(row, RepoFile)
        ]
    return Repository(commit, files)


def open_hub() -> Any:
    """Give the hub as a file system of fsspec; paths are `datasets/OWNER/NAME@COMMIT/FILE`."""
    from huggingface_hub import HfFileSystem

    return HfFileSystem(endpoint=os.environ.get("HF_ENDPOINT"), skip_instance_cache=True)


@contextmanager
def _explained(source: str, kind: Kind, revision: str) -> Iterator[None]:
    """Turn what the library raises into a message with a way out."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError:
        raise UsageError(
            f"source '{source}': not a repository.", way_out="Write it as hub:OWNER/NAME."
        ) from None
    # The library's errors have no root of their own; these two cover network, server and cache.
    # HTTPError is that of its HTTP client, which is not the same one in every version.
    except (getattr(errors, "HTTPError"), OSError) as error:  # noqa: B009 - not in its stubs
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the hub
        raise _explain(source, kind, revision, error) from error


def _explain(source: str, kind: str, revision: str, error: Exception) -> LingraftError:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            found = "the hub gives it only to those who accepted its terms"
            way_out = "Accept them on its page, then log in (hf auth login) or set HF_TOKEN."
        case errors.RepositoryNotFoundError():
            found = f"the hub has no such {kind}, or shows it only to its members"
            way_out = "Check the name; for a private one log in (hf auth login) or set HF_TOKEN."
        case errors.RevisionNotFoundError():
            found = f"it has no revision '{revision}'"
            way_out = "Set revision to one of its branches, tags or commits."
        case _:
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            found = f"cannot be fetched: {said}"
            way_out = (
                "Run again to go on where it stopped; check the network, or name a mirror with "
                "HF_ENDPOINT; or fetch the files yourself and give their folder instead."
            )
    return InputError(f"source '{source}': {found}.", way_out=way_out)
