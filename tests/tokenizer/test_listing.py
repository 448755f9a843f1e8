"""Lists of pieces, in every shape that people and the search write them."""

import json
from pathlib import Path

import pytest
from byte_tokenizers import byte_level, spell
from small_tokenizers import build

from lingraft.bases import ByteLevelBase, SentencePieceBase
from lingraft.errors import InputError, UsageError
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.listing import read_pieces, readable, splits_digits

MODEL = SentencePieceBase(SentencePieces(build()))
BYTES = ByteLevelBase(json.dumps(byte_level()))


def text_file(folder: Path, content: str, name: str = "pieces.txt") -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_a_line_is_a_json_string_or_the_piece_itself(tmp_path: Path) -> None:
    path = text_file(tmp_path, '"嬗"\n变\n\n"\\"a"\n▁中\r\n b c\n')
    listed = read_pieces(path, MODEL)
    assert [row.piece for row in listed.rows] == ["嬗", "变", '"a', "▁中", "▁b▁c"]
    assert [row.kind for row in listed.rows] == ["char", "char", "rule", "rule", "rule"]
    assert listed.places[2] == f"{path}:4"


def test_a_byte_level_base_spells_text_and_half_characters_in_bytes(tmp_path: Path) -> None:
    listed = read_pieces(text_file(tmp_path, '"▁中"\n"<0xE5><0xAC>"\n"嬗"\n'), BYTES)
    assert [row.piece for row in listed.rows] == [
        spell(" 中".encode()),
        spell(b"\xe5\xac"),
        spell("嬗".encode()),
    ]
    assert [row.kind for row in listed.rows] == ["rule", "partial", "char"]


def test_a_half_character_has_no_place_in_a_sentencepiece_model(tmp_path: Path) -> None:
    listed = read_pieces(text_file(tmp_path, "<0xE5><0xAC>\n"), MODEL)
    assert listed.rows[0].kind == "partial"


def test_a_search_s_folder_gives_rows_scripts_and_its_base(tmp_path: Path) -> None:
    row = {"piece": "嬗", "kind": "char", "left": "", "right": "", "count": 3}
    text_file(tmp_path, json.dumps(row) + "\n", "pieces.jsonl")
    text_file(tmp_path, '"变"\n')
    choice = {"scripts": ["Han"], "base": {"family": "sentencepiece", "sha256": "ab"}}
    text_file(tmp_path, json.dumps(choice), "choice.json")
    listed = read_pieces(tmp_path, MODEL)
    assert [row.piece for row in listed.rows] == ["嬗"]
    assert (listed.scripts, listed.base_sha256) == (("Han",), "ab")
    with pytest.raises(InputError, match="spelled for a sentencepiece tokenizer"):
        read_pieces(tmp_path, BYTES)


def test_pieces_in_a_byte_alphabet_are_no_text(tmp_path: Path) -> None:
    spelled = spell("你好".encode())
    with pytest.raises(InputError, match="for '你好'"):
        read_pieces(text_file(tmp_path, f"{spelled}\n"), BYTES)
    row = json.dumps({"piece": spelled, "kind": "rule"})
    with pytest.raises(InputError, match="spelled in a byte alphabet"):
        read_pieces(text_file(tmp_path, row, "pieces.jsonl"), MODEL)


def test_accented_text_is_not_taken_for_a_byte_alphabet(tmp_path: Path) -> None:
    assert len(read_pieces(text_file(tmp_path, "été\nÅngström\n"), MODEL).rows) == 2


def test_a_broken_string_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pieces\.txt:2: begins with a double quote"):
        read_pieces(text_file(tmp_path, '"嬗"\n"变\n'), MODEL)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pieces"):
        read_pieces(text_file(tmp_path, "\n"), MODEL)


@pytest.mark.parametrize("name", ["", "nothing.txt"])
def test_a_list_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lingraft vocab search"):
        read_pieces(tmp_path / name, MODEL)


def test_a_piece_is_shown_as_text() -> None:
    assert readable(MODEL, "▁中") == "▁中"
    assert readable(BYTES, spell(" 中".encode())) == "▁中"
    assert readable(BYTES, spell(b"\xe5\xac")) == "<0xE5><0xAC>"
    assert readable(BYTES, "中") == "中"


def test_bytes_are_no_digits_until_they_join() -> None:
    assert splits_digits(BYTES)
    assert not splits_digits(ByteLevelBase(json.dumps(byte_level([(b"1", b"8")]))))


@pytest.mark.parametrize("choice", ['{"base": 3}', '{"scripts": "Han"}'])
def test_a_damaged_record_of_a_search_is_refused(tmp_path: Path, choice: str) -> None:
    text_file(tmp_path, "嬗\n")
    text_file(tmp_path, choice, "choice.json")
    with pytest.raises(InputError, match=r"choice\.json: not the record of a search"):
        read_pieces(tmp_path, MODEL)
