"""All new rows of one matrix: the method's rows, what no method can make, ties told apart.

Special and unspellable pieces get the mean of all base rows: a logit near that of the average
piece, whatever the text (Hewitt 2021), where zeros would be above most. A byte that the base lacks
gets the mean of the rows of its bytes: as rare as they are, it is one of them.

A *tie*: pieces with the same parts in other orders or numbers, as 上海 and 海上, or 妈 and 妈妈,
start with equal rows under a mean, and gradient descent moves them apart only as far as their
contexts differ. 12% of the reference's rows start so. With `tie_break` each of such rows r becomes

    r + 0.1 (p - m)

where m is the mean of its parts and p the mean in which the i-th part weighs 1 / i: a small step
that depends on order and number of the parts, and on nothing else.

Shapes: V base rows, N new pieces, D model width.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import InputError, UsageError
from ..progress import Reporter
from ..weights import is_finite
from .added import Added
from .averaging import weighted_rows
from .methods import Method, Role, check_ranges

__all__ = ["TIE_STEP", "Filled", "check_options", "fill_rows", "mean_of_all"]

TIE_STEP = 0.1
_CHUNK = 1 << 9
_FIRST = 16  # bytes of a row


@dataclass(frozen=True)
class Filled:
    """New rows of one matrix and what was counted.

    Attributes:
        rows_ND: In the matrix's dtype.
        identical_before: Rows equal to another one before ties were broken.
        identical_rows: Rows equal to another one as they are now.
        notes: What the method did otherwise than its name says.
    """

    rows_ND: torch.Tensor
    identical_before: int
    identical_rows: int
    notes: Mapping[str, int] = field(default_factory=dict)


def check_options(method: Method, options: Mapping[str, Any]) -> None:
    """Refuse options that a method does not have, and values that they cannot have.

    Raises:
        UsageError: There is one; what the method has, or the option may be, is told.
    """
    known = method.settings()
    for name, value in options.items():
        if name not in known:
            has = ", ".join(f"{key} = {default!r}" for key, default in known.items()) or "none"
            raise UsageError(f"method {method.name!r}: has no option {name!r}; it has: {has}.")
        default = known[name]
        if default is None and value is None:
            continue
        kind = float if default is None else type(default)  # None: chosen by the method
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not fits or isinstance(value, bool) != (kind is bool):
            raise UsageError(
                f"method {method.name!r}: option {name} = {value!r}; expected a {kind.__name__}"
                + (f", as {default!r}." if default is not None else ".")
            )
        if name == "device":
            _check_device(method, value)
    check_ranges(method, options)


def _check_device(method: Method, value: str) -> None:
    try:
        torch.empty(1, device=value).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"method {method.name!r}: option device = {value!r}: {str(error).splitlines()[0]}",
            effect="The model could not be loaded on it.",
            way_out="Leave it out for the processor, or name one that this machine has, as cuda.",
        ) from None


def fill_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    method: Method,
    *,
    given: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    tie_break: bool = True,
    reporter: Reporter | None = None,
) -> Filled:
    """Make the rows of all new pieces of one matrix.

    Args:
        base_VD: The base's rows, padding left out.
        added: The new pieces.
        role: Which matrix.
        seed: Decides every draw.
        method: Makes the rows of pieces that can be spelled.
        given: What the method needs beside them, by name.
        options: Its settings, where they are not the defaults.
        tie_break: Whether pieces with the same parts are told apart.
        reporter: Where the progress of slow methods goes.

    Raises:
        InputError: The method made a row that is no row.
    """
    assert len(base_VD) == added.num_base, "rows of padding are no rows of the base"
    notes: Counter[str] = Counter()
    arguments = {**(given or {}), **(options or {})}
    function = method.load()
    known = inspect.signature(function).parameters
    aside = {"notes": notes, "reporter": reporter}
    arguments |= {name: value for name, value in aside.items() if name in known}
    rows_ND = function(base_VD, added, role, seed, **arguments)
    assert rows_ND.shape == (len(added), base_VD.shape[1]), f"{method.name}: {rows_ND.shape}"
    without = [n for n, kind in enumerate(added.kinds) if kind in ("special", "unspellable")]
    if without:
        rows_ND[torch.tensor(without)] = mean_of_all(base_VD)
    completed = [n for n, kind in enumerate(added.kinds) if kind == "byte"]
    if completed:
        rows_ND[torch.tensor(completed)] = mean_of_all(base_VD[torch.tensor(added.byte_ids)])
    made_ND = rows_ND.to(base_VD.dtype)
    _refuse_broken(made_ND, added, method.name)
    spelled = [n for n, kind in enumerate(added.kinds) if kind in ("spelled", "copied")]
    groups = _equal_rows(made_ND, spelled)
    before = sum(map(len, groups))
    if tie_break and groups:
        _break_ties(base_VD, added, groups, rows_ND, made_ND)
        groups = _equal_rows(made_ND, spelled)
    return Filled(made_ND, before, sum(map(len, groups)), dict(sorted(notes.items())))


def mean_of_all(base_VD: torch.Tensor) -> torch.Tensor:
    """Give the mean of rows, float32."""
    total_D = torch.zeros(base_VD.shape[1], dtype=torch.float64)
    for begin in range(0, len(base_VD), _CHUNK):
        total_D += base_VD[begin : begin + _CHUNK].sum(0, dtype=torch.float64)
    return (total_D / len(base_VD)).float()


def _refuse_broken(rows_ND: torch.Tensor, added: Added, name: str) -> None:
    for begin in range(0, len(rows_ND), _CHUNK):
        part = rows_ND[begin : begin + _CHUNK]
        if not is_finite(part):
            finite_N = part.isfinite().all(dim=1)
            n = begin + int(finite_N.logical_not().nonzero()[0])
            raise InputError(
                f"method {name!r}: the row of new piece {n} ({added.shown(n)!r}) is not finite.",
                effect="It would be NaN after the first step of training, and all else with it.",
                way_out="Take another method, or smaller options.",
            )


def _equal_rows(rows_ND: torch.Tensor, among: Sequence[int]) -> list[list[int]]:
    """Group rows that are the same bit by bit; groups of one are left out."""
    bytes_NB = rows_ND.contiguous().view(torch.uint8).numpy()
    alike: dict[bytes, list[int]] = defaultdict(list)
    for n in among:
        alike[bytes_NB[n, :_FIRST].tobytes()].append(n)  # few rows are worth a look at the rest
    groups: dict[bytes, list[int]] = defaultdict(list)
    for n in (n for some in alike.values() if len(some) > 1 for n in some):
        groups[hashlib.blake2b(bytes_NB[n], digest_size=16).digest()].append(n)
    return [group for group in groups.values() if len(group) > 1]


def _break_ties(
    base_VD: torch.Tensor,
    added: Added,
    groups: Sequence[Sequence[int]],
    rows_ND: torch.Tensor,
    made_ND: torch.Tensor,
) -> None:
    """Move rows that are equal because their pieces have the same parts."""
    tied: list[int] = []
    for group in groups:
        by_parts: dict[frozenset[int], list[int]] = defaultdict(list)
        for n in group:
            by_parts[frozenset(added.spellings[n])].append(n)
        tied += [n for found in by_parts.values() if len(found) > 1 for n in found]
    spellings = [added.spellings[n] for n in tied]
    weights = [[1 / (i + 1) for i in range(len(ids))] for ids in spellings]
    steps_KD = weighted_rows(base_VD, spellings, weights) - weighted_rows(base_VD, spellings)
    for k, n in enumerate(tied):
        made_ND[n] = (rows_ND[n] + TIE_STEP * steps_KD[k]).to(made_ND.dtype)
