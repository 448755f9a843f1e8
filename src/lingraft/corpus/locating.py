"""Where the files that a registry names are on disk: documents as they may be stored, token files.

A registry written for the reference names documents without their ending (`NAME-SPLIT`, beside
which it puts `.jsonl`), and a folder of token files. Ours names `NAME-SPLIT.npy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError, UsageError
from ..texts import TEXT_ENDINGS, RawDocument, find_texts, read_jsonl, read_texts

__all__ = ["find_documents", "find_registry", "read_any"]


def find_registry(path: Path, name: str) -> Path:
    """Give the registry at a place: the file, or the one in a folder.

    Args:
        path: A file or a folder.
        name: Of the file in a folder.

    Raises:
        UsageError: There is none.
    """
    found = path / name if path.is_dir() else path
    if not found.is_file():
        raise UsageError(
            f"{found}: there is no registry.",
            way_out=f"Name a {name}, or a folder with one; `lingraft corpus add` makes one.",
        )
    return found


def find_documents(doc: Path) -> list[Path]:
    """Find the files of a split's documents.

    Args:
        doc: As `read_registry` gives it: with the registry's ending, or with `.jsonl`.

    Returns:
        The file itself where it is there; else what has another ending that can be read, or none
        (rows of JSON), or the files of a folder. Empty where there is nothing.

    Raises:
        InputError: Several could be meant.
    """
    if doc.is_file():
        return [doc]
    base = doc.with_name(doc.name.removesuffix(".jsonl")) if doc.name != ".jsonl" else doc
    beside = [base, *(base.with_name(base.name + ending) for ending in TEXT_ENDINGS)]
    found = [path for path in beside if path.is_file()]
    folder = _texts_in(base)
    if len(found) + bool(folder) > 1:
        names = ", ".join(map(str, [*found, *([base] if folder else [])]))
        raise InputError(
            f"{doc} is not there, and several others could be meant: {names}.",
            effect="Documents might be counted, or trained on, that were not meant.",
            way_out='Name the ending in the registry, as doc = "{name}-{split}.jsonl.zst".',
        )
    return found or folder


def _texts_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return find_texts([str(folder)])
    except UsageError:  # no text in it: token files, say
        return []


def read_any(path: Path, text_key: str) -> Iterator[RawDocument]:
    """Read the documents of a file; one without an ending that is known holds rows of JSON.

    Raises:
        InputError: The file or a row of it cannot be read; both are named.
    """
    if path.name.lower().endswith(TEXT_ENDINGS):
        return read_texts(path, text_key)
    return read_jsonl(path, text_key)
