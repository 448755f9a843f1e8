"""Servers for tests of fetching."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from webs import HUB_FILES, Web, serve_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A hub of this machine, as HF_ENDPOINT names it, and a token that must stay secret."""
    from huggingface_hub import close_session, constants

    with serve_hub(dict(HUB_FILES)) as web:
        monkeypatch.setenv("HF_ENDPOINT", web.address)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        close_session()
        yield web
        close_session()
