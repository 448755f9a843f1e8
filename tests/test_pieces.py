"""Pieces, their bytes and ids, on a model built by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import FIRST, build, trained, without_bytes

from lingraft.errors import InputError
from lingraft.pieces import Kind, SentencePieces
from lingraft.sources import locate_source

SMALL = SentencePieces(build())
TRAINED = SentencePieces(trained())


def ids_of(*pieces: str) -> list[int]:
    return [SMALL.ids[piece] for piece in pieces]


def test_ids_count_from_the_file_order() -> None:
    assert (SMALL.pieces[FIRST], SMALL.ids["ab"], SMALL.ids["<0x00>"]) == ("▁▁", FIRST + 1, 3)


def test_special_ids_are_those_of_the_model() -> None:
    assert (SMALL.unk_id, SMALL.bos_id, SMALL.eos_id) == (0, 1, 2)


def test_scores_and_kinds_are_read() -> None:
    assert SMALL.scores[FIRST] == -1e9
    assert [SMALL.kinds[i] for i in (0, 1, 3, FIRST)] == [
        Kind.UNKNOWN,
        Kind.CONTROL,
        Kind.BYTE,
        Kind.NORMAL,
    ]


def test_encoding_joins_the_highest_score_first_and_adds_the_dummy_prefix() -> None:
    assert SMALL.encode("abc") == ids_of("▁", "abc")  # ab (-1) goes before ▁a (-2)
    assert SMALL.encode("a") == ids_of("▁a")


def test_encoding_adds_no_special_ids() -> None:
    assert SMALL.encode("") == []


def test_many_texts_are_encoded_as_each_alone() -> None:
    texts = ["abc", "", "  中文", "嬗"]
    assert SMALL.encode_batch(texts) == [SMALL.encode(text) for text in texts]
    assert SMALL.decode_batch(SMALL.encode_batch(texts)) == texts


def test_decoding_gives_the_text_back() -> None:
    assert SMALL.decode(SMALL.encode(" a  嬗\n")) == " a  嬗\n"


def test_a_piece_is_spelled_without_the_dummy_prefix() -> None:
    assert SMALL.spell("中文") == ids_of("中文")
    assert SMALL.spell("▁abc") == ids_of("▁", "abc")


def test_a_piece_is_spelled_by_the_order_of_scores() -> None:
    assert SMALL.spell("abcb") == ids_of("abc", "b")  # ab, then abc: never a + bc


def test_unknown_characters_are_spelled_in_bytes() -> None:
    assert SMALL.spell("嬗a") == ids_of("<0xE5>", "<0xAC>", "<0x97>", "a")


def test_a_piece_keeps_its_outer_spaces_when_spelled() -> None:
    assert SMALL.spell(" a  ") == ids_of("▁a", "▁▁")


@pytest.mark.parametrize(
    ("piece", "expected"),
    [("▁a", b" a"), ("<0xE5>", b"\xe5"), ("中文", "中文".encode()), ("<s>", b""), ("<unk>", b"")],
)
def test_bytes_are_what_a_piece_stands_for(piece: str, expected: bytes) -> None:
    assert SMALL.piece_bytes(SMALL.ids[piece]) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("the cat我们嬗▁\n\0é🌈<s>0x"), max_size=30))
def test_the_bytes_of_a_spelling_are_the_bytes_of_the_text(text: str) -> None:
    spelled = b"".join(TRAINED.piece_bytes(id) for id in TRAINED.spell(text))
    assert spelled == text.replace("▁", " ").encode()


@pytest.mark.parametrize("text", ["the cat", "我们在", "  x", "嬗变"])
def test_spelling_is_the_encoding_without_its_prefix(text: str) -> None:
    # A line break is no part of any longer piece here, so nothing joins across it.
    newline = TRAINED.spell("\n")
    prefix = TRAINED.encode("\n")
    assert prefix[-len(newline) :] == newline
    assert TRAINED.encode("\n" + text) == prefix + TRAINED.spell(text)


def test_mixtral_s_own_model_is_read() -> None:
    pieces = SentencePieces.read(locate_source("package:mistral_common/data/tokenizer.model.v1"))
    assert (len(pieces.pieces), pieces.bos_id, pieces.eos_id, pieces.unk_id) == (32_000, 1, 2, 0)
    assert pieces.has_byte_fallback
    assert pieces.spell("嬗") == [3 + byte for byte in "嬗".encode()]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.model: no such file"):
        SentencePieces.read(tmp_path / "none.model")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xff not a model", "not a SentencePiece model"),
        (b"", "without pieces"),
        (build(change=lambda p: setattr(p.trainer_spec, "model_type", 1)), "of type UNIGRAM"),
        (build([("a", -1.0), ("a", -2.0)]), "cannot load it"),
    ],
)
def test_a_file_that_is_no_bpe_model_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        SentencePieces(content)


def without(piece: str) -> Callable[[Any], None]:
    def change(proto: Any) -> None:
        next(p for p in proto.pieces if p.piece == piece).piece = "other"

    return change


@pytest.mark.parametrize(("piece", "role"), [("<s>", "BOS"), ("</s>", "EOS")])
def test_a_model_without_document_ends_is_refused(piece: str, role: str) -> None:
    with pytest.raises(InputError, match=f"has no {role} piece"):
        SentencePieces(build(change=without(piece)))


def test_spelling_an_unknown_character_needs_byte_fallback() -> None:
    pieces = SentencePieces(build(change=without_bytes))
    assert not pieces.has_byte_fallback
    with pytest.raises(InputError, match=r"cannot spell '嬗'"):
        pieces.spell("嬗")


def test_spelling_agrees_with_a_processor_made_without_prefix() -> None:
    def bare(proto: Any) -> None:
        proto.normalizer_spec.add_dummy_prefix = False

    processor = sentencepiece.SentencePieceProcessor(model_proto=build(change=bare))
    assert SMALL.spell("ab ab中文") == processor.encode("ab ab中文")
