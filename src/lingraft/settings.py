"""Settings: strict, frozen pydantic classes, read from TOML, every problem told at once.

A default lives in exactly one place: the Settings class of its stage. TOML numbers stay
numbers (`1e-5` is text in YAML, a float here), unknown keys are refused with the nearest
known one, and all problems of a file are reported together before any work starts.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from .errors import Problem, RecipeError, UsageError

__all__ = ["Settings", "StageSettings", "apply_overrides", "explain", "read_toml"]


class Settings(BaseModel):
    """Base of every settings class: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        UsageError: The file is missing, unreadable, not text, or not TOML (line and column are
            named).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _neighbours(path), n=1)
        hint = f"Did you mean '{path.with_name(near[0])}'?" if near else "Check the path."
        raise UsageError(f"{path}: no such file.", way_out=hint) from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; expected a TOML recipe.") from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}.", way_out="Check the path and its rights."
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}.") from None


def _neighbours(path: Path) -> list[str]:
    return [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `tree` with each `a.b=value` of `overrides` put in; values are read as TOML.

    A value that is not TOML is taken as plain text, so `--set run.name=demo` needs no quotes.

    Raises:
        UsageError: An override has no `=`, or passes through a value that is not a table.
    """
    result = _copy(tree)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {override}: expected KEY=VALUE, as in --set train.lr=1e-4.")
        *parents, last = key.strip().split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UsageError(f"--set {override}: '{parent}' is not a table.")
        node[last] = _read_value(text.strip())
    return result


def _copy(tree: dict[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, dict) else v for k, v in tree.items()}


def _read_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def explain(model: type[BaseModel], error: ValidationError, source: str) -> RecipeError:
    """Turn pydantic's report into ours: dotted keys, the value given, a near match.

    A setting that may be one of several things is reported once, with what it may be.
    """
    grouped: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        grouped.setdefault(_dotted(model, detail["loc"]), []).append(detail)
    return RecipeError(source, [_problem(model, key, group) for key, group in grouped.items()])


def _problem(model: type[BaseModel], key: str, details: list[ErrorDetails]) -> Problem:
    detail = details[0]
    value = "" if detail["type"] == "missing" else _short(detail["input"])
    if len(details) > 1:
        return Problem(key, value, " Or: ".join(d["msg"].rstrip(".") + "." for d in details))
    match detail["type"]:
        case "extra_forbidden":
            last = str(detail["loc"][-1])
            near = difflib.get_close_matches(last, _known_keys(model, detail["loc"]), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            return Problem(key, value, f"no such setting.{hint}")
        case "missing":
            return Problem(key, value, "is required and missing.")
        case "value_error":
            return Problem(key, value, detail["msg"].removeprefix("Value error, "))
        case _:
            return Problem(key, value, detail["msg"].rstrip(".") + ".")


def _dotted(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Join a location, without the union members that pydantic puts behind a plain setting."""
    node: Any = model
    parts: list[str] = []
    for part in location:
        if node is None and not isinstance(part, int):
            break
        parts.append(str(part))
        if not isinstance(part, int):
            field = getattr(node, "model_fields", {}).get(part)
            node = _model_inside(field.annotation) if field else None
    return ".".join(parts)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Fields of the class that `location`'s last part was looked up in."""
    node: Any = model
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        node = _model_inside(node.model_fields[part].annotation)
    return list(node.model_fields)


def _model_inside(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_inside(part) for part in get_args(annotation)]
    return next((model for model in found if model is not None), None)


class StageSettings(Settings):
    """Base of the one settings class of each stage."""

    def outside(self) -> dict[str, Path | str]:
        """What the stage reads that no other stage made: name -> path to hash, or a version."""
        return {}

    def decides_nothing(self) -> tuple[str, ...]:
        """Settings that no byte of the artefact depends on, so that a change makes none stale."""
        return ()

    def deciding(self) -> dict[str, Any]:
        """All other settings, as JSON values, for the artefact's identity."""
        return self.model_dump(mode="json", exclude=set(self.decides_nothing()))

    def also_takes(self) -> tuple[str, ...]:
        """Stages whose artefacts these settings need, beside those that the stage always takes."""
        return ()
