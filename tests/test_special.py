"""Which pieces begin and end a document."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from byte_tokenizers import byte_level
from small_tokenizers import build

from lingraft.bases import read_base
from lingraft.errors import InputError, UsageError
from lingraft.othertokenizers import OtherTokenizer, read_tokenizer
from lingraft.special import adds_bos, find_bos, find_bounds, find_eos

BEGIN, MASK = 257, 258
"""Ids of <begin> and <mask>."""


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


def template(*pieces: str) -> dict[str, Any]:
    """Content of a post-processor that puts pieces before a text, and <end> behind it."""
    ids = {"<end>": 256, "<begin>": BEGIN, "<mask>": MASK}
    parts: list[dict[str, Any]] = [{"SpecialToken": {"id": p, "type_id": 0}} for p in pieces]
    text: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    end: list[dict[str, Any]] = [{"SpecialToken": {"id": "<end>", "type_id": 0}}]
    pair: list[dict[str, Any]] = [*text, {"Sequence": {"id": "B", "type_id": 1}}]
    named = {p: {"id": p, "ids": [ids[p]], "tokens": [p]} for p in (*pieces, "<end>")}
    return {
        "type": "TemplateProcessing",
        "single": [*parts, *text, *end],
        "pair": pair,
        "special_tokens": named,
    }


ON_BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
KINDS: dict[str, Any] = {
    "as Llama 3": {"type": "Sequence", "processors": [ON_BYTES, template("<begin>")]},
    "a template alone": template("<begin>"),
    "as RoBERTa": {"type": "RobertaProcessing", "sep": ["<end>", 256], "cls": ["<begin>", BEGIN],
                   "trim_offsets": True, "add_prefix_space": False},
}  # fmt: skip
WITHOUT: dict[str, Any] = {
    "as SmolLM2": ON_BYTES,
    "none": None,
    "EOS alone": template(),
}


def with_processor(folder: Path, processor: Any, **config: Any) -> str:
    """Write a byte-level tokenizer with <end>, <begin> and <mask>; give its name."""
    spec = byte_level()
    spec["added_tokens"] = [
        {"id": 256 + n, "content": content, "special": True, "normalized": False,
         "single_word": False, "lstrip": False, "rstrip": False}
        for n, content in enumerate(["<end>", "<begin>", "<mask>"])
    ]  # fmt: skip
    spec["post_processor"] = processor
    write(folder / "tokenizer.json", spec)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"} | config
    write(folder / "tokenizer_config.json", config)
    return str(folder)


def theirs(name: str) -> list[int]:
    """Ids that transformers makes of "x" with special tokens, without what it puts behind."""
    from transformers import AutoTokenizer

    ids: list[int] = AutoTokenizer.from_pretrained(name)("x").input_ids
    return ids[: ids.index(ord("x")) + 1]


@pytest.mark.parametrize("bos", ["<begin>", None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_post_processor_that_puts_bos_before_a_text_is_heard(
    tmp_path: Path, kind: str, bos: str | None
) -> None:
    name = with_processor(tmp_path, KINDS[kind], **({"bos_token": bos} if bos else {}))
    base = read_base(name)
    assert adds_bos(name, base)
    source = "tokenizer_config.json says" if bos else "tokenizer.json says"
    assert find_bos(name, base) == ("<begin>", BEGIN, source)
    assert find_bounds(name, base) == (BEGIN, 256)
    assert theirs(name) == [BEGIN, ord("x")]


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_post_processor_that_puts_nothing_there_is_heard_too(tmp_path: Path, kind: str) -> None:
    name = with_processor(tmp_path, WITHOUT[kind], bos_token="<begin>")
    base = read_base(name)
    assert not adds_bos(name, base)
    assert find_bounds(name, base) == (256, 256)
    assert theirs(name) == [ord("x")]


@pytest.mark.parametrize(("said", "kind"), [(False, KINDS), (True, WITHOUT)])
def test_a_configuration_that_says_so_goes_before_the_post_processor(
    tmp_path: Path, said: bool, kind: dict[str, Any]
) -> None:
    for processor in kind.values():
        name = with_processor(tmp_path, processor, bos_token="<begin>", add_bos_token=said)
        assert adds_bos(name, read_base(name)) is said


@pytest.mark.parametrize(
    ("pieces", "bos", "told"),
    [
        (["<mask>"], "<begin>", r"puts '<mask>' before a text; expected '<begin>' alone"),
        (["<mask>", "<begin>"], "<begin>", r"puts '<mask>', '<begin>' before .*'<begin>' alone"),
        (["<mask>", "<begin>"], None, r"puts '<mask>', '<begin>' before .*a single piece"),
    ],
)
def test_what_is_no_bos_before_a_text_is_refused(
    tmp_path: Path, pieces: list[str], bos: str | None, told: str
) -> None:
    name = with_processor(tmp_path, template(*pieces), **({"bos_token": bos} if bos else {}))
    with pytest.raises(InputError, match=told):
        adds_bos(name, read_base(name))
    with_processor(tmp_path, template(*pieces), bos_token="<begin>", add_bos_token=False)
    assert not adds_bos(name, read_base(name))


def test_a_bos_that_nothing_tells_is_refused(tmp_path: Path) -> None:
    name = with_processor(tmp_path, ON_BYTES)
    with pytest.raises(UsageError, match="nothing tells its BOS"):
        find_bos(name, read_base(name))


def test_a_tokenizer_for_use_alone_is_asked_too(tmp_path: Path) -> None:
    name = with_processor(tmp_path, template("<begin>"))
    spec = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    spec["pre_tokenizer"] = {"type": "Whitespace"}
    write(tmp_path / "tokenizer.json", spec)
    base = read_tokenizer(name)
    assert isinstance(base, OtherTokenizer)
    assert adds_bos(name, base)
    assert find_bos(name, base).id == BEGIN


@pytest.mark.parametrize(
    ("file", "bos_id"),
    [
        ("mixtral-8x7b-v0.1.tokenizer.model", 1),
        ("mixtral-mistral-v0.1.tokenizer.json", 1),
        ("llama-2-32000.tokenizer.model", 1),
        ("gpt2.tokenizer.json", None),
        ("qwen3.tokenizer.json", None),
    ],
)
def test_real_tokenizers_without_a_configuration(
    shared_data: Path, tmp_path: Path, file: str, bos_id: int | None
) -> None:
    from transformers import AutoTokenizer

    place = tmp_path / f"tokenizer{Path(file).suffix}"
    shutil.copyfile(shared_data / "tokenizers" / file, place)
    name = str(tmp_path)
    base = read_base(name)
    assert adds_bos(name, base) is (bos_id is not None)
    if bos_id is not None:
        assert find_bos(name, base).id == bos_id
    if place.suffix == ".json":  # transformers needs a configuration to read the other form
        write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
        first = AutoTokenizer.from_pretrained(name)("x").input_ids[0]
        assert (first == 1) is (bos_id == 1)
