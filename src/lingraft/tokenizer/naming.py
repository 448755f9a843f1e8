"""What a table calls tokenizers and texts: as given, or shortened to what tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import LingraftError, UsageError
from ..exact import Encoder
from ..streaming import list_names

__all__ = ["name_texts", "name_tokenizers", "problem_error", "read_encoders", "tell_apart"]

_TOKENIZER_ENDS = ("tokenizer.model", "tokenizer.json", ".model", ".json")
_TEXT_ENDS = tuple(
    f"{form}{packed}"
    for form in (".jsonl", ".ndjson", ".txt", ".json", ".parquet")
    for packed in (".gz", ".zst", "")
)


def name_tokenizers(tokenizers: Any) -> list[tuple[str, str]]:
    """Give name and source of each tokenizer.

    Args:
        tokenizers: Sources, each maybe as `NAME=SOURCE`, or sources by name.

    Raises:
        UsageError: There is none, or two have the same name.
    """
    if isinstance(tokenizers, Mapping):
        named = [(str(name), str(source)) for name, source in tokenizers.items()]
    else:
        named = [_split_name(word) for word in list_names("TOKENIZER", tokenizers)]
    if not named:
        raise UsageError("TOKENIZER: none is given.", way_out="Name one or more.")
    return _fill_names(named, _TOKENIZER_ENDS, "tokenizers", "TOKENIZER")


def name_texts(text: Any) -> dict[str, list[str]]:
    """Give the files of each text by name.

    Args:
        text: Files, folders or patterns by name; or words: `NAME=FILE` begins a text, and words
            without a name belong to it; before the first name each word is a text of its own.

    Raises:
        UsageError: There is none, or two have the same name.
    """
    if isinstance(text, Mapping):
        found = {str(name): list_names(f"text {name}", files) for name, files in text.items()}
    else:
        groups: list[tuple[str, list[str]]] = []
        for word in list_names("--text", text):
            name, file = _split_name(word)
            if not name and groups and groups[-1][0]:
                groups[-1][1].append(file)
            else:
                groups.append((name, [file]))
        heads = [(name, files[0]) for name, files in groups]
        names = _fill_names(heads, _TEXT_ENDS, "texts", "FILE")
        found = {name: files for (name, _), (_, files) in zip(names, groups, strict=True)}
    if not found:
        raise UsageError("--text: no text is given.", way_out="Name one or more: --text FILE.")
    return found


def read_encoders(
    named: Iterable[tuple[str, str]], problems: list[str]
) -> list[tuple[str, str, Encoder]]:
    """Read tokenizers; what cannot be read is put into `problems`, all at once."""
    read = []
    for name, source in named:
        try:
            read.append((name, source, Encoder(source, warn=False)))
        except LingraftError as error:
            problems.append(str(error))
    return read


def problem_error(problems: Sequence[str]) -> UsageError:
    """Make one error of all problems."""
    if len(problems) == 1:
        return UsageError(problems[0])
    lines = "\n  ".join(problem.replace("\n", "\n  ") for problem in problems)
    return UsageError(f"{len(problems)} problems:", effect=lines)


def tell_apart(sources: Sequence[str], ends: Sequence[str]) -> list[str]:
    """Shorten sources to what tells them apart: file without ending, file, folder and file, ...

    >>> tell_apart(["a/x.json", "b/y.json", "mixtral/tokenizer.json"], _TOKENIZER_ENDS)
    ['x', 'y', 'mixtral']
    """
    choices = [_choices(source, ends) for source in sources]
    levels = [0] * len(sources)
    while True:
        names = [own[level] for own, level in zip(choices, levels, strict=True)]
        counts = Counter(names)
        stuck = [
            n
            for n, name in enumerate(names)
            if counts[name] > 1 and levels[n] + 1 < len(choices[n])
        ]
        if not stuck:
            return names
        for n in stuck:
            levels[n] += 1


def _choices(source: str, ends: Sequence[str]) -> list[str]:
    """Give what a source may be called, shortest first, itself last."""
    parts = [part for part in Path(source).parts if part not in ("/", ".")] or [source]
    file = parts[-1]
    end = next((end for end in ends if file.endswith(end)), "")
    stem = file.removesuffix(end).rstrip(".")
    if any(sign in stem for sign in "*?["):  # of a pattern the ending tells more
        stem = file
    if not stem and len(parts) > 1:
        stem = parts[-2]  # mixtral/tokenizer.model is Mixtral's
    tails = ["/".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
    return list(dict.fromkeys([stem or file, *tails, source]))


def _fill_names(
    named: Sequence[tuple[str, str]], ends: Sequence[str], what: str, word: str
) -> list[tuple[str, str]]:
    short = iter(tell_apart([source for name, source in named if not name], ends))
    filled = [(name or next(short), source) for name, source in named]
    twice = [name for name, count in Counter(name for name, _ in filled).items() if count > 1]
    if twice:
        raise UsageError(
            f"two {what} are called '{twice[0]}'.",
            effect="The table could not tell them apart.",
            way_out=f"Name each once, or give other names: NAME={word}.",
        )
    return filled


def _split_name(word: str) -> tuple[str, str]:
    """Split `NAME=SOURCE`; a path that is there, or has `=` inside a folder's name, has no name."""
    name, sign, source = word.partition("=")
    if not sign or "/" in name or ":" in name or Path(word).exists():
        return "", word
    if not name or not source:
        raise UsageError(f"'{word}': expected NAME=SOURCE.", way_out="As mixtral=tokenizer.model.")
    return name, source
