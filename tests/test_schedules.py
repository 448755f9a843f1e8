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
    # 1 - sqrt(1/4), sqrt(2/4), sqrt(3/4), sqrt(4/4) of what is above the floor.
    found = shares(10, schedule="wsd", warmup_frac=0.1, decay_frac=0.4, floor=0.2)
    assert found[:6] == [0.5, 1, 1, 1, 1, 1]
    above = [0.5, 1 - 0.5**0.5, 1 - 0.75**0.5, 0]
    assert found[6:] == pytest.approx([0.2 + 0.8 * share for share in above])


def test_a_floor_of_zero_is_reached_one_step_after_the_last() -> None:
    linear = shares(5, schedule="linear", warmup_frac=0.0, floor=0.0)
    assert linear == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    # Half, and three quarters of the way: (1 + cos 90) / 2, (1 + cos 135) / 2.
    cosine = shares(4, schedule="cosine", warmup_frac=0.0, floor=0.0)
    assert cosine[2:] == pytest.approx([0.5, 0.5 * (1 - 0.5**0.5)])
    # The last four of ten steps fall, and the fifth would be at zero.
    wsd = shares(10, schedule="wsd", warmup_frac=0.1, decay_frac=0.4, floor=0.0)
    assert wsd[5:] == pytest.approx([1, *(1 - (n / 5) ** 0.5 for n in (1, 2, 3, 4))])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_a_floor_of_zero_is_that_of_transformers(schedule: str, steps: int) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=0, num_training_steps=steps)
    for share in shares(steps, schedule=schedule, warmup_frac=0.0, floor=0.0):
        assert share == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert theirs.get_last_lr() == [0]


def test_a_wsd_run_that_is_longer_begins_with_the_same_rates() -> None:
    short = shares(100, schedule="wsd", warmup_frac=0.0, decay_frac=0.1)
    longer = shares(200, schedule="wsd", warmup_frac=0.0, decay_frac=0.1)
    assert short[:89] == longer[:89]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_every_rate_is_above_zero_and_at_most_one(schedule: str, steps: int, floor: float) -> None:
    for warmup_frac in (0.0, 0.5, 0.9):
        found = shares(
            steps, schedule=schedule, warmup_frac=warmup_frac, decay_frac=0.5, floor=floor
        )
        assert all(0 < share <= 1 for share in found)
