"""The rows of the merged model: base, adapter and NF4 read from disk, slice by slice.

Shapes: O outputs, I inputs, R rank.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, NoReturn

import torch

from ..errors import InputError
from ..models import ModelFolder
from ..nf4 import Packed, quantize
from ..weights import TensorEntry, is_finite, require_finite, row_slices, torch_dtype
from .adapter import Adapter
from .fold import expert_columns, fold, packed_items, with_magnitude
from .places import Change, LowRank
from .targets import Target

__all__ = ["Factors", "Prepared", "Sums"]


class Factors(NamedTuple):
    """A low-rank part, as rows of the stored weight need it."""

    left: torch.Tensor
    """(rows, R)."""
    right: torch.Tensor
    """(R, columns)."""
    scale: float
    magnitude: torch.Tensor | None
    """DoRA's lengths, (rows,), or (columns,) where the weight is stored turned; else None."""


class Prepared(NamedTuple):
    """What the rows of one target have in common."""

    factors: Factors | None = None
    packed: Packed | None = None
    stretch: torch.Tensor | None = None
    """What columns are multiplied by: DoRA of a weight that is stored turned."""


class Sums:
    """Reads the base and the adapter, and adds them up; may be used by many threads."""

    def __init__(self, model: ModelFolder, adapter: Adapter) -> None:
        self._model, self._adapter = model, adapter

    @property
    def model(self) -> ModelFolder:
        """The base."""
        return self._model

    def pieces(self, targets: Sequence[Target], jobs: int) -> Iterator[torch.Tensor]:
        """Give the numbers of all targets in order, in slices of rows, as they will be stored.

        Args:
            targets: What to compute.
            jobs: Threads that read and compute; a slice is the work of one of them.
        """
        ready: deque[Future[torch.Tensor]] = deque()
        with ThreadPoolExecutor(jobs) as pool:
            for target in targets:
                # Slices wait for this; it began before them, so they never wait for each other.
                prepared = pool.submit(self.prepare, target)
                for first, last in row_slices(target.entry):
                    ready.append(pool.submit(self._stored, target, prepared, first, last))
                    if len(ready) > jobs + 1:
                        yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()

    def prepare(self, target: Target) -> Prepared:
        """Read and compute what all rows of a target need."""
        packed = self._pack(target) if target.packed and not _is_replaced(target) else None
        pair = target.change.low_rank if target.change is not None else None
        if pair is None:
            return Prepared(None, packed)
        factors = self._read_factors(target, pair)
        prepared = Prepared(factors, packed)
        if factors.magnitude is None or not pair.turned:
            return prepared
        # Outputs are columns: their lengths need a pass over all rows first.
        return Prepared(factors, packed, factors.magnitude / self._column_norms(target, prepared))

    def merged(self, target: Target, prepared: Prepared, first: int, last: int) -> torch.Tensor:
        """Give rows [first, last) merged: float32, or as stored if nothing changes."""
        if target.change is None:
            return self._base(target, prepared, first, last)
        factors = prepared.factors
        rows = self._replaced(target, prepared, first, last)
        if factors is None:
            rows = rows.float()
        else:
            rows = fold(rows, factors.left[first:last], factors.right, factors.scale)
            if prepared.stretch is not None:
                rows = rows * prepared.stretch
            elif factors.magnitude is not None:
                rows = with_magnitude(rows, factors.magnitude[first:last])
        return self._patched(target.change, rows, first, last)

    def replaced(self, target: Target, prepared: Prepared, first: int, last: int) -> torch.Tensor:
        """Give rows [first, last) in float32: the base's, or those that replace them."""
        return self._replaced(target, prepared, first, last).float()

    def _replaced(self, target: Target, prepared: Prepared, first: int, last: int) -> torch.Tensor:
        whole = target.change.whole if target.change is not None else None
        if whole is None:
            return self._base(target, prepared, first, last)
        entry = target.part.entry
        begin, count = whole.first + first * entry.row_items, (last - first) * entry.row_items
        return self._adapter.items(whole.name, begin, count).reshape(last - first, *entry.shape[1:])

    def tokens(self, change: Change) -> torch.Tensor:
        """Read the rows that replace those of `change.token_ids`, in float32."""
        return self._adapter.tensor(change.tokens)

    def shift(self, change: Change) -> torch.Tensor:
        """Read what is added to a bias, scaled, in float32."""
        return change.shift_scale * self._adapter.tensor(change.shift)

    def _stored(
        self, target: Target, prepared: Future[Prepared], first: int, last: int
    ) -> torch.Tensor:
        with torch.no_grad():
            rows = self.merged(target, prepared.result(), first, last)
            stored = rows.to(torch_dtype(target.entry.dtype))
            if not is_finite(stored):
                self._refuse(target.entry, rows, first)
            return stored

    def _refuse(self, entry: TensorEntry, rows: torch.Tensor, first: int) -> NoReturn:
        """Refuse numbers that are not finite, in the sum or in what is stored of it."""
        require_finite(f"{self._model.path}: tensor '{entry.name}', merged", rows, first)
        raise InputError(
            f"{self._model.path}: tensor '{entry.name}', merged, holds "
            f"{float(rows.abs().max()):.4g}, more than {entry.dtype} can.",
            effect="It would be stored as infinite.",
            way_out="Ask for another storage: --dtype bfloat16.",
        )

    def _base(self, target: Target, prepared: Prepared, first: int, last: int) -> torch.Tensor:
        """Read rows [first, last) of the base: as stored, or in float32 as NF4 gives them back."""
        part = target.part
        count, begin = (last - first) * part.entry.row_items, first * part.entry.row_items
        if prepared.packed is not None:
            items = packed_items(prepared.packed, begin, count)
        else:
            items = self._model.read(part.stored, part.first + begin, count)
        return items.reshape(last - first, *part.entry.shape[1:])

    def _patched(self, change: Change, rows: torch.Tensor, first: int, last: int) -> torch.Tensor:
        if change.tokens:
            places = [(n, i - first) for n, i in enumerate(change.token_ids) if first <= i < last]
            if places:
                source, rows_there = zip(*places, strict=True)
                rows[list(rows_there)] = self.tokens(change)[list(source)]
        if change.shift:
            rows = rows + self.shift(change)[first:last]
        return rows

    def _read_factors(self, target: Target, pair: LowRank) -> Factors:
        read = self._adapter
        magnitude = read.tensor(pair.magnitude) if pair.magnitude else None
        if pair.num_experts > 1:
            rows = target.entry.shape[0]
            left = expert_columns(
                read.rows(pair.b, pair.first_row, pair.first_row + rows),
                pair.expert,
                pair.num_experts,
            )
            begin = pair.expert * pair.rank
            return Factors(left, read.rows(pair.a, begin, begin + pair.rank), pair.scale, None)
        a, b = read.tensor(pair.a), read.tensor(pair.b)
        if pair.turned:
            return Factors(a.T.contiguous(), b.T.contiguous(), pair.scale, magnitude)
        return Factors(b, a, pair.scale, magnitude)

    def _column_norms(self, target: Target, prepared: Prepared) -> torch.Tensor:
        assert prepared.factors is not None, "no low-rank part to take lengths with"
        left, right, scale, _ = prepared.factors
        squares = torch.zeros(target.entry.shape[1])
        for first, last in row_slices(target.entry):
            rows = self._replaced(target, prepared, first, last)
            squares += fold(rows, left[first:last], right, scale).square().sum(0)
        return squares.sqrt()

    def _pack(self, target: Target) -> Packed:
        part = target.part
        whole = self._model.read(part.stored, part.first, part.entry.num_items)
        return quantize(whole.reshape(part.entry.shape))


def _is_replaced(target: Target) -> bool:
    return target.change is not None and target.change.whole is not None
