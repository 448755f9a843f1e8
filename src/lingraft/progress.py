"""Progress with rate and time left: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["LineReporter", "Progress", "Reporter", "RichReporter", "SilentReporter"]

_WHOLE = 100  # rates from here on are shown without decimals
_log = logging.getLogger("lingraft")


class Progress(Protocol):
    """Handle on one running task."""

    def advance(self, amount: int = 1, text: str = "") -> None:
        """Count `amount` more units as done; `text` is shown beside the bar."""


class Reporter(Protocol):
    """Where stages tell how far they are."""

    def task(
        self, label: str, total: int, unit: str, done: int = 0
    ) -> AbstractContextManager[Progress]:
        """Open a task of `total` units of which `done` are done already."""

    def note(self, text: str) -> None:
        """Tell one line."""


class _Silent:
    def advance(self, amount: int = 1, text: str = "") -> None:
        """Count nothing."""


class SilentReporter:
    """Tells nothing; notes go to the log."""

    @contextmanager
    def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        """Open a task that shows nothing."""
        yield _Silent()

    def note(self, text: str) -> None:
        """Log one line."""
        _log.info(text)


class _Lines:
    """Prints a line at most every `every_s` seconds, and one at the end."""

    def __init__(
        self,
        label: str,
        total: int,
        unit: str,
        done: int,
        write: Callable[[str], None],
        clock: Callable[[], float],
        every_s: float,
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start, self._done, self._text = done, done, ""
        self._write, self._clock, self._every_s = write, clock, every_s
        self._begin_s = self._last_s = clock()

    def advance(self, amount: int = 1, text: str = "") -> None:
        self._done += amount
        self._text = text or self._text
        now = self._clock()
        if now - self._last_s >= self._every_s:
            self._last_s = now
            self.show()

    def show(self) -> None:
        elapsed_s = max(self._clock() - self._begin_s, 1e-9)
        rate = (self._done - self._start) / elapsed_s
        left = (self._total - self._done) / rate if rate else float("inf")
        left_text = f"{left:.0f} s left" if left != float("inf") else "? left"
        share = 100 * self._done / self._total if self._total else 100.0
        self._write(
            f"  {self._label}: {_amount(self._done, self._total, self._unit)} ({share:.0f}%), "
            f"{_rate(rate, self._unit)}, {left_text}" + (f", {self._text}" if self._text else "")
        )


def _amount(done: float, total: float, unit: str) -> str:
    if unit == "bytes":
        return f"{done / 1e6:,.1f}/{total / 1e6:,.1f} MB"
    return f"{done:,.0f}/{total:,.0f} {unit}"


def _rate(rate: float, unit: str) -> str:
    if unit == "bytes":
        return f"{rate / 1e6:,.1f} MB/s"
    return f"{rate:,.0f} {unit}/s" if rate >= _WHOLE else f"{rate:,.1f} {unit}/s"


class LineReporter:
    """Plain lines for logs and pipes."""

    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        every_s: float = 10.0,
    ) -> None:
        """Write lines through `write`, at most one every `every_s` seconds a task."""
        self._write, self._clock, self._every_s = write, clock, every_s

    @contextmanager
    def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        """Open a task that prints lines."""
        lines = _Lines(label, total, unit, done, self._write, self._clock, self._every_s)
        yield lines
        lines.show()

    def note(self, text: str) -> None:
        """Print one line."""
        self._write(f"  {text}")


class RichReporter:
    """A live bar with rate and time left."""

    @contextmanager
    def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        """Open a task with a live bar."""
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[amount]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        with Bars(*columns, transient=False, refresh_per_second=4) as bars:
            amount_text = _amount(done, total, unit)
            task = bars.add_task(
                label, total=total, completed=done, amount=amount_text, rate="", text=""
            )

            class Bar:
                def advance(self, amount: int = 1, text: str = "") -> None:
                    bars.advance(task, amount)
                    speed = bars.tasks[0].speed
                    bars.update(
                        task,
                        amount=_amount(bars.tasks[0].completed, total, unit),
                        rate=_rate(speed, unit) if speed else "",
                        text=text or bars.tasks[0].fields["text"],
                    )

            yield Bar()

    def note(self, text: str) -> None:
        """Print one line."""
        from rich import print as rich_print
        from rich.markup import escape

        rich_print(f"  [dim]{escape(text)}[/dim]")
