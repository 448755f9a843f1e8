"""Should this base be extended at all, and by how many pieces? Arithmetic, before any training.

For a text of C characters that the base writes in T0 tokens and s added pieces in T(s); a model
of P parameters that every token visits (head included), H wide; m = 1 where input and output
share their rows, 2 where not; o occurrences that a new row needs to be learned:

    tokens a character           r(s) = T(s) / C,   r0 = T0 / C
    tokens saved, n characters   n · (r0 - r(s))
    added parameters             A = s · H · m
    their size                   2 · A bytes in 16 bit; 16 · A bytes while trained (float32 weight,
                                 gradient and two AdamW moments)
    FLOP a token, inference      base 2 · P;  extended 2 · (P + s · H): a longer softmax
    FLOP a character             F0 = 2 · P · r0;  F(s) = 2 · (P + s · H) · r(s);  ratio F(s) / F0
    frequency at the margin      f(s) = (T(s - w) - T(s)) / (w · C): what each of the last w pieces
                                 joined, a character; w = 1,000, or as many rules as there are
    to train the new rows        n(s) = o / f(s) characters, n(s) · r(s) tokens
    training                     6 · (P + s · H) FLOP a token
    break-even                   6 · (P + s · H) · n(s) · r(s) / (F0 - F(s)) characters served

Left out: attention over the context and the memory of its keys and values (fewer tokens make both
smaller, so this is careful), batching, and quality. Tokens to train are derived from frequency
alone; published work that starts from a good initialisation reports from about 0.1 to 2 billion
tokens to win back the base's quality, so break-even is given for this range, too. It is quoted,
not derived, and depends on model and language.

Source: 2 and 6 FLOP a parameter and token, Kaplan et al. 2020, arXiv 2001.08361; 2 billion
tokens, Kim et al. 2024 (EEVE), arXiv 2402.14714.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from .alp import Int64  # its module compiles; a price does not need that

__all__ = [
    "LITERATURE_TOKENS",
    "PriceModel",
    "PriceRow",
    "PriceTerms",
    "TokenCurve",
    "parse_model",
    "price_sizes",
    "price_table",
    "read_token_curve",
]

LITERATURE_TOKENS = (100_000_000, 2_000_000_000)
"""Tokens that published extensions with a good initialisation took, from - to."""

_STRETCH = 1_000
_INFERENCE, _TRAINING = 2, 6  # FLOP a parameter and token
_BYTES_16_BIT, _BYTES_TRAINED = 2, 16  # a parameter
_RECORD_KEYS = ("num_chars", "size", "evals")  # of those that are written, what is read here
_CURVE_COLUMNS = ("num_chars", "eval", "size", "tokens")
_MODEL_KEYS = {"hidden": "hidden_size", "active": "num_active_parameters",
               "total": "num_parameters", "vocab": "vocab_size", "tied": "tied"}  # fmt: skip


@dataclass(frozen=True)
class PriceModel:
    """Shape of the base model."""

    hidden_size: int
    num_active_parameters: int
    """Parameters that a token visits, output head included (12.9 billion in Mixtral 8x7B)."""
    num_parameters: int
    """All of them."""
    vocab_size: int
    tied: bool = False
    """Whether input table and output head are the same rows."""

    def __post_init__(self) -> None:
        """Refuse a shape that no model has.

        Raises:
            UsageError: A number is not positive, not finite, or they contradict each other.
        """
        _refuse_endless(self)
        head = self.hidden_size * self.vocab_size
        if min(self.hidden_size, self.vocab_size) < 1:
            problem = "hidden and vocab are 1 or more"
        elif not head <= self.num_active_parameters <= self.num_parameters:
            problem = (
                f"expected hidden x vocab = {head:,} <= active = "
                f"{self.num_active_parameters:,} <= total = {self.num_parameters:,}"
            )
        else:
            return
        raise UsageError(
            f"price: no model has this shape: {problem}.",
            effect="Every figure of the price follows from it.",
            way_out="Take hidden size and vocabulary from config.json, and the parameters from the "
            "model's card; active = total where every token visits all of them.",
        )


@dataclass(frozen=True)
class PriceTerms:
    """What the model is to be used for."""

    train_chars: float = 0
    """Characters of the training corpus."""
    serve_chars_per_day: float = 0.0
    """Characters read and written in service."""
    min_occurrences: int = 1_000
    """How often a new row must be met in training to be learned."""
    horizon_days: float = 365.0
    """Extension is worth its training if it is paid back within this time."""

    def __post_init__(self) -> None:
        """Refuse amounts that are negative, infinite or no number.

        Raises:
            UsageError: One is.
        """
        _refuse_endless(self)
        if min(self.train_chars, self.serve_chars_per_day) < 0 or (
            min(self.min_occurrences, self.horizon_days) <= 0
        ):
            raise UsageError(
                "price: expected train_chars and serve_chars_per_day of 0 or more, "
                f"min_occurrences and horizon_days above 0; got {self}."
            )


@dataclass(frozen=True)
class TokenCurve:
    """Tokens of one evaluation text at every size of one count of single characters."""

    eval: str
    num_chars: int
    """Added single characters."""
    start: int
    """The first size."""
    tokens_K: Int64
    """Tokens at start, start + 1, ..."""
    text_chars: int
    """Characters of the text."""
    base_tokens: int

    @property
    def end(self) -> int:
        """The largest size."""
        return self.start + len(self.tokens_K) - 1


@dataclass(frozen=True)
class PriceRow:
    """What a size costs and saves; the module tells the formulas."""

    size: int
    tokens_per_char: float
    tokens_frac: float
    """Tokens over the base's tokens."""
    tokens_saved_per_1m_chars: float
    tokens_saved_in_training: float
    """Over the training corpus, read once."""
    tokens_saved_per_day: float
    """In service."""
    added_parameters: int
    added_frac: float
    """Over the base's parameters."""
    added_bytes_16_bit: int
    added_bytes_trained: int
    """Weight, gradient and optimizer of the added parameters."""
    softmax_flop_per_token: int
    """Added by the longer head, in inference."""
    flop_saved_per_char: float
    """In inference, the longer head paid; negative where it costs more than it saves."""
    compute_frac: float
    """Inference FLOP a character over the base's."""
    occurrences_in_training: float | None
    """How often a piece at the margin is met in the training corpus; None where unknown."""
    train_chars_needed: float | None
    """Characters until a piece at the margin is met `min_occurrences` times; None where the
    evaluation text does not show how often that is."""
    train_tokens_needed: float | None
    break_even_chars: float | None
    """Characters served until the training is paid back; None for never, or unknown."""
    break_even_days: float | None
    literature_break_even_chars: tuple[float, float] | None
    """The same, had the training taken `LITERATURE_TOKENS`."""


def parse_model(text: str) -> PriceModel:
    """Read `hidden=4096,active=12.9e9,total=46.7e9,vocab=32000,tied=false`.

    Raises:
        UsageError: A key is missing, unknown, given twice, or is no number.
    """
    parts = [part.partition("=") for part in text.split(",")]
    keys = [key.strip() for key, _, _ in parts]
    unknown = sorted(set(keys) - set(_MODEL_KEYS))
    missing = sorted(set(_MODEL_KEYS) - set(keys) - {"tied"})
    if unknown or missing or len(set(keys)) < len(keys):
        raise _bad_model(text, f"unknown {unknown}, missing {missing}, or a key given twice")
    values: dict[str, Any] = {}
    for key, (_, _, value) in zip(keys, parts, strict=True):
        word = value.strip().lower()
        try:
            values[_MODEL_KEYS[key]] = (
                {"true": True, "false": False}[word] if key == "tied" else round(float(word))
            )
        except (ValueError, KeyError, OverflowError):
            raise _bad_model(text, f"{key} = {value.strip()!r} is no such value") from None
    return PriceModel(**values)


def read_token_curve(
    table: pa.Table, record: Mapping[str, Any], eval_name: str, num_chars: int | None = None
) -> TokenCurve:
    """Take one text and count of characters out of a search's curves.

    Args:
        table: What `curves.parquet` holds (`tables.CURVE_SCHEMA`).
        record: What `choice.json` holds (`tables.choice_record`).
        eval_name: Evaluation text.
        num_chars: Single characters; None for the chosen count.

    Raises:
        UsageError: The search is not finished, or has no such text, or no such count.
    """
    import pyarrow.compute as pc

    _refuse_unfinished(table, record)
    count = record["num_chars"] if num_chars is None else num_chars
    part = table.filter(
        pc.and_(pc.equal(table["num_chars"], count), pc.equal(table["eval"], eval_name))
    )
    if not part.num_rows:
        counts = ", ".join(f"{n:,}" for n in sorted(pc.unique(table["num_chars"]).to_pylist()))
        raise UsageError(
            f"price: the curves have no text {eval_name!r} with {count:,} single characters.",
            effect="There are no tokens to count.",
            way_out=f"Texts: {', '.join(sorted(record['evals']))}. Counts: {counts}.",
        )
    sizes, tokens = part["size"].to_numpy(), part["tokens"].to_numpy()
    assert (np.diff(sizes) == 1).all(), "curves.parquet has one row a size, in order"
    text = record["evals"][eval_name]
    return TokenCurve(
        eval_name, count, int(sizes[0]), tokens, text["num_chars"], text["base"]["tokens"]
    )


def price_sizes(
    curve: TokenCurve, model: PriceModel, terms: PriceTerms, sizes: Sequence[int]
) -> list[PriceRow]:
    """Price some sizes of a curve.

    Raises:
        UsageError: The curve has no such size.
    """
    return [_price_size(curve, model, terms, size) for size in sizes]


def price_table(
    curve: TokenCurve, model: PriceModel, terms: PriceTerms, *always: int, most: int = 12
) -> list[PriceRow]:
    """Price about `most` sizes, round numbers, both ends of the curve, and those of `always`."""
    step = max(1, -(-(curve.end - curve.start) // most))
    power = 10 ** (len(str(step)) - 1)
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= step)
    even = range(-(-curve.start // step) * step, curve.end + 1, step)
    return price_sizes(curve, model, terms, sorted({curve.start, *even, curve.end, *always}))


def _price_size(curve: TokenCurve, model: PriceModel, terms: PriceTerms, size: int) -> PriceRow:
    if not curve.start <= size <= curve.end:
        raise UsageError(
            f"price: size = {size:,}: the curve of {curve.num_chars:,} single characters has "
            f"{curve.start:,} to {curve.end:,} added pieces.",
            way_out="Price a size in this range.",
        )
    per_char = int(curve.tokens_K[size - curve.start]) / curve.text_chars
    base_per_char = curve.base_tokens / curve.text_chars
    saved = base_per_char - per_char
    added = size * model.hidden_size * (1 if model.tied else 2)
    visited = model.num_active_parameters + size * model.hidden_size
    base_flop = _INFERENCE * model.num_active_parameters * base_per_char
    flop_saved = base_flop - _INFERENCE * visited * per_char
    frequency = _marginal_frequency(curve, size)
    chars_needed = terms.min_occurrences / frequency if frequency else None
    tokens_needed = None if chars_needed is None else chars_needed * per_char
    break_even = _pay_back(tokens_needed, visited, flop_saved)
    low, high = (_pay_back(tokens, visited, flop_saved) for tokens in LITERATURE_TOKENS)
    per_day = terms.serve_chars_per_day
    return PriceRow(
        size=size,
        tokens_per_char=per_char,
        tokens_frac=per_char / base_per_char,
        tokens_saved_per_1m_chars=saved * 1e6,
        tokens_saved_in_training=saved * terms.train_chars,
        tokens_saved_per_day=saved * per_day,
        added_parameters=added,
        added_frac=added / model.num_parameters,
        added_bytes_16_bit=_BYTES_16_BIT * added,
        added_bytes_trained=_BYTES_TRAINED * added,
        softmax_flop_per_token=_INFERENCE * size * model.hidden_size,
        flop_saved_per_char=flop_saved,
        compute_frac=1 - flop_saved / base_flop,
        occurrences_in_training=frequency * terms.train_chars if frequency else None,
        train_chars_needed=chars_needed,
        train_tokens_needed=tokens_needed,
        break_even_chars=break_even,
        break_even_days=break_even / per_day if break_even is not None and per_day else None,
        literature_break_even_chars=None if low is None or high is None else (low, high),
    )


def _marginal_frequency(curve: TokenCurve, size: int) -> float | None:
    """Tell how often a character brings one of the last pieces; None where it is never seen."""
    place = size - curve.start
    window = min(_STRETCH, place)
    joined = int(curve.tokens_K[place - window] - curve.tokens_K[place])
    return joined / (window * curve.text_chars) if joined else None


def _pay_back(tokens: float | None, visited: int, flop_saved: float) -> float | None:
    if tokens is None or flop_saved <= 0:
        return None
    return _TRAINING * visited * tokens / flop_saved


def _refuse_unfinished(table: pa.Table, record: Mapping[str, Any]) -> None:
    for name, expected, found in (
        ("choice.json", _RECORD_KEYS, record),
        ("curves.parquet", _CURVE_COLUMNS, table.column_names),
    ):
        missing = [key for key in expected if key not in found]
        if missing:
            raise UsageError(
                f"price: the folder holds no finished search: {name} has no {', '.join(missing)}.",
                effect="There are no tokens to count.",
                way_out="Make one: lingraft vocab search ... --out DIR.",
            )


def _refuse_endless(given: PriceModel | PriceTerms) -> None:
    """Refuse what compares with nothing, before it is compared."""
    for name, value in vars(given).items():
        if not math.isfinite(value):
            raise UsageError(
                f"price: {name} = {value}: expected a finite number.",
                effect="Every figure of the price follows from it.",
                way_out=f"Give {name} as a number, as 1000 or 1e9.",
            )


def _bad_model(text: str, problem: str) -> UsageError:
    return UsageError(
        f"price: model = {text!r}: {problem}.",
        way_out="Write hidden=4096,active=12.9e9,total=46.7e9,vocab=32000,tied=false (tied may be "
        "left out).",
    )
