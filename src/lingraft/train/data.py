"""What a run reads: mixtures of its phases, more of a guarded set, validation documents.

What a step reads is a function of seed, phases and *raises* alone. A raise is a step from which on
a share of every step's sequences is taken from the mixtures and given to the guarded set. So a
run that knows its raises resumes at any step, and any number of processes reads the same. The
mixtures lose no sequence by it: they go on more slowly, and at the run's end are further back.

Shapes: B sequences of L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..basetypes import BaseTokenizer
from ..errors import InputError
from ..mixture import Batch, Mixture
from ..models import ModelFolder
from ..othertokenizers import read_tokenizer
from ..parts import parse_part
from ..rows import Stretch
from ..shards import TokenFile, open_tokens, read_index
from ..store import Artefact
from .phases import Phase
from .settings import TrainSettings

__all__ = ["Data", "Raise", "ValidSet", "describe_stretch"]

_EMBED = "model.embed_tokens.weight"
_REPLAY = -1
"""Stands for the guarded set among the mixtures, which are numbered by their phases."""
_SHARED = -2
"""Stands for the mixture that phases without one of their own go on with."""


@dataclass(frozen=True)
class ValidSet:
    """Validation documents of one set: their ids, and their sizes in UTF-8 bytes."""

    docs: list[npt.NDArray[np.int64]]
    sizes_bytes: list[int]


class Raise(NamedTuple):
    """From a step on, this share of the sequences is of the guarded set, beside the mixture's."""

    step: int
    """The run's number of the first step that it is for."""
    frac: float


class _Places(NamedTuple):
    """Sequences of a step: `num` of a mixture, from its sequence `first` on."""

    mixture: int
    first: int
    num: int


class Data:
    """Mixtures of all phases, and validation documents of all sets.

    Attributes:
        mixture: That of the phases without one of their own.
        valid: By set.
        raises: In the order of their steps; whoever guards a set adds to them.
    """

    def __init__(self, settings: TrainSettings, encode: Artefact, seed: int) -> None:
        """Open the token files.

        Raises:
            InputError: A file cannot be used, or a set has no validation documents.
        """
        self._settings, self._seed = settings, seed
        self._files = {
            name: open_tokens(encode.file(f"{name}-train.npy")) for name in settings.sets
        }
        self.mixture = self._open(settings.mixture, settings.total_tokens, seed)
        self._mixtures = {_SHARED: self.mixture}
        phases = settings.phases if isinstance(settings.phases, list) else []
        for number, phase in enumerate(phases):
            if phase.mixture:
                self._mixtures[number] = self._open(phase.mixture, phase.total_tokens, seed)
        if settings.guard and settings.guard.action == "replay":
            # A seed of its own: what the mixture is about to read is not read twice in a row.
            self._mixtures[_REPLAY] = self._open([f"1:{settings.guard.set}"], None, seed + 1)
        self.valid = {name: _open_valid(encode, name, settings.eval_docs) for name in settings.sets}
        self.raises: list[Raise] = []

    def refuse_other(self, encode: Artefact, model: ModelFolder) -> None:
        """Refuse a model of another tokenizer than the sets'.

        Raises:
            InputError: It has fewer rows than that has pieces, or beside it a tokenizer of another
                digest; or one of the two tokenizers cannot be read.
        """
        tokenizer = read_index(encode.path).tokenizer
        num_rows = model.entry(_EMBED).shape[0] if _EMBED in model.weight_map else None
        if num_rows is not None and tokenizer.vocab_size > num_rows:  # without it, `build` tells
            what = f"the model in {model.path} has {num_rows:,} rows"
            effect = "Training would end at the first id without a row, and mistrain up to there."
        elif (own := _own_tokenizer(model)) and own.digest != tokenizer.digest:
            what = (
                f"the one in {model.path} is another (digest {own.digest[:12]}; the sets' has "
                f"{tokenizer.digest[:12]})"
            )
            effect = "Each id would train another piece's row, and no loss curve would show it."
        else:
            return
        sets = ", ".join(f"'{name}'" for name in self._files)
        raise InputError(
            f"{encode.path}: the ids of {sets} are of a tokenizer with {tokenizer.vocab_size:,} "
            f"pieces ({tokenizer.name}); {what}.",
            effect=effect,
            way_out="Take both from one tokenizer: do the stages again (--redo encode --redo "
            "embed), or take out of run.reuse the run that one of them is from.",
        )

    def _open(self, parts: Sequence[str], total_tokens: int | None, seed: int) -> Mixture:
        s = self._settings
        names = dict.fromkeys(parse_part(part).name for part in parts)
        files: Mapping[str, TokenFile] = {name: self._files[name] for name in names}
        return Mixture(
            files, parts, s.seq_len, seed, total_tokens=total_tokens, documents=s.documents
        )

    def batch(self, phases: Sequence[Phase], step: int, batch_size: int) -> Batch:
        """Give the sequences of a step, (B, L), those of the guarded set last."""
        rows = [
            self._mixtures[places.mixture].batch(places.first + n, 1)
            for places in self._places(phases, step, batch_size)
            for n in range(places.num)
        ]
        return Batch(*(np.concatenate(arrays) for arrays in zip(*rows, strict=True)))

    def text(self, phases: Sequence[Phase], step: int, batch_size: int) -> npt.NDArray[np.bool_]:
        """Tell which positions of a step hold text, (B, L); what fills a row up is none."""
        stretches = self.stretches(phases, step, batch_size)
        sizes_B = np.array([stretch.stop - stretch.start for _, stretch in stretches])
        return np.arange(self._settings.seq_len) < sizes_B[:, None]

    def stretches(
        self, phases: Sequence[Phase], step: int, batch_size: int
    ) -> list[tuple[str, Stretch]]:
        """Tell which stretch of which set stands in each sequence of a step."""
        return [
            self._mixtures[places.mixture].stretches(places.first + n, 1)[0]
            for places in self._places(phases, step, batch_size)
            for n in range(places.num)
        ]

    def num_replayed(self, phases: Sequence[Phase], steps: int, batch_size: int) -> int:
        """Count the sequences that raises gave to the guarded set in the first steps of a run."""
        return sum(
            int(segment.frac * batch_size * (min(segment.stop, steps) - segment.first))
            for segment in self._segments(phases)
            if segment.first < steps
        )

    def _places(self, phases: Sequence[Phase], step: int, batch_size: int) -> list[_Places]:
        read = {_REPLAY: 0}
        for segment in self._segments(phases):
            per_step = segment.frac * batch_size
            before = min(segment.stop, step) - segment.first
            replayed = int(per_step * before)
            first = read.get(segment.mixture, 0) + before * batch_size - replayed
            read[segment.mixture] = first
            if step < segment.stop:
                more = int(per_step * (before + 1)) - replayed
                return [
                    _Places(segment.mixture, first, batch_size - more),
                    _Places(_REPLAY, read[_REPLAY] + replayed, more),
                ]
            read[_REPLAY] += replayed
        raise AssertionError(f"step {step} is in no phase")

    def _segments(self, phases: Sequence[Phase]) -> Iterator[_Segment]:
        """Cut the run where a phase or a raise begins."""
        raises = {raise_.step: raise_.frac for raise_ in self.raises}
        frac = 0.0
        for number, phase in enumerate(phases):
            stop = phase.first + phase.steps
            inside = sorted(step for step in raises if phase.first < step < stop)
            for first, last in zip([phase.first, *inside], [*inside, stop], strict=True):
                frac = raises.get(first, frac)
                mixture = number if number in self._mixtures else _SHARED
                # As it is written, so that 0.1 is a tenth.
                yield _Segment(mixture, first, last, Fraction(str(frac)))


class _Segment(NamedTuple):
    """Steps that read one mixture at one share of the guarded set."""

    mixture: int
    first: int
    stop: int
    frac: Fraction


def describe_stretch(stretch: Stretch) -> str:
    """Tell the numbers of the documents of a stretch: of the first, and of the last."""
    ends = np.asarray(stretch.file.ends)
    places = np.array([stretch.start, stretch.stop - 1], ends.dtype)
    first, last = ends.searchsorted(places, "right").tolist()
    return str(first) if first == last else f"{first}-{last}"


def _own_tokenizer(model: ModelFolder) -> BaseTokenizer | None:
    """Read the tokenizer beside a model, if there is one.

    Raises:
        InputError: It is damaged.
    """
    there = any((model.path / name).is_file() for name in ("tokenizer.model", "tokenizer.json"))
    try:
        return read_tokenizer(str(model.path)) if there else None
    except InputError as error:
        raise InputError(
            f"the expanded model's tokenizer cannot be read: {str(error).partition(chr(10))[0]}",
            effect="Whether the sets' ids are its own cannot be told.",
            way_out="Do the stage again: --redo embed.",
        ) from None


def _open_valid(encode: Artefact, name: str, max_docs: int) -> ValidSet:
    tokens = open_tokens(encode.file(f"{name}-valid.npy"))
    sizes = np.load(encode.file(f"{name}-valid.bytes.npy"), allow_pickle=False)
    if not tokens.num_docs:
        raise InputError(
            f"{encode.path}: set '{name}' has no validation documents; expected one or more.",
            effect="Nobody would see what training does to it.",
            way_out="Raise corpus.valid_frac, or take the set out of train.mixture.",
        )
    count = min(max_docs, tokens.num_docs)
    return ValidSet([tokens.doc(n) for n in range(count)], sizes[:count].tolist())
