"""Adding pieces: only what one rule makes, below everything the base has."""

import json

import numpy as np
import pytest
from small_tokenizers import build, without_bytes

from lingraft.errors import InputError
from lingraft.pieces import Kind, SentencePieces
from lingraft.tokenizer.piecerules import PieceRow, added_scores, extend_model, parse_rows

BASE = SentencePieces(build())
SIZE = len(BASE.pieces)


def char(piece: str) -> PieceRow:
    return PieceRow(piece, "char")


def rule(piece: str, left: str = "", right: str = "") -> PieceRow:
    return PieceRow(piece, "rule", left, right)


def extend(*rows: PieceRow) -> SentencePieces:
    return SentencePieces(extend_model(BASE, rows))


def test_added_pieces_follow_the_base_in_the_order_of_their_rows() -> None:
    extended = extend(char("嬗"), rule("嬗中", "嬗", "中"), rule("a中", "a", "中"))
    assert extended.pieces[:SIZE] == BASE.pieces
    assert extended.pieces[SIZE:] == ("嬗", "嬗中", "a中")
    assert set(extended.kinds[SIZE:]) == {Kind.NORMAL}


def test_base_scores_are_unchanged_and_added_ones_count_down_by_64_from_below() -> None:
    extended = extend(char("嬗"), rule("嬗中"))
    assert extended.scores[:SIZE] == BASE.scores
    assert extended.scores[SIZE:] == (-1_000_000_064.0, -1_000_000_128.0)


def test_an_added_piece_is_one_id() -> None:
    extended = extend(char("嬗"), rule("嬗中"))
    assert extended.encode("嬗中文")[1:] == [extended.ids["嬗"], extended.ids["中文"]]
    assert extended.encode("嬗中a")[1:] == [SIZE + 1, extended.ids["a"]]


def test_the_base_joins_first() -> None:
    extended = extend(rule("文中"))  # 中文 is a piece of the base
    assert extended.encode("中文中文")[1:] == [BASE.ids["中文"]] * 2
    assert extended.encode("文中")[1:] == [SIZE]


def test_runs_of_spaces_join_before_an_added_piece_takes_one() -> None:
    extended = extend(rule("▁中"))
    assert extended.encode(" 中")[1:] == [BASE.ids["中"]]  # ▁▁ then 中, as the base has it
    assert extended.encode("中") == [SIZE]


def test_no_rows_give_the_base_s_own_bytes() -> None:
    assert extend_model(BASE, []) == BASE.proto


def test_a_rule_over_pieces_added_before_it_is_accepted() -> None:
    extended = extend(char("嬗"), char("变"), rule("嬗变"), rule("嬗变中", "嬗变", "中"))
    assert extended.spell("嬗变中") == [SIZE + 3]


@pytest.mark.parametrize(
    ("rows", "symbols"),
    [
        ([rule("abc中文")], None),
        ([rule("a中a")], "'a' '中' 'a'"),
        ([rule("嬗中")], "<0xE5> <0xAC> <0x97> '中'"),
        ([rule("é")], "<0xC3> <0xA9>"),
        ([char("嬗"), rule("中嬗中")], "'中' '嬗' '中'"),
        ([char("嬗"), char("变"), rule("变中"), rule("嬗变中嬗")], "'嬗' '变中' '嬗'"),
    ],
)
def test_a_piece_that_is_not_two_pieces_so_far_is_refused(
    rows: list[PieceRow], symbols: str | None
) -> None:
    if symbols is None:
        assert extend(*rows).spell(rows[-1].piece) == [SIZE]
        return
    with pytest.raises(InputError) as caught:
        extend(*rows)
    assert f"added piece {len(rows) - 1} ({rows[-1].piece!r}, rule)" in str(caught.value)
    assert f"spell it {symbols}; expected 2 pieces" in str(caught.value)


def test_a_char_must_be_one_character() -> None:
    with pytest.raises(InputError, match="expected one character"):
        extend(char("嬗变"))


def test_a_rule_must_be_made_of_the_pieces_that_its_row_names() -> None:
    with pytest.raises(InputError, match=r"spell it '中文' 'a'; its row says '中' '文a'"):
        extend(rule("中文a", "中", "文a"))


def test_a_piece_of_the_base_is_refused() -> None:
    with pytest.raises(InputError, match="the base has this piece already"):
        extend(rule("中文"))


def test_a_piece_listed_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"added piece 1.*the list, at 0, has this piece already"):
        extend(char("嬗"), char("嬗"))


@pytest.mark.parametrize("piece", ["", "中 文"])
def test_an_empty_piece_or_one_with_a_plain_space_is_refused(piece: str) -> None:
    with pytest.raises(InputError, match="expected text in which ▁ stands"):
        extend(rule(piece))


def test_a_base_without_byte_pieces_cannot_take_unknown_characters() -> None:
    with pytest.raises(InputError, match="no byte pieces"):
        extend_model(SentencePieces(build(change=without_bytes)), [char("嬗")])


@pytest.mark.parametrize("lowest", [0.0, -31_740.0, -1e9, -2.5e9])
@pytest.mark.parametrize("count", [0, 1, 57_000, 1_500_000])
def test_scores_descend_below_the_base_and_stay_distinct_in_float32(
    lowest: float, count: int
) -> None:
    scores = added_scores(lowest, count)
    assert scores.dtype == np.float32
    assert len(scores) == count
    assert bool(np.all(np.diff(scores.astype(np.float64)) < 0))
    assert count == 0 or scores[0] < np.float32(min(lowest, -1e9))


def test_rows_are_read_in_order() -> None:
    lines = [
        json.dumps({"piece": "嬗", "kind": "char", "left": "", "right": "", "count": 3}),
        json.dumps({"piece": "嬗变", "kind": "rule", "left": "嬗", "right": "变", "count": 2}),
    ]
    assert parse_rows(lines, "pieces.jsonl") == [
        PieceRow("嬗", "char", "", "", 3),
        PieceRow("嬗变", "rule", "嬗", "变", 2),
    ]


@pytest.mark.parametrize(
    "line", ["no json", "[1]", '{"piece": "a"}', '{"piece": 3, "kind": "char"}',
             '{"piece": "a", "kind": "word"}', '{"piece": "a", "kind": "char", "extra": 1}'],
)  # fmt: skip
def test_a_damaged_row_is_named(line: str) -> None:
    good = json.dumps({"piece": "嬗", "kind": "char"})
    with pytest.raises(InputError, match=r"pieces\.jsonl:2"):
        parse_rows([good, line], "pieces.jsonl")
