"""`datasets.toml`: which sets there are and where their files lie, in the reference's format.

    [NAME]
    splits = ["train", "valid"]
    root = "{DATA_DIR}"                  # folder of the set
    doc = "{name}-{split}"               # documents: this and .jsonl, under root
    encoded = "encoded-{name}-{split}"   # token files, under root

A registry written for the reference is read unchanged, `dev` splits and all; `{DATA_DIR}`,
`{name}` and `{split}` are the only templates.
Source of the format: HIT-SCIR/Chinese-Mixtral-8x7B README (a672672).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError

__all__ = ["RegisteredSet", "parse_registry", "read_registry", "write_registry"]

_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_KEYS = ("splits", "root", "doc", "encoded")


class RegisteredSet(NamedTuple):
    """One set of a registry, its templates filled in."""

    docs: Mapping[str, Path]
    """Split -> JSON Lines file of its documents."""
    encoded: Mapping[str, Path]
    """Split -> place of its token files."""


def write_registry(names: Iterable[str], splits: Sequence[str]) -> str:
    """Give the text of a registry of sets whose files lie in one folder."""
    entries = []
    for name in names:
        entries.append(
            f"[{_toml_key(name)}]\n"
            f"splits = {json.dumps(list(splits))}\n"
            'root = "{DATA_DIR}"\n'
            'doc = "{name}-{split}"\n'
            'encoded = "{name}-{split}.npy"\n'
        )
    return "\n".join(entries)


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def read_registry(path: Path, data_dir: Path | None = None) -> dict[str, RegisteredSet]:
    """Read a registry file.

    Args:
        path: The file.
        data_dir: What `{DATA_DIR}` stands for; by default the file's own folder.

    Raises:
        InputError: The file cannot be read, or an entry is bad.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the registry: {error}.") from None
    return parse_registry(text, data_dir or path.parent, str(path))


def parse_registry(text: str, data_dir: Path, source: str) -> dict[str, RegisteredSet]:
    """Read the text of a registry; `source` names it in messages.

    Raises:
        InputError: The text is not TOML, or an entry lacks a key, has an unknown one, a value
            of another type, or an unknown template.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not TOML: {error}.") from None
    return {name: _read_entry(name, entry, data_dir, source) for name, entry in tree.items()}


def _read_entry(name: str, entry: object, data_dir: Path, source: str) -> RegisteredSet:
    if not isinstance(entry, dict) or sorted(entry) != sorted(_KEYS):
        found = ", ".join(entry) if isinstance(entry, dict) else repr(entry)
        raise _bad(source, name, f"has {found or 'nothing'}; expected {', '.join(_KEYS)}")
    splits = entry["splits"]
    if not isinstance(splits, list) or not splits or not all(isinstance(s, str) for s in splits):
        raise _bad(source, f"{name}.splits", f"is {splits!r}; expected a list of names")
    docs, encoded = {}, {}
    for split in splits:
        values = {"DATA_DIR": str(data_dir), "name": name, "split": split}
        root, doc, tokens = (
            _fill(entry[key], values, source, f"{name}.{key}") for key in ("root", "doc", "encoded")
        )
        docs[split] = Path(root) / f"{doc}.jsonl"
        encoded[split] = Path(root) / tokens
    return RegisteredSet(docs, encoded)


def _fill(template: object, values: Mapping[str, str], source: str, key: str) -> str:
    if not isinstance(template, str):
        raise _bad(source, key, f"is {template!r}; expected text")
    unknown = [name for name in _TEMPLATE.findall(template) if name not in values]
    if unknown:
        raise _bad(
            source, key, f"has {{{unknown[0]}}}; expected only {{DATA_DIR}}, {{name}}, {{split}}"
        )
    return _TEMPLATE.sub(lambda match: values[match[1]], template)


def _bad(source: str, key: str, text: str) -> InputError:
    return InputError(
        f"{source}: {key} {text}.",
        effect="Files would be looked for in the wrong place.",
        way_out='Write entries as in: root = "{DATA_DIR}", doc = "{name}-{split}".',
    )
