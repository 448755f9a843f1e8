"""What tests of the training stage share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from artefacts import make_artefact
from pico import save_mixtral
from training_runs import KilledError, write_set

from lingraft.manifest import Facts
from lingraft.store import Artefact
from lingraft.train.curve import Curve


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    folder = tmp_path_factory.mktemp("run")

    def fill_embed(path: Path) -> Facts:
        save_mixtral(path)
        return Facts()

    def fill_encode(path: Path) -> Facts:
        write_set(path, "zh", 10)
        write_set(path, "en", 100)
        write_set(path, "high", 265)
        write_set(path, "empty", 200, num_valid=0)
        return Facts()

    return {
        "embed": make_artefact(folder, "40-embed", fill_embed),
        "encode": make_artefact(folder, "35-encode", fill_encode),
    }


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Raise once the curve has got its row of `kill["step"]`."""
    kill = {"step": -1}
    put = Curve.put

    def dying_put(self: Curve, row: dict[str, Any]) -> None:
        put(self, row)
        if row["step"] == kill["step"]:
            raise KilledError

    monkeypatch.setattr(Curve, "put", dying_put)
    return kill
