"""The price of an extension, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lingraft.errors import UsageError
from lingraft.vocab.alp import Curve, EvalFacts
from lingraft.vocab.choose import choose_vocabulary
from lingraft.vocab.pricing import (
    PriceModel,
    PriceRow,
    PriceTerms,
    TokenCurve,
    parse_model,
    price_sizes,
    price_table,
    read_token_curve,
)
from lingraft.vocab.pricing_text import price_record, price_verdict, price_view, short_count
from lingraft.vocab.tables import choice_record, curves_table

# 100 characters: 200 tokens in the base, 120 with 10 characters, 2 fewer for each rule.
CURVE = TokenCurve("book", 10, 10, np.arange(120, 99, -2), 100, 200)
MODEL = PriceModel(10, 1_000, 4_000, 50)
TERMS = PriceTerms(train_chars=10_000, serve_chars_per_day=1e3, min_occurrences=100)


def price(
    size: int, model: PriceModel = MODEL, terms: PriceTerms = TERMS, **changes: Any
) -> PriceRow:
    return price_sizes(replace(CURVE, **changes), model, terms, [size])[0]


def test_tokens_saved_follow_from_tokens_a_character() -> None:
    """At 20 pieces 100 tokens a 100 characters, the base has 200: 1 saved a character."""
    row = price(20)
    assert (row.tokens_per_char, row.tokens_frac) == (1.0, 0.5)
    assert (row.tokens_saved_per_1m_chars, row.tokens_saved_in_training) == (1e6, 10_000)
    assert row.tokens_saved_per_day == 1e3


@pytest.mark.parametrize(("tied", "added"), [(True, 200), (False, 400)])
def test_every_piece_adds_a_row_to_each_table(tied: bool, added: int) -> None:
    row = price(20, replace(MODEL, tied=tied))
    assert (row.added_parameters, row.added_frac) == (added, added / 4_000)
    assert (row.added_bytes_16_bit, row.added_bytes_trained) == (2 * added, 16 * added)
    assert row.softmax_flop_per_token == 2 * 20 * 10  # the head has the rows, tied or not


def test_fewer_tokens_are_set_against_a_longer_softmax() -> None:
    """Base: 2 x 1,000 x 2 = 4,000 FLOP a character; extended: 2 x 1,200 x 1 = 2,400."""
    row = price(20)
    assert row.flop_saved_per_char == pytest.approx(1_600)
    assert row.compute_frac == pytest.approx(0.6)


def test_tokens_to_train_follow_from_the_frequency_of_the_last_pieces() -> None:
    """10 rules saved 20 tokens of 100 characters: each piece 0.02 a character; 100 of it take
    5,000 characters, or as many tokens; the corpus of 10,000 has 200."""
    row = price(20)
    assert row.train_chars_needed == pytest.approx(5_000)
    assert row.train_tokens_needed == pytest.approx(5_000)
    assert row.occurrences_in_training == pytest.approx(200)


def test_only_the_last_thousand_pieces_count_as_the_margin() -> None:
    """1,000 rules of 5 joins, then 1,000 of 1, in 10,000 characters."""
    joins = np.repeat([5, 1], 1_000)
    tokens = 20_000 - np.concatenate([[0], np.cumsum(joins)])
    row = price(2_010, tokens_K=tokens, text_chars=10_000, base_tokens=30_000)
    assert row.train_chars_needed == pytest.approx(100 / 1e-4)


def test_training_is_paid_back_by_what_a_character_saves() -> None:
    """6 x 1,200 FLOP x 5,000 tokens, over 1,600 FLOP a character; 1,000 characters a day."""
    row = price(20)
    assert row.break_even_chars == pytest.approx(22_500)
    assert row.break_even_days == pytest.approx(22.5)
    assert row.literature_break_even_chars == pytest.approx((4.5e8, 9e9))


def test_a_head_that_costs_more_than_tokens_save_is_never_paid_back() -> None:
    row = price(20, replace(MODEL, hidden_size=20), base_tokens=110)
    assert row.compute_frac == pytest.approx(1_400 / 1_100)
    assert (row.break_even_chars, row.literature_break_even_chars) == (None, None)
    assert price_verdict(row, TERMS)[1].startswith("Do not extend to save compute")


def test_the_first_size_has_no_rule_to_tell_a_frequency_by() -> None:
    row = price(10)
    assert (row.train_tokens_needed, row.break_even_chars, row.occurrences_in_training) == (
        None, None, None,
    )  # fmt: skip
    assert "does not show how often" in price_verdict(row, TERMS)[1]


def test_without_serving_there_is_no_time() -> None:
    terms = replace(TERMS, serve_chars_per_day=0.0)
    row = price(20, terms=terms)
    assert (row.break_even_days, row.tokens_saved_per_day) == (None, 0.0)
    assert "no serving volume is given" in price_verdict(row, terms)[2]


def test_the_verdict_tells_tokens_compute_training_and_time() -> None:
    assert price_verdict(price(20), TERMS) == [
        "20 pieces: 50.0% fewer tokens and 0.60 of the base's compute for a character.",
        "5K tokens of training show each of the last pieces 100 times; the training corpus shows "
        "them 200 times.",
        "Extend: that is paid back after 22.5K characters served, 22 days (within 365).",
        "Published extensions took 100M to 2B tokens (quoted, not derived): paid back after 450M "
        "to 9B characters, 450,000 days to 9,000,000 days.",
    ]


def test_a_corpus_that_is_too_small_and_a_time_that_is_too_long_are_told() -> None:
    terms = replace(TERMS, train_chars=1_000, horizon_days=20)
    said = price_verdict(price(20, terms=terms), terms)
    assert said[1].endswith("the training corpus shows them 20 times (too few).")
    assert said[2].startswith("Do not extend for this volume")
    assert "(more than 20)" in said[2]


def test_no_training_corpus_is_not_compared() -> None:
    terms = replace(TERMS, train_chars=0)
    assert price_verdict(price(20, terms=terms), terms)[1].endswith("pieces 100 times.")


def test_a_table_has_round_sizes_both_ends_and_the_choice() -> None:
    curve = replace(CURVE, tokens_K=np.arange(20_000, 10_000, -1), text_chars=20_000)
    sizes = [row.size for row in price_table(curve, MODEL, TERMS, 1_234, most=5)]
    assert sizes == [10, 1_234, 2_000, 4_000, 6_000, 8_000, 10_000, 10_009]


@pytest.mark.parametrize("size", [9, 21])
def test_a_size_that_the_curve_lacks_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="has 10 to 20 added pieces"):
        price(size)


def test_a_model_is_read_from_its_numbers() -> None:
    mixtral = PriceModel(4096, 12_900_000_000, 46_700_000_000, 32000)
    assert parse_model("hidden=4096, active=12.9e9,total=46.7e9,vocab=32000") == mixtral
    assert parse_model("tied=True,hidden=1,active=2,total=2,vocab=2").tied


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hidden=1,active=2,total=2", r"missing \['vocab'\]"),
        ("hidden=1,active=2,total=2,vocab=2,depth=3", r"unknown \['depth'\]"),
        ("hidden=1,hidden=1,active=2,total=2,vocab=2", "given twice"),
        ("hidden=x,active=2,total=2,vocab=2", "hidden = 'x' is no such value"),
        ("hidden=inf,active=2,total=2,vocab=2", "hidden = 'inf' is no such value"),
        ("hidden=1,active=nan,total=2,vocab=2", "active = 'nan' is no such value"),
        ("hidden=1,active=2,total=1e999,vocab=2", "total = '1e999' is no such value"),
        ("hidden=1,active=2,total=2,vocab=-inf", "vocab = '-inf' is no such value"),
        ("hidden=1,active=2,total=2,vocab=2,tied=1", "tied = '1' is no such value"),
        ("hidden=0,active=2,total=2,vocab=2", "1 or more"),
        ("hidden=2,active=3,total=4,vocab=2", "hidden x vocab = 4 <= active = 3"),
        ("hidden=1,active=5,total=4,vocab=2", "active = 5 <= total = 4"),
    ],
)
def test_a_model_that_cannot_be_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_model(text)


@pytest.mark.parametrize(
    "terms",
    [{"train_chars": -1}, {"serve_chars_per_day": -1.0}, {"min_occurrences": 0},
     {"horizon_days": 0.0}],
)  # fmt: skip
def test_negative_amounts_are_refused(terms: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        PriceTerms(**terms)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["train_chars", "serve_chars_per_day", "min_occurrences", "horizon_days"]
)
def test_an_amount_that_is_not_finite_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} = {value}: expected a finite number"):
        PriceTerms(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name", ["hidden_size", "num_active_parameters", "num_parameters", "vocab_size"]
)
def test_a_shape_that_is_not_finite_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} = {value}: expected a finite number"):
        replace(MODEL, **{name: value})  # type: ignore[arg-type]


EVALS = [EvalFacts("book", 1, 100, 300, 0, 200, 50, -90.0)]
CURVES = [
    Curve(c, c, np.array([range(-70, -59)], np.float64), CURVE.tokens_K[None], np.array([5]))
    for c in (10, 12)
]


def test_a_curve_is_read_back_from_what_a_search_wrote() -> None:
    choice = choose_vocabulary(CURVES, EVALS, size=12, num_chars=10)
    record = choice_record(choice, CURVES, EVALS, num_chars_in_base=0, num_pieces_in_base=0)
    table = curves_table(CURVES, EVALS)
    curve = read_token_curve(table, record, "book")
    assert (curve.start, curve.end, curve.text_chars, curve.base_tokens) == (10, 20, 100, 200)
    assert curve.tokens_K.tolist() == CURVE.tokens_K.tolist()
    assert read_token_curve(table, record, "book", 12).start == 12
    with pytest.raises(UsageError, match="no text 'wiki' with 10 single") as caught:
        read_token_curve(table, record, "wiki")
    assert "Texts: book. Counts: 10, 12." in str(caught.value)


@pytest.mark.parametrize("gone", ["num_chars", "size", "evals"])
def test_a_record_of_something_else_is_no_finished_search(gone: str) -> None:
    choice = choose_vocabulary(CURVES, EVALS, size=12)
    record = choice_record(choice, CURVES, EVALS, num_chars_in_base=0, num_pieces_in_base=0)
    table = curves_table(CURVES, EVALS)
    del record[gone]
    with pytest.raises(UsageError, match=f"no finished search: choice.json has no {gone}"):
        read_token_curve(table, record, "book")
    with pytest.raises(UsageError, match=r"choice\.json has no num_chars, size, evals"):
        read_token_curve(table, {}, "book", 10)


def test_a_table_of_something_else_is_no_finished_search() -> None:
    choice = choose_vocabulary(CURVES, EVALS, size=12)
    record = choice_record(choice, CURVES, EVALS, num_chars_in_base=0, num_pieces_in_base=0)
    table = curves_table(CURVES, EVALS).drop_columns(["tokens"])
    with pytest.raises(UsageError, match=r"no finished search: curves.parquet has no tokens"):
        read_token_curve(table, record, "book")


def test_the_terminal_table_fits_80_columns_and_marks_the_choice() -> None:
    console = Console(width=80, record=True, file=None, quiet=False)
    curve = replace(CURVE, tokens_K=np.arange(200_000, 150_000, -1), text_chars=100_000)
    mixtral = PriceModel(4096, 12_900_000_000, 46_700_000_000, 32000)
    rows = price_table(replace(curve, base_tokens=210_000), mixtral, TERMS, 25_123)
    with console.capture() as captured:
        console.print(price_view(rows, 25_123))
    lines = captured.get().splitlines()
    assert "…" not in captured.get()
    assert [line.split()[0] for line in lines if "*" in line] == ["25,123*"]


def test_a_record_is_ready_for_json_and_holds_the_verdict_on_the_choice() -> None:
    rows = price_sizes(CURVE, MODEL, TERMS, [10, 20])
    record = price_record(rows, CURVE, MODEL, TERMS, 20)
    assert json.loads(json.dumps(record))["rows"][1]["size"] == 20
    assert record["verdict"] == price_verdict(rows[1], TERMS)
    assert record["base_tokens_per_char"] == 2.0
    with pytest.raises(AssertionError, match="11 pieces are not among the rows"):
        price_record(rows, CURVE, MODEL, TERMS, 11)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.6, "1K"), (1_234, "1.23K"), (4e6, "4M"), (-2.5e9, "-2.5B"),
     (7e12, "7T"), (3e16, "30,000T")],
)  # fmt: skip
def test_numbers_are_shortened_to_three_digits(value: float, text: str) -> None:
    assert short_count(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_endless_amounts_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="finite"):
        PriceTerms(serve_chars_per_day=value)
