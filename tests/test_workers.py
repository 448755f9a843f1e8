"""Processes that do units of work, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lingraft
from lingraft.progress import Progress
from lingraft.work import carry_out, tell_bytes

SLEEPS = """
import os, sys, time
from pathlib import Path
from lingraft.progress import SilentReporter
from lingraft.work import carry_out

class Sleeps:
    label = "sleep"
    def __len__(self): return 2
    def size_bytes(self, n): return 1
    def is_done(self, n): return False
    def do(self, n):
        draft = Path(sys.argv[1]) / f"draft-{os.getpid()}"
        draft.touch()
        draft.replace(draft.with_name(f"worker-{os.getpid()}"))
        time.sleep(60)

if __name__ == "__main__":
    carry_out(Sleeps(), 2, SilentReporter())
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text(SLEEPS, encoding="utf-8")
    env = dict(os.environ, PYTHONPATH=str(Path(lingraft.__file__).parents[1]))
    words = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL) as parent:
        wait_for(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
        parent.send_signal(signal.SIGKILL)
    workers = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("worker-*")]
    wait_for(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


class Counts:
    """Remembers how far it was told to be."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def advance(self, amount: int = 1, text: str = "") -> None:
        self.amounts.append(amount)

    @contextmanager
    def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
        yield self

    def note(self, text: str) -> None:
        """Tell nothing."""


class Tells:
    """Two units of ten bytes; each tells of six on the way."""

    label = "tell"

    def __len__(self) -> int:
        return 2

    def size_bytes(self, n: int) -> int:
        return 10

    def is_done(self, n: int) -> bool:
        return False

    def do(self, n: int) -> None:
        tell_bytes(6)


def test_a_unit_done_in_this_process_tells_how_far_it_is() -> None:
    counts = Counts()
    carry_out(Tells(), 1, counts)
    assert counts.amounts == [6, 4, 6, 4]
