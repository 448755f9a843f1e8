"""The table of the curves and the record of the choice, by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from lingraft.vocab.alp import Curve, EvalFacts
from lingraft.vocab.choose import choose_vocabulary
from lingraft.vocab.tables import CURVE_SCHEMA, choice_record, curves_table, write_curves

# 2 documents of 20 characters, 50 bytes and 5 words in all; the base has 40 tokens, 10 of bytes.
BOOK = EvalFacts("book", 2, 20, 50, 5, 40, 10, -60.0)
WIKI = replace(BOOK, name="wiki", num_words=0)
CURVES = [
    Curve(c, s, np.array([[-50.0, -40.0], [-45.0, -35.0]]), np.array([[25, 20], [30, 24]]),
          np.array([5, 6]))
    for c, s in ((3, 3), (4, 6))
]  # fmt: skip


def test_there_is_a_row_for_every_count_text_and_size_in_this_order() -> None:
    table = curves_table(CURVES, [BOOK, WIKI])
    keys = [tuple(row[k] for k in ("num_chars", "eval", "size")) for row in table.to_pylist()]
    assert keys == [
        (3, "book", 3), (3, "book", 4), (3, "wiki", 3), (3, "wiki", 4),
        (4, "book", 6), (4, "book", 7), (4, "wiki", 6), (4, "wiki", 7),
    ]  # fmt: skip
    assert table["size"].equals(table["num_added"])


def test_a_row_holds_the_figures_of_its_text_at_its_size() -> None:
    row = curves_table(CURVES, [BOOK, WIKI]).to_pylist()[1]
    assert row == pytest.approx(
        {
            "num_chars": 3,
            "size": 4,
            "num_added": 4,
            "eval": "book",
            "alp": -40.0,
            "alp_per_byte": -1.6,
            "tokens": 20,
            "chars_per_token": 1.0,
            "tokens_per_char": 1.0,
            "bytes_per_token": 2.5,
            "tokens_per_word": 4.0,
            "byte_fallback_frac": 0.25,
            "nsl": 0.5,
        }
    )


def test_a_text_without_spaces_between_words_has_no_fertility() -> None:
    table = curves_table(CURVES, [BOOK, WIKI])
    assert table["tokens_per_word"].to_pylist() == [5.0, 4.0, None, None] * 2


def test_no_curve_gives_an_empty_table() -> None:
    assert curves_table([], [BOOK]).schema == CURVE_SCHEMA


def test_a_file_gives_the_table_back_and_is_the_same_each_time() -> None:
    table = curves_table(CURVES, [BOOK, WIKI])
    content = write_curves(table)
    assert content == write_curves(curves_table(CURVES, [BOOK, WIKI]))
    assert pq.read_table(io.BytesIO(content)).equals(table)


@pytest.mark.parametrize("broken", [replace(BOOK, num_chars=0), replace(BOOK, base_tokens=0)])
def test_an_empty_text_is_our_mistake(broken: EvalFacts) -> None:
    with pytest.raises(AssertionError, match="book has no"):
        curves_table(CURVES, [broken, WIKI])


def test_a_record_has_the_choice_its_alternatives_and_the_figures_beside_the_base() -> None:
    choice = choose_vocabulary(CURVES, [BOOK, WIKI], size=4)
    record = choice_record(choice, CURVES, [BOOK, WIKI], num_chars_in_base=7, num_pieces_in_base=9)
    assert json.loads(json.dumps(record)) == record
    assert {k: record[k] for k in ("num_chars", "size", "num_added", "rule", "knee")} == {
        "num_chars": 3, "size": 4, "num_added": 4, "rule": "given", "knee": choice.knee,
    }  # fmt: skip
    assert (record["still_pays_at_end"], record["rules_ran_out"]) == (choice.at_end, False)
    assert (record["num_chars_in_base"], record["num_pieces_in_base"]) == (7, 9)
    assert record["reasons"] == list(choice.reasons)
    assert record["counts"][1] == {
        "num_chars": 4, "first_size": 6, "last_size": 7, "alp_per_byte": None,
    }  # fmt: skip
    book = record["evals"]["book"]
    assert (book["base"]["tokens"], book["choice"]["tokens"]) == (40, 20)
    assert (book["base"]["byte_fallback_frac"], book["choice"]["nsl"]) == (0.25, 0.5)
    assert record["evals"]["wiki"]["choice"]["tokens_per_word"] is None


def test_a_record_tells_that_the_rules_ran_out() -> None:
    choice = choose_vocabulary(CURVES, [BOOK, WIKI], size=4, max_size=1_000)
    record = choice_record(choice, CURVES, [BOOK, WIKI], num_chars_in_base=7, num_pieces_in_base=9)
    assert record["rules_ran_out"] is True
