"""First rows of the added pieces for `real_model.py`: from a file, or made on the spot.

A method that is made on the spot is one of `lingraft embed methods`, with options:
`distil:per_piece=4,batch=64`. It is stopped where it takes longer than it may.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lingraft.progress import Progress


class TooSlowError(Exception):
    """A method took longer than it may."""


class Deadline:
    """A reporter that stops the work at a time, and prints now and then."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @contextmanager
    def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        """Begin a task."""
        yield _Watched(label, total, unit, self._end)

    def note(self, text: str) -> None:
        """Print one line."""
        print(f"  {text}", flush=True)


class _Watched:
    def __init__(self, label: str, total: int, unit: str, end: float) -> None:
        self._label, self._total, self._unit, self._end = label, total, unit, end
        self._done, self._shown = 0, time.perf_counter()

    def advance(self, amount: int = 1, text: str = "") -> None:
        self._done += amount
        now = time.perf_counter()
        if now > self._shown + 5:
            print(f"  {self._label} {self._done}/{self._total} {self._unit} {text}", flush=True)
            self._shown = now
        if now > self._end:
            raise TooSlowError(
                f"{self._label}: {self._done} of {self._total} {self._unit} were done"
            )


def first_rows(
    method: str, data: Path, base_VD: torch.Tensor, seconds: float
) -> tuple[torch.Tensor, float]:
    """Give added rows, float32 on the base's device, and the seconds that they took.

    Those of `DATA/rows/METHOD.safetensors` if it is there; else they are made and kept there.
    """
    path = data / "rows" / f"{method.replace(':', '-')}.safetensors"
    start = time.perf_counter()
    if not path.is_file():
        save_file({"rows": _make(method, data, base_VD, seconds)}, path)
    rows = load_file(path, device=str(base_VD.device))["rows"].float()
    assert rows.shape[1] == base_VD.shape[1], f"{path} is of another model: delete it"
    return rows, time.perf_counter() - start


def _make(method: str, data: Path, base_VD: torch.Tensor, seconds: float) -> torch.Tensor:
    from lingraft.bases import read_base
    from lingraft.embed.added import read_added
    from lingraft.embed.filling import fill_rows
    from lingraft.embed.methods import METHODS

    name, _, told = method.partition(":")
    options = {k: json.loads(v) for k, _, v in (o.partition("=") for o in told.split(",") if o)}
    found = METHODS[name]
    given: dict[str, Any] = {}
    if "model" in found.needs:
        given = {"model": data / "model", "tokens": data / "tokens-ext"}
        options["device"] = str(base_VD.device)
    added = read_added(
        read_base(str(data / "tokenizer-base")), read_base(str(data / "tokenizer-ext"))
    )
    rows = base_VD.float().cpu()
    filled = fill_rows(
        rows, added, "input", 17, found,
        given=given, options=options, reporter=Deadline(seconds),
    )  # fmt: skip
    return filled.rows_ND.to(torch.bfloat16).contiguous()
