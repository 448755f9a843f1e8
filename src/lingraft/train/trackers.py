"""Who is told a run's numbers as they come: TensorBoard's files, trackio, Weights & Biases.

What they get is what `curve.jsonl` holds; nothing depends on them. trackio and wandb are started
under one name a run, kept in the draft's scratch, so that a run that goes on is one run there,
too. Which account, server or mode they use, their own variables and log-ins say; none is asked
for here, and what they raise is told without them. One that fails in the middle of a run is told
and left out: training goes on.

A run that goes on after a kill comes to steps that they have had. They would stand there twice
(trackio), or be warned of (wandb), so the last step handed over is kept, too, and steps up to it
are passed over. What is not known: both send in the background, so of the steps handed over
before a kill, the last may never have arrived; and one that is killed between handing a step over
and keeping its number, or whose machine goes down, hands steps over again. `curve.jsonl` has every
step once.

Sources: `init`, `log` and `finish` as in trackio 0.43 and wandb 0.31, which name them alike;
`exit_code` is wandb's alone.
"""

from __future__ import annotations

import importlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qsl

from ..errors import MissingPackageError, UsageError
from ..packages import has_package
from ..store import write_text
from .settings import TrackerName

__all__ = ["TensorBoard", "Tracker", "Trackers", "open_trackers"]

_PROJECT = "lingraft"

_SECRETS = ("_TOKEN", "_API_KEY")
_MIN_SECRET = 8
"""Characters; a variable such as HF_HUB_DISABLE_IMPLICIT_TOKEN=1 holds none."""


class Tracker(Protocol):
    """One of them; what it raises is of its own making."""

    name: str

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        """Take the numbers of a step; after a kill, steps come again."""

    def close(self, failed: bool) -> None:
        """Take no more; `failed`: an error ended the run, or a signal."""


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

    def close(self, failed: bool) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class _Run:
    """A run of trackio or wandb, and the steps that were handed over, in a file."""

    def __init__(self, name: str, run: Any, steps: Path) -> None:
        self.name, self._run, self._steps = name, run, steps
        self._last = _last_step(steps)

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        if step <= self._last:
            return
        with _off_stdout():
            self._run.log(dict(scalars), step=step)
        self._last = step
        with self._steps.open("a", encoding="utf-8") as file:
            file.write(f"\n{step}")  # begins the line: half a number stays alone, and is smaller

    def close(self, failed: bool) -> None:
        # wandb takes a run without an exit code for a good one; trackio knows no states
        code = {"exit_code": int(failed)} if self.name == "wandb" else {}
        with _off_stdout():
            self._run.finish(**code)


class Trackers:
    """All that a run has."""

    def __init__(
        self, trackers: Sequence[Tracker] = (), note: Callable[[str], None] = lambda _: None
    ) -> None:
        """Tell each; `note` is told of those that fail."""
        self._trackers, self._note = list(trackers), note

    def add(self, tracker: Tracker) -> None:
        """Tell one more."""
        self._trackers.append(tracker)

    def put(self, scalars: Mapping[str, float], step: int) -> None:
        """Give all of them the numbers of a step."""
        for tracker in list(self._trackers):
            self._try(tracker, partial(tracker.put, scalars, step))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all of them; nothing is left to close a second time."""
        trackers, self._trackers = self._trackers, []
        for tracker in trackers:
            self._try(tracker, partial(tracker.close, kind is not None))

    def _try(self, tracker: Tracker, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            if tracker.name == TensorBoard.name:
                raise  # its files are on the disk that everything else is on
            if tracker in self._trackers:
                self._trackers.remove(tracker)
            self._note(
                f"WARNING: {tracker.name} failed ({_tell(error)}) and is told no more of this "
                "run; curve.jsonl holds everything."
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
    trackers = Trackers((), note)
    with ExitStack() as stack:
        stack.enter_context(trackers)
        for name in names:
            if name == TensorBoard.name:
                trackers.add(TensorBoard(folder / name))
            else:
                trackers.add(_start(name, scratch, run, config))
        stack.pop_all()
    return trackers


def _start(name: str, scratch: Path, run: str, config: Mapping[str, Any]) -> _Run:
    run_id = _run_id(scratch)
    try:
        package = importlib.import_module(name)
        is_bare = package.__spec__ is not None and package.__spec__.origin is None
        if is_bare and not has_package(name):
            raise ImportError(f"{', '.join(package.__path__)} is a folder of other files")
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
            started = package.init(**options)
    except Exception as error:
        raise UsageError(
            f"train.trackers: {name} does not start: {_tell(error)}",
            effect="Nothing of this run would be seen there.",
            way_out=_WAYS_OUT[name],
        ) from None  # a trace would show the text as it was
    return _Run(name, started, scratch / f"tracker-{name}-steps")


def _last_step(steps: Path) -> int:
    """Give the last step that a file holds; where a machine went down, zeros may stand there."""
    text = steps.read_text(encoding="utf-8", errors="replace") if steps.is_file() else ""
    return max((int(line) for line in text.split("\n") if line.isdecimal()), default=-1)


def _tell(error: Exception) -> str:
    """Give an error's kind and text without queries of addresses, log-ins, tokens and keys."""
    text = str(error)
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    text = re.sub(r"(?<=://)[^\s/@]+@", "***@", text)
    # urllib3 tells an address without its host: "url: /upload?write_token=..."
    text = re.sub(r"(?<=[^\s?])\?[^\s'\"<>()]+", "?***", text)
    return f"{type(error).__name__}: {text}"


def _secrets() -> Iterator[str]:
    """Give what the environment holds of them: TRACKIO_SERVER_URL has one in its query."""
    for name, value in os.environ.items():
        held = [value] if name.endswith(_SECRETS) else []
        if name.endswith("_URL"):
            held = [part for _, part in parse_qsl(value.partition("?")[2])]
        yield from (part for part in held if len(part) >= _MIN_SECRET)


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
