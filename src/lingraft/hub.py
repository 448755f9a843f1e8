"""Fetch a repository from the hub; what the library raises becomes a message with a way out.

Files go into huggingface_hub's own cache: what is there already is not fetched again, and a
broken download goes on where it stopped. A token, where one is needed, comes from the library's
own places (HF_TOKEN, a login); it never passes through here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .errors import InputError, LingraftError, UsageError

__all__ = ["fetch_snapshot"]


def fetch_snapshot(
    source: str, kind: Literal["model", "dataset"], revision: str, patterns: Sequence[str]
) -> Path:
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
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(
            source.removeprefix("hub:"),
            repo_type=kind,
            revision=revision,
            allow_patterns=list(patterns),
            endpoint=os.environ.get("HF_ENDPOINT"),
        )
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
    return Path(folder)


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
