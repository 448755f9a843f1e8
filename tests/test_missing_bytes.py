"""Byte-level vocabularies that lack some of the 256 bytes: read as they are, and completed."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from byte_tokenizers import NUM_BYTES, byte_level, spell, without_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_tokenizers_in_use import IN_USE, contexts, texts, trained_with
from tokenizers import Tokenizer

from lingraft.bases import BORDER, ByteLevelBase
from lingraft.errors import InputError
from lingraft.exact import Encoder

SMOLLM2 = bytes([4, 6, 0x13, 0x14, 0x16, 0x1D, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)])
"""What the published SmolLM2 tokenizer lacks."""
LACKED = {
    "as SmolLM2": SMOLLM2,
    "letters": b"ae\n",
    "parts of characters": bytes([0xB8, 0x81, 0xE4, 0xF0]),
    "space": b" ",
    "all but ASCII": bytes(range(0x80, 0x100)),
}
RULES = [(b"a", b"b"), (b"ab", b"c")]
LACKS_X = without_bytes(byte_level(RULES), b"x")
"""Ids 256 and 257 are ab and abc; x has none."""


def base_of(spec: dict[str, Any]) -> ByteLevelBase:
    return ByteLevelBase(json.dumps(spec))


@cache
def loaded(name: str, lacked: str, change: str) -> tuple[Encoder, Any]:
    spec = without_bytes(json.loads(trained_with(name)), LACKED[lacked])
    if change == "nfkc":
        spec["normalizer"] = {"type": "NFKC"}
    if change == "nfc":
        spec["normalizer"] = {"type": "NFC"}
    if change == "unknown":
        spec["model"]["vocab"]["<unk>"] = 900
        spec["model"].update(unk_token="<unk>", fuse_unk=True)
    if change == "whole pre-tokens":
        spec["model"]["vocab"].update({spell(b"aB1"): 901, spell("aB中".encode()): 902})
        spec["model"]["ignore_merges"] = True
    content = json.dumps(spec)
    return Encoder(ByteLevelBase(content), warn=False), Tokenizer.from_str(content)


def check(pair: tuple[Encoder, Any], batch: list[str]) -> None:
    mine, theirs = pair
    wanted = [each.ids for each in theirs.encode_batch(batch, add_special_tokens=False)]
    assert [ids.tolist() for ids in mine.encode_batch(batch)] == wanted
    words = [ids.tolist() for ids in mine.encode_words(batch)]
    assert words == [ids.tolist() for ids in mine.base.encode_words(batch)]
    assert [[id for id in ids if id != BORDER] for ids in words] == wanted


odd = st.text(st.sampled_from("a\x04x\x06\U00040000\U000f1000 \x14中\x1db"), max_size=12)


@pytest.mark.parametrize("lacked", LACKED)
@pytest.mark.parametrize("name", IN_USE)
@settings(max_examples=15, deadline=None)
@given(batch=st.lists(st.one_of(texts, odd), max_size=6))
def test_ids_are_those_of_the_library(name: str, lacked: str, batch: list[str]) -> None:
    check(loaded(name, lacked, ""), batch)


@pytest.mark.parametrize("lacked", LACKED)
@pytest.mark.parametrize("change", ["nfc", "nfkc", "unknown", "whole pre-tokens"])
@settings(max_examples=15, deadline=None)
@given(batch=st.lists(st.one_of(texts, odd), max_size=6))
def test_ids_are_those_of_the_library_after_other_steps(
    change: str, lacked: str, batch: list[str]
) -> None:
    check(loaded("gpt2", lacked, change), batch)


@pytest.mark.parametrize("lacked", LACKED)
def test_odd_characters_are_encoded_alike_in_every_context(lacked: str) -> None:
    check(loaded("smollm2", lacked, ""), contexts("\x04\x06\U00040000\U000f1000ex 中é\n"))


def test_a_missing_byte_is_dropped_and_what_stands_beside_it_joins() -> None:
    base = base_of(LACKS_X)
    assert base.missing_bytes == b"x"
    assert not base.has_byte_fallback
    assert base.byte_ids[ord("x")] == -1
    assert base.encode_batch(["axb", "x", "abxc"]) == [[256], [], [257]]
    assert base.spell(b"xabx") == (256,)


def test_only_texts_with_missing_bytes_go_through_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Encoder(base_of(LACKS_X))
    assert (encoder.reason, encoder.backend) == ("", "compiled")
    asked: list[str] = []
    library = encoder.base.encode_batch

    def record(batch: Any) -> Any:
        asked.extend(batch)
        return library(batch)

    monkeypatch.setattr(encoder.base, "encode_batch", record)
    ids = encoder.encode_batch(["abc", "axb", "b", "x"], num_threads=1)
    assert [each.tolist() for each in ids] == [[257], [256], [ord("b")], []]
    assert asked == ["axb", "x"]


def test_a_long_text_with_a_missing_byte_is_one_slice() -> None:
    encoder = Encoder(base_of(LACKS_X))
    text = "abc " * 300_000
    assert len(list(encoder.slices(text))) > 1
    parts = list(encoder.slices(text + "x"))
    assert len(parts) == 1
    assert encoder.encode_slice(parts[0]).tolist() == encoder.encode(text).tolist()


def test_a_space_before_texts_that_has_no_piece_is_the_librarys() -> None:
    encoder, _ = loaded("gpt2 with a space before", "space", "")
    assert encoder.reason == "it puts a space before texts and has no piece for it"
    assert encoder.backend == "tokenizers"


def test_completed_a_base_has_every_byte_and_encodes_all_else_as_before() -> None:
    base = base_of(LACKS_X)
    whole = base.completed()
    assert (base.size, whole.size) == (258, 259)
    assert whole.missing_bytes == b""
    assert whole.piece_bytes(258) == b"x"
    assert whole.is_normal(258)
    assert whole.digest == base.digest
    assert whole.encode_batch(["axb", "abc"]) == [[ord("a"), 258, ord("b")], [257]]
    assert whole.completed() is whole
    assert base.completed(300).piece_bytes(300) == b"x"


@pytest.mark.parametrize("lacked", LACKED)
@settings(max_examples=30, deadline=None)
@given(text=st.one_of(texts, odd))
def test_completed_a_base_loses_nothing(lacked: str, text: str) -> None:
    base = loaded("gpt2", lacked, "")[0].base
    whole = completed(lacked)
    (ids,) = whole.encode_batch([text])
    assert b"".join(map(whole.piece_bytes, ids)).decode() == text
    if not any(byte in text.encode() for byte in LACKED[lacked]):
        assert base.encode_batch([text]) == [ids]


@cache
def completed(lacked: str) -> Any:
    return loaded("gpt2", lacked, "")[0].base.completed()


def test_added_tokens_keep_their_ids_when_a_base_is_completed() -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = [
        {"id": 258, "content": "<tool>", "special": False, **flags},
        {"id": 259, "content": "<end>", "special": True, **flags},
    ]
    whole = base_of({**LACKS_X, "added_tokens": tokens}).completed()
    assert [whole.piece(id) for id in (258, 259, 260)] == ["<tool>", "<end>", "x"]
    assert whole.encode_batch(["a<tool>x"]) == [[ord("a"), 258, 260]]


def test_an_added_token_that_is_spelled_as_the_byte_is_refused() -> None:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    token = {"id": 258, "content": "x", "special": True, **flags}
    base = base_of({**LACKS_X, "added_tokens": [token]})
    with pytest.raises(InputError, match=r"no piece for byte 0x78, and its added token 'x'"):
        base.completed()


def test_bytes_that_are_a_token_without_an_id_are_refused() -> None:
    spec = {**LACKS_X, "model": {**LACKS_X["model"], "unk_token": "<unk>"}}
    with pytest.raises(InputError, match=r"1 bytes have no piece, and unk_token '<unk>'"):
        base_of(spec)
    whole = byte_level(RULES, unk_token="<unk>")
    assert base_of(whole).missing_bytes == b""  # nothing is ever unknown


def test_a_vocabulary_of_no_bytes_is_refused() -> None:
    spec = without_bytes(byte_level(), bytes(range(NUM_BYTES)))
    spec["model"]["vocab"] = {"中": 0}
    with pytest.raises(InputError, match=r"no byte fallback.*0 of 256"):
        base_of(spec)
