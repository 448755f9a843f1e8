"""The converter of llama.cpp is asked about the base where it does not know the graft."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from byte_tokenizers import byte_level

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "convert_gguf.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


class _Converter:
    """As llama.cpp's class: it knows one tokenizer by its number of pieces."""

    def get_vocab_base_pre(self, tokenizer: Any) -> str:
        if len(tokenizer) != 256:
            raise NotImplementedError("BPE pre-tokenizer was not recognized")
        return "smollm"


def write(folder: Path, spec: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    config = '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")
    return folder


def test_the_base_names_the_pattern_of_its_graft(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write(tmp_path / "base", byte_level())
    converter = type("TextModel", (_Converter,), {})
    with pytest.raises(NotImplementedError):
        converter().get_vocab_base_pre(range(257))
    monkeypatch.setitem(sys.modules, "conversion", SimpleNamespace())
    monkeypatch.setitem(
        sys.modules,
        "conversion.base",
        SimpleNamespace(TextModel=converter),
    )
    ask: Callable[[Path], None] = script["ask_about_the_base"]
    ask(base)
    assert converter().get_vocab_base_pre(range(257)) == "smollm"


def test_a_base_that_splits_otherwise_is_refused(script: dict[str, Any], tmp_path: Path) -> None:
    base = write(tmp_path / "base", byte_level())
    graft = write(tmp_path / "graft", byte_level([(b"a", b"b")]))
    script["refuse_other_split"](graft, base)
    other = byte_level()
    other["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(SystemExit, match="split text in different ways"):
        script["refuse_other_split"](graft, write(tmp_path / "other", other))


@pytest.mark.parametrize("missing", ["--model", "--base"])
def test_a_folder_without_a_tokenizer_is_told(
    script: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
) -> None:
    write(tmp_path / "there", byte_level())
    (tmp_path / "convert_hf_to_gguf.py").touch()
    folders = dict.fromkeys(("--model", "--base"), tmp_path / "there")
    folders[missing] = tmp_path / "none"
    options = [str(word) for pair in folders.items() for word in pair]
    words = ["convert", "--llama-cpp", str(tmp_path), *options, "--out", "o.gguf"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        script["main"]()
    assert f"{missing} {tmp_path / 'none'}: no tokenizer.json there" in capsys.readouterr().err


def test_a_folder_without_the_converter_is_told(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["convert", "--llama-cpp", str(tmp_path), "--model", "m", "--out", "o.gguf"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="expected a checkout of llama"):
        script["main"]()
