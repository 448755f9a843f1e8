"""A run's packed body: kept until the stage is done, or shared; no result depends on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_runs import KilledError, open_train_draft, settings, train

from lingraft import packedcache
from lingraft.errors import InputError
from lingraft.folders import hold_place
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
    monkeypatch.setattr(packing, "_has_room", lambda *_: False)  # what is kept needs none
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


class Scripted(Ranks):
    """One of two processes; the numbers of the other one are given."""

    others: list[float]
    said: list[float]

    def sum_number(self, number: float) -> float:
        self.said.append(number)
        return number + self.others.pop(0)


def scripted(rank: int, *others: float) -> Scripted:
    ranks = Scripted(rank, 2)
    ranks.others, ranks.said = list(others), []
    return ranks


class Shared:
    """A named folder, and builds of a model through it."""

    def __init__(self, tmp_path: Path, inputs: dict[str, Artefact]) -> None:
        self.files, self.place, self.top = (
            ModelFolder(inputs["embed"].path),
            tmp_path / "s",
            tmp_path,
        )
        self.s = settings(packed_cache=str(self.place))
        self.cache = open_cache(self.place, self.files, torch.device("cpu"), print)

    def make(self, pack: Pack) -> Built:
        cpu = torch.device("cpu")
        return build(
            self.files, self.s.lora, quantize="nf4", dtype="float32", seed=1, device=cpu, pack=pack
        )

    def build(self, ranks: Ranks, make: Any = None) -> Built:
        draft = open_train_draft(self.top, self.s)
        cpu = torch.device("cpu")
        return build_packed(self.s, self.files, cpu, draft, ranks, make or self.make)


@pytest.fixture
def shared(tmp_path: Path, inputs: dict[str, Artefact]) -> Shared:
    return Shared(tmp_path, inputs)


def test_of_several_processes_the_first_keeps_it_before_the_others_go_on(shared: Shared) -> None:
    first = scripted(0, 0, 0)
    shared.build(first)
    assert first.said == [1, 0]
    assert shared.cache.folder.exists()


def test_the_others_wait_and_keep_nothing(shared: Shared) -> None:
    other = scripted(1, 1, 0)
    shared.build(other)
    assert other.said == [0, 0]
    assert not shared.place.exists(), "it did not see the first one's folder"


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_there_all_read_at_once(
    shared: Shared, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.build(Ranks())
    monkeypatch.setattr(packedcache, "quantize", refuse_to_pack)
    ranks = scripted(rank, 0)
    shared.build(ranks)
    assert ranks.said == [0]


def test_where_the_first_fails_the_others_are_told(shared: Shared) -> None:
    def fail(_: Pack) -> Built:
        raise InputError("a tensor is missing")

    first = scripted(0, 0, 0)
    with pytest.raises(InputError, match="a tensor is missing"):
        shared.build(first, fail)
    assert first.said == [1, 1]
    with pytest.raises(InputError, match="first process could not build"):
        shared.build(scripted(1, 1, 1))


def test_where_the_first_fails_and_nobody_waits_nothing_more_is_shared(shared: Shared) -> None:
    def fail(_: Pack) -> Built:
        raise InputError("a tensor is missing")

    shared.build(Ranks())
    first = scripted(0, 0)
    with pytest.raises(InputError, match="a tensor is missing"):
        shared.build(first, fail)
    assert first.said == [0]


def test_where_nothing_can_be_kept_nobody_waits(shared: Shared) -> None:
    first = scripted(0, 0)

    def make(pack: Pack) -> Built:
        assert first.said == [0], "told before anything is packed"
        return shared.make(pack)

    with hold_place(shared.cache.folder):
        shared.build(first, make)
    shared.build(scripted(1, 0))
    assert not shared.cache.folder.exists()


def test_a_damaged_body_is_made_again_while_nobody_waits(shared: Shared) -> None:
    shared.build(Ranks())
    for shard in shared.cache.folder.glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-1])
    first = scripted(0, 0)
    shared.build(first)
    assert first.said == [0]


def test_a_large_body_leaves_room_for_checkpoints(
    inputs: dict[str, Artefact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(packing, "WORTH_ITEMS", 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with caplog.at_level("INFO", "lingraft"):
        train(tmp_path, inputs, settings(max_steps=1))
    assert "is not kept, and the next start packs anew" in caplog.text
    assert not list(tmp_path.rglob("*nf4-*"))


def test_what_is_kept_is_read_however_little_room_is_left(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "WORTH_ITEMS", 1)
    shared.s = settings(packed_cache="auto")
    shared.build(Ranks())
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    monkeypatch.setattr(packedcache, "quantize", refuse_to_pack)
    shared.build(Ranks())
