"""What differs between two models: tensors, by how much, and configs.

Both models are read slice by slice, so memory does not depend on their size. Where a matrix has
another number of rows in each (a vocabulary that grew) the common rows are compared.

`max_abs` is the largest |a - b|; `relative` is the Frobenius norm of the difference over that of
A's numbers, both over the numbers compared, with sums in float64. Numbers are compared in a type
that holds those of A and B as they are: float32, int64 for integers, float64 where one needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .models import ModelFolder
from .progress import Reporter, SilentReporter
from .weights import TensorEntry, row_slices

if TYPE_CHECKING:
    import torch

__all__ = ["ModelDiff", "TensorDiff", "diff_models"]


@dataclass(frozen=True)
class TensorDiff:
    """How one tensor differs.

    Attributes:
        name: Its name in both models.
        shape_a: Shape in A.
        shape_b: Shape in B.
        dtype_a: Storage in A, in safetensors' words.
        dtype_b: Storage in B.
        rows_compared: Rows that both have; numbers, for a vector.
        rows_changed: Of them, rows that are not bit-equal as numbers.
        nan_rows: Rows compared that hold a number that is not finite, in A or B.
        max_abs: Largest difference of the finite numbers; None where shapes cannot be compared.
        relative: Norm of the difference over that of A; None where A is all zeros.
    """

    name: str
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    dtype_a: str
    dtype_b: str
    rows_compared: int
    rows_changed: int
    nan_rows: int
    max_abs: float | None
    relative: float | None


@dataclass(frozen=True)
class ModelDiff:
    """How two models differ.

    Attributes:
        tensors_same: Tensors with the same dtype, shape and numbers.
        differing: The others that both have, the largest relative difference first.
        only_a: Names of tensors that only A has.
        only_b: Names of tensors that only B has.
        config: Lines of `key: value in A -> value in B`.
    """

    tensors_same: int
    differing: tuple[TensorDiff, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    config: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not (self.differing or self.only_a or self.only_b or self.config)


def diff_models(a: str | Path, b: str | Path, *, reporter: Reporter | None = None) -> ModelDiff:
    """Compare two model folders.

    Args:
        a: One model folder.
        b: The other.
        reporter: Where progress goes.

    Raises:
        InputError: One of them is no model folder, or is damaged.
    """
    first, second = ModelFolder(Path(a).expanduser()), ModelFolder(Path(b).expanduser())
    entries_b = {entry.name: entry for entry in second.all_entries()}
    pairs = [(e, entries_b[e.name]) for e in first.all_entries() if e.name in entries_b]
    total = sum(entry.size_bytes for entry, _ in pairs)
    same, differing = 0, []
    with (reporter or SilentReporter()).task("compare", total, "bytes") as progress:
        for mine, theirs in pairs:
            found = _compare(first, mine, second, theirs)
            progress.advance(mine.size_bytes, mine.name)
            if found is None:
                same += 1
            else:
                differing.append(found)
    differing.sort(key=lambda d: (-_order(d), d.name))
    return ModelDiff(
        same,
        tuple(differing),
        tuple(e.name for e in first.all_entries() if e.name not in entries_b),
        tuple(name for name in entries_b if name not in first.weight_map),
        tuple(_config_lines(first.config, second.config)),
    )


def _order(diff: TensorDiff) -> float:
    return float("inf") if diff.relative is None else diff.relative


def _compare(
    a: ModelFolder, mine: TensorEntry, b: ModelFolder, theirs: TensorEntry
) -> TensorDiff | None:
    """Give the difference of one tensor, or None where there is none."""
    rows = changed = bad = 0
    largest: float | None = None
    relative: float | None = None
    if mine.shape[1:] == theirs.shape[1:] and len(mine.shape) == len(theirs.shape):
        rows = min(mine.shape[0], theirs.shape[0]) if mine.shape else 1
        changed, bad, largest, relative = _compare_rows(a, b, mine, rows)
    if mine == theirs and not changed:
        return None
    return TensorDiff(
        mine.name,
        mine.shape,
        theirs.shape,
        mine.dtype,
        theirs.dtype,
        rows,
        changed,
        bad,
        largest,
        relative,
    )


def _compare_rows(
    a: ModelFolder, b: ModelFolder, entry: TensorEntry, rows: int
) -> tuple[int, int, float, float | None]:
    """Count rows that differ and rows not finite; give the largest and the relative difference."""
    import torch

    changed = bad = 0
    largest = squares = base = 0.0
    for first, last in row_slices(TensorEntry(entry.name, entry.dtype, (rows, entry.row_items))):
        ours, theirs = (
            model.rows(entry.name, first, last).reshape(last - first, -1) for model in (a, b)
        )
        if ours.dtype == theirs.dtype and torch.equal(ours, theirs):
            known = _as_common(ours, ours)[0].double()
            base += float(known.square().nan_to_num(0, 0, 0).sum())
            continue
        ours, theirs = _as_common(ours, theirs)
        finite = ours.isfinite() & theirs.isfinite()
        same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        changed += int((~same).any(1).sum())
        bad += int((~finite).any(1).sum())
        gap = torch.where(finite, _gap(ours, theirs), 0.0)
        largest = max(largest, float(gap.abs().max()))
        squares += float(gap.double().square().sum())
        base += float(torch.where(finite, ours.double(), 0.0).square().sum())
    if not squares:
        return changed, bad, largest, 0.0
    return changed, bad, largest, (squares / base) ** 0.5 if base else None


def _as_common(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give both in a type that holds the numbers of either as they are."""
    import torch

    whole = [not tensor.is_floating_point() for tensor in (ours, theirs)]
    long = torch.float64 in (ours.dtype, theirs.dtype) or any(whole)
    dtype = torch.int64 if all(whole) else torch.float64 if long else torch.float32
    return ours.to(dtype), theirs.to(dtype)


def _gap(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Subtract; integers without a rounding that hides a difference, and without overflow."""
    import torch

    if ours.is_floating_point():
        return theirs - ours
    rounded = theirs.double() - ours.double()
    return torch.where(rounded.abs() < 2**53, (theirs - ours).double(), rounded)


def _config_lines(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(a.keys() | b.keys()):
        mine, theirs = a.get(key), b.get(key)
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            lines += _config_lines(mine, theirs, f"{prefix}{key}.")
        elif mine != theirs or (key in a) != (key in b):
            shown = [repr(x[key]) if key in x else "(absent)" for x in (a, b)]
            lines.append(f"{prefix}{key}: {shown[0]} -> {shown[1]}")
    return lines
