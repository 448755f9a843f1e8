"""Documents as the corpus stage leaves them: one JSON row `{"id", "text"}` a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import InputError

__all__ = ["Document", "read_documents"]


class Document(NamedTuple):
    """One document; `id` is a hash of its text."""

    id: str
    text: str


def read_documents(path: Path) -> Iterator[Document]:
    """Read documents one at a time.

    Raises:
        InputError: A line is not such a row; the line is named.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                yield Document(row["id"], row["text"])
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise InputError(
                    f'{path}:{number}: not a document row {{"id", "text"}}: {error}.',
                    way_out="Make the corpus again: --redo corpus.",
                ) from None
