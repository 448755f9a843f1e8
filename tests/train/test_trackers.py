"""Trackers get what the curve holds; stand-ins take the place of their packages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from training_runs import curve, settings, train

from lingraft.errors import MissingPackageError, UsageError
from lingraft.recipe import find_problems, read_recipe
from lingraft.store import Artefact
from lingraft.train.curve import Curve
from lingraft.train.trackers import Trackers, open_trackers


class StandIn(ModuleType):
    """Has `init`, whose run has `log` and `finish`, as trackio's and wandb's have."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.options: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.fails_at: int | None = None
        self.refuses = ""

    def init(self, **options: Any) -> StandIn:
        sys.stdout.write("* run created\n")
        if self.refuses:
            raise ValueError(self.refuses)
        self.options.append(options)
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise OSError("network is away")
        sys.stdout.write("* logged\n")
        self.logged.append((step, metrics))

    def finish(self) -> None:
        self.finished += 1
        sys.stdout.write("* finished\n")


@pytest.fixture(params=["trackio", "wandb"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    found = StandIn(request.param)
    monkeypatch.setitem(sys.modules, request.param, found)
    monkeypatch.delenv(f"{request.param.upper()}_PROJECT", raising=False)
    return found


def opened(package: StandIn, folder: Path, told: list[str] | None = None) -> Trackers:
    names: Any = [package.__name__]
    note = (told if told is not None else []).append
    return open_trackers(names, folder, folder, "demo", {"lr": 0.1}, note)


def test_a_tracker_gets_the_numbers_of_each_step(package: StandIn, tmp_path: Path) -> None:
    with Curve(tmp_path, opened(package, tmp_path)) as rows:
        rows.put({"step": 0, "tokens": 0, "valid": {"zh": 2.0}})
        rows.put({"step": 1, "tokens": 8, "loss": 3.0, "lr": {"lora": 0.1}, "replay": {"en": 0.2}})
    assert package.logged == [
        (0, {"valid_bpb/zh": 2.0}),
        (1, {"train/loss": 3.0, "lr/lora": 0.1, "replay_share/en": 0.2}),
    ]
    assert package.finished == 1


def test_what_they_print_does_not_go_to_standard_output(
    package: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Curve(tmp_path, opened(package, tmp_path)) as rows:
        rows.put({"step": 0, "tokens": 0, "loss": 1.0})
    told = capsys.readouterr()
    assert (told.out, told.err.count("*")) == ("", 3)


def test_a_run_that_goes_on_is_one_run_there_and_another_is_another(
    package: StandIn, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for folder in (tmp_path, tmp_path, other):
        opened(package, folder)
    names = [options["name"] for options in package.options]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("demo-")
    first = package.options[0]
    assert (first["project"], first["resume"], first["config"]) == (
        "lingraft",
        "allow",
        {"lr": 0.1},
    )
    assert ("id" in first) is (package.__name__ == "wandb")


def test_the_project_may_be_named_by_a_variable(
    package: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{package.__name__.upper()}_PROJECT", "mine")
    opened(package, tmp_path)
    assert package.options[0]["project"] == "mine"


def test_one_that_fails_is_told_once_and_the_curve_goes_on(
    package: StandIn, tmp_path: Path
) -> None:
    told: list[str] = []
    package.fails_at = 1
    with Curve(tmp_path, opened(package, tmp_path, told)) as rows:
        for step in range(3):
            rows.put({"step": step, "tokens": step, "loss": 1.0})
    assert len((tmp_path / "curve.jsonl").read_text().splitlines()) == 3
    assert [step for step, _ in package.logged] == [0]
    (warning,) = told
    assert f"WARNING: {package.__name__} failed (OSError: network is away)" in warning


def test_one_that_does_not_start_is_refused_before_any_work(
    package: StandIn, tmp_path: Path
) -> None:
    package.refuses = "no log-in"
    with pytest.raises(UsageError, match=rf"{package.__name__} does not start.*no log-in"):
        opened(package, tmp_path)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)


@pytest.mark.usefixtures("absent")
def test_one_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match="pip install wandb, or take it out"):
        open_trackers(["wandb"], tmp_path, tmp_path, "demo", {}, print)


def test_a_recipe_that_asks_for_a_missing_one_is_told_so(
    tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "wandb" else object()
    )
    monkeypatch.setattr("lingraft.recipe._sources", lambda recipe: [])
    recipe = read_recipe(tiny_recipe, ["train.trackers=['tensorboard', 'wandb']"])
    (problem,) = map(str, find_problems(recipe))
    assert problem.startswith(
        "package = 'wandb': is needed by a run and not installed: pip install"
    )


def test_another_choice_makes_nothing_stale() -> None:
    assert "trackers" not in settings(trackers=["wandb"]).model_dump(mode="json")


def test_a_run_without_tensorboard_writes_none(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    artefact = train(tmp_path, inputs, settings(trackers=[], max_steps=1))
    assert len(curve(artefact)) == 2
    assert not (artefact.path / "tensorboard").exists()


def test_a_full_disk_under_tensorboard_is_no_secret(tmp_path: Path) -> None:
    class Full:
        name = "tensorboard"

        def put(self, scalars: object, step: int) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    with pytest.raises(OSError, match="No space"):
        Trackers([Full()]).put({"a": 1.0}, 1)
