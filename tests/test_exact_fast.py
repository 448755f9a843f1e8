"""`tokenizer.json` files of SentencePiece's kind, compiled, give what `tokenizers` gives."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_tokenizers_in_use import texts
from small_tokenizers import build, trained
from tokenizers import Tokenizer

from lingraft.bases import FastSentencePieceBase
from lingraft.exact import Encoder
from lingraft.fast import fast_tokenizer
from lingraft.pieces import SentencePieces

PREPEND = {"type": "Prepend", "prepend": "▁"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
NFKC = {"type": "NFKC"}


def metaspace(scheme: str) -> dict[str, Any]:
    return {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False,
    }  # fmt: skip


def several(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


FRONTS: dict[str, tuple[Any, Any]] = {
    "prepend, replace": (several(PREPEND, REPLACE), None),
    "replace": (REPLACE, None),
    "replace, prepend": (several(REPLACE, PREPEND), None),
    "nothing": (None, None),
    "metaspace always": (None, metaspace("always")),
    "metaspace first": (None, metaspace("first")),
    "metaspace never": (None, metaspace("never")),
    "normalised": (several(NFKC, PREPEND, REPLACE), None),
    "prepends twice": (several(PREPEND, PREPEND, REPLACE), None),
    "replaces lines": (several({**REPLACE, "pattern": {"String": "\n"}}, PREPEND, REPLACE), None),
}
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
ADDED: list[dict[str, Any]] = [
    {"content": "<end>", "special": True, **FLAGS},
    {"content": "<tool>", "special": False, **FLAGS, "normalized": True},
    {"content": "x y", "special": False, **FLAGS, "normalized": True},
    {"content": "▁z", "special": False, **FLAGS, "normalized": True},
    {"content": "q r", "special": False, **FLAGS},
    {"content": "left", "special": False, **FLAGS, "lstrip": True, "single_word": True},
    {"content": "    ", "special": False, **FLAGS, "normalized": True},
]
LITERALS = [token["content"] for token in ADDED]
LITERALS += ["x▁y", " x y", "▁x▁y", "z", " z", "▁▁▁▁▁", " ▁ ▁ ", "q▁r", "lefty", "the cat", "<s>"]
some_texts = st.lists(
    st.one_of(st.sampled_from(LITERALS), st.text("abc ▁中文\n", max_size=8), texts), max_size=8
).map("".join)


def variant(front: str, *, is_trained: bool, has_added: bool, **model: Any) -> str:
    spec = fast_tokenizer(SentencePieces(trained() if is_trained else build()))
    spec["normalizer"], spec["pre_tokenizer"] = FRONTS[front]
    spec["model"].update(model)
    if has_added:
        first = len(spec["model"]["vocab"])
        spec["added_tokens"] = [
            *spec.get("added_tokens", []),
            *({"id": first + n, **token} for n, token in enumerate(ADDED)),
        ]
    return json.dumps(spec)


@cache
def load(content: str) -> tuple[Encoder, Any]:
    tokenizer = Tokenizer.from_str(content)
    tokenizer.encode_special_tokens = True
    return Encoder(FastSentencePieceBase(content), warn=False), tokenizer


def check(loaded: tuple[Encoder, Any], batch: list[str], reason: str = "") -> None:
    mine, theirs = loaded
    assert mine.reason == reason
    wanted = theirs.encode_batch(batch, add_special_tokens=False)
    assert [ids.tolist() for ids in mine.encode_batch(batch)] == [each.ids for each in wanted]


@pytest.mark.parametrize("has_added", [False, True], ids=["bare", "added"])
@pytest.mark.parametrize("is_trained", [False, True], ids=["by hand", "trained"])
@pytest.mark.parametrize("front", FRONTS)
@settings(max_examples=30, deadline=None)
@given(batch=st.lists(some_texts, max_size=5))
def test_ids_are_those_of_the_library(
    front: str, is_trained: bool, has_added: bool, batch: list[str]
) -> None:
    check(load(variant(front, is_trained=is_trained, has_added=has_added)), batch)


@pytest.mark.parametrize("front", FRONTS)
def test_added_tokens_with_spaces_are_found_where_the_library_finds_them(front: str) -> None:
    loaded = load(variant(front, is_trained=False, has_added=True))
    check(loaded, [*LITERALS, *(f"a{literal}b" for literal in LITERALS), " ".join(LITERALS)])


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer", "reason"),
    [
        ({**metaspace("always"), "replacement": "_"}, None, "it marks spaces with '_'"),
        (metaspace("always"), several(PREPEND, REPLACE), "it marks spaces twice"),
        (metaspace("always"), NFKC, "it marks spaces twice"),
    ],
)
def test_other_ways_to_mark_spaces_are_left_to_the_library(
    pre_tokenizer: Any, normalizer: Any, reason: str
) -> None:
    spec = json.loads(variant("nothing", is_trained=True, has_added=False))
    spec["pre_tokenizer"], spec["normalizer"] = pre_tokenizer, normalizer
    check(load(json.dumps(spec)), ["the cat", " a_b  c", "▁"], reason)


def test_looking_up_whole_texts_is_left_to_the_library() -> None:
    content = variant("replace", is_trained=True, has_added=False, ignore_merges=True)
    check(load(content), ["the", "cat sat"], "it looks up whole texts before its merge rules")


def test_rules_that_join_single_bytes_are_left_to_the_library() -> None:
    spec = json.loads(variant("replace", is_trained=False, has_added=False))
    model = spec["model"]
    model["vocab"]["<0xC3><0xA9>"] = len(model["vocab"])
    model["merges"].append(["<0xC3>", "<0xA9>"])
    check(load(json.dumps(spec)), ["é", "aéé"], "its merge rules join pieces of single bytes")
