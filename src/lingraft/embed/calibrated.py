"""First rows for new pieces: the mean, scaled to the norm that rows of their kind have.

A mean of k rows that point in different directions is shorter than they are, by up to the square
root of k. The body has learnt to read rows of a certain norm (of whole words, not of bytes), and
the norm of a row is most of what tells frequent pieces from rare ones. So each mean is scaled to
the typical norm of base rows of its script: the median over the base pieces that hold a character
of that script. A base with fewer than `MIN_ROWS` such pieces lends the median over its whole
words: pieces of two letters or more, of any script. A base without these, that over all rows.
Each is counted in `notes`.

Shapes: V base rows, N new pieces, D model width.
Source: Joshi et al. 2026, arXiv 2608.03494 (mean and norm calibration by script, for input rows).
The median, and what stands in for a script that the base hardly has, are ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import regex
import torch

from .added import Added
from .averaging import weighted_rows
from .methods import Role

__all__ = ["MIN_ROWS", "calibrated_rows", "row_norms", "script_of"]

MIN_ROWS = 32
_CHUNK = 1 << 13
_NO_SCRIPT = "none"
_LETTERS = regex.compile(r"[ ]?[\p{L}\p{M}]{2,}")
_SCRIPTS = ("Han", "Latin", "Hangul", "Hiragana", "Katakana", "Cyrillic", "Arabic", "Devanagari",
    "Greek", "Hebrew", "Thai", "Bengali", "Tamil", "Georgian", "Armenian", "Tibetan", "Khmer",
    "Myanmar", "Lao", "Ethiopic", "Mongolian", "Telugu", "Malayalam", "Kannada", "Gujarati",
    "Gurmukhi", "Sinhala", "Bopomofo")  # fmt: skip
_SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in _SCRIPTS))


def script_of(data: bytes) -> str:
    """Give the script of the first character that has one; "none" where there is no such."""
    found = _SCRIPT.search(data.decode(errors="ignore"))
    return str(found.lastgroup) if found else _NO_SCRIPT


def row_norms(rows_VD: torch.Tensor) -> torch.Tensor:
    """Give the Euclidean norm of each row, in float32."""
    begins = range(0, max(len(rows_VD), 1), _CHUNK)
    return torch.cat([rows_VD[begin : begin + _CHUNK].float().norm(dim=1) for begin in begins])


def calibrated_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    *,
    notes: Counter[str] | None = None,
) -> torch.Tensor:
    """Scale the mean of each spelling to the typical norm of its script."""
    rows_ND = weighted_rows(base_VD, added.spellings)
    norms_V = row_norms(base_VD[: added.num_base]).numpy()
    typical = _typical_norms(norms_V, added.base_pieces)
    for n, data in enumerate(added.pieces):
        if added.kinds[n] != "spelled":
            continue  # a copied row has its norm
        norm, whose = _look_up(typical, script_of(data))
        length = float(rows_ND[n].norm())
        if length > 0:
            rows_ND[n] *= norm / length
        if notes is not None:
            notes[f"norm of {whose}"] += 1
    return rows_ND


def _typical_norms(
    norms_V: np.ndarray, base_pieces: Sequence[bytes]
) -> Mapping[str, tuple[float, int]]:
    """Give median norm and number of rows for each script, "words" and "all"."""
    groups: dict[str, list[float]] = defaultdict(list)
    for data, norm in zip(base_pieces, norms_V.tolist(), strict=True):
        if not data:
            continue
        groups["all"].append(norm)
        groups[script_of(data)].append(norm)
        if _LETTERS.fullmatch(data.decode(errors="replace")):
            groups["words"].append(norm)
    return {name: (float(np.median(found)), len(found)) for name, found in groups.items()}


def _look_up(typical: Mapping[str, tuple[float, int]], script: str) -> tuple[float, str]:
    ways = [(script, f"base pieces in {script}"), ("words", "whole words of the base")]
    for name, whose in ways:
        norm, num_rows = typical.get(name, (0.0, 0))
        if name != _NO_SCRIPT and num_rows >= MIN_ROWS:
            return norm, whose
    return typical["all"][0], "all base rows"
