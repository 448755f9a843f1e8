"""Every error that a user can meet, as one tree.

    LingraftError            exit 1   a stage could not do its work
    ├── InputError           exit 1   a file or line of data cannot be used
    ├── DiskFullError        exit 1   no space left; nothing finished was lost
    ├── StoppedError         exit 75  asked to stop; the same command goes on from here
    ├── UsageError           exit 2   the call cannot be carried out as asked
    │   ├── RecipeError      exit 2   the recipe has problems (all of them at once)
    │   ├── StaleError       exit 2   an artefact exists, but was made differently
    │   ├── LockedError      exit 2   another run is at work in this folder
    │   └── MissingPackageError   exit 2   an optional package is needed and absent
    └── VerifyError          exit 3   what is on disk is not what its manifest says

Each message tells what and where, then what it would lead to, then the way out.
A mistake of ours is an `assert` with a message, never one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DiskFullError",
    "InputError",
    "LingraftError",
    "LockedError",
    "MissingPackageError",
    "Problem",
    "RecipeError",
    "StaleError",
    "StoppedError",
    "UsageError",
    "VerifyError",
]


class LingraftError(Exception):
    """Root of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1

    def __init__(self, what: str, *, effect: str = "", way_out: str = "") -> None:
        """Compose the message.

        Args:
            what: What is wrong and where, and what was expected.
            effect: What it would have led to, had we gone on.
            way_out: What the user can do now.
        """
        self.what, self.effect, self.way_out = what, effect, way_out
        super().__init__("\n  ".join(part for part in (what, effect, way_out) if part))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error cross to another process as it is."""
        return _rebuild, (type(self), self.what, self.effect, self.way_out)


def _rebuild(kind: type[LingraftError], what: str, effect: str, way_out: str) -> LingraftError:
    error = kind.__new__(kind)
    LingraftError.__init__(error, what, effect=effect, way_out=way_out)
    return error


class InputError(LingraftError):
    """A data file, model or tokenizer cannot be used as it is."""


class DiskFullError(LingraftError):
    """The disk ran full while a stage was writing its draft."""


class StoppedError(LingraftError):
    """Somebody asked for an end, as a cluster does; what was done is kept."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


class UsageError(LingraftError):
    """The call cannot be carried out as asked."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a recipe: its dotted key, the value given, what is wrong with it."""

    key: str
    value: str
    text: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.key}{shown}: {self.text}"


class RecipeError(UsageError):
    """A recipe has one or more problems; the message lists all of them."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        """Compose the message from every problem found in `source`."""
        self.problems = tuple(problems)
        noun = "problem" if len(problems) == 1 else "problems"
        lines = "\n  ".join(str(problem) for problem in problems)
        super().__init__(f"{source}: {len(problems)} {noun}", effect=lines)


class StaleError(UsageError):
    """An artefact exists but was made from other settings, inputs or code."""


class LockedError(UsageError):
    """Another process is working in the same run folder."""


class MissingPackageError(UsageError):
    """An optional package is needed for what was asked."""


class VerifyError(LingraftError):
    """Files on disk differ from what their manifest says."""

    exit_code = 3
