"""The curve of a run, a row a step, as a file that survives a kill, and for trackers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..store import sync_file, write_text
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


class Curve:
    """`curve.jsonl`, row n after n steps, and the same numbers for trackers.

    After a kill, steps since the last checkpoint come again: a row replaces itself and all
    that followed it. Where a machine went down, a file may hold less than was written, or zeros:
    rows from the first bad one on are dropped and told, and their steps have to come again.
    """

    def __init__(
        self,
        folder: Path,
        trackers: Trackers | None = None,
        *,
        writes: bool = True,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read what a former run left; half a row at its end is cut off.

        Args:
            folder: Of the artefact.
            trackers: Told what is written.
            writes: Whether rows are written; of many processes, one does.
            note: Told of rows that are missing or damaged.
        """
        self._writes = writes
        self._trackers = trackers or Trackers()
        self._path = folder / "curve.jsonl"
        data = self._path.read_bytes() if self._path.is_file() else b""
        *lines, partial = data.split(b"\n")
        self.rows: list[dict[str, Any]] = []
        """Row n after n steps, without a gap."""
        for line in lines:
            row = _read(line, len(self.rows))
            if row is None:
                note(
                    f"WARNING: {self._path}: line {len(self.rows) + 1} is not the row of step "
                    f"{len(self.rows)}; it and all after it are dropped, and their steps done anew."
                )
                break
            self.rows.append(row)
        self._is_whole = not partial and len(self.rows) == len(lines)

    def tokens(self, step: int) -> int:
        """Give the tokens that were trained on in the first `step` steps."""
        return int(self.rows[step]["tokens"])

    def sync(self) -> None:
        """Have all rows on the disk, before something that counts on them is written there."""
        if self._writes:
            sync_file(self._path)
            sync_file(self._path.parent)

    def __enter__(self) -> Curve:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._trackers.__exit__(kind, error, trace)

    def put(self, row: dict[str, Any]) -> None:
        """Write row `row["step"]` as the last one."""
        step = row["step"]
        assert step <= len(self.rows), f"row {step} comes after {len(self.rows)} rows"
        appends = self._is_whole and len(self.rows) == step
        del self.rows[step:]
        self.rows.append(row)
        if not self._writes:
            return
        if appends:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        else:
            write_text(self._path, "".join(map(_line, self.rows)))
            self._is_whole = True
        self._trackers.put(dict(_scalars(row)), step)


def _read(line: bytes, step: int) -> dict[str, Any] | None:
    """Read the row of a step; `{}` and the like are damage as much as bytes that are no JSON."""
    try:
        row = json.loads(line)
        is_row = row["step"] == step and isinstance(row["tokens"], int)
    except (ValueError, KeyError, TypeError):
        return None
    return dict(row) if is_row else None


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key in ("loss", "grad_norm"):  # rows of an older run have no norm
        if key in row:
            yield f"train/{key}", row[key]
    for key, title in _TITLES.items():
        for name, value in row.get(key, {}).items():
            yield f"{title}/{name}", value
