"""The proof: it holds for an extended tokenizer, and finds what is wrong with a false one."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from small_tokenizers import BY_HAND, build, trained

from lingraft.encoder import FastEncoder
from lingraft.errors import InputError, VerifyError
from lingraft.fast import fast_tokenizer
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.check import Checker, Compared, check_base_kept, find_unreachable
from lingraft.tokenizer.hard import HARD_TEXTS, every_code_point, texts_around
from lingraft.tokenizer.piecerules import PieceRow, extend_model

BASE = SentencePieces(build())
SIZE = len(BASE.pieces)
ROWS = [
    PieceRow("嬗", "char"),
    PieceRow("变", "char"),
    PieceRow("嬗变", "rule", "嬗", "变"),
    PieceRow("文中", "rule", "文", "中"),
    PieceRow("变嬗", "rule", "变", "嬗"),
    PieceRow("嬗嬗", "rule", "嬗", "嬗"),
    PieceRow("嬗嬗嬗", "rule", "嬗嬗", "嬗"),
]
EXTENDED = SentencePieces(extend_model(BASE, ROWS))
TRAINED = SentencePieces(trained())
TRAINED_ROWS = [*ROWS[:3], *ROWS[4:], PieceRow("我们", "rule"), PieceRow("在我们", "rule")]
TRAINED_EXTENDED = SentencePieces(extend_model(TRAINED, TRAINED_ROWS))


def fast_of(pieces: SentencePieces) -> FastEncoder:
    return FastEncoder.parse(json.dumps(fast_tokenizer(pieces)))


def changed(pieces: SentencePieces, change: Callable[[Any], None]) -> SentencePieces:
    proto = sentencepiece_model_pb2.ModelProto.FromString(pieces.proto)
    change(proto)
    return SentencePieces(proto.SerializeToString())


def with_scores(scores: Sequence[float]) -> SentencePieces:
    """The extended model with other scores for its added pieces."""

    def change(proto: Any) -> None:
        for piece, score in zip(list(proto.pieces)[SIZE:], scores, strict=True):
            piece.score = score

    return changed(EXTENDED, change)


def test_an_extended_model_keeps_its_base() -> None:
    check_base_kept(BASE, EXTENDED)
    check_base_kept(BASE, BASE)


def test_a_changed_base_score_is_found() -> None:
    false = changed(EXTENDED, lambda proto: setattr(proto.pieces[SIZE - 1], "score", -99.0))
    with pytest.raises(VerifyError, match=f"id {SIZE - 1} is"):
        check_base_kept(BASE, false)


def test_a_lost_base_piece_is_found() -> None:
    with pytest.raises(VerifyError, match=f"{SIZE} pieces, the base has {SIZE + 7}"):
        check_base_kept(EXTENDED, BASE)


@pytest.mark.parametrize("scores", [[0.0] * 7, [-2e9] * 7])
def test_added_scores_that_tie_or_rank_above_the_base_are_found(scores: list[float]) -> None:
    with pytest.raises(VerifyError, match="expected less than"):
        check_base_kept(BASE, with_scores(scores))


def test_every_added_piece_can_be_produced() -> None:
    assert find_unreachable(EXTENDED, SIZE) == []


def test_a_piece_that_no_text_produces_is_found() -> None:
    def change(proto: Any) -> None:
        proto.pieces.add(piece="b中文c嬗", score=-3e9, type=1)

    assert find_unreachable(changed(EXTENDED, change), SIZE) == ["b中文c嬗"]


def test_the_proof_holds_on_the_hard_list_and_around_the_pieces() -> None:
    texts = [*HARD_TEXTS, *texts_around(EXTENDED.pieces[SIZE:])]
    counted = Checker(BASE, EXTENDED, fast_of(EXTENDED)).compare(texts, "hard list")
    assert counted.num_texts == len(texts)
    assert counted.extended_tokens < counted.base_tokens


def test_every_code_point_is_among_the_texts_once() -> None:
    chars = [char for text in every_code_point() for char in text.split("\n") if char]
    assert len(chars) == 0x110000 - 0x800 - 1  # all but surrogates and the line break
    assert len(set(chars)) == len(chars)


def test_counts_are_of_tokens_characters_and_bytes() -> None:
    counted = Checker(BASE, EXTENDED, fast_of(EXTENDED)).compare(["abc", "嬗变"], "two texts")
    # ▁ abc, and ▁ with 3 bytes a character; of the extended, ▁ 嬗变.
    assert counted == Compared(
        num_texts=2,
        num_unchanged=1,
        base_tokens=2 + 7,
        extended_tokens=2 + 2,
        num_chars=5,
        size_bytes=3 + 6,
    )
    assert counted.plus(counted).num_chars == 10


def test_no_text_counts_as_unchanged_where_an_added_piece_holds_a_space() -> None:
    extended = SentencePieces(extend_model(BASE, [PieceRow("▁b", "rule")]))
    counted = Checker(BASE, extended, fast_of(extended)).compare(["b", "a"], "texts")
    assert (counted.num_unchanged, counted.extended_tokens) == (0, 2)


_CHECKER = Checker(TRAINED, TRAINED_EXTENDED, fast_of(TRAINED_EXTENDED))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("the cat on  嬗变我们在中文▁\n\0é🌈<s>"), max_size=40), max_size=4
    )
)
def test_the_proof_holds_on_any_text(texts: list[str]) -> None:
    assert _CHECKER.compare(texts, "random texts").num_texts == len(texts)


def accepted(candidates: Sequence[str]) -> list[PieceRow]:
    """Those of the candidates that `extend_model` takes, one after another."""
    rows = [PieceRow("嬗", "char"), PieceRow("变", "char")]
    for piece in candidates:
        try:
            extend_model(BASE, [*rows, PieceRow(piece, "rule")])
        except InputError:
            continue
        rows.append(PieceRow(piece, "rule"))
    return rows


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text("嬗变", min_size=2, max_size=6), max_size=12),
    st.lists(st.text("嬗变嬗变a ", max_size=40), min_size=1, max_size=8),
)
def test_the_proof_holds_for_any_pieces_that_were_accepted(
    candidates: list[str], texts: list[str]
) -> None:
    extended = SentencePieces(extend_model(BASE, accepted(candidates)))
    assert find_unreachable(extended, SIZE) == []
    Checker(BASE, extended, fast_of(extended)).compare(texts, "random texts")


def test_score_0_for_every_added_piece_is_found_and_shown_piece_by_piece() -> None:
    false = with_scores([0.0] * 7)
    checker = Checker(BASE, false, fast_of(false))
    with pytest.raises(VerifyError) as caught:
        checker.compare(["abc", "变嬗变 嬗嬗嬗嬗嬗"], "reviews")
    message = str(caught.value)
    assert "reviews: SentencePiece and fast encode a text differently, from token 1" in message
    assert "SentencePiece, from token 0: ▁ | 变嬗 | 变" in message
    assert "fast, from token 0: ▁ | 变 | 嬗变" in message
    assert "the added pieces are at fault" in message


def test_a_base_that_disagrees_with_itself_is_named_as_the_cause() -> None:
    tied = [*BY_HAND, ("ba", -0.5), ("ca", -0.5), ("ac", -0.5)]
    base = SentencePieces(build(tied))
    with pytest.raises(VerifyError, match="two forms differ on it too"):
        Checker(base, base, fast_of(base)).compare(["acacaca", "bacaca"], "texts")


def test_an_added_piece_that_breaks_up_the_base_is_found() -> None:
    false = with_scores([-2e9, -2.1e9, -2.2e9, -0.1, -2.4e9, -2.5e9, -2.6e9])
    checker = Checker(BASE, false, fast_of(false))  # 文中 goes before the base's 中文
    with pytest.raises(VerifyError, match="base and extended, taken apart") as caught:
        checker.compare(["中文中"], "news")
    assert "base, from token 0: ▁ | 中文 | 中" in str(caught.value)
    assert "the base's own encoding is broken up".lower() in str(caught.value).lower()


def test_a_decoder_that_loses_text_is_found() -> None:
    content = fast_tokenizer(EXTENDED)
    content["decoder"]["decoders"].pop()  # leaves the dummy prefix's space in
    checker = Checker(BASE, EXTENDED, FastEncoder.parse(json.dumps(content)))
    with pytest.raises(VerifyError, match="fast does not decode a text that the base does"):
        checker.compare(["abc"], "news")


def test_a_long_text_is_shown_in_part() -> None:
    false = with_scores([0.0] * 7)
    with pytest.raises(VerifyError, match=r"\.\.\. \(5006 characters\)"):
        Checker(BASE, false, fast_of(false)).compare(["变嬗变" + "a" * 5003], "news")
