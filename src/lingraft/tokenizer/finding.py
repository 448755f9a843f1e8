"""Find the base that a tokenizer was extended from, by what stands beside the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from .forms import Forms, read_forms

__all__ = ["find_base", "recorded_scripts", "scripts_were_named"]

_RECORD = "extension.json"


def find_base(extended: Forms, named: str | None) -> tuple[Forms | None, str]:
    """Read the base that was named, or that `extension.json` tells of.

    The record holds the last parts of the base's path and its digest: files of that name in the
    working directory, and in the folders above the tokenizer, are tried.

    Returns:
        The base; None and the reason, where there is none.

    Raises:
        InputError: The base that was named cannot be read.
        UsageError: There is no such place.
    """
    if named is not None:
        return read_forms(named), ""
    record = _read_record(extended)
    if record is None:
        return None, "no base: name it with --base"
    name, digest = _base_of(record)
    if not name or not digest:
        return None, f"no base: {_RECORD} tells of none; name it with --base"
    for place in _places(extended, name):
        try:
            found = read_forms(str(place))
        except (InputError, UsageError):
            continue
        if found.base.digest == digest:
            return found, ""
    return None, f"no base: the {name} that {_RECORD} tells of is not there; name it with --base"


def recorded_scripts(extended: Forms) -> Sequence[str] | None:
    """Give the scripts of `extension.json`; None where it tells none."""
    record = _read_record(extended)
    scripts = record.get("scripts") if record else None
    known = isinstance(scripts, list) and all(isinstance(name, str) for name in scripts)
    return scripts if scripts and known else None


def scripts_were_named(extended: Forms) -> bool:
    """Whether the scripts of `extension.json` were asked for, not found from the pieces."""
    record = _read_record(extended)
    return bool(record and record.get("scripts_from") == "named")


def _read_record(extended: Forms) -> dict[str, Any] | None:
    path = extended.folder / _RECORD if extended.folder else None
    if path is None or not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}.", way_out="Extend again.") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON object.", way_out="Extend again.")
    return record


def _base_of(record: dict[str, Any]) -> tuple[str, str]:
    base = record.get("base")
    if not isinstance(base, dict):
        return "", ""
    return str(base.get("name") or ""), str(base.get("sha256") or "")


def _places(extended: Forms, name: str) -> Iterator[Path]:
    assert extended.folder is not None, "a record lies in a folder"
    folder = extended.folder.absolute()
    for place in (Path(), *folder.parents):
        for part in (Path(name), Path(name).name):
            if (place / part).exists() and not Path(name).is_absolute():
                yield place / part
