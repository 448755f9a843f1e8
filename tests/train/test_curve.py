"""The curve survives what its disk survives, and checkpoints do not run ahead of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_runs import KilledError, open_train_draft, settings, train

from lingraft.checkpoints import Checkpoints
from lingraft.store import Artefact
from lingraft.train import curve as curve_module
from lingraft.train.curve import Curve
from lingraft.train.settings import PhaseSettings, TrainSettings
from lingraft.train.trainer import Trainer

PHASES = [PhaseSettings(trains=["added", "base"], frac=0.5), PhaseSettings(trains=["lora"])]


@pytest.fixture(scope="module")
def alone(inputs: dict[str, Artefact], tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return train(tmp_path_factory.mktemp("alone"), inputs, settings())


def write_rows(folder: Path, num: int) -> list[str]:
    rows = [json.dumps({"step": n, "tokens": n}) for n in range(num)]
    (folder / "curve.jsonl").write_text("\n".join([*rows, ""]))
    return rows


@pytest.mark.parametrize(
    "row", ["\0" * 20, "{}", "[1]", '{"step": 2}', '{"step": 3, "tokens": 3}', "\ud800"]
)
def test_rows_from_a_damaged_one_on_are_dropped_and_told(tmp_path: Path, row: str) -> None:
    path = tmp_path / "curve.jsonl"
    rows = write_rows(tmp_path, 4)
    assert len(Curve(tmp_path).rows) == 4
    rows[2] = row
    path.write_bytes("\n".join([*rows, ""]).encode("utf-8", "surrogatepass"))
    told: list[str] = []
    found = Curve(tmp_path, note=told.append)
    assert [kept["step"] for kept in found.rows] == [0, 1]
    assert found.tokens(1) == 1
    (warning,) = told
    assert "line 3 is not the row of step 2; it and all after it are dropped" in warning
    found.put({"step": 2, "tokens": 7})
    assert [json.loads(line)["tokens"] for line in path.read_text().splitlines()] == [0, 1, 7]


def test_whole_rows_and_half_a_row_are_nothing_to_tell(tmp_path: Path) -> None:
    write_rows(tmp_path, 4)
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write('{"step": 4, "to')
    told: list[str] = []
    assert (len(Curve(tmp_path, note=told.append).rows), told) == (4, [])


def test_a_row_that_leaves_a_gap_is_our_mistake(tmp_path: Path) -> None:
    write_rows(tmp_path, 2)
    with pytest.raises(AssertionError, match="row 3 comes after 2 rows"):
        Curve(tmp_path).put({"step": 3, "tokens": 3})


def test_one_that_does_not_write_has_nothing_to_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(curve_module, "sync_file", synced.append)
    Curve(tmp_path, writes=False).sync()
    assert synced == []
    Curve(tmp_path).sync()
    assert synced == [tmp_path / "curve.jsonl", tmp_path]


def test_the_curve_is_on_the_disk_before_each_checkpoint_and_is_synced_then_alone(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    put, save = Curve.put, Checkpoints.save

    def telling_put(self: Curve, row: dict[str, Any]) -> None:
        put(self, row)
        done.append(f"row {row['step']}")

    def telling_save(self: Checkpoints, *args: Any) -> None:
        done.append("checkpoint")
        save(self, *args)

    monkeypatch.setattr(curve_module, "sync_file", lambda path: done.append(f"sync {path.name}"))
    monkeypatch.setattr(Curve, "put", telling_put)
    monkeypatch.setattr(Checkpoints, "save", telling_save)
    train(tmp_path, inputs, settings(max_steps=4))
    synced = ["sync curve.jsonl", "sync .draft-60-train", "checkpoint"]
    assert done == ["row 0", "row 1", "row 2", *synced, "row 3", "row 4", *synced]


def cut(num: int) -> Callable[[list[str]], list[str]]:
    return lambda rows: rows[:num]


@pytest.mark.parametrize(
    ("damage", "passed_over", "first"),
    [
        (cut(5), [], 4),
        (cut(4), [4], 2),
        (cut(3), [4], 2),
        (cut(2), [4, 2], 0),
        (cut(0), [4, 2], 0),
        (lambda rows: [*rows[:3], "\0" * 90 + "\n", *rows[4:]], [4], 2),
        (lambda rows: [*rows[:2], *rows[3:]], [4, 2], 0),
    ],
)
def test_a_checkpoint_whose_rows_are_missing_is_passed_over_loudly(
    inputs: dict[str, Artefact],
    alone: Artefact,
    tmp_path: Path,
    kill_after: dict[str, int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[list[str]], list[str]],
    passed_over: list[int],
    first: int,
) -> None:
    kill(inputs, tmp_path, settings(), kill_after, 5)  # checkpoints after 2 and 4 steps
    damage_curve(tmp_path, settings(), damage)
    steps = watch_steps(monkeypatch)
    with caplog.at_level("INFO", "lingraft"):
        again = train(tmp_path, inputs, settings())
    told = [f"checkpoint-{n:08d} is passed over" for n in (4, 2)]
    assert [text in caplog.text for text in told] == [n in passed_over for n in (4, 2)]
    assert steps[0] == first
    assert again.manifest.digest == alone.manifest.digest


def kill(
    inputs: dict[str, Artefact], folder: Path, s: TrainSettings, kill_: dict[str, int], step: int
) -> None:
    kill_["step"] = step
    with pytest.raises(KilledError):
        train(folder, inputs, s)
    kill_["step"] = -1


def damage_curve(folder: Path, s: TrainSettings, damage: Callable[[list[str]], list[str]]) -> None:
    path = open_train_draft(folder, s).path / "curve.jsonl"
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))


def watch_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    steps: list[int] = []
    backward = Trainer.backward

    def watched(self: Trainer, step: int) -> float:
        steps.append(step)
        return backward(self, step)

    monkeypatch.setattr(Trainer, "backward", watched)
    return steps


@pytest.mark.parametrize(("rows_left", "first"), [(6, 5), (5, 3), (4, 3), (3, 2), (2, 0)])
def test_phases_count_their_own_steps_when_rows_are_missing(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    kill_after: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    rows_left: int,
    first: int,
) -> None:
    """Checkpoints: after steps 2 and 3 in the first phase, after 5 (its 2nd) in the second."""
    s = settings(phases=PHASES)
    alone = train(tmp_path / "alone", inputs, s)
    kill(inputs, tmp_path / "hurt", s, kill_after, 6)
    damage_curve(tmp_path / "hurt", s, cut(rows_left))
    steps = watch_steps(monkeypatch)
    again = train(tmp_path / "hurt", inputs, s)
    assert steps[0] == first
    assert again.manifest.digest == alone.manifest.digest
