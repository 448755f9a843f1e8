"""Which of the vocabularies: the size where more pieces stop paying, then the best count there.

A(s) is ALP per UTF-8 byte, the mean over the evaluation texts, of the best curve at s added
pieces (the upper envelope of the counts of single characters). The **gain rule** takes the size
that maximises

    A(s) - s · min_gain / 1,000,

that is, the point after which no stretch of further pieces, short or long, adds `min_gain` nats
per byte for every 1,000 of them: where a line of that slope touches the concave hull of A. Three
things follow. The jitter of single rules does not matter. A size's value depends on that size
alone, so searching further can change the choice only if something further out pays. And nats per
byte have the same meaning in every text, language and tokenizer, so the limit can be kept.

A **knee** (`rule="knee"`) has none of this: Kneedle scales the curve to the range searched and
finds where the gain falls below the mean gain over it, so it moves with the largest size. It is
reported beside every choice.

Source: Kneedle, V. Satopää, J. Albrecht, D. Irwin, B. Raghavan 2011, as `kneed` implements it.
The gain rule is a tangent to a concave hull, with a price in place of a budget.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError, UsageError
from .alp import Curve, EvalFacts, Float64, Int64, alp_per_byte
from .settings import Choosing

__all__ = [
    "DEFAULT_MIN_GAIN",
    "Alternative",
    "Choice",
    "Envelope",
    "best_envelope",
    "choose_vocabulary",
    "find_knee",
]

DEFAULT_MIN_GAIN: float = Choosing.model_fields["min_gain"].default
"""Nats per byte that 1,000 more pieces must add."""

_STRETCH = 1_000
_KNEE_POINTS = 50
"""Kneedle's patience is its sensitivity times the spacing of points: at every single size it
would take the first jitter for a knee."""


@dataclass(frozen=True)
class Alternative:
    """What one count of single characters has at the chosen size."""

    num_chars: int
    start: int
    end: int
    alp_per_byte: float | None
    """Mean over the evaluation texts, nats per byte; None where the curve has no such size."""


@dataclass(frozen=True)
class Choice:
    """A vocabulary: its number of added pieces, of single characters among them, and why."""

    size: int
    num_chars: int
    rule: Literal["gain", "knee", "given"]
    """How the size was found."""
    knee: int | None
    """Size at the knee of the same curves, whatever the rule; None if there is none."""
    reasons: tuple[str, ...]
    """Short sentences with figures."""
    min_gain: float = DEFAULT_MIN_GAIN
    """Nats per byte for 1,000 pieces."""
    sensitivity: float = 1.0
    """Kneedle's S."""
    at_end: bool = False
    """Whether the curve still pays `min_gain` where the search ended."""
    exhausted: bool = False
    """Whether the rules ran out before the largest size asked for: a larger one adds none."""
    counts: tuple[Alternative, ...] = ()
    """Every count that was searched, in order."""


@dataclass(frozen=True)
class Envelope:
    """The best that can be had at every size that any curve has."""

    sizes_P: Int64
    alp_P: Float64
    """Mean ALP over the evaluation texts, nats per byte."""

    def gain(self, low: int, high: int) -> float:
        """Tell what the pieces from place `low` to place `high` add, for 1,000 of them."""
        pieces = int(self.sizes_P[high] - self.sizes_P[low])
        return float(self.alp_P[high] - self.alp_P[low]) * 1000 / pieces

    def stretch(self, place: int, direction: Literal[-1, 1]) -> int:
        """Go 1,000 pieces on or back from a place, or as far as the sizes go."""
        goal = int(self.sizes_P[place]) + direction * _STRETCH
        if direction > 0:
            return int(np.searchsorted(self.sizes_P, goal, side="right")) - 1
        return int(np.searchsorted(self.sizes_P, goal, side="left"))


def choose_vocabulary(
    curves: Sequence[Curve],
    evals: Sequence[EvalFacts],
    *,
    rule: Literal["gain", "knee"] = "gain",
    size: int | None = None,
    num_chars: int | None = None,
    min_gain: float = DEFAULT_MIN_GAIN,
    sensitivity: float = 1.0,
    max_size: int | None = None,
) -> Choice:
    """Choose size and number of single characters.

    Args:
        curves: One for each number of single characters.
        evals: The evaluation texts, in the order of the curves' rows; each weighs the same.
        rule: How the size is found where it is not given.
        size: Number of added pieces, or None to find it.
        num_chars: Number of single characters, or None for the best at that size. Where it is
            given, only its curve counts.
        min_gain: Nats per byte that 1,000 more pieces must add, 0 or more.
        sensitivity: Kneedle's S.
        max_size: Largest size asked for; a curve that ends before it ran out of rules.

    Raises:
        UsageError: No curve, or not the one asked for, reaches the size asked for.
        InputError: The rule is "knee" and the curves have none.
    """
    assert curves, "no curve to choose from"
    assert evals, "no evaluation text to choose by"
    assert min_gain >= 0, "a price below 0 would pay for pieces that do harm"
    open_ = [curve for curve in curves if num_chars in (None, curve.num_chars)]
    if not open_:
        raise _no_count(curves, num_chars)
    envelope = best_envelope(open_, evals)
    knee = find_knee(envelope, sensitivity)
    how: Literal["gain", "knee", "given"]
    if size is not None:
        how, found = "given", size
    elif rule == "gain":
        how, found = "gain", _best_paid_size(envelope, min_gain)
    else:
        how, found = "knee", _knee_or_raise(envelope, knee, sensitivity)
    if not any(curve.has(found) for curve in open_):
        raise _no_curve(open_, found)
    counts = tuple(_alternative(curve, evals, found) for curve in curves)
    best = _best_count(counts, num_chars)
    exhausted = max_size is not None and max(curve.end for curve in open_) < max_size
    at_end = _pays_at_end(envelope, min_gain)
    reasons = (
        *_size_reasons(envelope, found, how, min_gain),
        *_end_reason(envelope, min_gain, pays=at_end and how == "gain", exhausted=exhausted),
        _count_reason(counts, best, found, num_chars is not None),
        _knee_reason(knee, sensitivity),
    )
    price = (min_gain, sensitivity)
    return Choice(found, best.num_chars, how, knee, reasons, *price, at_end, exhausted, counts)


def best_envelope(curves: Sequence[Curve], evals: Sequence[EvalFacts]) -> Envelope:
    """Give the sizes that any curve has, and the highest mean ALP per byte at each."""
    first, last = min(c.start for c in curves), max(c.end for c in curves)
    alp_P = np.full(last - first + 1, -np.inf)
    for curve in curves:
        part = alp_P[curve.start - first : curve.end - first + 1]
        np.maximum(part, alp_per_byte(curve, evals).mean(axis=0), out=part)
    reached = np.isfinite(alp_P)  # a curve may end before the next one begins
    return Envelope(np.arange(first, last + 1)[reached], alp_P[reached])


def find_knee(envelope: Envelope, sensitivity: float) -> int | None:
    """Find the knee of the envelope by Kneedle; None if there is none."""
    from kneed import KneeLocator

    sizes, heights = envelope.sizes_P, envelope.alp_P
    places = np.unique(np.linspace(0, len(sizes) - 1, _KNEE_POINTS).round().astype(int))
    sizes, heights = sizes[places], heights[places]
    if len(sizes) < 3 or heights.max() == heights.min():
        return None
    with warnings.catch_warnings():  # kneed warns where it finds none; the caller decides
        warnings.simplefilter("ignore")
        knee = KneeLocator(
            sizes, heights, S=sensitivity, curve="concave", direction="increasing"
        ).knee
    return None if knee is None else int(knee)


def _best_paid_size(envelope: Envelope, min_gain: float) -> int:
    worth_P = envelope.alp_P - envelope.sizes_P * (min_gain / 1000)
    return int(envelope.sizes_P[np.argmax(worth_P)])  # of equals, the smallest


def _pays_at_end(envelope: Envelope, min_gain: float) -> bool:
    last = len(envelope.sizes_P) - 1
    back = envelope.stretch(last, -1)
    return back < last and envelope.gain(back, last) >= min_gain


def _alternative(curve: Curve, evals: Sequence[EvalFacts], size: int) -> Alternative:
    alp = None
    if curve.has(size):
        alp = float(alp_per_byte(curve, evals).mean(axis=0)[size - curve.start])
    return Alternative(curve.num_chars, curve.start, curve.end, alp)


def _best_count(counts: Sequence[Alternative], num_chars: int | None) -> Alternative:
    """Take the count with the highest ALP; of equals, the one with fewer characters."""
    reaching = [
        (c.alp_per_byte, -c.num_chars, c)
        for c in counts
        if c.alp_per_byte is not None and num_chars in (None, c.num_chars)
    ]
    return max(reaching, key=lambda entry: entry[:2])[2]


def _size_reasons(envelope: Envelope, size: int, how: str, min_gain: float) -> list[str]:
    place = int(np.searchsorted(envelope.sizes_P, size))
    back, on = envelope.stretch(place, -1), envelope.stretch(place, 1)
    said = []
    if back < place:
        said.append(f"the last {_stretch(envelope, back, place)}")
    if on > place:
        said.append(f"the next {_stretch(envelope, place, on)}")
    source = {"gain": "by min_gain", "knee": "at the knee", "given": "as given"}[how]
    reasons = [f"{size:,} pieces, {source}: {' and '.join(said) or 'no other size was searched'}."]
    if how == "gain":
        reasons[0] = f"{reasons[0][:-1]}; min_gain is {min_gain:g} for 1,000."
        if place == 0 and on > 0:
            reasons.append(
                f"{size:,} is the smallest size searched: smaller counts may choose fewer pieces."
            )
    return reasons


def _end_reason(
    envelope: Envelope, min_gain: float, *, pays: bool, exhausted: bool
) -> tuple[str, ...]:
    """Say whether searching further could choose more pieces, where there is something to say."""
    last = int(envelope.sizes_P[-1])
    none_left = f"no pair is left that joins often enough beyond {last:,} pieces"
    if not pays:
        return (f"N{none_left[1:]}: a larger maximum size adds none.",) if exhausted else ()
    gain = envelope.gain(envelope.stretch(len(envelope.sizes_P) - 1, -1), -1)
    paid = (
        f"The curve still pays where the search ended, at {last:,} pieces ({gain:.4f} nats per "
        f"byte for 1,000, min_gain is {min_gain:g})"
    )
    if exhausted:
        return (f"{paid}, but {none_left}: more text may choose more, a larger maximum size "
                "cannot.",)  # fmt: skip
    return (f"{paid}: a larger maximum size may choose more.",)


def _stretch(envelope: Envelope, low: int, high: int) -> str:
    """Say what a stretch adds; the rate, too, where it is not the usual 1,000 pieces."""
    pieces = int(envelope.sizes_P[high] - envelope.sizes_P[low])
    rate = envelope.gain(low, high)
    text = f"{pieces:,} add {rate * pieces / 1000:.4f} nats per byte"
    return text if pieces == _STRETCH else f"{text} ({rate:.4f} for 1,000)"


def _count_reason(
    counts: Sequence[Alternative], best: Alternative, size: int, is_given: bool
) -> str:
    others = [
        f"{c.num_chars:,} have {c.alp_per_byte:.4f}"
        if c.alp_per_byte is not None
        else f"{c.num_chars:,} have no such size"
        for c in counts
        if c.num_chars != best.num_chars
    ]
    why = "as given" if is_given else "the best of the counts searched"
    return (
        f"{best.num_chars:,} single characters, {why}: ALP {best.alp_per_byte:.4f} nats per byte "
        f"at {size:,} pieces{''.join('; ' + other for other in others)}."
    )


def _knee_reason(knee: int | None, sensitivity: float) -> str:
    where = "finds no knee" if knee is None else f"puts the knee at {knee:,} pieces"
    return f"Kneedle {where} (sensitivity {sensitivity:g}); it follows the largest size searched."


def _knee_or_raise(envelope: Envelope, knee: int | None, sensitivity: float) -> int:
    if knee is None:
        first, last = envelope.sizes_P[[0, -1]].tolist()
        raise InputError(
            f"vocab: the mean ALP from {first:,} to {last:,} added pieces has no knee "
            f"(knee sensitivity {sensitivity:g}).",
            effect="No size stands out, so none is chosen.",
            way_out="Choose by gain (the default rule), give a size, lower the knee sensitivity, "
            "or raise the maximum size.",
        )
    return knee


def _no_count(curves: Sequence[Curve], num_chars: int | None) -> UsageError:
    counts = ", ".join(f"{curve.num_chars:,}" for curve in curves)
    return UsageError(
        f"vocab: num_chars = {num_chars:,}: no curve has this count ({counts} were searched).",
        effect="There is no vocabulary with this number of single characters to choose.",
        way_out="Choose one of those, or add this one to the counts that are searched.",
    )


def _no_curve(curves: Sequence[Curve], size: int) -> UsageError:
    spans = "; ".join(f"{c.num_chars:,} characters: {c.start:,} to {c.end:,}" for c in curves)
    return UsageError(
        f"vocab: size = {size:,}: no curve has this size ({spans} added pieces).",
        effect="There is no vocabulary of this size to choose.",
        way_out="A curve begins at its count of single characters and ends at the maximum size, "
        "or where no pair is left that joins often enough.",
    )
