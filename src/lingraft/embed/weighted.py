"""First rows for new pieces: means in which the parts of a piece do not weigh the same.

Shapes: V base rows, N new pieces, D model width.
Sources: the exponential weights of `position_rows`, Nakash et al. 2025, AdaptiVocab, arXiv
2503.19693: of input rows the last part weighs most (it is the one that has read the others), of
head rows the first (it is the one that is predicted). `frequency_rows`: smooth inverse frequency,
Arora et al. 2017 ("A Simple but Tough-to-Beat Baseline for Sentence Embeddings"), on the parts of
a piece. `char_length_rows`: Joshi et al. 2026, arXiv 2608.03494, for output rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .added import Added
from .averaging import weighted_rows
from .methods import Role

__all__ = ["char_length_rows", "frequency_rows", "position_rows"]


def position_rows(
    base_VD: torch.Tensor, added: Added, role: Role, seed: int, *, rate: float = 1.0
) -> torch.Tensor:
    """Weigh the parts of each piece by their place.

    Args:
        base_VD: Base rows.
        added: The pieces.
        role: Of input rows the last part weighs most, of output rows the first.
        seed: Not used.
        rate: Each part weighs exp(rate) times its lighter neighbour; 0 gives the mean.
    """
    weights = [_powers(rate, len(ids)) for ids in added.spellings]
    if role == "output":
        weights = [powers[::-1] for powers in weights]
    return weighted_rows(base_VD, added.spellings, weights)


def _powers(rate: float, count: int) -> list[float]:
    """Give exp(rate i) as shares of the largest, so that no rate and no length overflows."""
    return [math.exp(rate * (i - count + 1)) for i in range(count)]


def frequency_rows(
    base_VD: torch.Tensor, added: Added, role: Role, seed: int, *, smoothing: float = 1e-3
) -> torch.Tensor:
    """Weigh the parts of each piece by smoothing / (smoothing + frequency of the part).

    Args:
        base_VD: Base rows.
        added: The pieces, with counts.
        role: Not used.
        seed: Not used.
        smoothing: Frequency at which a part weighs half of one that never occurs.
    """
    assert added.counts is not None, "frequency needs counts"
    total = max(int(added.counts.sum()), 1)
    weight_V = smoothing / (smoothing + added.counts[: added.num_base] / total)
    weights = [[float(weight_V[id]) for id in ids] for ids in added.spellings]
    return weighted_rows(base_VD, added.spellings, weights)


def char_length_rows(base_VD: torch.Tensor, added: Added, role: Role, seed: int) -> torch.Tensor:
    """Weigh the parts of each piece by the characters that they hold.

    A part that holds one of the three bytes of a character holds a third of one.
    """
    weights = [_chars_held(data, _sizes(added, n)) for n, data in enumerate(added.pieces)]
    return weighted_rows(base_VD, added.spellings, weights)


def _sizes(added: Added, n: int) -> list[int]:
    return [len(added.base_pieces[id]) for id in added.spellings[n]]


def _chars_held(data: bytes, sizes: Sequence[int]) -> list[float]:
    """Give the characters in each part of some bytes; fractions where it cuts through one.

    Args:
        data: Bytes of a piece; what is no UTF-8 counts as a third of a character a byte.
        sizes: Bytes of each part, in order.
    """
    per_byte: list[float] = []
    while len(per_byte) < len(data):
        length = _char_length(data[len(per_byte) :])
        per_byte += [1 / length] * length if length else [1 / 3]
    held, begin = [], 0
    for size in sizes:
        held.append(sum(per_byte[begin : begin + size]))
        begin += size
    return held


def _char_length(data: bytes) -> int:
    """Give the bytes of the character that some bytes begin with; 0 if they begin with none."""
    for length in range(1, 5):
        try:
            data[:length].decode()
        except UnicodeDecodeError:
            continue
        return min(length, len(data))
    return 0
