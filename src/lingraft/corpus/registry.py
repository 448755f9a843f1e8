"""`datasets.toml`: which sets there are and where their files lie, in the reference's format.

    [NAME]
    splits = ["train", "valid"]
    root = "{DATA_DIR}"                  # folder of the set
    doc = "{name}-{split}"               # documents, under root, with or without their ending
    encoded = "encoded-{name}-{split}"   # token files, under root

Templates are those of Python's `str.format`, as in the reference: `{DATA_DIR}`, `{name}`,
`{split}`, and here also the other keys: `encoded = "{doc}-tokens"`. What begins with `{root}` or
`{DATA_DIR}` is not put under root once more. A registry written for the reference is read
unchanged, `dev` splits and all. All problems of a registry are told at once.

Source of the format: HIT-SCIR/Chinese-Mixtral-8x7B README (a672672), data/preprocess_datasets.py.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from ..errors import InputError
from ..texts import TEXT_ENDINGS

__all__ = [
    "DOC",
    "ENCODED",
    "REGISTRY_NAME",
    "ROOT",
    "RegisteredSet",
    "entry_text",
    "parse_registry",
    "read_registry",
    "write_registry",
]

REGISTRY_NAME = "datasets.toml"
ROOT, DOC, ENCODED = "{DATA_DIR}", "{name}-{split}", "encoded-{name}-{split}"
"""What an entry holds where nothing else is asked for."""
_TEMPLATES = ("root", "doc", "encoded")
_KEYS = ("splits", *_TEMPLATES)
_GIVEN = ("DATA_DIR", "name", "split")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class RegisteredSet(NamedTuple):
    """One set of a registry, its templates filled in."""

    docs: Mapping[str, Path]
    """Split -> file of its documents; `.jsonl` where the registry names no ending."""
    encoded: Mapping[str, Path]
    """Split -> place of its token files."""


def write_registry(names: Iterable[str], splits: Sequence[str]) -> str:
    """Give the text of a registry of sets whose files lie in one folder."""
    return "\n".join(entry_text(name, splits, encoded="{name}-{split}.npy") for name in names)


def entry_text(
    name: str, splits: Sequence[str], *, root: str = ROOT, doc: str = DOC, encoded: str = ENCODED
) -> str:
    """Give the text of one entry."""
    key = name if _BARE_KEY.fullmatch(name) else _quoted(name)
    return (
        f"[{key}]\n"
        f"splits = [{', '.join(map(_quoted, splits))}]\n"
        f"root = {_quoted(root)}\n"
        f"doc = {_quoted(doc)}\n"
        f"encoded = {_quoted(encoded)}\n"
    )


def _quoted(text: str) -> str:
    """Write a string of TOML: one of JSON, where DEL is written as an escape, too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_registry(path: Path, data_dir: Path | None = None) -> dict[str, RegisteredSet]:
    """Read a registry file.

    Args:
        path: The file.
        data_dir: What `{DATA_DIR}` stands for; by default the file's own folder.

    Raises:
        InputError: The file cannot be read, or an entry is bad.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the registry: {error}.") from None
    return parse_registry(text, data_dir or path.parent, str(path))


def parse_registry(text: str, data_dir: Path, source: str) -> dict[str, RegisteredSet]:
    """Read the text of a registry; `source` names it in messages.

    Raises:
        InputError: The text is not TOML, or entries lack a key, have an unknown one, a value of
            another type, an unknown template, or templates that go in a circle.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not TOML: {error}.") from None
    problems: list[str] = []
    sets = {name: _read_entry(name, entry, data_dir, problems) for name, entry in tree.items()}
    if problems:
        raise _refuse(source, problems)
    return {name: found for name, found in sets.items() if found is not None}


def _refuse(source: str, problems: Sequence[str]) -> InputError:
    way_out = 'Write entries as in: root = "{DATA_DIR}", doc = "{name}-{split}".'
    if len(problems) == 1:
        return InputError(
            f"{source}: {problems[0]}",
            effect="Files would be looked for in the wrong place.",
            way_out=way_out,
        )
    lines = "\n  ".join(problems)
    return InputError(f"{source}: {len(problems)} problems", effect=lines, way_out=way_out)


def _read_entry(
    name: str, entry: object, data_dir: Path, problems: list[str]
) -> RegisteredSet | None:
    """Read one set; what is wrong is put into `problems`."""
    if not isinstance(entry, dict):
        problems.append(f"{name} = {entry!r}: expected a table [{name}] with {', '.join(_KEYS)}.")
        return None
    found = [*_check_keys(name, entry), *_check_splits(name, entry.get("splits", ["-"]))]
    templates = {key: entry[key] for key in _TEMPLATES if key in entry}
    for key, value in templates.items():
        found += _check_template(f"{name}.{key}", value)
    if not found:
        found += _check_circles(name, templates)
    problems += found
    return None if found else _fill_set(name, entry["splits"], templates, data_dir, problems)


def _check_keys(name: str, entry: Mapping[str, object]) -> list[str]:
    problems = [f"{name}.{key}: is required and missing." for key in _KEYS if key not in entry]
    for key, value in entry.items():
        if key in _KEYS:
            continue
        if isinstance(value, dict):  # [a.b] is a table inside the table a
            hint = f' A name with a dot stands in quotes: ["{name}.{key}"].'
        else:
            hint = _did_you_mean(key, _KEYS) or f" Expected {', '.join(_KEYS)}."
        problems.append(f"{name}.{key}: no such key.{hint}")
    return problems


def _check_splits(name: str, splits: object) -> list[str]:
    if (
        not isinstance(splits, list)
        or not splits
        or not all(isinstance(split, str) and split for split in splits)
    ):
        return [f"{name}.splits = {splits!r}: expected a list of names."]
    if len(set(splits)) < len(splits):
        return [f"{name}.splits = {splits!r}: the same split twice."]
    return []


def _check_template(key: str, template: object) -> list[str]:
    if not isinstance(template, str) or not template:
        return [f"{key} = {template!r}: expected text."]
    known = (*_GIVEN, *_TEMPLATES)
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        return [f"{key} = {template!r}: {error}; a brace that is meant is doubled."]
    problems = []
    for _, field, form, conversion in fields:
        if field is None:
            continue
        if field not in known:
            listed = ", ".join(f"{{{one}}}" for one in known)
            hint = _did_you_mean(field, known) or f" Expected one of {listed}."
            problems.append(f"{key} = {template!r}: no such template {{{field}}}.{hint}")
        elif form or conversion:
            problems.append(f"{key} = {template!r}: {{{field}}} takes no format.")
    return problems


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.lower(), [one.lower() for one in known], n=1)
    return next((f" Did you mean '{one}'?" for one in known if [one.lower()] == near), "")


def _check_circles(name: str, templates: Mapping[str, str]) -> list[str]:
    """Tell of the first templates that lead back to themselves."""
    for key in templates:
        if circle := _find_circle(key, templates, ()):
            chain = " -> ".join(f"{{{one}}}" for one in circle)
            return [f"{name}.{circle[0]} = {templates[circle[0]]!r}: goes in a circle: {chain}."]
    return []


def _find_circle(key: str, templates: Mapping[str, str], path: tuple[str, ...]) -> tuple[str, ...]:
    if key in path:
        return (*path[path.index(key) :], key)
    if key not in templates:
        return ()
    inner = (_find_circle(one, templates, (*path, key)) for one in _fields(templates[key]))
    return next((circle for circle in inner if circle), ())


def _fields(template: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(template) if field is not None]


def _fill_set(
    name: str,
    splits: Sequence[str],
    templates: Mapping[str, str],
    data_dir: Path,
    problems: list[str],
) -> RegisteredSet | None:
    docs, encoded = {}, {}
    for split in splits:
        values = {"DATA_DIR": str(data_dir), "name": name, "split": split}
        docs[split] = _doc_file(_place("doc", templates, values))
        encoded[split] = _place("encoded", templates, values)
    shared = [
        f"{name}.{key} = {templates[key]!r}: is one place, {places[splits[0]]}, for several "
        "splits: what is held out would be trained on."
        for key, places in (("doc", docs), ("encoded", encoded))
        if len(set(places.values())) < len(places)
    ]
    problems += shared
    return None if shared else RegisteredSet(docs, encoded)


def _place(key: str, templates: Mapping[str, str], values: Mapping[str, str]) -> Path:
    inner = Path(_fill(key, templates, values))
    if _begins_at_root(key, templates):
        return inner
    return Path(_fill("root", templates, values)) / inner


def _fill(key: str, templates: Mapping[str, str], values: Mapping[str, str]) -> str:
    template = templates[key]
    filled = {
        field: values[field] if field in values else _fill(field, templates, values)
        for field in _fields(template)
    }
    return template.format(**filled)


def _begins_at_root(key: str, templates: Mapping[str, str]) -> bool:
    """Whether a template begins with the root, or the folder of all data."""
    literal, field, _, _ = next(iter(Formatter().parse(templates[key])))
    if literal or field not in ("root", "DATA_DIR", "doc", "encoded"):
        return False
    return field in ("root", "DATA_DIR") or _begins_at_root(field, templates)


def _doc_file(path: Path) -> Path:
    return path if path.name.lower().endswith(TEXT_ENDINGS) else Path(f"{path}.jsonl")
