"""A mixture: how much of each set is trained on, and in which order.

The corpus stage writes the documents of a set in the order of a hash of their text. So the
first tenth of a set is a fair tenth, and it is the *same* tenth of the text under every
tokenizer: `0.1:news` lets two vocabularies be compared on equal text.

Sequences are windows over the chosen documents, laid end to end. Their order is a function
of (seed, pass) alone, so a run resumes at any step without replaying what came before, and
any number of workers sees the same order.

Shapes: B sequences of L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .shards import TokenFile

__all__ = ["IGNORE", "Mixture"]

IGNORE = -100
"""Label of a position that has no target (torch's ignore_index)."""


@dataclass(frozen=True)
class _Stretch:
    """Tokens [0, end) of one token file, cut into windows."""

    file: TokenFile
    end: int
    num_windows: int


class Mixture:
    """Random access to the training sequences of a mixture."""

    def __init__(self, parts: Sequence[tuple[float, TokenFile]], seq_len: int, seed: int) -> None:
        """Plan the mixture.

        Args:
            parts: (ratio, token file) pairs.
            seq_len: L, tokens of a sequence.
            seed: Decides the order, together with the number of the pass.

        Raises:
            InputError: A part, or the whole mixture, holds no text.
        """
        self.seq_len, self._seed = seq_len, seed
        self._stretches = [
            _stretch(file, share, seq_len)
            for ratio, file in parts
            for share in [1.0] * int(ratio) + [ratio - int(ratio)]
            if share > 0
        ]
        for part, (ratio, file) in enumerate(parts, 1):
            if round(file.num_docs * (ratio % 1 or 1)) == 0 or not len(file.ids):
                raise InputError(
                    f"part {part} of the mixture, {ratio:g} of {file.num_docs} documents, "
                    "holds no text.",
                    effect="Its set would be left out of training, unseen.",
                    way_out="Raise its ratio in train.mixture, or add documents to the set.",
                )
        self._starts = np.cumsum([0] + [s.num_windows for s in self._stretches])
        if not self.num_windows:
            raise InputError(
                "The mixture holds no text: no part has two tokens, the least to learn from.",
                way_out="Add documents to the sets of train.mixture.",
            )
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    @property
    def num_windows(self) -> int:
        """Sequences in one pass over the mixture."""
        return int(self._starts[-1])

    @property
    def total_tokens(self) -> int:
        """Tokens in one pass over the mixture."""
        return sum(s.end for s in self._stretches)

    def steps_per_pass(self, batch_size: int) -> int:
        """Optimizer steps that see every sequence once (the last one may wrap around)."""
        return math.ceil(self.num_windows / batch_size)

    def batch(
        self, step: int, batch_size: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Sequences of one step.

        Returns:
            Inputs (B, L) and labels (B, L): labels[b, i] follows inputs[b, i]; `IGNORE` where
            a stretch ends.
        """
        rows = [self._window(self._place(step * batch_size + b)) for b in range(batch_size)]
        block = np.stack(rows)
        inputs = block[:, :-1].copy()
        inputs[inputs == IGNORE] = 0
        return inputs, block[:, 1:].copy()

    def _place(self, position: int) -> int:
        number, index = divmod(position, self.num_windows)
        if self._order is None or self._order[0] != number:
            generator = np.random.Generator(np.random.PCG64([self._seed, number]))
            self._order = (number, generator.permutation(self.num_windows))
        return int(self._order[1][index])

    def _window(self, window: int) -> npt.NDArray[np.int64]:
        which = int(np.searchsorted(self._starts, window, side="right")) - 1
        stretch = self._stretches[which]
        start = (window - int(self._starts[which])) * self.seq_len
        ids = stretch.file.ids[start : min(start + self.seq_len + 1, stretch.end)]
        row = np.full(self.seq_len + 1, IGNORE, np.int64)
        row[: len(ids)] = ids
        return row


def _stretch(file: TokenFile, share: float, seq_len: int) -> _Stretch:
    num_docs = round(file.num_docs * share)
    end = int(file.ends[num_docs - 1]) if num_docs else 0
    # A window needs a token and the one after it, so a lone last token starts none.
    return _Stretch(file, end, math.ceil((end - 1) / seq_len) if end > 1 else 0)
