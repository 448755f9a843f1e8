"""The compiled encoder gives what sentencepiece gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_tokenizers import byte_level
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import build

from lingraft import exact
from lingraft.bases import SentencePieceBase
from lingraft.errors import InputError, UsageError
from lingraft.exact import Encoder
from lingraft.pieces import SentencePieces
from lingraft.sources import locate_source
from lingraft.texts import read_texts

HARD = [
    "",
    " ",
    "   two  spaces   ",
    "\t\n\r\0",
    "中文 and English，混在一起。",
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "👨‍👩‍👧‍👦 ❤️",
    "▁ literal ▁▁ marks",
    "<s> <0x0A> </s>",
    "é and é",
    "𠀀𪚥 rare",
    "a" * 3000,
    " " * 2000 + "x",
    "哈" * 400,
    "\n" * 500,
    "no\u00a0break\u2028line",
]


@pytest.fixture(scope="module")
def mixtral() -> Encoder:
    return Encoder(str(locate_source("package:mistral_common/data/tokenizer.model.v1")))


@pytest.fixture(scope="module")
def small() -> Encoder:
    return Encoder(SentencePieceBase(SentencePieces(build())))


def wanted(encoder: Encoder, texts: list[str]) -> list[list[int]]:
    return encoder.base.encode_batch(texts)


def got(encoder: Encoder, texts: list[str], num_threads: int = 1) -> list[list[int]]:
    return [ids.tolist() for ids in encoder.encode_batch(texts, num_threads)]


def test_hard_texts_are_encoded_as_sentencepiece_does(mixtral: Encoder) -> None:
    assert mixtral.reason == ""
    assert got(mixtral, HARD) == wanted(mixtral, HARD)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_is_encoded_as_sentencepiece_does(mixtral: Encoder, texts: list[str]) -> None:
    clean = ["".join(c for c in t if not 0xD800 <= ord(c) < 0xE000) for t in texts]
    assert got(mixtral, clean) == wanted(mixtral, clean)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("房间很干净大 ▁ab<0x41>\n", max_size=80), max_size=4))
def test_texts_full_of_pieces_are_encoded_as_sentencepiece_does(
    small: Encoder, texts: list[str]
) -> None:
    assert got(small, texts) == wanted(small, texts)


@settings(max_examples=100, deadline=None)
@given(st.text("ab e theo  ", min_size=49, max_size=400))
def test_long_parts_are_merged_alike(mixtral: Encoder, text: str) -> None:
    joined = text.replace(" ", "")
    assert got(mixtral, [text, joined]) == wanted(mixtral, [text, joined])


def test_a_full_cache_begins_anew(monkeypatch: pytest.MonkeyPatch, mixtral: Encoder) -> None:
    monkeypatch.setattr(exact, "_CACHE_PARTS", 4)
    encoder = Encoder(mixtral.base)
    texts = [" ".join(f"word{i} 数据{i % 7}" for i in range(200))] * 2
    assert got(encoder, texts) == wanted(encoder, texts)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_threads_change_nothing(
    monkeypatch: pytest.MonkeyPatch, mixtral: Encoder, num_threads: int
) -> None:
    monkeypatch.setattr(exact, "_TASK_CHARS", 50)
    texts = [f"{text} {i}" for i in range(10) for text in HARD[:9]]
    assert got(mixtral, texts, num_threads) == wanted(mixtral, texts)


def test_one_text_and_none_at_all(mixtral: Encoder) -> None:
    assert mixtral.encode("中文").tolist() == wanted(mixtral, ["中文"])[0]
    assert mixtral.encode("").dtype == np.int32
    assert mixtral.encode_batch([]) == []


@pytest.mark.parametrize(
    "name",
    [
        "baichuan-7b-64000.tokenizer.model",
        "mistral-v3-32768.tokenizer.model",
        "llama-2-32000.tokenizer.model",
        "chinese-llama-2-55296.tokenizer.model",
        "mixtral-mistral-v0.1.tokenizer.json",
        "gpt2.tokenizer.json",
        "qwen3.tokenizer.json",
    ],
)
def test_real_tokenizers_are_compiled_and_exact(shared_data: Path, name: str) -> None:
    encoder = Encoder(shared_data / "tokenizers" / name)
    assert encoder.reason == ""
    files = ["zh/book_luxun.jsonl.zst", "en/wikitext2_valid_test.jsonl.zst"]
    paths = [shared_data / "corpora" / file for file in files]
    texts = [*HARD, *(doc.text for path in paths for doc in list(read_texts(path))[:60])]
    assert got(encoder, texts, 2) == wanted(encoder, texts)


def test_a_unigram_tokenizer_goes_through_its_own_library(shared_data: Path) -> None:
    encoder = Encoder(shared_data / "tokenizers/chinese-llama-1-chinese_sp-20000.model")
    assert encoder.backend == "sentencepiece"
    assert "UNIGRAM" in encoder.reason
    assert got(encoder, ["abc 中文"]) == wanted(encoder, ["abc 中文"])


def test_an_empty_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.model").write_bytes(b"")
    with pytest.raises(InputError, match="holds no pieces"):
        Encoder(tmp_path / "a.model")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("上海", "a list of texts was expected"),
        (["a", None], "text 1 is NoneType"),
        ([b"a"], "bytes"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(small: Encoder, texts: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small.encode_batch(texts)


@pytest.mark.parametrize("num_threads", [0, -1])
def test_there_are_one_thread_or_more(small: Encoder, num_threads: int) -> None:
    with pytest.raises(UsageError, match="expected 1 or more"):
        small.encode_batch(["a"], num_threads=num_threads)


def byte_file(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    spec = byte_level([(b"q", b"z")])
    change(spec)
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder / "tokenizer.json"


def test_texts_that_the_library_splits_are_normalised_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["normalizer"] = {"type": "Replace", "pattern": {"String": "x"}, "content": "xx"}
        only = {
            "type": "Split",
            "pattern": {"Regex": r"\w+"},
            "behavior": "Removed",
            "invert": True,
        }
        spec["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [only, spec["pre_tokenizer"]],
        }

    encoder = Encoder(byte_file(tmp_path, change))
    texts = ["xb", "x b"]
    assert got(encoder, texts) == wanted(encoder, texts)
    ids_T, _ = encoder.encode_packed(texts)
    assert ids_T.tolist() == [id for ids in wanted(encoder, texts) for id in ids]
    monkeypatch.setattr(exact, "_LONG_CHARS", 1)
    (part,) = encoder.slices("x b")
    assert encoder.encode_slice(part).tolist() == wanted(encoder, ["x b"])[0]


def test_ids_beyond_the_tables_are_left_to_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.rulesets.MOST_IDS", 200)
    encoder = Encoder(byte_file(tmp_path, lambda _: None), warn=False)
    assert encoder.reason == "it has 257 ids; compiled tables hold 200"
    assert got(encoder, ["é qz"]) == wanted(encoder, ["é qz"])


def test_long_texts_are_not_cut_where_whole_texts_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["model"]["ignore_merges"] = True
        spec["model"]["vocab"]["xyz"] = len(spec["model"]["vocab"])
        spec["pre_tokenizer"] = {**spec["pre_tokenizer"], "use_regex": False}

    monkeypatch.setattr(exact, "_LONG_CHARS", 8)
    encoder = Encoder(byte_file(tmp_path, change), warn=False)
    text = "q" * 8 + "xyz"
    (part,) = encoder.slices(text)
    assert encoder.encode_slice(part).tolist() == wanted(encoder, [text])[0]
