"""Who is told a run's numbers as they come: TensorBoard's files, trackio, Weights & Biases.

What they get is what `curve.jsonl` holds; nothing depends on them. trackio and wandb are started
under one name a run, kept in the draft's scratch, so that a run that goes on is one run there,
too. Which account, server or mode they use, their own variables and log-ins say; none is asked
for here. One that fails in the middle of a run is told and left out: training goes on.

Sources: `init`, `log` and `finish` as in trackio 0.43 and wandb 0.31, which name them alike.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..errors import MissingPackageError, UsageError
from ..store import write_text
from .settings import TrackerName

__all__ = ["TensorBoard", "Tracker", "Trackers", "open_trackers"]

_PROJECT = "lingraft"


class Tracker(Protocol):
    """One of them; what it raises is of its own making."""

    name: str

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        """Take the numbers of a step; after a kill, steps come again."""

    def close(self) -> None:
        """Take no more."""


class TensorBoard:
    """Files that TensorBoard reads."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, from the first step that comes."""
        self._folder = folder
        self._writer: Any = None

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        """Write the numbers of a step."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class _Run:
    """A run of trackio or wandb."""

    def __init__(self, name: str, run: Any) -> None:
        self.name, self._run = name, run

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        with _off_stdout():
            self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        with _off_stdout():
            self._run.finish()


class Trackers:
    """All that a run has."""

    def __init__(
        self, trackers: Sequence[Tracker] = (), note: Callable[[str], None] = lambda _: None
    ) -> None:
        """Tell each; `note` is told of those that fail."""
        self._trackers, self._note = list(trackers), note

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        """Give all of them the numbers of a step."""
        for tracker in list(self._trackers):
            self._try(tracker, partial(tracker.put, scalars, step))

    def close(self) -> None:
        """Close all of them."""
        for tracker in list(self._trackers):
            self._try(tracker, tracker.close)

    def _try(self, tracker: Tracker, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            if tracker.name == TensorBoard.name:
                raise  # its files are on the disk that everything else is on
            self._trackers.remove(tracker)
            self._note(
                f"WARNING: {tracker.name} failed ({type(error).__name__}: {error}) and is told no "
                "more of this run; curve.jsonl holds everything."
            )


def open_trackers(
    names: Sequence[TrackerName],
    folder: Path,
    scratch: Path,
    run: str,
    config: Mapping[str, Any],
    note: Callable[[str], None],
) -> Trackers:
    """Start trackers, before any work that they are to be told of.

    Args:
        names: Which.
        folder: Of the artefact.
        scratch: What survives a kill, and no more.
        run: The run's name.
        config: Its settings.
        note: Told of those that fail later.

    Raises:
        MissingPackageError: One is not installed.
        UsageError: One cannot be started.
    """
    opened: list[Tracker] = []
    for name in names:
        if name == TensorBoard.name:
            opened.append(TensorBoard(folder / name))
        else:
            opened.append(_start(name, _run_id(scratch), run, config))
    return Trackers(opened, note)


def _start(name: str, run_id: str, run: str, config: Mapping[str, Any]) -> _Run:
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"train.trackers = '{name}' needs the package {name}: {error}.",
            way_out=f"pip install {name}, or take it out of train.trackers.",
        ) from None
    options: dict[str, Any] = {
        "project": os.environ.get(f"{name.upper()}_PROJECT", _PROJECT),
        "name": f"{run}-{run_id}",
        "config": dict(config),
        "resume": "allow",
    }
    if name == "wandb":
        options["id"] = run_id  # trackio knows runs by their name alone
    try:
        with _off_stdout():
            return _Run(name, package.init(**options))
    except Exception as error:
        raise UsageError(
            f"train.trackers: {name} does not start: {type(error).__name__}: {error}",
            effect="Nothing of this run would be seen there.",
            way_out=_WAYS_OUT[name],
        ) from error


def _off_stdout() -> AbstractContextManager[Any]:
    """Send what they print to stderr: standard output is for results, JSON among them."""
    return redirect_stdout(sys.stderr)


_WAYS_OUT = {
    "wandb": "Log in (wandb login), or keep its files here: WANDB_MODE=offline; or take it out of "
    "train.trackers.",
    "trackio": "Look at TRACKIO_SERVER_URL and TRACKIO_SPACE_ID, if they are set; or take it out "
    "of train.trackers.",
}


def _run_id(scratch: Path) -> str:
    """Give the name that a run keeps while it is killed and goes on."""
    path = scratch / "tracker-id"
    if not path.is_file():
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8")
