"""A byte-level base that lacks bytes is searched with a piece for each of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_tokenizers import byte_level, extend, trained_bytes, without_bytes
from searches import Teller, search_files, write_rows

from lingraft.bases import ByteLevelBase
from lingraft.tokenizer.extending import extend as extend_files
from lingraft.vocab.alphabet import BARRIER, Alphabet
from lingraft.vocab.chars import CharPieces
from lingraft.vocab.targets import read_alphabet

BASE = ByteLevelBase(json.dumps(without_bytes(byte_level(), b"x\xac")))
HAN = Alphabet(BASE, ["Han"])
V = 258
"""256 ids, of which two are free, and two for x and AC."""
SHAN, BIAN = V + ord("嬗"), V + ord("变")
"""E5 AC 97 and E5 8F 98."""


def test_a_missing_byte_parts_what_stands_beside_it_and_is_counted() -> None:
    codes, fixed_V = HAN.read(["变x变"])
    assert codes.tolist() == [BIAN, BARRIER, BIAN, BARRIER]
    assert fixed_V[256] == 1
    assert int(fixed_V.sum()) == 1
    assert HAN.base.piece_bytes(256) == b"x"
    assert (HAN.missing_bytes, HAN.num_base) == (b"x\xac", V)


def test_a_character_that_is_spelled_with_a_missing_byte_may_become_a_piece() -> None:
    codes, _ = HAN.read(["嬗变"])
    assert codes.tolist() == [SHAN, BIAN, BARRIER]
    assert HAN.spelling(SHAN) == (0xE5, 257, 0x97)


def test_a_base_of_all_bytes_is_taken_as_it_is() -> None:
    whole = ByteLevelBase(json.dumps(byte_level()))
    alphabet = Alphabet(whole, ["Han"])
    assert alphabet.base is whole
    assert alphabet.missing_bytes == b""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = "嬗变x嬗变\x04嬗变嬗变"
    write_rows(tmp_path / "zh.jsonl", [text] * 20)
    write_rows(tmp_path / "eval.jsonl", [text, "变嬗"])
    spec = without_bytes(byte_level(), b"x\x04\xac")
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    return tmp_path


@pytest.mark.usefixtures("without_plots")
def test_a_search_tells_of_the_bytes_and_its_pieces_extend_the_base(place: Path) -> None:
    asked: dict[str, Any] = {"chars": [2], "max_size": 6, "size": 5, "scripts": ["Han"]}
    result = search_files(base="tokenizer.json", **asked)
    assert result.choice["base"]["size"] == 256
    assert result.choice["base"]["missing_bytes"] == [0x04, ord("x"), 0xAC]
    assert (
        result.choice["base"]["sha256"]
        == ByteLevelBase((place / "tokenizer.json").read_text()).digest
    )
    made = extend_files(base="tokenizer.json", pieces="out", out="extended")
    assert made.size == 256 + 3 + 5
    extended = ByteLevelBase((place / "extended" / "tokenizer.json").read_text(encoding="utf-8"))
    shown = [extended.piece_bytes(id) for id in extended.encode_batch(["嬗变x嬗"])[0]]
    assert shown == ["嬗变".encode(), b"x", "嬗".encode()]


def test_the_bytes_are_noted_when_a_base_is_read(place: Path) -> None:
    teller = Teller()
    read_alphabet("tokenizer.json", ["Han"], None, [], "text", teller.note)
    assert teller.notes[0].startswith("the base has no piece for 3 of the 256 bytes (04 78 AC)")


def test_what_is_scored_is_what_the_extended_tokenizer_does() -> None:
    spec = without_bytes(json.loads(trained_bytes()), b"\x04\xb8\xe4")
    alphabet = Alphabet(ByteLevelBase(json.dumps(spec)), ["Han"])
    chars = np.array([alphabet.code_of_point[ord(c)] for c in "中文上"], np.int32)
    spelled = [c for c in chars.tolist() if c >= alphabet.num_base]
    assert spelled
    rows = CharPieces(alphabet, spelled).rows(len(spelled))
    base = json.loads(alphabet.base.content)  # type: ignore[attr-defined]
    extended = ByteLevelBase(extend(base, rows, alphabet.num_base))
    for code in spelled:
        assert len(extended.spell(alphabet.text_of(code).encode())) == 1
