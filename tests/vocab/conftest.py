"""What tests of whole searches share: a place with files, and the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from searches import made_up_chinese, write_rows
from small_tokenizers import build

from lingraft import cli


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base, a corpus and an evaluation text, as the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.model").write_bytes(build())
    write_rows(tmp_path / "zh.jsonl", made_up_chinese(80))
    write_rows(tmp_path / "eval.jsonl", made_up_chinese(20, 2))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lingraft", "vocab", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        return (int(code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take longest, and have tests of their own."""
    monkeypatch.setattr("lingraft.vocab.results.plot_curves", lambda *_: b"")
