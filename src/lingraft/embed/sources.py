"""What an expansion is made from, read and compared before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bases import find_tokenizer_file, read_base
from ..basetypes import BaseTokenizer
from ..errors import InputError, UsageError
from ..matrices import Matrices, check_rows, find_matrices
from ..models import ModelFolder
from ..shards import open_folder
from ..special import adds_bos, find_bos
from .added import Added, read_added

__all__ = ["Source", "count_tokens", "read_source"]


@dataclass(frozen=True)
class Source:
    """A base model, and what is known about the pieces that it is to get.

    Attributes:
        model: The base model.
        matrices: Its two matrices.
        added: The new pieces.
        tokenizer: Folder of the extended tokenizer.
        digest: sha256 of its file.
        base_digest: sha256 of the base tokenizer's file.
        extra: Tokens that the base's configs add behind its tokenizer's ids.
        tokens: Token folder of the extended tokenizer, where one was given.
    """

    model: ModelFolder
    matrices: Matrices
    added: Added
    tokenizer: Path
    digest: str
    base_digest: str
    extra: Mapping[int, str]
    tokens: Path | None = None


def read_source(
    model: Path, tokenizer: Path, *, base: Path | None = None, tokens: Path | None = None
) -> Source:
    """Read a base model and an extended tokenizer.

    Args:
        model: Folder of the model.
        tokenizer: Folder of the extended tokenizer.
        base: Folder or file of the base tokenizer; None: in the model's folder.
        tokens: Token folder that the extended tokenizer encoded.

    Raises:
        InputError: Something cannot be read, or does not belong together.
        UsageError: There is no such folder.
    """
    opened = ModelFolder(model)
    matrices = find_matrices(opened)
    place = base or model
    extended = _read_tokenizer(tokenizer, "--tokenizer DIR")
    own = _read_own(place, extended)
    extra = _extra_tokens(place if place.is_dir() else place.parent, own.size)
    _check_extra(extra, own, extended)
    bos_id = find_bos(str(place), own).id if adds_bos(str(place), own) else None
    added = read_added(own, extended, num_extra=len(extra), bos_id=bos_id)
    check_rows(opened, matrices, added.num_base)
    if tokens is not None:
        added = added.with_counts(count_tokens(tokens, extended))
    digests = (extended.digest, own.digest)
    return Source(opened, matrices, added, tokenizer, *digests, extra, tokens)


def count_tokens(folder: Path, extended: BaseTokenizer) -> npt.NDArray[np.int64]:
    """Count every id of the training files of a token folder (of all files, if none is for it).

    Raises:
        InputError: It is no token folder, or holds ids of another tokenizer.
    """
    opened = open_folder(folder)
    opened.refuse_other(extended.digest, extended.name)
    counts_V = np.zeros(extended.size, np.int64)
    train = [name for name in opened.files if "train" in name]
    for name in train or opened.files:
        ids = opened.files[name].ids
        for begin in range(0, len(ids), 1 << 24):
            part = np.bincount(ids[begin : begin + (1 << 24)], minlength=extended.size)
            counts_V += part[: extended.size]
    return counts_V


def _read_tokenizer(folder: Path, option: str) -> BaseTokenizer:
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder.", way_out=f"Check {option}.")
    return read_base(str(folder))


def _read_own(place: Path, extended: BaseTokenizer) -> BaseTokenizer:
    """Read the base's tokenizer in the form that the extended one has, where there are two."""
    if not place.exists():
        raise UsageError(f"{place}: no such folder.", way_out="Check --model DIR.")
    wanted = Path(extended.name).name
    if place.is_dir() and (place / wanted).is_file():
        return read_base(str(place / wanted))
    try:
        return read_base(str(find_tokenizer_file(str(place))))
    except InputError as error:
        raise InputError(
            f"{error.what}",
            effect="Nothing would tell which piece each row of the base stands for.",
            way_out="Put the base's tokenizer files into the model's folder, or name them: "
            "--base-tokenizer DIR.",
        ) from None


def _extra_tokens(folder: Path, size: int) -> dict[int, str]:
    """Give the tokens that the configs of a folder add behind its tokenizer's own ids."""
    found = {id: text for id, text in _configured(folder) if id >= size}
    return dict(sorted(found.items()))


def _configured(folder: Path) -> Iterator[tuple[int, str]]:
    added = _read_json(folder / "added_tokens.json")
    yield from ((id, text) for text, id in added.items() if isinstance(id, int))
    decoder = _read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for key, token in decoder.items():
            if str(key).isdigit() and isinstance(token, dict) and "content" in token:
                yield int(key), str(token["content"])
    listed = _read_json(folder / "tokenizer.json").get("added_tokens")
    for token in listed if isinstance(listed, list) else []:
        yield int(token["id"]), str(token["content"])


def _read_json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        row: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}.", way_out="Fetch it again.") from None
    return row if isinstance(row, dict) else {}


def _check_extra(extra: Mapping[int, str], own: BaseTokenizer, extended: BaseTokenizer) -> None:
    """Refuse an extended tokenizer that gives the ids of the base's special tokens to others."""
    for place, (id, text) in enumerate(extra.items()):
        if id != own.size + place:
            raise InputError(
                f"{own.name}: its configs give the id {id} to {text!r}; there is no token "
                f"{own.size + place} before it.",
                way_out="Make its configs whole: fetch the model's folder again.",
            )
        found = extended.piece(id) if id < extended.size else "no piece"
        if found != text:
            raise InputError(
                f"{extended.name}: id {id} is {found!r}; the base's configs give it to {text!r}, "
                "and the model has a row for it.",
                effect="The new piece would take the row of a special token.",
                way_out="Extend the folder of the base, not its tokenizer file alone: "
                "lingraft tokenizer extend --base DIR.",
            )
