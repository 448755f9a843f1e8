"""Learning rates along a run; every value is worked out by hand."""

from __future__ import annotations

import pytest

from lingraft.schedules import share_of_peak


def shares(steps: int, **options: object) -> list[float]:
    return [share_of_peak(n, steps, **options) for n in range(steps)]  # type: ignore[arg-type]


def test_linear_falls_in_a_straight_line_to_its_floor() -> None:
    found = shares(5, schedule="linear", warmup_frac=0.0, floor=0.2)
    assert found == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_wsd_stays_at_its_peak_and_falls_at_the_end() -> None:
    # Ten steps, one of warm-up; the fall begins after step 5 and takes the last four steps:
    # 1 - sqrt(1/4), sqrt(2/4), sqrt(3/4), sqrt(4/4).
    found = shares(10, schedule="wsd", warmup_frac=0.1, decay_frac=0.4, floor=0.0)
    assert found[:6] == [0.5, 1, 1, 1, 1, 1]
    assert found[6:] == pytest.approx([0.5, 1 - 0.5**0.5, 1 - 0.75**0.5, 0])


def test_a_wsd_run_that_is_longer_begins_with_the_same_rates() -> None:
    short = shares(100, schedule="wsd", warmup_frac=0.0, decay_frac=0.1)
    longer = shares(200, schedule="wsd", warmup_frac=0.0, decay_frac=0.1)
    assert short[:89] == longer[:89]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_rate_is_above_zero_and_at_most_one(schedule: str, steps: int) -> None:
    for warmup_frac in (0.0, 0.5, 0.9):
        found = shares(steps, schedule=schedule, warmup_frac=warmup_frac, decay_frac=0.5)
        assert all(0 < share <= 1 for share in found)
