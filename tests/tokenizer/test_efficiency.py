"""Figures worked out by hand on models of a few pieces."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from byte_tokenizers import byte_level
from rich.console import Console
from small_tokenizers import FIRST, build

from lingraft.bases import ByteLevelBase, SentencePieceBase
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.efficiency import (
    Efficiency,
    TextSize,
    TokenCount,
    TokenCounter,
    TokenizerFacts,
    measure_texts,
    tabulate,
)
from lingraft.tokenizer.efficiency_text import (
    efficiency_csv,
    efficiency_markdown,
    efficiency_notes,
    efficiency_record,
    efficiency_views,
)


def facts(name: str, reason: str = "") -> TokenizerFacts:
    return TokenizerFacts(name, f"{name}.model", 300, "sentencepiece", "compiled", reason)


def table() -> Efficiency:
    """Two tokenizers on an English and a Chinese text."""
    sizes = {"en": measure_texts(["abc abc", "abc"]), "zh": measure_texts(["中文嗨"])}
    counts = {
        "en": [TokenCount(6, 0, 0), TokenCount(3, 0, 0)],
        "zh": [TokenCount(5, 3, 0), TokenCount(4, 0, 1)],
    }
    return tabulate([facts("base"), facts("a|b", "it is slow")], sizes, counts)


def test_a_text_is_measured_in_documents_bytes_characters_and_words() -> None:
    size = measure_texts(["ab  cd\n", "", " é "])
    assert size == TextSize(3, 11, 10, 3, 5, 0)
    assert size.num_words == 3
    assert measure_texts([]) == TextSize()


def test_words_are_what_str_split_gives() -> None:
    texts = ["\u3000a b\x85c\u200b d", "x\u2028y", "", "  "]
    assert measure_texts(texts).num_between_spaces == sum(len(text.split()) for text in texts)


@pytest.mark.parametrize(
    ("text", "has_words"),
    [
        ("hello big world", True),
        ("안녕 세계", True),
        ("नमस्ते दुनिया", True),
        ("今天天气很好", False),
        ("ありがとう", False),
        ("วันนี้อากาศดี", False),
        ("中 bcdefghijk", True),  # one letter of eleven
        ("中 bcdefghij", False),  # one of ten
        ("1 2 3", False),
    ],
)
def test_words_are_counted_where_scripts_put_spaces(text: str, has_words: bool) -> None:
    assert (measure_texts([text]).num_words is not None) == has_words


def test_byte_pieces_of_sentencepiece_are_byte_tokens() -> None:
    counter = TokenCounter(SentencePieceBase(SentencePieces(build())))
    docs = [np.array([FIRST, 3 + 0xE5, 3 + 0x0A], np.int32), np.array([0], np.int32)]
    assert counter.count(docs) == TokenCount(4, 2, 1)
    assert counter.count([]) == TokenCount()


def test_a_piece_that_is_spelled_like_a_byte_is_none() -> None:
    base = SentencePieceBase(SentencePieces(build([("▁", -1.0), ("<0xZZ>", -2.0)])))
    assert TokenCounter(base).count([np.array([FIRST + 1], np.int32)]) == TokenCount(1, 0, 0)


def test_parts_of_characters_are_byte_tokens_of_a_byte_level_vocabulary() -> None:
    spec = byte_level([(b"\xe4", b"\xb8"), (b"\xe4\xb8", b"\xad"), (b"a", b"b")])
    counter = TokenCounter(ByteLevelBase(json.dumps(spec)))
    ids = np.array([ord("a"), 0xE4, 256, 257, 258], np.int32)  # a, E4, E4 B8, 中, ab
    assert counter.count([ids]) == TokenCount(5, 2, 0)


def test_every_figure_of_a_row_is_as_by_hand() -> None:
    base, other = table().rows_of("en")
    assert (base.tokens, base.bytes_per_token, base.chars_per_token) == (6, 10 / 6, 10 / 6)
    assert (base.byte_token_frac, base.tokens_per_word) == (0.0, 2.0)
    assert (base.tokens_frac, base.saved_frac) == (1.0, 0.0)
    assert (other.tokens_per_word, other.tokens_frac, other.saved_frac) == (1.0, 0.5, 0.5)


def test_a_chinese_text_has_no_words_and_its_bytes_are_shares() -> None:
    row = table().rows_of("zh")[0]
    assert (row.bytes_per_token, row.chars_per_token) == (9 / 5, 3 / 5)
    assert (row.byte_token_frac, row.tokens_per_word) == (3 / 5, None)


def test_the_total_is_of_sums_and_has_no_words_where_one_text_has_none() -> None:
    base, other = table().rows_of("total")
    assert (base.tokens, base.bytes_per_token, base.byte_token_frac) == (11, 19 / 11, 3 / 11)
    assert (base.tokens_per_word, other.tokens_frac, other.unknown_tokens) == (None, 7 / 11, 1)


def test_the_total_of_texts_of_words_has_words() -> None:
    sizes = {name: measure_texts(["a b"]) for name in ("x", "y")}
    made = tabulate([facts("t")], sizes, {"x": [TokenCount(3)], "y": [TokenCount(5)]})
    assert made.rows_of("total")[0].tokens_per_word == 2.0


def test_one_text_has_no_total() -> None:
    made = tabulate([facts("t")], {"x": measure_texts(["a"])}, {"x": [TokenCount(1)]})
    assert [text.name for text in made.texts] == ["x"]


def test_no_tokens_give_no_figures() -> None:
    made = tabulate([facts("t")], {"x": measure_texts(["a"])}, {"x": [TokenCount()]})
    row = made.rows[0]
    assert (row.bytes_per_token, row.byte_token_frac, row.saved_frac) == (None, None, None)
    assert "| – | – |" in efficiency_markdown(made)


def test_csv_and_json_hold_the_same_rows() -> None:
    rows = list(csv.DictReader(io.StringIO(efficiency_csv(table()))))
    as_text = [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in efficiency_record(table())["rows"]
    ]
    assert rows == as_text


def test_markdown_shows_the_figures_of_the_json() -> None:
    lines = efficiency_markdown(table()).splitlines()
    record = efficiency_record(table())
    shown = [line for line in lines if line.startswith(("| base", "| a\\|b"))]
    for line, row in zip(shown, record["rows"], strict=True):
        assert f"| {row['tokens']:,} |" in line
        assert f"| {row['saved_frac']:.1%} |" in line
    assert "## zh" in lines
    assert "1 document, 9 bytes, 3 characters." in lines


def test_notes_tell_losses_and_why_an_encoder_was_not_ours() -> None:
    notes = "\n".join(efficiency_notes(table()))
    assert "a|b: 1 unknown piece: the text" in notes
    assert "a|b: encoded by compiled: it is slow." in notes
    assert "the others: encoded by the compiled encoder" in notes


def test_the_terminal_shows_words_only_where_a_text_has_some() -> None:
    def shown(made: Efficiency) -> str:
        console = Console(width=80, record=True, file=io.StringIO())
        for view in efficiency_views(made):
            console.print(view)
        return console.export_text()

    sizes, counts = {"zh": measure_texts(["中"])}, {"zh": [TokenCount(1_234_567)]}
    assert "word" not in shown(tabulate([facts("t")], sizes, counts))
    text = shown(table())
    assert "word" in text
    assert "2.000" in text
    assert max(map(len, text.splitlines())) <= 80
