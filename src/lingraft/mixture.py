"""A mixture: how much of each set is trained on, and in which order.

Sequences are stretches of the chosen documents, laid end to end. Inside an epoch of a set every
one comes once before any comes again, in a new order each epoch; sets are spread evenly over the
pass. What stands at a place is a function of (seed, place) alone, computed and not stored: a run
resumes at any step at no cost, and any number of processes sees the same order.

A set that is asked for more than once goes through whole epochs and then one through its first
documents. The next pass over the mixture does the same in other orders.

Shapes: B sequences of L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import InputError, UsageError
from .orders import Interleave, Shuffle
from .parts import Part, parse_mixture
from .rows import (
    IGNORE,
    Documents,
    Int64,
    Stretch,
    Windows,
    check_rows,
    fill_row,
    whole_number,
)
from .shards import TokenFile, open_folder

__all__ = ["Batch", "Mixture", "MixtureRow", "Plan", "find_name", "plan_mixture"]

_SPLIT = "-train"


class Batch(NamedTuple):
    """Sequences of one step."""

    inputs: Int64
    """(B, L)."""
    labels: Int64
    """(B, L): labels[b, i] follows inputs[b, i], or is `IGNORE` where nothing does."""
    position_ids: Int64
    """(B, L): they begin anew at each document, if documents are isolated."""


class MixtureRow(NamedTuple):
    """What one part comes to in one pass over the mixture."""

    part: str
    name: str
    total_tokens: int
    epochs: float
    """Tokens over those of the whole set."""
    share: float
    """Of the mixture's tokens, 0 to 1."""


class Mixture:
    """Random access to the training sequences of a mixture."""

    def __init__(
        self,
        source: str | Path | Mapping[str, TokenFile],
        parts: Sequence[str],
        seq_len: int,
        seed: int,
        *,
        total_tokens: int | None = None,
        documents: Documents = "isolated",
    ) -> None:
        """Plan the mixture.

        Args:
            source: A folder of token files, or opened ones by the name of their set. In a folder
                a set's file is NAME, or NAME-train.
            parts: As `parts` tells: "0.1:NAME", "2 epochs:NAME", "5e9 tokens:NAME", "30%:NAME".
            seq_len: L, tokens of a sequence.
            seed: Decides the order, together with the number of the pass.
            total_tokens: Tokens of one pass, where parts are weights.
            documents: "isolated" or "joined", see `rows`.

        Raises:
            InputError: The folder cannot be used, or a part holds no text.
            TypeError: A number is no whole one.
            UsageError: A part cannot be read, names no set, or the parts do not go together.
        """
        seq_len = whole_number("seq_len", seq_len)
        check_rows(seq_len, documents)
        self.seq_len, self.documents = seq_len, documents
        self._plan = plan_mixture(source, parts, seq_len, seed, total_tokens)

    @property
    def num_windows(self) -> int:
        """Sequences in one pass over the mixture."""
        return self._plan.num_windows

    @property
    def total_tokens(self) -> int:
        """Tokens in one pass over the mixture."""
        return self._plan.total_tokens

    def steps_per_pass(self, batch_size: int) -> int:
        """Optimizer steps that see every sequence once (the last one may wrap around).

        Raises:
            TypeError: `batch_size` is no whole number.
            UsageError: It is below 1.
        """
        batch_size = whole_number("batch_size", batch_size)
        if batch_size < 1:
            raise UsageError(f"batch_size = {batch_size}: expected 1 or more.")
        return math.ceil(self.num_windows / batch_size)

    def batch(self, step: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> Batch:
        """Sequences of one step.

        Args:
            step: From 0 on; passes follow each other without end.
            batch_size: B, sequences of a step over all ranks.
            rank: Whose share of them is given; ranks in order are the whole batch.
            num_ranks: Processes that share a step.

        Raises:
            TypeError: A number is no whole one.
            UsageError: The batch cannot be divided, or there is no such step or rank.
        """
        step, batch_size = whole_number("step", step), whole_number("batch_size", batch_size)
        rank, num_ranks = whole_number("rank", rank), whole_number("num_ranks", num_ranks)
        _check_batch(step, batch_size, rank, num_ranks)
        num_rows = batch_size // num_ranks
        first = step * batch_size + rank * num_rows
        shape = (num_rows, self.seq_len)
        batch = Batch(np.zeros(shape, np.int64), np.full(shape, IGNORE), np.empty(shape, np.int64))
        for row in range(num_rows):
            inputs_L, labels_L, positions_L = (array[row] for array in batch)
            stretch = self._plan[first + row]
            fill_row([stretch], self.documents, inputs_L, labels_L, positions_L)
        return batch

    def stretches(self, step: int, batch_size: int) -> list[tuple[str, Stretch]]:
        """Tell which stretch of which set stands in each sequence of a step."""
        places = range(step * batch_size, (step + 1) * batch_size)
        return [(self._plan.name(place), self._plan[place]) for place in places]

    def rows(self) -> list[MixtureRow]:
        """Tell what each part comes to in one pass."""
        return self._plan.rows()

    def table(self) -> str:
        """Tell the same as text: tokens, epochs and share of each part."""
        rows = self.rows()
        cells = [("part", "tokens", "epochs", "share")]
        cells += [
            (row.part, f"{row.total_tokens:,}", f"{row.epochs:.3f}", f"{row.share:.1%}")
            for row in rows
        ]
        total = f"{self.total_tokens:,}"
        wide = max(len("total"), *(len(part) for part, *_ in cells))
        lines = [
            f"{part:<{wide}}  {tokens:>{len(total)}}  {epochs:>8}  {share:>6}"
            for part, tokens, epochs, share in cells
        ]
        lines.append(
            f"{'total':<{wide}}  {total}  in {self.num_windows:,} sequences of {self.seq_len:,}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Share:
    """One part: whole epochs over a file, then one over its begin."""

    part: Part
    epochs: int
    whole: Windows
    begin: Windows
    """Empty where the last epoch is whole."""

    @property
    def num_windows(self) -> int:
        return self.epochs * len(self.whole) + len(self.begin)

    @property
    def total_tokens(self) -> int:
        return self.epochs * self.whole.end + self.begin.end

    @property
    def num_filled(self) -> int:
        return self.epochs * self.whole.num_filled + self.begin.num_filled

    def find(self, draw: int) -> tuple[int, int, Windows]:
        """Give the number of the epoch of a draw, the draw's place in it, and its windows."""
        epoch, place = divmod(draw, len(self.whole))
        if epoch < self.epochs:
            return epoch, place, self.whole
        return self.epochs, draw - self.epochs * len(self.whole), self.begin


class Plan:
    """Which stretch of which file stands at a place of a mixture.

    Attributes:
        num_windows: Stretches in one pass.
        total_tokens: Tokens in one pass, each counted once.
        num_filled: Tokens of its stretches, those that two of them share counted twice.
    """

    def __init__(self, shares: Sequence[_Share], seed: int) -> None:
        """Spread the parts over the pass; `plan_mixture` makes them."""
        self._shares, self._seed = shares, seed
        self.num_windows = sum(share.num_windows for share in shares)
        self.total_tokens = sum(share.total_tokens for share in shares)
        self.num_filled = sum(share.num_filled for share in shares)
        self._interleave = Interleave([share.num_windows for share in shares])
        self._shuffles: dict[int, tuple[str, Shuffle]] = {}

    def __getitem__(self, place: int) -> Stretch:
        """Give the stretch at a place, 0 or above; passes follow each other without end."""
        number, inside = divmod(place, self.num_windows)
        which, draw = self._interleave(inside)
        epoch, index, windows = self._shares[which].find(draw)
        key = f"{self._seed} {which} {number} {epoch}"
        kept = self._shuffles.get(which)
        if kept is None or kept[0] != key:
            kept = self._shuffles[which] = (key, Shuffle(len(windows), key))
        return windows[kept[1](index)]

    def name(self, place: int) -> str:
        """Give the name of the set that a place's stretch is of."""
        which, _ = self._interleave(place % self.num_windows)
        return self._shares[which].part.name

    def rows(self) -> list[MixtureRow]:
        """Tell what each part comes to."""
        return [
            MixtureRow(
                part=str(share.part),
                name=share.part.name,
                total_tokens=share.total_tokens,
                epochs=share.total_tokens / share.whole.end,
                share=share.total_tokens / self.total_tokens,
            )
            for share in self._shares
        ]


def plan_mixture(
    source: str | Path | Mapping[str, TokenFile],
    parts: Sequence[str],
    stride: int,
    seed: int,
    total_tokens: int | None,
) -> Plan:
    """Plan a mixture of stretches that each begin `stride` tokens later; see `Mixture`."""
    seed = whole_number("seed", seed)
    if total_tokens is not None:
        total_tokens = whole_number("total_tokens", total_tokens)
    try:
        parsed = parse_mixture(parts, total_tokens)
    except ValueError as error:
        raise UsageError(f"mixture: {error}") from None
    files, place = _open_sets(source)
    budgets = _budgets(parsed, total_tokens)
    shares = [
        _share(number, part, budget, files[find_name(files, part.name, place)], stride)
        for number, (part, budget) in enumerate(zip(parsed, budgets, strict=True), 1)
    ]
    return Plan(shares, seed)


def _open_sets(
    source: str | Path | Mapping[str, TokenFile],
) -> tuple[Mapping[str, TokenFile], str]:
    """Give token files by name, and how messages call their place."""
    if isinstance(source, Mapping):
        return source, "mixture"
    return open_folder(Path(source)).files, str(source)


def find_name(files: Mapping[str, TokenFile], name: str, place: str) -> str:
    """Give the name of a set's token file: NAME, or NAME-train; messages call `files` `place`.

    Raises:
        UsageError: There is none; those that there are are told.
    """
    for file_name in (name, name + _SPLIT):
        if file_name in files:
            return file_name
    raise UsageError(
        f"{place}: no token file '{name}' and none '{name}{_SPLIT}'.",
        way_out=f"There are: {', '.join(files) or 'none'}.",
    )


def _budgets(parts: Sequence[Part], total_tokens: int | None) -> list[int | None]:
    """Give the tokens of each part; None where it counts passes.

    Weights divide the total by largest remainders, so that their tokens are the total.
    """
    exact = [Fraction(part.amount) for part in parts]
    if total_tokens is None:
        return [int(a) if p.unit == "tokens" else None for p, a in zip(parts, exact, strict=True)]
    shares = [total_tokens * amount / 100 for amount in exact]
    floors = [int(share) for share in shares]
    order = sorted(range(len(parts)), key=lambda n: floors[n] - shares[n])
    larger = set(order[: total_tokens - sum(floors)])
    return [floor + (n in larger) for n, floor in enumerate(floors)]


def _share(number: int, part: Part, budget: int | None, file: TokenFile, stride: int) -> _Share:
    """Turn a part into epochs and the tokens of the last one.

    Raises:
        InputError: It holds no text to learn from.
    """
    total = len(file.ids)
    if budget is None:
        epochs, rest = divmod(Fraction(part.amount), 1)
        num_docs = round(rest * file.num_docs)
        end = int(file.ends[num_docs - 1]) if num_docs else 0
    else:
        epochs, end = divmod(budget, max(total, 1))
        rest, num_docs = Fraction(0), 0
    share = _Share(part, int(epochs), Windows(file, total, stride), Windows(file, end, stride))
    if (rest and not num_docs) or not len(share.whole) or not share.num_windows:
        why = "no two tokens"
        if rest and not num_docs:
            why = f"no document: {float(rest):g} of {file.num_docs:,} rounds to none"
        raise InputError(
            f"part {number} of the mixture, '{part}', holds {why}.",
            effect="Its set would be left out of training, in part or whole, unseen.",
            way_out="Raise its amount, or add documents to the set.",
        )
    return share


def _check_batch(step: int, batch_size: int, rank: int, num_ranks: int) -> None:
    if step < 0 or batch_size < 1:
        raise UsageError(
            f"step {step} of {batch_size} sequences; expected from 0 on, of 1 or more."
        )
    if not 0 <= rank < num_ranks:
        raise UsageError(f"rank {rank} of {num_ranks}; expected from 0 up to below their number.")
    if batch_size % num_ranks:
        raise UsageError(
            f"{batch_size} sequences cannot be divided between {num_ranks} ranks.",
            effect="Ranks would see other sequences than one process does.",
            way_out=f"Take a multiple of {num_ranks}.",
        )
