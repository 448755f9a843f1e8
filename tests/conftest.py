"""What every test may use: real data beside the project, where there is any."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes import write_tiny_recipe


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real corpora and tokenizers beside the checkout; the test is skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data folder beside the checkout (../shared/data)")
    return folder


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A whole recipe that runs in seconds, with its corpora, in a fresh folder."""
    return write_tiny_recipe(tmp_path)
