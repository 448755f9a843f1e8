"""The curve of a run, a row a step, as a file that survives a kill, and for trackers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import InputError
from ..store import write_text
from .trackers import Trackers

__all__ = ["Curve"]

_TITLES = {
    "lr": "lr",
    "valid": "valid_bpb",
    "valid_nats": "valid_nats_per_token",
    "experts": "experts",
    "replay": "replay_share",
}
"""Key of a row -> how trackers' names of its numbers begin."""

_WAY_OUT = "The draft was damaged: delete its folder and run again."


class Curve:
    """`curve.jsonl`, row n after n steps, and the same numbers for trackers.

    After a kill, steps since the last checkpoint come again: a row replaces itself and all
    that followed it.
    """

    def __init__(
        self, folder: Path, trackers: Trackers | None = None, *, writes: bool = True
    ) -> None:
        """Read what a former run left; half a row at its end is cut off.

        Args:
            folder: Of the artefact.
            trackers: Told what is written.
            writes: Whether rows are written; of many processes, one does.

        Raises:
            InputError: A row is missing or damaged.
        """
        self._writes = writes
        self._trackers = trackers or Trackers()
        self._path = folder / "curve.jsonl"
        data = self._path.read_bytes() if self._path.is_file() else b""
        *lines, partial = data.split(b"\n")
        self.rows: list[dict[str, Any]] = [self._read(n, line) for n, line in enumerate(lines)]
        self._is_whole = not partial
        if self.rows:
            self._refuse_gap(self.rows[-1]["step"])

    def tokens(self, step: int) -> int:
        """Give the tokens that were trained on in the first `step` steps.

        Raises:
            InputError: There is no such row.
        """
        if step >= len(self.rows):
            self._refuse_gap(step)
        return int(self.rows[step]["tokens"])

    def __enter__(self) -> Curve:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._trackers.close()

    def put(self, row: dict[str, Any]) -> None:
        """Write row `row["step"]` as the last one."""
        step = row["step"]
        appends = self._is_whole and len(self.rows) == step
        del self.rows[step:]
        self.rows.append(row)
        if not self._writes:
            return
        if appends:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        else:
            self._refuse_gap(step)
            write_text(self._path, "".join(map(_line, self.rows)))
            self._is_whole = True
        self._trackers.put(dict(_scalars(row)), step)

    def finish(self, steps: int) -> list[dict[str, Any]]:
        """Give all rows, from 0 to `steps`."""
        self._refuse_gap(steps)
        return self.rows

    def _refuse_gap(self, last: int) -> None:
        if [row["step"] for row in self.rows] != list(range(last + 1)):
            raise InputError(
                f"{self._path}: rows are missing before step {last}; expected one a step.",
                way_out=_WAY_OUT,
            )

    def _read(self, number: int, line: bytes) -> dict[str, Any]:
        """Read a line; `{}` and the like are damage as much as bytes that are no JSON."""
        try:
            row = json.loads(line)
            is_row = isinstance(row["step"], int) and isinstance(row["tokens"], int)
        except (ValueError, KeyError, TypeError):
            is_row = False
        if not is_row:
            raise InputError(
                f"{self._path}: line {number + 1} is not a row of a curve; expected JSON with "
                "`step` and `tokens`.",
                way_out=_WAY_OUT,
            )
        return dict(row)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if "loss" in row:
        yield "train/loss", row["loss"]
    for key, title in _TITLES.items():
        for name, value in row.get(key, {}).items():
            yield f"{title}/{name}", value
