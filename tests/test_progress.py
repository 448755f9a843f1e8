"""Progress lines, with a clock moved by hand."""

import pytest

from lingraft.progress import LineReporter, RichReporter, SilentReporter


class Clock:
    """A clock that stands still until told."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_line_tells_rate_and_time_left() -> None:
    clock, lines = Clock(), list[str]()
    with LineReporter(lines.append, clock, every_s=10).task("train", 100, "steps") as task:
        clock.now_s = 5
        task.advance(10)  # too soon for a line
        clock.now_s = 10
        task.advance(10, "loss 3.2")
    assert lines[0] == "  train: 20/100 steps (20%), 2.0 steps/s, 40 s left, loss 3.2"
    assert len(lines) == 2


def test_a_resumed_task_does_not_count_what_was_done_before() -> None:
    clock, lines = Clock(), list[str]()
    with LineReporter(lines.append, clock).task("train", 100, "steps", done=50) as task:
        clock.now_s = 10
        task.advance(10)
    assert lines[0] == "  train: 60/100 steps (60%), 1.0 steps/s, 40 s left"


def test_a_task_without_work_is_told_as_done() -> None:
    lines = list[str]()
    with LineReporter(lines.append, Clock()).task("x", 0, "docs"):
        pass
    assert lines == ["  x: 0/0 docs (100%), 0.0 docs/s, ? left"]


def test_bytes_are_told_in_megabytes_and_fast_rates_without_decimals() -> None:
    clock, lines = Clock(), list[str]()
    reporter = LineReporter(lines.append, clock)
    with reporter.task("read", 10_000_000, "bytes") as task:
        clock.now_s = 20
        task.advance(5_000_000)
    with reporter.task("encode", 4000, "docs") as task:
        clock.now_s = 30
        task.advance(2000)
    assert lines[0] == "  read: 5.0/10.0 MB (50%), 0.2 MB/s, 20 s left"
    assert lines[2] == "  encode: 2,000/4,000 docs (50%), 200 docs/s, 10 s left"


def test_notes_are_lines() -> None:
    lines = list[str]()
    LineReporter(lines.append).note("hello")
    assert lines == ["  hello"]


def test_the_live_bar_shows_label_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = RichReporter()
    reporter.note("a [note]")
    with reporter.task("train", 3, "steps") as task:
        task.advance(2, "loss 1")
        task.advance()
    out = capsys.readouterr().out
    assert "a [note]" in out
    assert "train" in out
    assert "3/3 steps" in out


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    reporter.note("x")
    with reporter.task("x", 1, "docs") as task:
        task.advance()
    assert capsys.readouterr().out == ""
