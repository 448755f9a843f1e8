"""SentencePiece models of all settings, compiled, give what sentencepiece gives."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_tokenizers_in_use import texts
from sentencepiece import sentencepiece_model_pb2
from small_tokenizers import BY_HAND, FIRST, build, trained

from lingraft.bases import SentencePieceBase
from lingraft.exact import Encoder
from lingraft.pieces import Kind, SentencePieces

Change = Callable[[Any], None]


def added(kind: Kind, *pieces: str) -> Change:
    def change(proto: Any) -> None:
        there = {entry.piece for entry in proto.pieces}
        for piece in pieces:
            if piece in there:  # of a trained model; SentencePiece refuses a piece twice
                continue
            proto.pieces.add(piece=piece, score=0.0, type=int(kind))

    return change


def setting(spec: str, **values: Any) -> Change:
    def change(proto: Any) -> None:
        for key, value in values.items():
            setattr(getattr(proto, spec), key, value)

    return change


def each(*changes: str) -> Change:
    """Make several of the changes of MODELS."""

    def change(proto: Any) -> None:
        for name in changes:
            MODELS[name](proto)

    return change


def without_space(proto: Any) -> None:
    kept = [piece for piece in proto.pieces if piece.piece != "▁"]
    del proto.pieces[:]
    proto.pieces.extend(kept)


@cache
def charsmap() -> bytes:
    """The compiled table of nmt_nfkc, out of a model trained with it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f"] * 5), model_writer=model, model_type="char",
        vocab_size=10, hard_vocab_limit=False, normalization_rule_name="nmt_nfkc", minloglevel=2,
    )  # fmt: skip
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    table: bytes = proto.normalizer_spec.precompiled_charsmap
    return table


def normalising(proto: Any) -> None:
    proto.normalizer_spec.precompiled_charsmap = charsmap()
    proto.normalizer_spec.remove_extra_whitespaces = True


USER = ("▁ab", "b\n", "ab c", "ca", "\n\n", "aa", "aaa", "，", "ｂ", "▁▁▁", "c▁a")
MODELS: dict[str, Change] = {
    "as Llama's": lambda _: None,
    "user-defined pieces": added(Kind.USER_DEFINED, *USER),
    "no prefix": setting("normalizer_spec", add_dummy_prefix=False),
    "no prefix, user-defined": each("no prefix", "user-defined pieces"),
    "spaces removed": setting("normalizer_spec", remove_extra_whitespaces=True),
    "nmt_nfkc": normalising,
    "nmt_nfkc, user-defined": each("nmt_nfkc", "user-defined pieces"),
    "space after words": setting("trainer_spec", treat_whitespace_as_suffix=True),
    "spaces not marked": setting("normalizer_spec", escape_whitespaces=False),
    "control pieces of a character": added(Kind.CONTROL, "x", "，", "<c>"),
    "no piece for a space": without_space,
    "NUL as a piece": added(Kind.NORMAL, "\0"),
}
PIECES = ("ab", "abc", "▁▁", "aaa", "中文", "b\n", "ab c", "x", "，", "<c>", "\0", "  ", "Ａ", "ﬁ")
some_texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text("abc ▁中文\n，ｂ\t\u3000", max_size=8), texts),
    max_size=8,
).map("".join)


@cache
def encoder(name: str, is_trained: bool) -> Encoder:
    if is_trained:
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(trained())
        MODELS[name](proto)
        content: bytes = proto.SerializeToString()
    else:
        content = build(change=MODELS[name])
    return Encoder(SentencePieceBase(SentencePieces(content)))


def check(mine: Encoder, batch: list[str]) -> None:
    assert mine.reason == ""
    assert [ids.tolist() for ids in mine.encode_batch(batch)] == mine.base.encode_batch(batch)


@pytest.mark.parametrize("is_trained", [False, True], ids=["by hand", "trained"])
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=40, deadline=None)
@given(batch=st.lists(some_texts, max_size=5))
def test_ids_are_those_of_sentencepiece(name: str, is_trained: bool, batch: list[str]) -> None:
    check(encoder(name, is_trained), batch)


@pytest.mark.parametrize("name", MODELS)
def test_long_texts_of_spaces_are_encoded_alike(name: str) -> None:
    check(encoder(name, False), [" " * 3000, "a b c " * 500, " \n" * 200 + "中 文"])


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([-1.0, -1.0, -2.0, 0.0, -math.inf]), min_size=9,
                    max_size=9),
    text=st.text("abc", max_size=40),
)  # fmt: skip
def test_among_equal_scores_the_leftmost_pair_goes_first(scores: list[float], text: str) -> None:
    pieces = ["ab", "bc", "ca", "abc", "bca", "aa", "abab", "cc", "aab"]
    rows = [*zip(pieces, scores, strict=True), *((char, -9.0) for char in "▁abc")]
    check(Encoder(SentencePieceBase(SentencePieces(build(rows)))), [text])


def test_a_score_that_is_no_number_is_left_to_sentencepiece() -> None:
    pieces = [("zz", math.nan) if piece == "abc" else (piece, score) for piece, score in BY_HAND]
    mine = Encoder(SentencePieceBase(SentencePieces(build(pieces))), warn=False)
    assert mine.reason == "the score of a piece is no number"
    assert mine.backend == "sentencepiece"


def test_zeros_of_both_signs_are_left_to_sentencepiece() -> None:
    pieces = [*BY_HAND, ("ca", 0.0), ("cc", -0.0)]
    mine = Encoder(SentencePieceBase(SentencePieces(build(pieces))), warn=False)
    assert "0 and of -0" in mine.reason


def test_nul_is_spelled_in_bytes_though_it_is_a_piece() -> None:
    assert encoder("NUL as a piece", False).encode("a\0").tolist()[-1] == 3  # <0x00>


def test_the_longest_user_defined_piece_is_read_first() -> None:
    ids = encoder("user-defined pieces", False).encode("aaaa").tolist()
    first = FIRST + len(BY_HAND)
    assert ids[1:] == [first + USER.index("aaa"), FIRST + 7]
