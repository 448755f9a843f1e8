"""Training curves as values: what `60-train/curve.jsonl` says, ready to be drawn.

One JSON row a step, in the order of steps: `{"step", "tokens", "loss", ...}`, with
`"valid": {set: bits per byte}` where that step was validated. The first row is from before
any training: step 0, no tokens, no loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InputError

__all__ = ["Curves", "ValidRow", "read_curves"]


@dataclass(frozen=True)
class ValidRow:
    """One validation."""

    step: int
    tokens: int
    bpb: dict[str, float]
    """Bits per byte by set."""


@dataclass(frozen=True)
class Curves:
    """Training loss and validations, both in the order of steps."""

    loss: tuple[tuple[float, float], ...]
    """(tokens, nats per token)."""
    valid: tuple[ValidRow, ...]


def read_curves(lines: Iterable[str], source: str) -> Curves:
    """Read the rows of a curve file.

    Args:
        lines: The file's lines.
        source: Its name, for messages.

    Raises:
        InputError: A line is no such row.
    """
    loss: list[tuple[float, float]] = []
    valid: list[ValidRow] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            step, tokens = int(row["step"]), int(row["tokens"])
            if "loss" in row:
                loss.append((float(tokens), float(row["loss"])))
            if "valid" in row:
                bpb = {name: float(row["valid"][name]) for name in sorted(row["valid"])}
                valid.append(ValidRow(step, tokens, bpb))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{source}:{number}: not a row of a training curve: {error!r}.",
                way_out="Train again: --redo train.",
            ) from None
    return Curves(tuple(loss), tuple(valid))
