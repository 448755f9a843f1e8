"""What a call of `lingraft corpus prepare` asks for: sets by name, their languages, settings."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import InputError, Problem, RecipeError, UsageError
from ..settings import explain
from ..streaming import list_names
from ..text import find_scripts
from .clean import clean
from .finding import SourceFile
from .methods import NearDuplicateSettings, OverlapSettings, PiiSettings, QualitySettings
from .read import SUFFIXES, read_piece, whole_file
from .settings import CorpusSet, PrepareSettings

__all__ = ["Names", "default_name", "expand", "find_language", "make_settings", "read_sets"]

Names = str | Path | Sequence[str | Path]

_SAMPLE_DOCS, _SAMPLE_CHARS = 200, 1000
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
_PLACES = ("hub:", "package:", "stdlib:")
_LANGUAGES = {
    "Han": "zh", "Hiragana": "ja", "Hangul": "ko", "Thai": "th", "Lao": "lo", "Khmer": "km",
    "Myanmar": "my", "Tibetan": "bo", "Greek": "el", "Hebrew": "he", "Armenian": "hy",
    "Georgian": "ka", "Ethiopic": "am", "Bengali": "bn", "Gujarati": "gu", "Gurmukhi": "pa",
    "Kannada": "kn", "Malayalam": "ml", "Oriya": "or", "Sinhala": "si", "Tamil": "ta",
    "Telugu": "te", "Thaana": "dv", "Latin": "und-Latn", "Cyrillic": "und-Cyrl",
    "Arabic": "und-Arab", "Devanagari": "und-Deva",
}  # fmt: skip
"""Language that most text of a script is in, or "undetermined" where there are many (BCP 47)."""
_UNDETERMINED = "und"
_DETAILS: Mapping[str, tuple[type[Any], str]] = {
    "quality": (QualitySettings, ""),
    "near_duplicates": (NearDuplicateSettings, ""),
    "mask": (PiiSettings, "kinds"),
    "decontaminate": (OverlapSettings, "benchmarks"),
}
"""Options with settings of their own, and the one that a list of words stands for."""


def read_sets(sets: Mapping[str, Names] | Names, name: str) -> dict[str, list[str]]:
    """Give the sources of each set.

    Args:
        sets: Sources of each set by name, or the sources of one set.
        name: What that one is called; "": after its file, or the folder of its files.

    Raises:
        UsageError: There is no source, or no name can be made of it.
    """
    if isinstance(sets, Mapping):
        return {str(key): list_names(f"set {key}", names) for key, names in sets.items()}
    sources = list_names("FILE", sets)
    return {name or default_name(sources): sources}


def default_name(sources: Sequence[str]) -> str:
    """Name a set after its file, or after the folder of its files.

    >>> default_name(["data/my corpus.jsonl.zst"])
    'my-corpus'
    >>> default_name(["data/zh/a.jsonl", "data/zh/b.jsonl"])
    'zh'

    Raises:
        UsageError: Nothing of the names can be used.
    """
    if len(sources) == 1:
        source = sources[0].partition(":")[2] if sources[0].startswith(_PLACES) else sources[0]
        found = Path(os.path.abspath(source)).name  # noqa: PTH100
        ending = next((e for e in SUFFIXES["auto"] if found.lower().endswith(e)), "")
        found = found[: len(found) - len(ending)]
    else:
        folders = [os.path.dirname(os.path.abspath(source)) for source in sources]  # noqa: PTH100, PTH120
        found = Path(os.path.commonpath(folders)).name
    name = _NOT_IN_NAMES.sub("-", found).strip("-._")
    if not name:
        raise UsageError(
            f"no name of a set can be made of {', '.join(sources[:3])}.",
            way_out="Name it: --name NAME, or NAME=FILE.",
        )
    return name


def expand(sources: Iterable[str]) -> Iterator[str]:
    """Give sources, with patterns as what they match, in order of their names."""
    for source in sources:
        if source.startswith(_PLACES) or Path(source).expanduser().exists():
            yield source
        else:
            matches = glob.glob(str(Path(source).expanduser()), recursive=True)  # noqa: PTH207
            yield from sorted(matches) or [source]


def find_language(one: CorpusSet, files: Sequence[SourceFile], keep_bad: bool) -> str:
    """Find the language of a set by the scripts of its first documents.

    Args:
        one: The set.
        files: Its files.
        keep_bad: Whether rows that cannot be read are passed over.

    Raises:
        InputError: A row of them cannot be read.
    """
    scripts = _sample_scripts(one, files, keep_bad)
    if "Hiragana" in scripts:
        return _LANGUAGES["Hiragana"]
    return _LANGUAGES.get(scripts[0], _UNDETERMINED) if scripts else _UNDETERMINED


def _sample_scripts(one: CorpusSet, files: Sequence[SourceFile], keep_bad: bool) -> list[str]:
    whole = (whole_file(file.path) for file in files)
    raws = (
        raw
        for piece in whole
        for raw in read_piece(piece, one.reader, one.text_key, keep_bad=keep_bad)
        if not raw.drop
    )
    texts = [clean(raw.text[:_SAMPLE_CHARS]) for raw in islice(raws, _SAMPLE_DOCS)]
    try:
        return find_scripts(texts)
    except InputError:  # no letters: numbers, say
        return []


def make_settings(
    sets: Mapping[str, Sequence[str]], languages: Mapping[str, str], options: Mapping[str, Any]
) -> PrepareSettings:
    """Check what is asked for.

    Args:
        sets: Sources of each set.
        languages: Language of each set.
        options: Fields of `PrepareSettings` and, the same for all sets, of `CorpusSet`.

    Raises:
        RecipeError: Some setting cannot be.
    """
    given = {key: _in_detail(key, value) for key, value in options.items() if value is not None}
    own = {key: given.pop(key) for key in [*given] if key in CorpusSet.model_fields}
    rows = [
        {**own, "name": name, "language": languages[name], "sources": list(sources)}
        for name, sources in sets.items()
    ]
    try:
        return PrepareSettings.model_validate({**given, "sets": rows})
    except ValidationError as error:
        raise _as_asked(explain(PrepareSettings, error, "corpus prepare")) from None


_OPTIONS = {
    "mask.kinds": "mask", "decontaminate.benchmarks": "decontaminate",
    "near_duplicates.min_similarity": "min_similarity", "quality.scripts": "scripts",
    "quality.min_script_frac": "min_script_frac", "patterns": "pattern",
}  # fmt: skip
"""Options that are called otherwise than their settings."""
_OF_ALL_SETS = re.compile(r"sets\.\d+\.")
_PLACE_IN_LIST = re.compile(r"\.\d+$")


def _as_asked(error: RecipeError) -> RecipeError:
    """Tell problems of settings as those of the options that were given, each once."""
    told: dict[str, Problem] = {}
    for problem in error.problems:
        key = _PLACE_IN_LIST.sub("", _OF_ALL_SETS.sub("", problem.key))
        key = _OPTIONS.get(key, key)
        text = problem.text.replace("Input should be ", "expected ")
        if not key:  # of several settings together, which the text names
            found = Problem("settings", "", text)
        elif key == "name":
            found = Problem("set name", problem.value, text)
        else:
            shown = key if "." in key else "--" + key.replace("_", "-")
            found = Problem(shown, problem.value, text)
        told.setdefault(str(found), found)
    return RecipeError("corpus prepare", list(told.values()))


def _in_detail(key: str, value: Any) -> Any:
    """Turn True and lists of words into the settings that they stand for."""
    if key not in _DETAILS:
        return value
    kind, listed = _DETAILS[key]
    if isinstance(value, bool):
        return {} if value else None
    if listed and isinstance(value, str | Path | Sequence):
        names = [str(value)] if isinstance(value, str | Path) else [str(one) for one in value]
        return {listed: names} if names else None
    return value.model_dump() if isinstance(value, kind) else value
