"""The price in words: a table for the terminal, a record for JSON, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .pricing import LITERATURE_TOKENS, PriceModel, PriceRow, PriceTerms, TokenCurve

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["price_record", "price_verdict", "price_view", "short_count"]

_HEADS = (
    "added\npieces ", "tokens\na\nchar.", "saved\nin 1M\nchar.", "FLOP\na\nchar.",
    "added\nparam.", "16-bit\nGB", "to\ntrain\nGB", "tokens\nto\ntrain",
    "pays\nafter\nchar.", "pays\nafter\ndays",
)  # fmt: skip


def price_verdict(row: PriceRow, terms: PriceTerms) -> list[str]:
    """Say in a few sentences whether this size pays, and what speaks against it."""
    head = (
        f"{row.size:,} pieces: {1 - row.tokens_frac:.1%} fewer tokens and "
        f"{row.compute_frac:.2f} of the base's compute for a character."
    )
    if row.flop_saved_per_char <= 0:
        return [head, "Do not extend to save compute: the longer softmax costs what tokens save."]
    said = [head]
    if row.train_tokens_needed is None:
        said.append("The evaluation text does not show how often the last pieces occur.")
    else:
        said.append(
            f"{short_count(row.train_tokens_needed)} tokens of training show each of the last "
            f"pieces {terms.min_occurrences:,} times{_corpus_note(row, terms)}."
        )
        said.append(_pay_back_note(row, terms))
    if row.literature_break_even_chars is not None:
        low, high = row.literature_break_even_chars
        tokens = " to ".join(short_count(n) for n in LITERATURE_TOKENS)
        days = ""
        if terms.serve_chars_per_day:
            spans = (n / terms.serve_chars_per_day for n in (low, high))
            days = f", {' to '.join(_days(n) for n in spans)}"
        said.append(
            f"Published extensions took {tokens} tokens (quoted, not derived): paid back after "
            f"{short_count(low)} to {short_count(high)} characters{days}."
        )
    return said


def _corpus_note(row: PriceRow, terms: PriceTerms) -> str:
    if not terms.train_chars or row.occurrences_in_training is None:
        return ""
    seen = row.occurrences_in_training
    few = " (too few)" if seen < terms.min_occurrences else ""
    return f"; the training corpus shows them {seen:,.0f} times{few}"


def _pay_back_note(row: PriceRow, terms: PriceTerms) -> str:
    assert row.break_even_chars is not None, "what saves compute is paid back at some time"
    after = f"paid back after {short_count(row.break_even_chars)} characters served"
    if row.break_even_days is None:
        return f"That is {after}; no serving volume is given, so no time."
    pays = row.break_even_days <= terms.horizon_days
    return (
        f"{'Extend' if pays else 'Do not extend for this volume'}: that is {after}, "
        f"{_days(row.break_even_days)} ({'within' if pays else 'more than'} "
        f"{terms.horizon_days:,.0f})."
    )


def price_view(rows: Sequence[PriceRow], chosen: int | None = None) -> Table:
    """Lay rows out for the terminal, 80 columns wide; the chosen size is marked."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row.size:,}{'*' if row.size == chosen else ' '}",
            f"{row.tokens_per_char:.3f}",
            short_count(row.tokens_saved_per_1m_chars),
            f"{row.compute_frac:.3f}",
            short_count(row.added_parameters),
            f"{row.added_bytes_16_bit / 1e9:.2f}",
            f"{row.added_bytes_trained / 1e9:.2f}",
            *("-" if n is None else short_count(n)
              for n in (row.train_tokens_needed, row.break_even_chars)),
            "-" if row.break_even_days is None else _number_of_days(row.break_even_days),
            style="bold" if row.size == chosen else "",
        )  # fmt: skip
    return table


def price_record(
    rows: Sequence[PriceRow],
    curve: TokenCurve,
    model: PriceModel,
    terms: PriceTerms,
    chosen: int,
) -> dict[str, Any]:
    """Give everything, ready for JSON; `chosen` is the size that the verdict is on."""
    row = next((r for r in rows if r.size == chosen), None)
    assert row is not None, f"{chosen:,} pieces are not among the rows"
    return {
        "eval": curve.eval,
        "num_chars": curve.num_chars,
        "base_tokens_per_char": curve.base_tokens / curve.text_chars,
        "model": asdict(model),
        "terms": asdict(terms),
        "literature_tokens": list(LITERATURE_TOKENS),
        "verdict": price_verdict(row, terms),
        "rows": [asdict(r) for r in rows],
    }


def short_count(value: float) -> str:
    """Write a number with three digits: thousands (K), millions (M), billions (B), trillions."""
    sign, number = ("-" if value < 0 else ""), abs(value)
    units, power = ("", "K", "M", "B", "T"), 0
    while number >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    digits = f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"
    return f"{sign}{digits}{units[power]}"


def _days(days: float) -> str:
    return f"{_number_of_days(days)} days"


def _number_of_days(days: float) -> str:
    return f"{days:,.1f}" if days < 10 else f"{days:,.0f}"
