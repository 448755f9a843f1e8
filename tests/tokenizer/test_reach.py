"""Pieces that no text can produce, and pieces that a corpus never does."""

from pathlib import Path

import numpy as np
import pytest
from extended_tokenizers import (
    ADDED,
    ADDED_RULES,
    BASE_RULES,
    SIZE,
    WEN,
    ZHONG,
    extended,
    write_bytes_file,
    write_model,
)

from lingraft.bases import BaseTokenizer, read_base
from lingraft.pieces import Kind
from lingraft.tokenizer.added import Added, added_pieces, added_specials
from lingraft.tokenizer.reach import Firing, check_firing, check_reach, find_lost


def model_of(folder: Path, proto: bytes) -> tuple[BaseTokenizer, list[Added]]:
    base = read_base(str(write_model(folder, proto)))
    return base, added_pieces(base, SIZE)


def test_every_piece_of_a_right_model_can_be_produced(tmp_path: Path) -> None:
    assert check_reach(*model_of(tmp_path, extended())).state == "ok"


def test_a_piece_that_no_rules_lead_to_is_found_and_spelled(tmp_path: Path) -> None:
    check = check_reach(*model_of(tmp_path, extended([*ADDED, ("bc中文嬗", -3e9)])))
    assert check.state == "differs"
    assert check.figures["unreachable"] == 1
    assert check.examples == ["'bc中文嬗'", "'bc中文嬗' is encoded bc | 中文 | 嬗"]


def test_a_user_defined_piece_is_produced_wherever_it_stands(tmp_path: Path) -> None:
    proto = extended([("bc中文嬗", -3e9)], kind=Kind.USER_DEFINED)
    assert find_lost(*model_of(tmp_path, proto)) == []


def test_control_pieces_are_no_vocabulary(tmp_path: Path) -> None:
    base, added = model_of(tmp_path, extended([("<pad>", 0.0)], kind=Kind.CONTROL))
    assert added == []
    assert added_specials(base, SIZE) == [(SIZE, "<pad>")]


def bytes_of(folder: Path, rules: list[tuple[bytes, bytes]]) -> tuple[BaseTokenizer, list[Added]]:
    base = read_base(str(write_bytes_file(folder, BASE_RULES + rules)))
    return base, added_pieces(base, SIZE_BYTES)


SIZE_BYTES = 256 + len(BASE_RULES)


def test_partial_pieces_are_asked_of_the_rules_alone(tmp_path: Path) -> None:
    base, added = bytes_of(tmp_path, ADDED_RULES)
    assert [a.is_text for a in added] == [True, False, True, True]
    assert [a.text for a in added] == ["中", "", "文", "中文"]
    assert find_lost(base, added) == []


def test_a_piece_that_a_pre_tokenizer_cuts_is_found(tmp_path: Path) -> None:
    base, added = bytes_of(tmp_path, [*ADDED_RULES, (ZHONG, b"!"), (b"!", WEN)])
    lost = find_lost(base, added)
    assert [base.read_piece(piece).decode() for piece in lost] == ["中!", "!文"]
    check = check_reach(base, added)
    assert len(check.examples) == 3


def test_a_piece_that_begins_with_a_space_is_found_in_context(tmp_path: Path) -> None:
    base, added = bytes_of(tmp_path, [*ADDED_RULES, (b" ", ZHONG)])
    assert find_lost(base, added) == []


def test_a_partial_piece_that_other_rules_take_apart_is_found(tmp_path: Path) -> None:
    # The base joins the first two bytes of 中, so its last two are never side by side.
    base, added = bytes_of(tmp_path, [(ZHONG[1:2], ZHONG[2:]), (ZHONG[:1], ZHONG[1:])])
    assert [base.read_piece(piece) for piece in find_lost(base, added)] == [ZHONG]


def test_pieces_that_the_corpus_never_produces_are_told(tmp_path: Path) -> None:
    _, added = model_of(tmp_path, extended())
    firing = Firing(SIZE + 4)
    firing.add([])
    firing.add([np.array([SIZE, SIZE, SIZE + 2], np.int32), np.array([SIZE + 3], np.int32)])
    check = check_firing(firing, added, 4)
    assert (check.state, check.figures["never produced"], check.figures["share"]) == (
        "told", 1, 0.25,
    )  # fmt: skip
    assert check.examples == ["'变'"]
    firing.add([np.array([SIZE + 1], np.int32)])
    assert check_firing(firing, added, 5).state == "ok"


@pytest.mark.parametrize(
    ("fired", "num_tokens", "state"),
    [
        (0, 0, "told"),  # no text of the scripts: nothing was to be expected
        (0, 1, "differs"),
        (1, 199, "told"),  # too small a corpus for 4 pieces
        (1, 200, "differs"),
        (2, 200, "told"),  # half of them
        (4, 200, "ok"),
    ],
)
def test_idle_pieces_are_a_failure_where_the_corpus_should_have_them(
    tmp_path: Path, fired: int, num_tokens: int, state: str
) -> None:
    _, added = model_of(tmp_path, extended())
    firing = Firing(SIZE + 4)
    firing.add([np.arange(SIZE, SIZE + fired, dtype=np.int32)])
    assert check_firing(firing, added, num_tokens).state == state


def test_a_special_token_need_be_neither_reached_nor_used(tmp_path: Path) -> None:
    base, _ = model_of(tmp_path, extended())
    special = Added(SIZE + 3, "变嬗变", "变嬗变".encode(), stands=False, special=True)
    assert check_reach(base, [special]).figures["added"] == 0
    assert check_firing(Firing(SIZE + 4), [special], 9).state == "ok"
