"""Which piece ends a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from byte_tokenizers import byte_level
from small_tokenizers import build

from lingraft.bases import read_base
from lingraft.errors import InputError, UsageError
from lingraft.special import find_bounds, find_eos


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    spec = byte_level()
    spec["added_tokens"] = [{"id": 256, "content": "<end>", "special": True, "normalized": False,
                             "single_word": False, "lstrip": False, "rstrip": False}]  # fmt: skip
    write(tmp_path / "tokenizer.json", spec)
    return tmp_path


def test_a_model_file_knows_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(build())
    assert find_eos(str(path), read_base(str(path))) == ("</s>", 2, "tokenizer.model says")


@pytest.mark.parametrize("token", ["<end>", {"content": "<end>"}])
@pytest.mark.parametrize("config", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_configuration_says_it_in_either_form(folder: Path, token: Any, config: str) -> None:
    write(folder / config, {"eos_token": token})
    for name in (str(folder), str(folder / "tokenizer.json")):
        assert find_eos(name, read_base(name)) == ("<end>", 256, f"{config} says")


def test_a_configuration_goes_before_the_model_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(build())
    write(tmp_path / "tokenizer_config.json", {"eos_token": "<s>"})
    assert find_eos(str(tmp_path), read_base(str(tmp_path))).id == 1


def test_the_configuration_of_a_named_file_is_named_like_it(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "q.tokenizer.json")
    write(folder / "q.tokenizer_config.json", {"eos_token": "<end>"})
    name = str(folder / "q.tokenizer.json")
    assert find_eos(name, read_base(name)).source == "q.tokenizer_config.json says"


@pytest.mark.parametrize("row", [{}, {"eos_token": None}, {"eos_token": 7}, []])
def test_a_tokenizer_without_eos_is_refused(folder: Path, row: Any) -> None:
    write(folder / "tokenizer_config.json", row)
    with pytest.raises(UsageError, match="nothing tells its EOS"):
        find_eos(str(folder), read_base(str(folder)))


def test_an_eos_that_is_no_piece_is_refused(folder: Path) -> None:
    write(folder / "tokenizer_config.json", {"eos_token": "<nope>"})
    with pytest.raises(InputError, match="'<nope>'"):
        find_eos(str(folder), read_base(str(folder)))


def test_a_broken_configuration_is_refused(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        find_eos(str(folder), read_base(str(folder)))


def test_a_model_of_another_kind_is_asked_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(build())

    class Other:
        name = str(path)

        def piece(self, id: int) -> str:
            return f"piece {id}"

    other: Any = Other()
    assert find_eos(str(path), other)[:2] == ("piece 2", 2)


def test_bos_stands_before_a_scored_document_where_the_tokenizer_adds_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(build())
    assert find_bounds(str(tmp_path), read_base(str(tmp_path))) == (1, 2)


def test_eos_stands_there_where_it_adds_none(folder: Path) -> None:
    write(folder / "tokenizer_config.json", {"eos_token": "<end>", "bos_token": "<end>"})
    assert find_bounds(str(folder), read_base(str(folder))) == (256, 256)
