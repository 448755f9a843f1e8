"""Benchmarks as a step: their files in, an index of n-grams out (`steps/00002.*`).

Every process that reads documents maps the index into memory, so that all share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..store import disk_errors
from .plan import Plan, read_plan, refuse_changed
from .results import STEPS, is_whole, result_path, writing

if TYPE_CHECKING:
    from .overlap import Overlap

__all__ = ["Indexing", "read_index"]

_NUMBER = 2


@dataclass(frozen=True)
class Indexing:
    """The step as one unit of work."""

    folder: str
    key: str
    label: str = "index benchmarks"

    @property
    def _plan(self) -> Plan:
        return read_plan(self.folder, self.key)

    def __len__(self) -> int:
        """One."""
        return 1

    def size_bytes(self, n: int) -> int:
        """Bytes of all files of benchmarks."""
        return max(1, sum(file.size_bytes for file in self._plan.benchmarks))

    def is_done(self, n: int) -> bool:
        """Whether the index is there."""
        return is_whole(self.folder, STEPS, _NUMBER, self.key)

    def do(self, n: int) -> None:
        """Read all benchmarks.

        Raises:
            DiskFullError: There is no room for the index.
            InputError: A benchmark cannot be read, or is not what it was.
        """
        from .overlap import PARTS, Overlap

        plan = self._plan
        settings = plan.settings.decontaminate
        assert settings is not None, "benchmarks are not asked for"
        with (
            disk_errors(Path(self.folder), place=plan.place),
            writing(self.folder, STEPS, _NUMBER, self.key, PARTS) as (drafts, _),
        ):
            for file in plan.benchmarks:
                refuse_changed(file)
            Overlap.build(settings).save(drafts)


@lru_cache(maxsize=1)
def read_index(folder: str, key: str) -> Overlap:
    """Map the index of a work folder into memory; it is kept for this process."""
    from .overlap import PARTS, Overlap

    read_plan(folder, key)  # the folder holds what the key says
    return Overlap.load({end: result_path(folder, STEPS, _NUMBER, end) for end in PARTS})
