"""Stretches of token files as training sequences: ids, labels, and the position of each token.

*Isolated* documents: positions begin anew at each document, and no document predicts the first
token of the next. transformers 5 keeps attention inside a document by these positions alone, for
the implementations sdpa, eager and flex, as long as it gets neither an attention mask nor a cache
(`transformers.masking_utils.find_packed_sequence_indices`); flash attention reads them in batches
of one row. *Joined* documents: positions count through, each document sees those before it, and
the end of one predicts the begin of the next, as the reference trains.

A label is left out by its place alone: the end of a text, or the begin of a document. What fills
a row up is never asked for its id, so an EOS is a label even where the fill has the same id.

Shapes: L tokens of a row.
Source of the isolation's effect: Zhao et al. 2024, arXiv 2402.13991 (intra-document masking).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import UsageError
from .shards import TokenFile

__all__ = [
    "DOCUMENTS",
    "IGNORE",
    "Documents",
    "Stretch",
    "Windows",
    "check_rows",
    "fill_row",
    "whole_number",
]

IGNORE = -100
"""Label of a position that has no target (torch's ignore_index)."""
Documents = Literal["isolated", "joined"]
DOCUMENTS = ("isolated", "joined")
Int64 = npt.NDArray[np.int64]


class Stretch(NamedTuple):
    """Tokens [start, stop) of a token file."""

    file: TokenFile
    start: int
    stop: int


@dataclass(frozen=True)
class Windows:
    """The first tokens of a token file, cut into stretches that each begin `stride` later.

    A stretch has one token more: it begins with the last one of the stretch before, which that
    one predicted and this one reads. So every token but the first is predicted once.
    """

    file: TokenFile
    end: int
    """Tokens of the file that take part."""
    stride: int

    @property
    def num_filled(self) -> int:
        """Tokens of all stretches, those that two of them share counted twice."""
        return self.end + len(self) - 1 if len(self) else 0

    def __len__(self) -> int:
        """Give the number of stretches; a lone last token starts none."""
        return max(-(-(self.end - 1) // self.stride), 0)

    def __getitem__(self, n: int) -> Stretch:
        """Give one stretch."""
        start = n * self.stride
        return Stretch(self.file, start, min(start + self.stride + 1, self.end))


def whole_number(name: str, value: Any) -> int:
    """Give a number of a call as Python's own integer; NumPy's and torch's are taken, too.

    A float that happens to be whole is refused: it would count rows wrongly beyond 2**53, and
    name another order than the integer does.

    Raises:
        TypeError: It is no integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} = {value!r}: expected a whole number, as int(...).") from None


def check_rows(seq_len: int, documents: str) -> None:
    """Refuse rows that nobody could learn from.

    Raises:
        UsageError: They are too short, or `documents` is no known word.
    """
    if seq_len < 2:
        raise UsageError(
            f"seq_len = {seq_len}; expected 2 or more.",
            effect="A row would have no token that another one predicts.",
            way_out="Take what the model was trained with, as 2048.",
        )
    if documents not in DOCUMENTS:
        raise UsageError(f"documents = {documents!r}; expected one of {', '.join(DOCUMENTS)}.")


def fill_row(
    stretches: Sequence[Stretch],
    documents: Documents,
    inputs_L: Int64,
    labels_L: Int64,
    positions_L: Int64,
) -> None:
    """Write one row.

    Args:
        stretches: What stands in it, one after the other, up to L + 1 tokens; each but the first
            begins another document, or another part of one.
        documents: "isolated" or "joined".
        inputs_L: Gets the ids; what they do not reach stays as it is.
        labels_L: Gets the id that follows each input; `IGNORE` beforehand.
        positions_L: Gets the position of each input.
    """
    length = len(inputs_L)
    pieces = [_ids(stretch) for stretch in stretches]
    ids = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    inputs_L[: len(ids)] = ids[:length]
    labels_L[: len(ids) - 1] = ids[1:]
    counts_L = np.arange(length)
    if documents == "joined":
        positions_L[:] = counts_L
        return
    begins = _begins(stretches)
    for begin in begins:
        labels_L[begin - 1] = IGNORE
    # What fills the row up is a document of its own.
    for begin, end in pairwise([0, *begins, min(len(ids), length), length]):
        positions_L[begin:end] = counts_L[: end - begin]


def _ids(stretch: Stretch) -> npt.NDArray[Any]:
    # A view of the map as a plain array: slices of it cost half of the map's own.
    return np.asarray(stretch.file.ids)[stretch.start : stretch.stop]


def _begins(stretches: Sequence[Stretch]) -> list[int]:
    """Give the places, from 1 on, where a row's documents begin, in order."""
    found: list[int] = []
    place = 0
    for file, start, stop in stretches:
        if place:
            found.append(place)
        # A Python integer would make NumPy turn all ends into floating-point numbers first.
        ends = np.asarray(file.ends)
        low, high = ends.searchsorted(np.array([start, stop - 1], np.uint64), "right")
        found += [end - start + place for end in ends[low:high].tolist()]
        place += stop - start
    return found
