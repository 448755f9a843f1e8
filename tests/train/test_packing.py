"""A run's packed body: kept until the stage is done, or shared; no result depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import KilledError, open_train_draft, settings, train

from lingraft import packedcache
from lingraft.models import ModelFolder
from lingraft.nf4 import Packed
from lingraft.packedcache import Pack, open_cache
from lingraft.ranks import Ranks
from lingraft.store import Artefact
from lingraft.train import packing
from lingraft.train.build import Built, build
from lingraft.train.packing import build_packed


def refuse_to_pack(weight: torch.Tensor) -> Packed:
    raise AssertionError("a matrix was packed")


def test_where_it_is_kept_makes_nothing_stale() -> None:
    assert settings(packed_cache="none").deciding() == settings().deciding()


def test_a_run_that_was_killed_goes_on_from_the_kept_body(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    kill_after: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Same bits as a run that keeps nothing; the body goes with the checkpoints."""
    plain = train(tmp_path / "plain", inputs, settings(packed_cache="none"))
    monkeypatch.setattr(packing, "WORTH_ITEMS", 1)
    kill_after["step"] = 3
    with caplog.at_level("INFO", "lingraft"), pytest.raises(KilledError):
        train(tmp_path / "kept", inputs, settings())
    kill_after["step"] = -1
    (folder,) = open_train_draft(tmp_path / "kept", settings()).scratch.glob("nf4-*")
    assert f"packed body kept in {folder}" in caplog.text
    monkeypatch.setattr(packedcache, "quantize", refuse_to_pack)
    again = train(tmp_path / "kept", inputs, settings())
    assert again.manifest.digest == plain.manifest.digest
    assert not list(tmp_path.rglob("nf4-*"))


def test_runs_share_a_folder_that_is_named(
    inputs: dict[str, Artefact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = settings(packed_cache=str(tmp_path / "shared"), max_steps=1)
    first = train(tmp_path / "a", inputs, s)
    monkeypatch.setattr(packedcache, "quantize", refuse_to_pack)
    other = settings(packed_cache=str(tmp_path / "shared"), max_steps=1, rows="none")
    train(tmp_path / "b", inputs, other)
    assert train(tmp_path / "c", inputs, s).manifest.digest == first.manifest.digest


@pytest.mark.parametrize(
    "changes", [{}, {"packed_cache": "none"}, {"quantize": "none", "packed_cache": "there"}]
)
def test_small_bodies_and_those_that_are_not_packed_are_not_kept(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a cache was opened")

    monkeypatch.setattr(packing, "open_cache", refuse)
    train(tmp_path, inputs, settings(max_steps=1, **changes))


@pytest.mark.parametrize("is_first", [True, False])
def test_of_several_processes_the_first_writes_and_the_others_read(
    inputs: dict[str, Artefact], tmp_path: Path, is_first: bool
) -> None:
    files, cpu = ModelFolder(inputs["embed"].path), torch.device("cpu")
    s = settings(packed_cache=str(tmp_path / "shared"))
    cache = open_cache(tmp_path / "shared", files, cpu, print)
    built_when_waiting: list[bool] = []
    made: list[Pack] = []

    def make(pack: Pack) -> Built:
        made.append(pack)
        return build(files, s.lora, quantize="nf4", dtype="float32", seed=1, device=cpu, pack=pack)

    class Waiting(Ranks):
        def wait(self) -> None:
            built_when_waiting.append(bool(made))
            assert cache.folder.exists() is is_first

    ranks = Waiting(rank=0 if is_first else 1, count=2)
    build_packed(s, files, cpu, open_train_draft(tmp_path, s), ranks, make)
    assert built_when_waiting == [is_first]
    assert cache.folder.exists() is is_first
