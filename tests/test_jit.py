"""Compiled code belongs to the sources that it was made from."""

from __future__ import annotations

import logging
from pathlib import Path

import numba
import pytest

from lingraft import jit


@pytest.fixture(autouse=True)
def forgotten() -> None:
    jit.cache_folder.cache_clear()


def test_the_cache_is_named_after_all_kernel_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first = jit.cache_folder()
    jit.cache_folder.cache_clear()
    monkeypatch.setattr(jit, "_digest", lambda: "other")
    assert Path(first).parent == tmp_path
    assert jit.cache_folder() == str(tmp_path / "lingraft-kernels-other")


def test_a_changed_helper_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [*jit._IN_SPINE, *(f"corpus/{name}" for name in jit._IN_CORPUS), "vocab/state"]
    for name in named:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("a = 1\n", encoding="utf-8")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))
    before = jit._digest()
    (tmp_path / "vocab" / "state.py").write_text("a = 2\n", encoding="utf-8")
    assert jit._digest() != before


def test_without_a_place_for_it_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "lingraft"):
        assert jit.cache_folder() == ""
    assert "made anew" in caplog.text

    @jit.jit
    def double(value: int) -> int:
        return 2 * value

    assert double(21) == 42


def test_other_users_of_numba_keep_their_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "theirs")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    jit.jit(_triple)
    assert numba.config.CACHE_DIR == "theirs"


def _triple(value: int) -> int:
    return 3 * value
