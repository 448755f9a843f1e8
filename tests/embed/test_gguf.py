"""GGUF files as model folders."""

from pathlib import Path

import pytest

from lingraft.embed import from_gguf
from lingraft.embed import gguf as module
from lingraft.errors import InputError, MissingPackageError, UsageError
from lingraft.progress import LineReporter


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        from_gguf(model=tmp_path / "absent.gguf", out=tmp_path / "out")
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="begins with b'PK"):
        from_gguf(model=tmp_path / "x.gguf", out=tmp_path / "out")


def test_a_full_folder_and_a_large_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(UsageError, match="holds something"):
        from_gguf(model=tmp_path / "x.gguf", out=tmp_path)
    monkeypatch.setattr(module, "_MOST_BYTES", 50)
    with pytest.raises(UsageError, match=r"expected 4 GB or less"):
        from_gguf(model=tmp_path / "x.gguf", out=tmp_path / "out")


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr(module, "has_package", lambda name: False)
    with pytest.raises(MissingPackageError, match=r"(?s)'gguf'.*pip install gguf"):
        from_gguf(model=tmp_path / "x.gguf", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_transformers_cannot_read_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InputError, match="transformers cannot read it"):
        from_gguf(model=tmp_path / "x.gguf", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_split_pattern_of_the_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(path: Path, folder: Path) -> int:
        (folder / "config.json").write_text(path.name, encoding="utf-8")
        return 42

    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(module, "has_package", lambda name: True)
    monkeypatch.setattr(module, "_convert", convert)
    monkeypatch.setattr(module, "_split_pattern", lambda path: "smollm")
    result = from_gguf(
        model=tmp_path / "x.gguf", out=tmp_path / "out", reporter=LineReporter(print)
    )
    assert (result.num_parameters, result.split_pattern) == (42, "smollm")
    assert (tmp_path / "out" / "config.json").read_text(encoding="utf-8") == "x.gguf"
    assert "names the split pattern 'smollm'" in capsys.readouterr().out
    assert not list(tmp_path.glob(".draft*"))
