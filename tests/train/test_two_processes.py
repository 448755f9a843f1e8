"""Two processes whose machines reckon otherwise, or whose first one cannot start a tracker.

They share a packed body, too.

This file is also the program of each process: RANK PORT FOLDER.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_runs import open_train_draft, settings

from lingraft.errors import InputError, UsageError
from lingraft.store import Artefact, open_artefact
from lingraft.train.settings import GuardSettings, TrainSettings

GUARDS = {
    "stop": GuardSettings(set="high", max_rise=0.5, action="stop"),
    "replay": GuardSettings(set="high", max_rise=0.5, action="replay", replay_frac=0.5),
    "start": GuardSettings(set="high", max_rise=1e-4, action="stop"),
}
"""The first process sees `high` rise by more than 1e-4 after step 4, and never by 0.5; the second
sees 9 more than there is: in `start` before step 0, so that all seems to fall, else after it."""


def settings_of(name: str) -> TrainSettings:
    return settings(guard=GUARDS[name], lr=3e-2, max_steps=6)


@pytest.mark.slow
def test_the_first_process_decides_for_all(inputs: dict[str, Artefact], tmp_path: Path) -> None:
    for name in GUARDS:
        open_train_draft(tmp_path / name, settings_of(name))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "inputs.json").write_text(json.dumps({k: str(a.path) for k, a in inputs.items()}))
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(port), str(tmp_path)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        for rank in range(2)
    ]
    try:
        assert [worker.wait(timeout=150) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for name, steps, stopped in (("stop", 6, False), ("replay", 6, False), ("start", 4, True)):
        assert first[name] == second[name]
        assert (first[name]["steps"], first[name]["stopped_by_guard"]) == (steps, stopped)
        assert first[name]["replay"] == []
    assert (first["trackers"], second["trackers"]) == ("does not start", "nobody trains")
    assert first["failed"] == "a tensor is missing"
    assert second["failed"] == "The first process could not build the model."
    # Two layers of four maps and three for each of four experts, packed once for all runs.
    assert (first["num_packed"], second["num_packed"]) == (2 * (4 + 3 * 4), 0)


def work(rank: int, port: int, folder: Path) -> None:
    import torch

    from lingraft.ranks import join_ranks
    from lingraft.train import stage

    place = {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": "2", **place}
    paths = json.loads((folder / "inputs.json").read_text())
    inputs = {name: open_artefact(Path(path)) for name, path in paths.items()}
    found: dict[str, Any] = {}
    packed = count_packed()
    with join_ranks(torch.device("cpu")) as ranks:
        for name in GUARDS:
            if rank:
                reckon_otherwise(at_start=name == "start")
                assert ranks.await_begin()
            s = settings_of(name).model_copy(update={"packed_cache": str(folder / "shared")})
            draft = open_train_draft(folder / name, s)  # the test has made it
            found[name] = stage.run(s, inputs, draft).model_dump(mode="json")
        found["failed"] = fail_to_build(ranks, inputs, folder)
        ranks.has_begun = False
        if rank:
            found["trackers"] = "somebody trains" if ranks.await_begin() else "nobody trains"
        else:
            stage._open_trackers = refuse_trackers  # type: ignore[assignment]
            try:
                stage.run(s, inputs, open_train_draft(folder / "trackers", s))
            except UsageError as error:
                found["trackers"] = error.what
            finally:
                ranks.cancel()  # as `together.train_recipe` does
    found["num_packed"] = len(packed)
    (folder / f"{rank}.json").write_text(json.dumps(found))


def fail_to_build(ranks: Any, inputs: dict[str, Artefact], folder: Path) -> str:
    """Build into an empty folder; the first process cannot, and the second one waits for it."""
    import torch

    from lingraft.models import ModelFolder
    from lingraft.train.packing import build_packed

    def fail(_: object) -> Any:
        raise InputError("a tensor is missing")

    s = settings(packed_cache=str(folder / "empty"))
    files = ModelFolder(inputs["embed"].path)
    draft = open_train_draft(folder / f"fails-{ranks.rank}", s)
    try:
        build_packed(s, files, torch.device("cpu"), draft, ranks, fail)
    except InputError as error:
        return error.what
    return "built"


def count_packed() -> list[Any]:
    """Give a list that grows by the shape of each matrix that this process packs."""
    from lingraft import packedcache
    from lingraft.nf4 import quantize

    packed: list[Any] = []

    def counted(weight: Any) -> Any:
        packed.append(weight.shape)
        return quantize(weight)

    packedcache.quantize = counted  # type: ignore[attr-defined]
    return packed


def reckon_otherwise(*, at_start: bool) -> None:
    """Have this process's bits per byte be 9 more: before step 0, or ever after."""
    from lingraft.scoring import Score, score_docs
    from lingraft.train import trainer

    calls = 0

    def odd(*args: Any, **options: Any) -> Score:
        nonlocal calls
        calls += 1
        score = score_docs(*args, **options)
        is_first_row = calls <= len(settings_of("stop").sets)
        return score._replace(bpb=score.bpb + 9.0) if is_first_row == at_start else score

    trainer.score_docs = odd  # type: ignore[attr-defined]


def refuse_trackers(*_: object) -> None:
    raise UsageError("does not start")


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
