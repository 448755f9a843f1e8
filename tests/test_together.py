"""`lingraft train` from the shell: one process, two of torchrun, and one that is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import lingraft
from lingraft.errors import LingraftError
from lingraft.recipe import read_recipe
from lingraft.together import train_recipe
from recipes import write_tiny_recipe

pytestmark = pytest.mark.slow
SAME = ["--set", "train.lora.dropout=0"]
ROUTED = [*SAME, "--set", 'train.lora.targets=["all", "gate"]']


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose stages before training are done."""
    path = write_tiny_recipe(tmp_path_factory.mktemp("recipe"))
    lingraft.run(path, to="encode")
    return path


def run_of(recipe: Path, name: str) -> list[str]:
    """Settings of another run, which takes over what is done already."""
    done = recipe.parent / "runs" / "tiny"
    return ["--set", f"run.name={name}", "--set", f'run.reuse=["{done}"]']


def command(*arguments: str, processes: int = 1) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "lingraft", "train", *arguments]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *launcher, "-m", "lingraft", "train", *arguments]


def call(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, processes=processes),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def curve(recipe: Path, name: str) -> list[dict[str, Any]]:
    path = recipe.parent / "runs" / name / "60-train" / "curve.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def adapter(recipe: Path, name: str) -> dict[str, torch.Tensor]:
    folder = recipe.parent / "runs" / name / "60-train" / "adapter"
    found: dict[str, torch.Tensor] = load_file(folder / "adapter_model.safetensors")
    return found


def test_two_processes_train_as_one_does(recipe: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        done = call(str(recipe), *run_of(recipe, name), *ROUTED, processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("adapter: ") == 1  # the first process tells, the others do not
    for one, two in zip(curve(recipe, "one"), curve(recipe, "two"), strict=True):
        assert one.get("loss", 0) == pytest.approx(two.get("loss", 0), rel=1e-5)
        assert one["tokens"] == two["tokens"]
        assert one.get("valid", {}) == pytest.approx(two.get("valid", {}), rel=1e-5)
        assert one.get("experts", {}) == pytest.approx(two.get("experts", {}))
    found = adapter(recipe, "two")
    for name, tensor in adapter(recipe, "one").items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert any(tensor.any() for name, tensor in found.items() if ".gate.lora_B" in name)
    # Everything is done: nobody trains, and nobody waits.
    again = call(str(recipe), *run_of(recipe, "two"), *ROUTED, processes=2)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "60-train: done already" in again.stdout


def test_a_run_of_one_process_is_gone_on_with_by_two(recipe: Path) -> None:
    name = ["moved", *SAME]
    whole = call(str(recipe), *run_of(recipe, "whole"), *SAME)
    assert whole.returncode == 0, whole.stderr[-3000:]
    stopped = stop_in_the_middle(recipe, *run_of(recipe, name[0]), *SAME)
    assert stopped == 75
    done = call(str(recipe), *run_of(recipe, name[0]), *SAME, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    for one, two in zip(curve(recipe, "whole"), curve(recipe, "moved"), strict=True):
        assert one.get("loss", 0) == pytest.approx(two.get("loss", 0), rel=1e-5)


def stop_in_the_middle(recipe: Path, *arguments: str) -> int:
    """Send SIGTERM once two steps are done; a slow validation leaves time to."""
    name = arguments[1].partition("=")[2]
    rows = recipe.parent / "runs" / name / ".draft-60-train" / "curve.jsonl"
    process = subprocess.Popen(
        command(str(recipe), *arguments),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if rows.is_file() and rows.read_text().count("\n") >= 2:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.001)
    return process.wait(timeout=120)


def test_a_function_does_what_the_verb_does(recipe: Path) -> None:
    changes = [part for part in run_of(recipe, "function") if part != "--set"]
    result = train_recipe(read_recipe(recipe, changes))
    assert result is not None
    assert [stage.stage for stage in result.stages][-1] == "train"


def test_an_error_before_training_ends_all_processes(recipe: Path) -> None:
    failing = ["--set", 'train.mixture=["1:zh","1:en"]', "--set", "train.micro_batch_size=3"]
    done = call(str(recipe), *run_of(recipe, "odd"), *failing, processes=2)
    assert done.returncode != 0
    assert "cannot be divided between 2 processes" in done.stderr


def test_an_error_of_the_recipe_is_told_once(recipe: Path) -> None:
    done = call(str(recipe), "--set", "train.launch.gpus_per_node=3", processes=2)
    assert done.returncode != 0
    assert "asks for 3 processes (1 nodes x 3); there is 2" in done.stderr
    with pytest.raises(LingraftError, match="asks for 3 processes"):
        train_recipe(read_recipe(recipe, ["train.launch.gpus_per_node=3"]))
