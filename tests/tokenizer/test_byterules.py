"""Byte-level bases: one rule a piece, ids behind the added tokens, and they stay there."""

import json
from typing import Any

import pytest
from byte_tokenizers import NUM_BYTES, byte_level, spell
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.bases import ByteLevelBase
from lingraft.encoder import FastEncoder
from lingraft.errors import InputError
from lingraft.fastspec import append_to_json
from lingraft.tokenizer.byterules import ByteRules, byte_row
from lingraft.tokenizer.piecerules import PieceRow

RULES = [(b"\xe4", b"\xb8"), (b"a", b"b")]
SPECIAL = {
    "id": NUM_BYTES + 2,
    "content": "<|end|>",
    "special": True,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
}


def make(**parts: Any) -> dict[str, Any]:
    return {**byte_level(RULES), "added_tokens": [SPECIAL], **parts}


def base_of(spec: dict[str, Any]) -> ByteLevelBase:
    return ByteLevelBase(json.dumps(spec))


BASE = base_of(make())


def row(text: str | bytes) -> PieceRow:
    return byte_row(BASE, text.encode() if isinstance(text, str) else text)


def test_a_row_tells_characters_rules_and_half_characters_apart() -> None:
    kinds = [row(data).kind for data in ("中", "中文", "ab", b"\xe5\xac")]
    assert kinds == ["char", "rule", "rule", "partial"]


def test_a_rule_joins_the_two_pieces_that_the_rules_before_it_make() -> None:
    rules = ByteRules(BASE)
    assert rules.add(row("中")) is None  # E4 B8 is a piece of the base, AD the rest
    assert rules.add(row("中ab")) is None
    pairs = [(BASE.read_piece(a), BASE.read_piece(b)) for a, b in rules.pairs.values()]
    assert pairs == [(b"\xe4\xb8", b"\xad"), ("中".encode(), b"ab")]


def test_a_half_character_comes_before_the_character_that_needs_it() -> None:
    rules = ByteRules(BASE)
    misfit = rules.add(row("嬗"))
    assert misfit is not None
    assert "expected 2 pieces" in misfit.what
    assert "its first bytes" in misfit.way_out
    assert rules.add(row("嬗".encode()[:2])) is None
    assert rules.add(row("嬗")) is None


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (row("ab"), "there already"),
        (PieceRow("中", "char"), "no text of this base"),
        (PieceRow("", "rule"), "no text of this base"),
        (row(b"\xad\xe4"), "half a character"),
        (row(b"\xe4\xb8\xad\xe4"), "half a character"),
        (row("a b"), "cut apart before merging"),
        (row("<|end|>"), "cut apart before merging"),
        (PieceRow(spell("中".encode()), "char", spell(b"\xe4"), spell(b"\xb8\xad")), "other parts"),
    ],
)
def test_a_piece_that_no_text_gives_is_refused_with_a_reason(piece: PieceRow, reason: str) -> None:
    misfit = ByteRules(BASE).add(piece)
    assert misfit is not None
    assert misfit.reason.startswith(reason)


def test_a_piece_listed_twice_is_refused() -> None:
    rules = ByteRules(BASE)
    assert rules.add(row("中")) is None
    misfit = rules.add(row("中"))
    assert misfit is not None
    assert "the list has this piece already" in misfit.what


def test_a_piece_that_the_normaliser_changes_is_refused() -> None:
    base = base_of(make(normalizer={"type": "NFC"}))
    misfit = ByteRules(base).add(byte_row(base, "e\u0301".encode()))
    assert misfit is not None
    assert misfit.reason == "changed by the normaliser"


def test_an_added_token_that_is_text_is_not_a_piece() -> None:
    word = {**SPECIAL, "content": "中文", "special": False}
    base = base_of(make(added_tokens=[word]))
    misfit = ByteRules(base).add(byte_row(base, "中文".encode()))
    assert misfit is not None
    assert misfit.reason == "cut apart before merging"


def extended(spec: dict[str, Any], *texts: str, specials: tuple[str, ...] = ()) -> dict[str, Any]:
    base = base_of(spec)
    rules = ByteRules(base)
    assert [rules.add(byte_row(base, text.encode())) for text in texts] == [None] * len(texts)
    return append_to_json(spec, base.size, list(rules.pairs), list(rules.pairs.values()), specials)


def test_ids_follow_the_added_tokens_which_stay_where_they_are() -> None:
    spec = extended(make(), "中", "中ab", specials=("<|im_start|>",))
    fast = FastEncoder.parse(json.dumps(spec))
    assert fast.encode_batch(["中中ab"]) == [[NUM_BYTES + 3, NUM_BYTES + 4]]
    again = json.loads(fast._tokenizer.to_str())
    ids = {token["content"]: token["id"] for token in again["added_tokens"]}
    assert ids == {"<|end|>": NUM_BYTES + 2, "<|im_start|>": NUM_BYTES + 5}
    assert again["model"]["vocab"] == spec["model"]["vocab"]


def test_left_out_of_the_vocabulary_an_added_token_would_move() -> None:
    spec = extended(make(), "中", "中ab")
    del spec["model"]["vocab"]["<|end|>"]
    again = json.loads(FastEncoder.parse(json.dumps(spec))._tokenizer.to_str())
    assert again["added_tokens"][0]["id"] != NUM_BYTES + 2


def test_both_spellings_of_merge_rules_are_kept() -> None:
    pairs = make()
    strings = make()
    strings["model"] = {
        **pairs["model"], "merges": [" ".join(rule) for rule in pairs["model"]["merges"]]
    }  # fmt: skip
    left, right = spell(b"\xe4\xb8"), spell(b"\xad")
    assert extended(pairs, "中")["model"]["merges"][-1] == [left, right]
    assert extended(strings, "中")["model"]["merges"][-1] == f"{left} {right}"


def test_where_whole_words_are_looked_up_a_piece_is_the_same() -> None:
    looks_up = make()
    looks_up["model"]["ignore_merges"] = True
    texts = ["中", "中ab", "中中abab 中", "<|end|>", "ab中"]
    made = [
        FastEncoder.parse(json.dumps(extended(spec, "中", "中ab"))).encode_batch(texts)
        for spec in (make(), looks_up)
    ]
    assert made[0] == made[1]


def test_parts_that_no_base_spells_are_shown_as_they_stand() -> None:
    misfit = ByteRules(BASE).add(PieceRow(spell("中".encode()), "char", "中", spell(b"\xad")))
    assert misfit is not None
    assert (
        misfit.what == "the rules before it spell it <0xE4><0xB8> <0xAD>; its row says '中' <0xAD>."
    )


ADDED = ("中", "中ab", "中中", "中中ab", "中中中中")
EXTENDED = extended(make(), *ADDED)
FAST = FastEncoder.parse(json.dumps(EXTENDED))
PARTS = {
    EXTENDED["model"]["vocab"][left + right]: [EXTENDED["model"]["vocab"][p] for p in (left, right)]
    for left, right in EXTENDED["model"]["merges"][-len(ADDED) :]
}


def take_apart(id: int) -> list[int]:
    return [part for side in PARTS[id] for part in take_apart(side)] if id in PARTS else [id]


@given(st.text(st.sampled_from("中文丁ab 0\n<|end>é"), max_size=30))
@settings(max_examples=300, deadline=None)
def test_taken_apart_the_ids_are_the_base_s(text: str) -> None:
    (ids,) = FAST.encode_batch([text])
    assert [part for id in ids for part in take_apart(id)] == BASE.encode_batch([text])[0]
    assert FAST.decode(ids) == text
    if "中" not in text:
        assert ids == BASE.encode_batch([text])[0]


def test_an_added_token_with_two_ids_is_refused() -> None:
    with pytest.raises(InputError, match=r"'ab' has id 300, in the vocabulary it has 257"):
        append_to_json(make(added_tokens=[{**SPECIAL, "content": "ab", "id": 300}]), 301, [], [])
