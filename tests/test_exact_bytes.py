"""Byte-level tokenizers, compiled, give what `tokenizers` gives."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_tokenizers_in_use import IN_USE, alphabet, contexts, texts, trained_with
from tokenizers import Tokenizer

from lingraft.bases import ByteLevelBase
from lingraft.exact import Encoder

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
ADDED: list[dict[str, Any]] = [
    {"content": "<end>", "special": True, **FLAGS},
    {"content": "<|im_start|>", "special": True, **FLAGS, "normalized": True},
    {"content": "<tool>", "special": False, **FLAGS},
    {"content": "Ａｂ", "special": False, **FLAGS, "normalized": True},
    {"content": "left", "special": False, **FLAGS, "lstrip": True},
    {"content": "right", "special": False, **FLAGS, "rstrip": True, "normalized": True},
    {"content": "word", "special": False, **FLAGS, "single_word": True},
    {"content": "   ", "special": False, **FLAGS},
]
LITERALS = [token["content"] for token in ADDED] + ["ab", "AB", "Word", "words", "e\u0301", "ﬁ"]
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "nfc": {"normalizer": {"type": "NFC"}},
    "nfkc": {"normalizer": {"type": "NFKC"}},
    "lower case": {"normalizer": {"type": "Lowercase"}},
    "several": {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFD"},
                {"type": "Replace", "pattern": {"String": "a"}, "content": "bb"},
                {"type": "Strip", "strip_left": True, "strip_right": False},
            ],
        }
    },
}


def variant(name: str, change: dict[str, Any], *, has_added: bool, **model: Any) -> str:
    spec = {**json.loads(trained_with(name)), **change}
    spec["model"].update(model)
    if has_added:
        first = 1 + max(spec["model"]["vocab"].values())
        spec["added_tokens"] = [{"id": first + n, **token} for n, token in enumerate(ADDED)]
    return json.dumps(spec)


@cache
def encoder(name: str, change: str = "plain", has_added: bool = False) -> tuple[Encoder, Any]:
    return load(variant(name, CHANGES[change], has_added=has_added))


def load(content: str) -> tuple[Encoder, Any]:
    tokenizer = Tokenizer.from_str(content)
    tokenizer.encode_special_tokens = True
    return Encoder(ByteLevelBase(content)), tokenizer


def check(loaded: tuple[Encoder, Any], batch: list[str]) -> None:
    mine, theirs = loaded
    assert mine.reason == ""
    wanted = theirs.encode_batch(batch, add_special_tokens=False)
    assert [ids.tolist() for ids in mine.encode_batch(batch)] == [each.ids for each in wanted]


@pytest.mark.parametrize("name", IN_USE)
@settings(max_examples=60, deadline=None)
@given(batch=st.lists(texts, max_size=6))
def test_ids_are_those_of_the_library(name: str, batch: list[str]) -> None:
    check(encoder(name), batch)


@pytest.mark.parametrize("name", IN_USE)
def test_hard_characters_are_encoded_alike_in_every_context(name: str) -> None:
    check(encoder(name), contexts(alphabet))


@pytest.mark.parametrize("name", IN_USE)
@settings(max_examples=40, deadline=None)
@given(batch=st.lists(texts, max_size=6))
def test_words_are_those_of_the_library_with_borders(name: str, batch: list[str]) -> None:
    mine, _ = encoder(name)
    wanted = [ids.tolist() for ids in mine.base.encode_words(batch)]
    assert [ids.tolist() for ids in mine.encode_words(batch)] == wanted


with_literals = st.lists(st.one_of(texts, st.sampled_from(LITERALS)), max_size=6).map("".join)


@pytest.mark.parametrize("name", ["gpt2 with a space before", "qwen2", "smollm2"])
@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=40, deadline=None)
@given(batch=st.lists(with_literals, max_size=6))
def test_normalisers_and_added_tokens_do_what_they_do_there(
    name: str, change: str, batch: list[str]
) -> None:
    check(encoder(name, change, has_added=True), batch)


@pytest.mark.parametrize("change", ["nfc", "nfkc", "lower case"])
def test_every_character_is_normalised_as_the_library_does(change: str) -> None:
    loaded = encoder("qwen2", change)
    chars = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    check(loaded, [f"{char}e" for char in chars[:0x3400]])
    check(loaded, ["".join(chars[n : n + 64]) for n in range(0, len(chars), 64)])


def test_words_of_texts_with_added_tokens_have_borders() -> None:
    mine, _ = encoder("qwen2", "nfc", has_added=True)
    batch = ["a b<tool>c  d", "x y", ""]
    wanted = [ids.tolist() for ids in mine.base.encode_words(batch)]
    assert [ids.tolist() for ids in mine.encode_words(batch)] == wanted


@cache
def looked_up(name: str) -> tuple[Encoder, Any]:
    """A tokenizer with pieces that no merge rule makes, found only as whole pre-tokens."""
    spec = json.loads(variant(name, {}, has_added=True, ignore_merges=True))
    vocab = spec["model"]["vocab"]
    pieces = ["zzz", "Ġzzz", "ĠåĽ½å¸½", "åĽ", "!!", "Ġ'", "Ċ", "ĠĠ", "Ã©", "12", "n'est｜", "'ll"]
    start = 1000
    vocab.update({p: start + n for n, p in enumerate(pieces) if p not in vocab})
    return load(json.dumps(spec))


@pytest.mark.parametrize("name", ["gpt2 with a space before", "llama3", "no pattern"])
@settings(max_examples=60, deadline=None)
@given(
    batch=st.lists(
        st.lists(
            st.one_of(texts, st.sampled_from(["zzz", " zzz", "国帽", " ", "!!", " '", "é", "12"])),
            max_size=5,
        ).map("".join),
        max_size=4,
    )
)
def test_whole_pre_tokens_are_looked_up_first(name: str, batch: list[str]) -> None:
    check(looked_up(name), batch)


def test_a_special_token_that_merge_rules_make_is_made_of_plain_text() -> None:
    spec = json.loads(variant("gpt2", {}, has_added=False))
    vocab, merges = spec["model"]["vocab"], spec["model"]["merges"]
    vocab["<|"], vocab["<|>"] = 1000, 1001
    merges += [["<", "|"], ["<|", ">"]]
    spec["added_tokens"] = [
        {"id": 1001, "content": "<|>", "special": True, **FLAGS},
        {"id": 1000, "content": "<|", "special": True, **FLAGS},
    ]
    loaded = load(json.dumps(spec))
    check(loaded, ["<|>", "a<| <|>|>", "<<||>>"])
    assert loaded[0].encode("<|>").tolist() == [1001]
