"""`fetched.json`: what a folder was fetched from, so that it can be told, and fetched again."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import InputError
from ..manifest import Facts
from ..store import write_text

__all__ = ["FetchRecord", "FetchedFile", "FetchedSource", "read_record", "write_record"]


class FetchedSource(Facts):
    """One source, as it was asked for."""

    source: str
    """Without passwords and queries of URLs."""
    revision: str
    """Of a hub repository: what was asked for; else ""."""
    commit: str
    """What the revision was; the same commit gives the same bytes."""


class FetchedFile(Facts):
    """One file of the folder."""

    name: str
    source: str
    commit: str
    """Of a hub repository: one that has the file with these bytes; else ""."""
    size_bytes: int
    sha256: str
    version: str
    """What its server told of its bytes or date; "": nothing."""


class FetchRecord(Facts):
    """The content of `fetched.json`."""

    format: Literal["lingraft-fetched"] = "lingraft-fetched"
    version: Literal[1] = 1
    time: str
    """When it was written, UTC."""
    sources: list[FetchedSource]
    files: list[FetchedFile]


def read_record(path: Path) -> FetchRecord | None:
    """Read the record of a folder; None: there is none.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return FetchRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path}: not a record of what was fetched: {str(error).splitlines()[0]}.",
            effect="What is in the folder could not be told from files of others.",
            way_out="Fetch into another folder, or delete this file and what it stands beside.",
        ) from None


def write_record(path: Path, record: FetchRecord) -> None:
    """Write the record so that it is there whole or not at all."""
    write_text(path, record.model_dump_json(indent=1) + "\n")
