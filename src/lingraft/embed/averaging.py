"""Weighted means of base rows: what most methods come down to.

Shapes: V base rows, N new pieces, D model width; K pieces with the same number of parts, P.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from ..errors import InputError
from ..threads import num_cores, torch_threads

__all__ = ["weighted_rows"]

_CHUNK = 1 << 6  # new rows summed at a time: few enough to stay in the processor's cache


def weighted_rows(
    base_VD: torch.Tensor,
    spellings: Sequence[Sequence[int]],
    weights: Sequence[Sequence[float]] | None = None,
) -> torch.Tensor:
    """Average the base rows that each spelling names.

    Args:
        base_VD: Base rows of one matrix, any float dtype.
        spellings: N lists of base ids, in reading order; an empty one gives a row of zeros.
        weights: One number a base id, not all zero in a spelling; None: all equal.

    Returns:
        Rows of shape (N, D), float32. The parts of a piece are summed in the order of their ids,
        each with all its weight, so that pieces with the same shares of the same parts have the
        same row, bit by bit, whatever the order of their parts.

    Raises:
        InputError: A spelling holds an id outside [0, V).
    """
    base_VD = base_VD.detach()  # threads know nothing of a no_grad outside
    num_base, width = base_VD.shape
    by_count: dict[int, list[int]] = defaultdict(list)
    parts: list[tuple[list[int], list[float]]] = []
    for n, ids in enumerate(spellings):
        _check(n, ids, num_base)
        parts.append(_parts(ids, None if weights is None else weights[n]))
        by_count[len(parts[n][0])].append(n)
    rows_ND = torch.zeros((len(spellings), width))

    def fill(chosen: list[int]) -> None:
        ids_KP = torch.tensor([parts[n][0] for n in chosen])
        shares_KP = torch.tensor([parts[n][1] for n in chosen], dtype=torch.float32)
        sums_KD = torch.zeros((len(chosen), width))
        for p in range(ids_KP.shape[1]):
            part_KD = base_VD[ids_KP[:, p]].float()
            sums_KD += part_KD.mul_(shares_KP[:, p, None])
        rows_ND[torch.tensor(chosen)] = sums_KD

    chunks = [
        members[begin : begin + _CHUNK]
        for count, members in by_count.items()
        for begin in range(0, len(members) if count else 0, _CHUNK)
    ]
    with torch_threads(1), ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(fill, chunks))
    return rows_ND


def _parts(ids: Sequence[int], weights: Sequence[float] | None) -> tuple[list[int], list[float]]:
    """Give the distinct ids of a spelling in order, and the share of each."""
    assert weights is None or len(weights) == len(ids), "expected a weight for each base id"
    found: dict[int, float] = dict.fromkeys(sorted(ids), 0.0)
    for place, id in enumerate(ids):
        found[id] += 1.0 if weights is None else weights[place]
    total = sum(found.values())
    return list(found), [weight / total for weight in found.values()]


def _check(n: int, ids: Sequence[int], num_base: int) -> None:
    if ids and not 0 <= min(ids) <= max(ids) < num_base:
        raise InputError(
            f"new piece {n} is spelled {list(ids)}; expected ids in [0, {num_base}).",
            effect="Its row would be another piece's, and spread through training.",
            way_out="Give the tokenizer that is the base model's own.",
        )
