"""The guard of a language that must not be forgotten: it warns, stops, or has more of it read.

What it decided stands in the curve's rows, so that a run that goes on decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from .data import Raise
from .settings import GuardSettings

__all__ = ["Guard", "GuardStopError"]


class GuardStopError(Exception):
    """The guarded language got worse than it may; never leaves this stage."""


class Guard:
    """Compares validations of one set with that before step 0."""

    def __init__(
        self,
        settings: GuardSettings | None,
        raises: list[Raise],
        rows: Sequence[Mapping[str, Any]],
        note: Callable[[str], None],
    ) -> None:
        """Begin, or go on.

        Args:
            settings: None: nothing is guarded.
            raises: Those that what is read depends on; they are kept up to date here.
            rows: The curve so far, the row before step 0 at least.
            note: Told what is found.
        """
        self._settings, self._raises, self._note = settings, raises, note
        self._shall_stop = False
        if settings is None:
            return
        self._start_bpb = float(rows[0]["valid"][settings.set])
        raises[:] = [
            Raise(row["step"], row["replay"][settings.set]) for row in rows if "replay" in row
        ]

    def judge(self, row: dict[str, Any], *, is_last: bool) -> None:
        """Look at the row of a step; `replay` is put into it where more shall be read from it on.

        Steps may come again after a kill: what was decided at this one or later is forgotten.
        """
        guard = self._settings
        if guard is None:
            return
        self._raises[:] = [raise_ for raise_ in self._raises if raise_.step < row["step"]]
        if "valid" not in row:
            return
        bpb = row["valid"][guard.set]
        rise = bpb - self._start_bpb
        if rise <= guard.max_rise:
            return
        told = (
            f"WARNING: '{guard.set}' is at {bpb:.4f} bits per byte after step {row['step']}, "
            f"{rise:.4f} above its start (train.guard.max_rise = {guard.max_rise}): "
        )
        if guard.action != "replay" or is_last:
            self._note(told + "more of it in train.mixture, or a lower rate, would keep it.")
            self._shall_stop = guard.action == "stop" and not is_last
            return
        former = self._raises[-1].frac if self._raises else 0.0
        # In decimals, so that three times 0.1 is 0.3.
        frac = float(min(_exact(former) + _exact(guard.replay_frac), _exact(guard.most_replay)))
        if frac == former:
            self._note(told + f"{frac:.0%} of the sequences are of it, the most that is allowed.")
            return
        self._raises.append(Raise(row["step"], frac))
        row["replay"] = {guard.set: frac}
        self._note(told + f"from now on {frac:.0%} of the sequences are of it, beside the mixture.")

    def stop_if_asked(self) -> None:
        """End training where the last row asked for it.

        Raises:
            GuardStopError: It did.
        """
        if self._shall_stop:
            raise GuardStopError


def _exact(share: float) -> Decimal:
    return Decimal(str(share))
