"""What may be a base model, and what the hub may answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from pico import save_mixtral
from small_tokenizers import build

from lingraft.base.fetch import check_model
from lingraft.errors import InputError
from lingraft.pieces import SentencePieces

NUM_PIECES = len(SentencePieces(build()).pieces)


def model_folder(path: Path, **sizes: Any) -> Path:
    save_mixtral(path, **{"vocab_size": NUM_PIECES, **sizes})
    (path / "tokenizer.model").write_bytes(build())
    return path


def test_a_causal_model_with_its_tokenizer_is_taken(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    assert check_model(folder, folder / "tokenizer.model").path == folder


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match=r"architectures = \['BertForMaskedLM'\]"):
        check_model(folder, folder / "tokenizer.model")


def test_a_model_without_sentencepiece_file_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    with pytest.raises(InputError, match=r"none\.model: no such file[\s\S]*base\.tokenizer"):
        check_model(folder, folder / "none.model")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, vocab_size=300)
    with pytest.raises(InputError, match=f"vocab_size = 300, but .* has {NUM_PIECES} pieces"):
        check_model(folder, folder / "tokenizer.model")
