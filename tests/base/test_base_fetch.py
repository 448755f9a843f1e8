"""What may be a base model, and what the hub may answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from byte_recipes import write_byte_tokenizer
from pico import save_llama, save_mixtral
from small_tokenizers import build

from lingraft.base.fetch import check_model, files_beside
from lingraft.errors import InputError, UsageError
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


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    with pytest.raises(InputError, match=r"none\.model: no such file[\s\S]*base\.tokenizer"):
        check_model(folder, folder / "none.model")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, vocab_size=300)
    with pytest.raises(InputError, match=f"vocab_size = 300, but .* has {NUM_PIECES} pieces"):
        check_model(folder, folder / "tokenizer.model")


def fast_folder(path: Path, rows: int, **config: str) -> Path:
    save_llama(path, vocab_size=rows)
    write_byte_tokenizer(path)
    if not config:
        (path / "tokenizer_config.json").unlink()
    return path


def test_a_byte_level_tokenizer_is_taken_though_the_model_has_rows_of_padding(
    tmp_path: Path,
) -> None:
    folder = fast_folder(tmp_path, 320, eos="<end>")
    assert check_model(folder, folder / "tokenizer.json").path == folder


def test_a_byte_level_tokenizer_of_a_larger_model_is_refused(tmp_path: Path) -> None:
    folder = fast_folder(tmp_path, 256, eos="<end>")
    with pytest.raises(InputError, match="has 256 rows, its tokenizer 257 pieces"):
        check_model(folder, folder / "tokenizer.json")


def test_a_tokenizer_whose_eos_nothing_tells_is_refused_before_any_work(tmp_path: Path) -> None:
    folder = fast_folder(tmp_path, 264)
    with pytest.raises(UsageError, match="nothing tells its EOS"):
        check_model(folder, folder / "tokenizer.json")


def test_configs_are_found_by_the_name_of_their_tokenizer(tmp_path: Path) -> None:
    for name in ("x.tokenizer.json", "x.tokenizer_config.json", "tokenizer_config.json"):
        (tmp_path / name).touch()
    assert files_beside(tmp_path / "x.tokenizer.json") == {
        "tokenizer.json": tmp_path / "x.tokenizer.json",
        "tokenizer_config.json": tmp_path / "x.tokenizer_config.json",
    }
