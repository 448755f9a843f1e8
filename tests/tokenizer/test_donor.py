"""Pieces of another tokenizer: in scope, by one rule; or the published union, as it was."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from byte_tokenizers import byte_level, spell
from small_tokenizers import BY_HAND, build

from lingraft.bases import ByteLevelBase, SentencePieceBase, read_base
from lingraft.errors import InputError
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.byterules import ByteRules
from lingraft.tokenizer.donor import find_candidates, read_donor, take, union_pieces
from lingraft.tokenizer.piecerules import PieceRules, Spelling

BASE = SentencePieceBase(SentencePieces(build()))
DONOR = [
    ("嬗变中文", -1.0),
    ("嬗变", -2.0),
    ("嬗", -3.0),
    ("变", -4.0),
    ("中文", -5.0),
    ("the", -6.0),
    ("2018", -7.0),
    ("嬗20", -8.0),
    ("、、", -9.0),
    ("变嬗变嬗变", -10.0),
    ("中", -11.0),
    ("文", -12.0),
]


def donor_file(folder: Path, change: Callable[[Any], None] = lambda _: None) -> str:
    path = folder / "donor.model"
    path.write_bytes(build(DONOR, change))
    return str(path)


def test_pieces_in_scope_are_taken_behind_those_they_are_made_of(tmp_path: Path) -> None:
    found = find_candidates(BASE, read_donor(donor_file(tmp_path)), None)
    assert list(found.scripts) == ["Han"]
    assert found.num_known == 3  # 中文 中 文
    rows, misfits = take(BASE, found, PieceRules(Spelling.of_model(BASE.pieces)))
    assert [row.piece for row in rows] == ["嬗", "变", "嬗变", "嬗变中文"]
    assert [(left.piece, left.reason) for left in misfits] == [
        ("变嬗变嬗变", "not 2 pieces by the rules before it")
    ]


def test_what_is_out_of_scope_is_left_out_with_a_reason(tmp_path: Path) -> None:
    def single_digits(proto: Any) -> None:
        for digit in "2018":
            proto.pieces.add(piece=digit, score=-99.0, type=1)

    base = SentencePieceBase(SentencePieces(build(BY_HAND, single_digits)))
    found = find_candidates(base, read_donor(donor_file(tmp_path)), ["Han"])
    assert [(left.piece, left.reason) for left in found.left_out] == [
        ("the", "Latin letters or digits only"),
        ("2018", "Latin letters or digits only"),
        ("嬗20", "many digits, and the base keeps each to itself"),
        ("、、", "no character of the scripts"),
    ]


def unigram(proto: Any) -> None:
    proto.trainer_spec.model_type = 1


def charsmap(proto: Any) -> None:
    proto.normalizer_spec.name = "nmt_nfkc"
    proto.normalizer_spec.precompiled_charsmap = b"x"


def test_a_unigram_donor_is_refused_with_the_way_to_the_published_union(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)a unigram model; expected BPE.*--as-published"):
        read_donor(donor_file(tmp_path, unigram))


def test_a_donor_that_rewrites_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**byte_level(), "normalizer": {"type": "NFKC"}}))
    with pytest.raises(InputError, match="rewrites text before it cuts it"):
        read_donor(str(path))


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        {"type": "NFC"},
        {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
    ],
)
def test_a_donor_that_only_marks_spaces_or_orders_marks_is_taken(
    tmp_path: Path, normalizer: Any
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**byte_level(), "normalizer": normalizer}))
    assert read_donor(str(tmp_path)).family == "byte-level"


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not a SentencePiece model"):
        read_donor(str(tmp_path / "x.model"))


def test_a_byte_level_base_gets_the_half_characters_it_needs(tmp_path: Path) -> None:
    base = ByteLevelBase(json.dumps(byte_level()))
    found = find_candidates(base, read_donor(donor_file(tmp_path)), ["Han"])
    rows, _ = take(base, found, ByteRules(base))
    data = [base.read_piece(row.piece) for row in rows]
    assert data[:2] == ["嬗".encode()[:2], "嬗".encode()]
    assert "嬗变中文".encode() in data


@pytest.mark.parametrize("shared", ["々", "⻤"])
def test_a_half_character_that_others_share_is_not_added(tmp_path: Path, shared: str) -> None:
    # 々 is E3 80 85, among signs of all East Asian languages; ⻤ E2 BB A4, among free code points.
    path = tmp_path / "donor.model"
    path.write_bytes(build([(shared, -1.0), ("嬗", -2.0)]))
    base = ByteLevelBase(json.dumps(byte_level()))
    found = find_candidates(base, read_donor(str(path)), ["Han"])
    rows, misfits = take(base, found, ByteRules(base))
    assert [row.piece for row in rows] == [spell("嬗".encode()[:2]), spell("嬗".encode())]
    assert [left.piece for left in misfits] == [shared]


def test_a_byte_level_donor_leaves_its_half_characters_out(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    ren = "仁".encode()
    path.write_text(json.dumps(byte_level([(ren[:1], ren[1:2]), (ren[:2], ren[2:])])))
    found = find_candidates(BASE, read_donor(str(path)), None)
    assert [row.piece for row in found.rows] == ["仁"]
    assert "half a character" in {left.reason for left in found.left_out}


def test_the_union_is_of_sentencepiece_models(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level()))
    with pytest.raises(InputError, match="no SentencePiece model"):
        union_pieces(BASE, str(tmp_path))


def test_the_union_takes_every_kind_of_piece(tmp_path: Path) -> None:
    def pad(proto: Any) -> None:
        unigram(proto)
        charsmap(proto)
        proto.pieces.add(piece="<pad>", score=0.0, type=3)

    added = union_pieces(BASE, donor_file(tmp_path, pad))
    assert added == [piece for piece, _ in DONOR if piece not in BASE.pieces.ids] + ["<pad>"]


def test_the_published_pieces_of_chinese_llama_2_fit_mixtral(shared_data: Path) -> None:
    folder = shared_data / "tokenizers"
    base = read_base(str(folder / "mixtral-8x7b-v0.1.tokenizer.model"))
    assert isinstance(base, SentencePieceBase)
    donor = read_donor(str(folder / "chinese-llama-2-55296.tokenizer.model"))
    found = find_candidates(base, donor, ["Han"])
    rows, misfits = take(base, found, PieceRules(Spelling.of_model(base.pieces)))
    assert Counter(row.kind for row in rows)["char"] > 4_000
    assert len(rows) > 21_500
    assert len(misfits) < 700


def test_the_base_itself_is_refused_as_its_donor(tmp_path: Path) -> None:
    path = tmp_path / "base.model"
    path.write_bytes(build())
    with pytest.raises(InputError, match="the donor has nothing that the base lacks"):
        find_candidates(BASE, read_donor(str(path)), None)
