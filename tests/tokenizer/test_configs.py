"""Configs of the base are carried over, and what they add is seen."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_tokenizers import build

from lingraft.errors import InputError
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.configs import (
    extra_specials,
    load_json,
    make_config,
    named_tokens,
    read_template,
    special_roles,
    template,
)
from lingraft.tokenizer.forms import Forms, read_forms

SIZE = len(SentencePieces(build()).pieces)


def folder_of(path: Path, **files: Any) -> Forms:
    (path / "tokenizer.model").write_bytes(build())
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("_jinja", ".jinja").replace("__json", ".json")).write_text(text)
    return read_forms(str(path))


def decoder(*tokens: tuple[int, str], special: bool = True) -> dict[str, Any]:
    return {
        "added_tokens_decoder": {
            str(id): {"content": content, "special": special} for id, content in tokens
        }
    }


def test_the_class_is_pinned_and_foreign_keys_go() -> None:
    base = {"tokenizer_class": "LlamaTokenizer", "auto_map": {}, "pad_token": "<pad>", "legacy": 1}
    token = {"id": 2, "content": "</s>", "special": True}
    assert make_config(base, {"pad_token": None, "eos_token": "</s>"}, [token]) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "legacy": 1,
        "added_tokens_decoder": {"2": {"content": "</s>", "special": True}},
    }


def test_roles_are_read_as_text_or_as_objects() -> None:
    config = {
        "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None,
        "additional_special_tokens": ["<a>", {"content": "<b>"}],
        "extra_special_tokens": {"x": "<c>"},
    }  # fmt: skip
    assert special_roles(config) == {"bos_token": "<s>", "eos_token": "</s>"}
    assert named_tokens(config) == ["<s>", "</s>", "<a>", "<b>", "<c>"]


def test_a_template_puts_bos_and_eos_where_they_are_wanted() -> None:
    both = template(("<unk>", "<s>", "</s>"), 1, 2)
    assert [list(part) for part in both["single"]] == [
        ["SpecialToken"], ["Sequence"], ["SpecialToken"]
    ]  # fmt: skip
    assert both["special_tokens"]["</s>"]["ids"] == [2]
    assert template(("<unk>", "<s>", "</s>"), None, None)["single"] == [
        {"Sequence": {"id": "A", "type_id": 0}}
    ]


def test_the_chat_template_is_read(tmp_path: Path) -> None:
    assert read_template(folder_of(tmp_path, chat_template_jinja="{{ 1 }}")) == b"{{ 1 }}"
    assert read_template(read_forms(str(tmp_path / "tokenizer.model"))) is None


def test_special_tokens_behind_the_model_are_found_in_order(tmp_path: Path) -> None:
    config = decoder((SIZE + 1, "<b>"), (SIZE, "<pad>"), (1, "<s>"))
    assert extra_specials(folder_of(tmp_path, tokenizer_config__json=config)) == ["<pad>", "<b>"]


def test_an_old_list_of_added_tokens_is_read(tmp_path: Path) -> None:
    forms = folder_of(
        tmp_path,
        added_tokens__json={"<pad>": SIZE},
        tokenizer_config__json={"pad_token": "<pad>"},
    )
    assert extra_specials(forms) == ["<pad>"]


def test_those_of_the_fast_file_are_read(tmp_path: Path) -> None:
    token = {"id": SIZE, "content": "<pad>", "special": True}
    assert extra_specials(folder_of(tmp_path, tokenizer__json={"added_tokens": [token]})) == [
        "<pad>"
    ]


def test_a_file_alone_has_none(tmp_path: Path) -> None:
    folder_of(tmp_path, tokenizer_config__json=decoder((SIZE, "<pad>")))
    assert extra_specials(read_forms(str(tmp_path / "tokenizer.model"))) == []


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (decoder((SIZE, "你好"), special=False), "as ordinary vocabulary"),
        (decoder((SIZE + 1, "<pad>")), f"id {SIZE} is free"),
        (decoder((1, "<bos>")), "calls it '<s>'"),
    ],
)
def test_configs_that_do_not_fit_the_model_are_refused(
    tmp_path: Path, config: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        extra_specials(folder_of(tmp_path, tokenizer_config__json=config))


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_config_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"x\.json"):
        load_json(path)


@pytest.mark.parametrize("added", [{"x": {"content": "<pad>"}}, {"5": {}}, {"5": 3}, [1]], ids=str)
def test_added_tokens_in_no_known_shape_are_refused(tmp_path: Path, added: Any) -> None:
    config = {"added_tokens_decoder": added}
    with pytest.raises(InputError, match="in a way that cannot be read"):
        extra_specials(folder_of(tmp_path, tokenizer_config__json=config))
