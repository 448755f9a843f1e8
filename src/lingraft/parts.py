"""The parts of a mixture, as they stand in a recipe: how much of which set.

    0.1:NAME            passes, as the reference writes it: a tenth of the set's documents
    2.5:NAME            two passes over the set and one over the first half of its documents
    2 epochs:NAME       the same as 2:NAME
    5e9 tokens:NAME     a budget; also 5B tokens, 300M tokens, 20K tokens, 1.5T tokens
    30%:NAME            a weight: this share of the mixture's tokens

A share of a set is its first documents. Prepared sets stand in the order of a hash of the text,
so the first tenth is a fair tenth, and the same text under every tokenizer. A budget begins anew
where the set ends, and stops at its very token. Weights say how the tokens of a mixture are
divided, not how many there are: all parts of it are weights then, and their sum is 100%.

Source of the form RATIO:NAME: HIT-SCIR/Chinese-Mixtral-8x7B scripts/train.sh (fbc7143), which
takes the head of the file instead of a fair share, and refuses ratios above 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple

__all__ = ["Part", "parse_mixture", "parse_part"]

Unit = Literal["passes", "tokens", "percent"]

_AMOUNT = re.compile(
    r"(?P<number>\d{1,19}(?:\.\d{0,9})?(?:[eE][+-]?\d{1,2})?)"
    r"(?P<unit> ?% ?| ?epochs? ?| ?(?P<scale>[KMBT]?) ?tokens? ?|)",
    re.ASCII,
)
_SCALES = {"T": 10**12, "B": 10**9, "M": 10**6, "K": 10**3}
_MOST = {"passes": 10**6, "tokens": 10**18, "percent": 100}
_FORMS = "0.1:NAME, 2 epochs:NAME, 5e9 tokens:NAME or 30%:NAME"


class Part(NamedTuple):
    """One part of a mixture; `str` gives the form that `parse_part` reads."""

    amount: Decimal
    unit: Unit
    name: str
    """Of the set."""

    def __str__(self) -> str:
        """Write the part as it stands in a recipe."""
        if self.unit != "tokens":
            return f"{self.amount:f}{'%' if self.unit == 'percent' else ''}:{self.name}"
        for scale, size in _SCALES.items():
            if self.amount % size == 0:
                return f"{self.amount / size:f}{scale} tokens:{self.name}"
        return f"{self.amount:f} tokens:{self.name}"


def parse_part(text: str) -> Part:
    """Read one part.

    >>> str(parse_part("0.1:SkyPile-150B-2023"))
    '0.1:SkyPile-150B-2023'
    >>> parse_part("300M tokens:news")
    Part(amount=Decimal('300000000'), unit='tokens', name='news')

    Raises:
        ValueError: It is none of the forms, or its amount is zero or beyond reason.
    """
    head, colon, name = text.partition(":")
    found = _AMOUNT.fullmatch(head.strip())
    if not colon or not name.strip() or not found:
        raise ValueError(f"'{text}' is no part of a mixture, as {_FORMS}.")
    unit = _unit(found)
    amount = Decimal(found["number"]) * _SCALES.get(found["scale"] or "", 1)
    if not 0 < amount <= _MOST[unit]:
        raise ValueError(f"'{text}': expected more than 0 and at most {_MOST[unit]:,} {unit}.")
    if unit == "tokens" and amount % 1:
        raise ValueError(f"'{text}': {amount} tokens; expected a whole number of them.")
    return Part(_plain(amount), unit, name.strip())


def parse_mixture(texts: Sequence[str], total_tokens: int | None = None) -> list[Part]:
    """Read all parts of a mixture.

    Args:
        texts: The parts.
        total_tokens: What weights are shares of; None where parts tell their own amounts.

    Raises:
        ValueError: A part is none, weights stand beside other amounts, are not 100% together, or
            lack the total that they are shares of.
    """
    parts = [parse_part(text) for text in texts]
    weights = [part for part in parts if part.unit == "percent"]
    others = [part for part in parts if part.unit != "percent"]
    if not parts:
        raise ValueError("a mixture needs one part or more.")
    if weights and others:
        raise ValueError(
            f"'{weights[0]}' is a weight and '{others[0]}' is none; either all parts are "
            "weights, or none is."
        )
    if total_tokens is not None and total_tokens < 1:
        raise ValueError(f"total_tokens = {total_tokens}; expected 1 or more.")
    if weights and total_tokens is None:
        raise ValueError(f"'{weights[0]}' is a share of total_tokens, and these are not told.")
    if others and total_tokens is not None:
        raise ValueError(f"total_tokens are divided by weights; '{others[0]}' is none.")
    if weights and sum(Fraction(part.amount) for part in weights) != 100:
        total = sum(part.amount for part in weights)
        raise ValueError(f"the weights are {total:f}% together; expected 100%.")
    return parts


def _unit(found: re.Match[str]) -> Unit:
    if "%" in found["unit"]:
        return "percent"
    return "tokens" if "token" in found["unit"] else "passes"


def _plain(amount: Decimal) -> Decimal:
    """Write a number without exponent and without zeros at its end; nothing is rounded."""
    digits = f"{amount:f}"
    return Decimal(digits.rstrip("0").rstrip(".") if "." in digits else digits)
