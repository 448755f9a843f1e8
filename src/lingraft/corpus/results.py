"""Results in the work folder: of a unit, a bucket, a step.

A result is a few files of one name, and a JSON file of that name that comes last. All are written
beside their places first, under names that no other process uses: two that write the same result,
as a task that was given up and its second try, write the same bytes and cannot mix them.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .plan import Plan, read_plan

__all__ = [
    "BUCKETS",
    "OUTPUTS",
    "STEPS",
    "UNITS",
    "Totals",
    "is_whole",
    "read_result",
    "read_totals",
    "result_path",
    "writing",
]

UNITS, BUCKETS, OUTPUTS, STEPS = "units", "buckets", "outputs", "steps"
"""Kinds of results, each a folder of the work folder."""


def result_path(folder: str, kind: str, n: int, end: str) -> Path:
    """Give the place of one file of a result, as `.work/units/00007.rows`."""
    return Path(folder) / kind / f"{n:05}.{end}"


@contextmanager
def writing(
    folder: str, kind: str, n: int, key: str, ends: Sequence[str]
) -> Iterator[tuple[Mapping[str, Path], dict[str, Any]]]:
    """Give drafts for the files of a result, and a dictionary for its JSON file.

    When the block ends without an error, all are put in place, the JSON file last. `key` is the
    plan's.
    """
    home = Path(folder) / kind
    home.mkdir(exist_ok=True)
    mark = f"{socket.gethostname()}-{os.getpid()}.draft"
    drafts = {end: home / f"{n:05}.{end}.{mark}" for end in (*ends, "json")}
    facts: dict[str, Any] = {}
    try:
        yield drafts, facts
        sizes = {end: drafts[end].stat().st_size for end in ends}
        tree = {"key": key, "sizes": sizes, **facts}
        drafts["json"].write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
        for end, draft in drafts.items():
            draft.replace(result_path(folder, kind, n, end))
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def read_result(folder: str, kind: str, n: int) -> dict[str, Any]:
    """Read the JSON file of a result that is there."""
    content = result_path(folder, kind, n, "json").read_text(encoding="utf-8")
    tree: dict[str, Any] = json.loads(content)
    return tree


def is_whole(folder: str, kind: str, n: int, key: str) -> bool:
    """Whether a result is there, made from the same things, and none of its files is cut short."""
    try:
        tree = read_result(folder, kind, n)
        return bool(tree["key"] == key) and all(
            result_path(folder, kind, n, end).stat().st_size == size
            for end, size in tree["sizes"].items()
        )
    except (FileNotFoundError, json.JSONDecodeError):
        return False


class Totals:
    """What all units together tell: where each one's documents begin to count.

    Shapes: U units.
    """

    def __init__(
        self, plan: Plan, num_kept: Sequence[int], line_ends: Sequence[Sequence[int]]
    ) -> None:
        """Add up the results of all units of a plan.

        Args:
            plan: The plan.
            num_kept: Kept documents of each unit.
            line_ends: Of each piece of each unit, see `sift`.
        """
        self._plan = plan
        self.num_kept_U = np.array(num_kept, np.int64)
        self.kept_before_U = np.cumsum(self.num_kept_U) - self.num_kept_U
        self.sets_U = np.array([plan.set_of(n) for n in range(len(num_kept))], np.int64)
        self._files = np.array([piece.file for unit in plan.units for piece in unit], np.int64)
        sizes_U = np.array([len(unit) for unit in plan.units], np.int64)
        self._pieces_before_U = np.cumsum(sizes_U) - sizes_U
        self._first_lines = list(self._number_lines(line_ends))

    def files_of(
        self, units_D: npt.NDArray[Any], pieces_D: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        """Give the file of each document, from its unit and its piece."""
        files_D: npt.NDArray[np.int64] = self._files[self._pieces_before_U[units_D] + pieces_D]
        return files_D

    def where(self, unit: int, piece: int, line: int) -> str:
        """Name the place of a document, as `label:line`."""
        file = self._plan.files[self._plan.units[unit][piece].file]
        return f"{file.label}:{self._first_lines[unit][piece] - 1 + line}"

    def _number_lines(self, line_ends: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Give, for each unit, the number of the first line of each of its pieces."""
        before = 0
        for unit, own in zip(self._plan.units, line_ends, strict=True):
            firsts = []
            for piece, ends in zip(unit, own, strict=True):
                is_later = piece.kind == "bytes" and piece.begin
                firsts.append(before + 2 if is_later else 1)
                before = before + ends if is_later else ends
            yield firsts


@lru_cache(maxsize=2)
def read_totals(folder: str, key: str) -> Totals:
    """Add up the results of all units, which are there; kept for this process."""
    plan = read_plan(folder, key)
    num_kept, line_ends = [], []
    for n in range(len(plan.units)):
        unit = read_result(folder, UNITS, n)
        num_kept.append(unit["num_kept"])
        line_ends.append(unit["line_ends"])
    return Totals(plan, num_kept, line_ends)
