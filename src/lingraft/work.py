"""Work in units: done here by any number of processes, or by other machines (see `cluster`).

A unit writes its own result, whole or not at all, and always the same bytes. So units may be done
by anyone, in any order, and twice; a process may be killed at any time; and what is there already
is not done again. Nothing but files connects the steps of a job, so each step can be described
before the one before it is done.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from .errors import InputError
from .progress import Progress, Reporter

__all__ = ["Work", "carry_out", "tell_bytes"]

_POLL_S = 0.25


class Work(Protocol):
    """A step of a job. It is handed to other processes: plain settings and paths only."""

    @property
    def label(self) -> str:
        """What progress calls it."""

    def __len__(self) -> int:
        """Number of units; known before any is done."""

    def size_bytes(self, n: int) -> int:
        """Bytes that unit `n` reads, for progress."""

    def is_done(self, n: int) -> bool:
        """Whether the result of unit `n` is there, whole, and made from the same things."""

    def do(self, n: int) -> None:
        """Write the result of unit `n`; `tell_bytes` may tell how far it is."""


class _Teller:
    """Counts the bytes that units of this process have told of."""

    def __init__(self) -> None:
        self.counter: Any = None
        self.progress: Progress | None = None
        self.unit_bytes = 0

    def tell(self, num_bytes: int) -> None:
        self.unit_bytes += num_bytes
        if self.progress is not None:
            self.progress.advance(num_bytes)
        if self.counter is not None:
            with self.counter.get_lock():
                self.counter.value += num_bytes


_teller = _Teller()


def tell_bytes(num_bytes: int) -> None:
    """Tell, inside a unit, that this many more of its bytes are read."""
    _teller.tell(num_bytes)


def carry_out(work: Work, jobs: int, reporter: Reporter) -> None:
    """Do the units of a step that are not done, in processes of this machine.

    Args:
        work: The step.
        jobs: Processes; 1: in this one.
        reporter: Where progress goes.

    Raises:
        LingraftError: A unit failed: the error of the first of them. Those at work are finished.
        InputError: A process was ended from outside.
    """
    left = [n for n in range(len(work)) if not work.is_done(n)]
    total = sum(map(work.size_bytes, range(len(work))))
    done = total - sum(map(work.size_bytes, left))
    if not left:
        return
    with reporter.task(work.label, total, "bytes", done) as progress:
        if min(jobs, len(left)) == 1:
            _do_here(work, left, progress)
        else:
            _do_in_processes(work, left, min(jobs, len(left)), progress)


def _do_here(work: Work, left: Sequence[int], progress: Progress) -> None:
    _teller.progress = progress
    try:
        for n in left:
            _do_one(work, n)
    finally:
        _teller.progress = None


def _do_in_processes(work: Work, left: Sequence[int], jobs: int, progress: Progress) -> None:
    # Not forked: threads of compiled libraries do not survive that.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    told = 0
    with ProcessPoolExecutor(jobs, context, _begin, (counter,)) as pool:
        units = {pool.submit(_do_one, work, n): n for n in left}
        waiting: set[Future[None]] = set(units)
        failed: dict[int, BaseException] = {}
        while waiting:
            ended, waiting = wait(waiting, _POLL_S, FIRST_COMPLETED)
            progress.advance(counter.value - told)
            told = counter.value
            for future in ended:
                error = None if future.cancelled() else future.exception()
                if error is not None:
                    failed[units[future]] = error
            if failed:
                waiting = {future for future in waiting if not future.cancel()}
    if failed:
        raise _as_told(failed[min(failed)])


def _begin(counter: Any) -> None:
    _teller.counter = counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # libraries in Rust: a process is one of many
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed; it would wait for units for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _do_one(work: Work, n: int) -> None:
    _teller.unit_bytes = 0
    work.do(n)
    tell_bytes(work.size_bytes(n) - _teller.unit_bytes)


def _as_told(error: BaseException) -> BaseException:
    if not isinstance(error, BrokenProcessPool):
        return error
    return InputError(
        "a worker process ended before its work was done: it was killed, or memory ran out.",
        effect="What other workers finished is kept.",
        way_out="Run it again to go on, with fewer --jobs if memory was short. In a script of "
        'your own, make the call under: if __name__ == "__main__":',
    )
