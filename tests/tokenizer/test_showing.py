"""Pieces of a text on the terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from byte_tokenizers import byte_level
from rich.console import Console
from small_tokenizers import BY_HAND, FIRST, build

from lingraft.errors import UsageError
from lingraft.tokenizer.showing import ShowResult, escape_text, show, show_colours, show_lines


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.model").write_bytes(build())
    (tmp_path / "ours.model").write_bytes(build((*BY_HAND, ("▁abc", -20.0))))
    (tmp_path / "gpt.json").write_text(json.dumps(byte_level([(b" ", b"\xe4")])), encoding="utf-8")
    return tmp_path


def painted(text: str, tokenizers: list[str], *, ids: bool = False) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="truecolor", record=True, width=80
    )
    console.print(show_colours(show(text, tokenizers), ids=ids), soft_wrap=True)
    return console.export_text(styles=True)


def test_pieces_are_those_of_the_encoder(place: Path) -> None:
    (shown,) = show("abc嗨", "base.model").tokenizers
    assert [piece.id for piece in shown.pieces] == [
        FIRST + 6,
        FIRST + 3,
        3 + 0xE5,
        3 + 0x97,
        3 + 0xA8,
    ]
    assert [piece.text for piece in shown.pieces] == ["▁", "abc", "<0xE5>", "<0x97>", "<0xA8>"]
    assert [piece.bytes for piece in shown.pieces] == ["20", "616263", "e5", "97", "a8"]
    assert [piece.is_text for piece in shown.pieces] == [True, True, False, False, False]


def test_a_piece_of_half_a_character_is_bytes(place: Path) -> None:
    (shown,) = show(" 中", "gpt.json").tokenizers
    assert [piece.text for piece in shown.pieces][-2:] == ["<0xB8>", "<0xAD>"]
    assert "<0xE4>" in shown.pieces[-3].text


def test_lines_tell_count_and_change_against_the_first(place: Path) -> None:
    lines = show_lines(show("abc|a", ["base.model", "x=ours.model", "gpt.json"]))
    assert lines[:3] == ["base", r"▁|abc|<0x7C>|a", "4 tokens"]
    assert lines[4:7] == ["x", r"▁abc|<0x7C>|a", "3 tokens, 25.0% fewer than base"]
    assert r"a|b|c|\||a" in lines
    assert lines[-1] == "5 tokens, 25.0% more than base"


def test_equal_counts_are_told_so(place: Path) -> None:
    assert show_lines(show("b", ["base.model", "ours.model"]))[-1] == "2 tokens, as many as base"


def test_an_empty_text_has_no_tokens(place: Path) -> None:
    assert show_lines(show("", ["base.model", "ours.model"]))[-1] == "0 tokens"


def test_backgrounds_alternate_and_bytes_have_their_own(place: Path) -> None:
    view = show_colours(show("abc嗨", "base.model"))
    styles = {view.plain[span.start : span.end]: str(span.style) for span in view.spans}
    assert styles["▁"] != styles["abc"]
    assert styles["<0xE5>"] == styles["<0xA8>"] != styles["<0x97>"]
    assert len({styles[piece] for piece in ("▁", "abc", "<0xE5>", "<0x97>")}) == 4
    assert all(" on #" in styles[piece] for piece in ("▁", "abc", "<0xE5>", "<0x97>"))


def test_a_terminal_gets_the_colours(place: Path) -> None:
    assert "\x1b[" in painted("abc", ["base.model"])


def test_ids_stand_beside_pieces(place: Path) -> None:
    assert "abc\x1b[0m" in painted("abc", ["base.model"])
    assert f":{FIRST + 3}" in painted("abc", ["base.model"], ids=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a▁b"),
        ("\n\r\t", r"\n\r\t"),
        ("\x1b[0m\x00\x7f\x9b", r"\x1b[0m\x00\x7f\x9b"),
        ("\u202e\u200d\u2028\ufe0f\u3000", r"\u202e\u200d\u2028\ufe0f\u3000"),
        ("\U000e0100\U000e0041", r"\U000e0100\U000e0041"),
        ("\\n", r"\\n"),
        ("▁", r"\u2581"),
        ("嗨é́😀", "嗨é́😀"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_spelled_out(text: str, shown: str) -> None:
    assert escape_text(text) == shown


def test_no_control_character_of_the_text_reaches_the_terminal(place: Path) -> None:
    text = "".join(map(chr, range(32))) + "\x7f\x9b\u202e"
    for tokenizer in ("base.model", "gpt.json"):
        lines = "".join(show_lines(show(text, tokenizer)))
        assert not any(char in lines for char in text)


def test_an_unknown_piece_is_shown_by_its_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.exact.Encoder.encode", lambda *_: np.zeros(1, np.int32))
    (shown,) = show("x", "base.model").tokenizers
    assert (shown.pieces[0].text, shown.pieces[0].is_text) == ("<unk>", False)


def test_why_a_library_encodes_is_told(place: Path) -> None:
    shown = show("abc", "base.model").tokenizers[0]
    result = ShowResult("abc", (replace(shown, encoder="sentencepiece", reason="it is odd"),))
    assert show_lines(result)[1] == "(encoded by sentencepiece: it is odd)"
    assert "it is odd" in show_colours(result).plain


def test_a_text_that_is_no_utf8_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        show("a\udcff", "base.model")


def test_the_record_is_plain_values(place: Path) -> None:
    record = show("abc", {"b": "base.model"}).record
    assert json.loads(json.dumps(record))["tokenizers"][0]["name"] == "b"
