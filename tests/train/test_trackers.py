"""Trackers get what the curve holds; stand-ins take the place of their packages."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
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
        self.code: int | None = None
        self.fails_at: int | None = None
        self.why = "network is away"
        self.refuses = ""
        self.breaks = ""

    def init(self, **options: Any) -> StandIn:
        sys.stdout.write("* run created\n")
        if self.refuses:
            raise ValueError(self.refuses)
        self.options.append(options)
        return self

    def log(self, metrics: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise OSError(self.why)
        sys.stdout.write("* logged\n")
        self.logged.append((step, metrics))

    def finish(self, **code: int) -> None:
        assert list(code) == ["exit_code"] * (self.__name__ == "wandb")
        self.finished += 1
        self.code = code.get("exit_code")
        if self.breaks:
            raise ConnectionError(self.breaks)
        sys.stdout.write("* finished\n")


CODES = {"trackio": (None, None), "wandb": (0, 1)}
"""What a whole run and a cut one are finished with."""


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
        rows.put({"step": 2, "tokens": 16, "loss": 2.0, "grad_norm": 0.5, "lr": {"lora": 0.1}})
    assert package.logged == [
        (0, {"valid_bpb/zh": 2.0}),
        (1, {"train/loss": 3.0, "lr/lora": 0.1, "replay_share/en": 0.2}),
        (2, {"train/loss": 2.0, "train/grad_norm": 0.5, "lr/lora": 0.1}),
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


ADDRESS = "https://me:log-in-1@host.test/api/upload?write_token=hush-hush-1&run=a%2Fb"
HELD = {
    "WANDB_API_KEY": "hush-hush-2-of-wandb",
    "HF_TOKEN": "hush-hush-2",
    "TRACKIO_SERVER_URL": "https://host.test/?write_token=hush-hush-3",
    "SHORT_TOKEN": "a",
}
LEAK = (
    f"cannot reach {ADDRESS} (url: /upload?write_token=hush-hush-1), '{ADDRESS}': key "
    "hush-hush-2-of-wandb or hush-hush-2, write token hush-hush-3; why? a lost cable"
)
TOLD = (
    "cannot reach https://***@host.test/api/upload?*** (url: /upload?***), "
    "'https://***@host.test/api/upload?***': key *** or ***, write token ***; why? a lost cable"
)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HELD.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("held")
def test_a_failure_is_told_without_secrets(package: StandIn, tmp_path: Path) -> None:
    told: list[str] = []
    package.fails_at, package.why = 0, LEAK
    opened(package, tmp_path, told).put({"a": 1.0}, 0)
    (warning,) = told
    assert f"failed (OSError: {TOLD}) and is told no more" in warning
    assert "hush" not in warning


@pytest.mark.usefixtures("held")
def test_a_refused_start_is_told_without_secrets(package: StandIn, tmp_path: Path) -> None:
    package.refuses = LEAK
    with pytest.raises(UsageError) as caught:
        opened(package, tmp_path)
    told = "".join(traceback.format_exception(caught.value))
    assert f"does not start: ValueError: {TOLD}" in told
    assert "hush" not in told


def steps_of(package: StandIn) -> list[int]:
    return [step for step, _ in package.logged]


def test_steps_that_come_again_after_a_kill_are_not_handed_over_again(
    package: StandIn, tmp_path: Path
) -> None:
    first = opened(package, tmp_path)
    for step in range(4):
        first.put({"a": 1.0}, step)
    second = opened(package, tmp_path)  # killed, and back at the checkpoint of step 2
    for step in range(2, 6):
        second.put({"a": 1.0}, step)
    assert steps_of(package) == [0, 1, 2, 3, 4, 5]


def test_a_step_that_was_not_taken_is_handed_over_again(package: StandIn, tmp_path: Path) -> None:
    package.fails_at = 1
    first = opened(package, tmp_path)
    for step in range(3):
        first.put({"a": 1.0}, step)
    package.fails_at = None
    second = opened(package, tmp_path)
    for step in range(1, 3):
        second.put({"a": 1.0}, step)
    assert steps_of(package) == [0, 1, 2]


def test_what_a_machine_that_went_down_left_of_the_steps_is_read(
    package: StandIn, tmp_path: Path
) -> None:
    (tmp_path / f"tracker-{package.__name__}-steps").write_text("\n9\n10\n1\n\0\0")
    there = opened(package, tmp_path)
    for step in (10, 11):
        there.put({"a": 1.0}, step)
    opened(package, tmp_path).put({"a": 1.0}, 11)
    assert steps_of(package) == [11]


def test_each_tracker_has_steps_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio, wandb = StandIn("trackio"), StandIn("wandb")
    for package in (trackio, wandb):
        monkeypatch.setitem(sys.modules, package.__name__, package)
    opened(trackio, tmp_path).put({"a": 1.0}, 3)
    both = open_trackers(["trackio", "wandb"], tmp_path, tmp_path, "demo", {}, print)
    both.put({"a": 1.0}, 3)
    both.put({"a": 1.0}, 4)
    assert (steps_of(trackio), steps_of(wandb)) == ([3, 4], [3, 4])


def test_one_that_does_not_start_is_refused_before_any_work(
    package: StandIn, tmp_path: Path
) -> None:
    package.refuses = "no log-in"
    with pytest.raises(UsageError, match=rf"{package.__name__} does not start.*no log-in"):
        opened(package, tmp_path)


def test_one_that_started_is_closed_where_the_next_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackio, wandb = StandIn("trackio"), StandIn("wandb")
    for package in (trackio, wandb):
        monkeypatch.setitem(sys.modules, package.__name__, package)
    wandb.refuses = "no log-in"
    lines: list[str] = []
    for why in ("", "https://u:secret@host/?write_token=abcdefghijk"):
        trackio.breaks = why
        with pytest.raises(UsageError, match="wandb does not start"):
            open_trackers(["trackio", "wandb"], tmp_path, tmp_path, "demo", {}, lines.append)
    assert trackio.finished == 2
    (line,) = lines
    assert line.startswith("WARNING: trackio failed")
    assert "abcdefghijk" not in line


def test_one_is_closed_once_where_training_ends_and_where_it_does_not_begin(
    package: StandIn,
    inputs: dict[str, Artefact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = settings(trackers=[package.__name__], max_steps=1)
    train(tmp_path / "whole", inputs, asked)
    assert (package.finished, package.code) == (1, CODES[package.__name__][0])

    def refuse(*_: object, **__: object) -> None:
        raise UsageError("no data")

    monkeypatch.setattr("lingraft.train.stage.Data", refuse)
    with pytest.raises(UsageError, match="no data"):
        train(tmp_path / "cut", inputs, asked)
    assert (package.finished, package.code) == (2, CODES[package.__name__][1])


def test_a_run_that_an_error_ends_has_failed(package: StandIn, tmp_path: Path) -> None:
    def train_into(rows: Curve) -> None:
        with rows:
            rows.put({"step": 0, "tokens": 0, "loss": 1.0})
            raise UsageError("not a number")

    rows = Curve(tmp_path, opened(package, tmp_path))
    with pytest.raises(UsageError, match="not a number"):
        train_into(rows)
    assert (package.finished, package.code) == (1, CODES[package.__name__][1])


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)


@pytest.mark.usefixtures("absent")
def test_one_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match="pip install wandb, or take it out"):
        open_trackers(["wandb"], tmp_path, tmp_path, "demo", {}, print)


@pytest.fixture
def run_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder where wandb, which is not installed, wrote a run before."""
    (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *_without_wandb()])
    yield tmp_path
    sys.modules.pop("wandb", None)


def _without_wandb() -> list[str]:
    return [entry for entry in sys.path if not (Path(entry) / "wandb").exists()]


def test_a_folder_of_run_files_is_no_package(run_files: Path) -> None:
    with pytest.raises(MissingPackageError, match=r"needs the package wandb: .*wandb is a folder"):
        open_trackers(["wandb"], run_files, run_files, "demo", {}, print)


def test_a_recipe_takes_a_folder_of_run_files_for_no_package(
    tiny_recipe: Path, run_files: Path
) -> None:
    assert tiny_recipe.parent == run_files
    recipe = read_recipe(tiny_recipe, ["train.trackers=['wandb']"])
    told = [str(problem) for problem in find_problems(recipe)]
    assert any(
        "'wandb': is needed by a run and not installed: pip install wandb" in t for t in told
    )


@pytest.mark.parametrize(
    ("asked", "package", "install"),
    [
        (["train.trackers=['tensorboard', 'wandb']"], "wandb", "wandb"),
        (["train.optimizer=adamw-8bit"], "bitsandbytes", "bitsandbytes"),
        (
            ["train.attention=flash_attention_2", "train.dtype=bfloat16"],
            "flash_attn",
            "flash-attn",
        ),
    ],
)
def test_a_recipe_that_asks_for_a_missing_one_is_told_so(
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    package: str,
    install: str,
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == package else ModuleSpec(name, None, origin=f"{name}.py"),
    )
    monkeypatch.setattr("lingraft.recipe._sources", lambda recipe: [])
    (problem,) = map(str, find_problems(read_recipe(tiny_recipe, asked)))
    told = f"package = '{package}': is needed by a run and not installed: pip install {install}."
    assert problem == told


def test_another_choice_makes_nothing_stale() -> None:
    assert "trackers" not in settings(trackers=["wandb"]).deciding()


def test_a_run_without_tensorboard_writes_none(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    artefact = train(tmp_path, inputs, settings(trackers=[], max_steps=1))
    assert len(curve(artefact)) == 2
    assert not (artefact.path / "tensorboard").exists()


def test_a_full_disk_under_tensorboard_is_no_secret(tmp_path: Path) -> None:
    class Full:
        name = "tensorboard"

        def put(self, scalars: object, step: int) -> None:
            raise OSError(28, "No space left on device")

        def close(self, failed: bool) -> None:
            pass

    with pytest.raises(OSError, match="No space"):
        Trackers([Full()]).put({"a": 1.0}, 1)
