"""What the learned methods share: snippets of text, the same text in base ids, lazy Adam.

The extended encoding is a coarsening of the base's: written out piece by piece, its ids *are*
the base's ids of the same text. So one token folder, encoded with the extended tokenizer, holds
what both the base (teacher) and the expanded model (student) read, and where their positions
meet: at the last part of each piece.

Shapes: N new pieces, D model width, L extended ids, M base ids, B snippets.
Source of the optimizer: Adam, Kingma & Ba 2015 (arXiv 1412.6980), kept apart for each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError, LingraftError, UsageError
from ..models import load_causal_lm
from ..shards import TokenFile, open_folder
from .added import Added
from .methods import Role, find_method

__all__ = [
    "Reading",
    "RowAdam",
    "Snippet",
    "Spelled",
    "Text",
    "find_snippets",
    "hidden_states",
    "in_batches",
    "input_rows",
    "load_teacher",
    "output_rows",
    "pad_ids",
    "read_snippets",
    "root_mean_square",
    "start_rows",
]

Int64 = npt.NDArray[np.int64]


class Spelled:
    """Spellings as one array, so that texts are written out at numpy's speed."""

    def __init__(self, spellings: Sequence[Sequence[int]], num_base: int) -> None:
        """Lay the spellings of ids `num_base`, `num_base` + 1, ... end to end."""
        self.num_base, self.num_added = num_base, len(spellings)
        self.lengths_N = np.array([len(ids) for ids in spellings], np.int64)
        self.starts_N = np.cumsum(self.lengths_N) - self.lengths_N
        self.parts = np.array([i for ids in spellings for i in ids], np.int64)

    def can_read(self, ids_L: Int64) -> bool:
        """Whether every id has a spelling: special and unspellable new pieces have none."""
        added = ids_L[ids_L >= self.num_base] - self.num_base
        return bool((self.lengths_N[added] > 0).all())

    def write_out(self, ids_L: Int64) -> tuple[Int64, Int64]:
        """Give the base ids of extended ids, (M,), and where the last part of each is, (L,)."""
        added = ids_L >= self.num_base
        place_L = np.where(added, ids_L - self.num_base, 0)
        lengths_L = np.where(added, self.lengths_N[place_L], 1) if self.num_added else added + 1
        ends_L = np.cumsum(lengths_L) - 1
        owner_M = np.repeat(np.arange(len(ids_L)), lengths_L)
        inside_M = np.arange(len(owner_M)) - np.repeat(ends_L - lengths_L + 1, lengths_L)
        base_M = ids_L[owner_M]
        from_parts = added[owner_M]
        where = self.starts_N[place_L[owner_M[from_parts]]] + inside_M[from_parts]
        base_M[from_parts] = self.parts[where]
        return base_M, ends_L


class Snippet(NamedTuple):
    """A stretch of a document around a new piece."""

    piece: int
    """Which new piece, 0 to N-1."""
    place: int
    """Where it stands in `ids_L`."""
    ids_L: Int64
    """Extended ids; they begin with BOS where the tokenizer has one."""


@dataclass(frozen=True)
class Text:
    """A token folder as the learned methods read it."""

    files: list[TokenFile]
    spelled: Spelled
    bos_id: int | None

    @classmethod
    def open(cls, folder: Path, added: Added) -> Text:
        """Open a token folder of the extended tokenizer: its training files, or all if none is.

        Raises:
            InputError: It is the folder of a tokenizer of another size, or holds no text.
        """
        opened = open_folder(folder)
        size = opened.index.tokenizer.vocab_size
        if size != added.num_extended:
            raise InputError(
                f"{folder}: ids of a tokenizer of {size:,}; expected {added.num_extended:,}.",
                effect="Its ids are those of another tokenizer.",
                way_out="Encode the text with the extended tokenizer: lingraft encode.",
            )
        train = [file for name, file in opened.files.items() if "train" in name]
        files = train or list(opened.files.values())
        if not sum(len(file.ids) for file in files):
            raise InputError(
                f"{folder}: no tokens to learn from.",
                way_out="Encode text of the new language with the extended tokenizer.",
            )
        spelled = Spelled(added.spellings, added.num_base)
        return cls(files, spelled, opened.index.tokenizer.bos_id)

    def documents(self, max_tokens: int = 300_000) -> Iterator[tuple[Int64, Int64]]:
        """Give documents as `Spelled.write_out` does, drawn evenly, about `max_tokens` in all."""
        total = sum(len(file.ids) for file in self.files)
        every = max(total // max_tokens, 1)
        for file in self.files:
            for number in range(0, file.num_docs, every):
                ids = file.doc(number)
                if len(ids) > 1 and self.spelled.can_read(ids):
                    yield self.spelled.write_out(ids)

    def draw(self, count: int, seed: int, length: int = 48) -> list[Snippet]:
        """Draw stretches of any text; `piece` is -1, for no new piece need be there."""
        generator = np.random.default_rng([seed, 1])
        sizes = np.array([len(file.ids) for file in self.files], np.int64)
        snippets = []
        for place in np.sort(generator.integers(0, sizes.sum(), count)).tolist():
            which = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
            file, inside = self.files[which], place - int(sizes[:which].sum())
            doc = int(np.searchsorted(np.asarray(file.ends, np.int64), inside, side="right"))
            ids = file.ids[inside : min(inside + length, int(file.ends[doc]))].astype(np.int64)
            if self.spelled.can_read(ids):
                snippets.append(Snippet(-1, 0, _led(ids, self.bos_id)))
        return [snippets[n] for n in generator.permutation(len(snippets))]


def _led(ids: Int64, bos_id: int | None) -> Int64:
    """Put BOS before ids that do not begin with it."""
    if bos_id is None or ids[0] == bos_id:
        return ids
    return np.concatenate([np.array([bos_id], np.int64), ids])


def find_snippets(
    files: Sequence[TokenFile],
    spelled: Spelled,
    per_piece: int,
    seed: int,
    *,
    before: int = 24,
    after: int = 24,
    bos_id: int | None = None,
    max_tokens: int = 20_000_000,
) -> list[Snippet]:
    """Choose up to `per_piece` places of each new piece, and cut the text around them.

    Args:
        files: Ids of the extended tokenizer; at most `max_tokens` of each are looked at.
        spelled: The new pieces.
        per_piece: Snippets of a piece; rare ones have fewer.
        seed: Decides places and order.
        before: Ids before the piece, if the document has them.
        after: Ids behind it.
        bos_id: Put before a snippet that does not begin its document.
        max_tokens: Bounds memory: 12 bytes a token.

    Returns:
        Snippets in random order.

    Raises:
        InputError: No new piece stands in the files.
    """
    generator = np.random.default_rng(seed)
    wanted_N = np.full(spelled.num_added, per_piece, np.int64)
    snippets: list[Snippet] = []
    for file in files:
        ids = np.asarray(file.ids[:max_tokens])
        _refuse_other_ids(ids, spelled)
        places = _choose(ids, spelled.num_base, wanted_N, generator)
        ends = np.asarray(file.ends, np.int64)
        docs = np.searchsorted(ends, places, side="right")
        for place, doc in zip(places.tolist(), docs.tolist(), strict=True):
            first = int(ends[doc - 1]) if doc else 0
            start, stop = max(first, place - before), min(int(ends[doc]), place + after + 1)
            plain = ids[start : min(stop, len(ids))].astype(np.int64)
            if not spelled.can_read(plain):
                continue
            cut = _led(plain, bos_id)
            inside = place - start + len(cut) - len(plain)
            snippets.append(Snippet(int(ids[place]) - spelled.num_base, inside, cut))
    if not snippets:
        raise InputError(
            f"none of the {spelled.num_added:,} new pieces stands in the token files.",
            effect="There would be nothing to learn their rows from.",
            way_out="Encode text of the new language with the extended tokenizer.",
        )
    return [snippets[n] for n in generator.permutation(len(snippets))]


def _refuse_other_ids(ids: npt.NDArray[Any], spelled: Spelled) -> None:
    size = spelled.num_base + spelled.num_added
    if len(ids) and int(ids.max()) >= size:
        raise InputError(
            f"a token file holds the id {int(ids.max())}; expected less than {size}.",
            effect="Its ids are those of another tokenizer.",
            way_out="Encode the text with the extended tokenizer: lingraft encode.",
        )


def _choose(
    ids: npt.NDArray[Any], num_base: int, wanted_N: Int64, generator: np.random.Generator
) -> Int64:
    """Draw places of each new piece, in order; lowers what is wanted by what was found."""
    places = np.flatnonzero(ids >= num_base)
    pieces = ids[places].astype(np.int64) - num_base
    order = np.lexsort((generator.random(len(places)), pieces))
    pieces, places = pieces[order], places[order]
    first = np.searchsorted(pieces, pieces, side="left")
    kept = np.arange(len(pieces)) - first < wanted_N[pieces]
    wanted_N -= np.bincount(pieces[kept], minlength=len(wanted_N))
    chosen: Int64 = np.sort(places[kept])
    return chosen


def in_batches(snippets: Sequence[Snippet], size: int) -> Iterator[Sequence[Snippet]]:
    """Give `size` snippets at a time; the last batch may be smaller."""
    for start in range(0, len(snippets), size):
        yield snippets[start : start + size]


def load_teacher(folder: Path, device: str, dtype: str = "float32") -> Any:
    """Load the base model, frozen, on a device.

    Raises:
        InputError: transformers cannot read the folder.
    """
    model = load_causal_lm(folder, dtype).to(device)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def input_rows(model: Any) -> torch.Tensor:
    """Rows that the body reads, (rows, D)."""
    rows: torch.Tensor = model.get_input_embeddings().weight
    return rows


def output_rows(model: Any) -> torch.Tensor:
    """Rows that the last hidden states are multiplied with, (rows, D)."""
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise InputError(
            "the model's head has a bias; expected none.",
            effect="Probabilities of pieces would be computed without it.",
            way_out="Use a method that needs no model, such as mean.",
        )
    rows: torch.Tensor = head.weight
    return rows


def hidden_states(model: Any, **inputs: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, L, D), as the head reads them; padding on the right needs no mask.

    A GPU computes in bfloat16, whatever the parameters are kept in.
    """
    with torch.autocast("cuda", torch.bfloat16, enabled=input_rows(model).is_cuda):
        states: torch.Tensor = model.base_model(**inputs, use_cache=False).last_hidden_state
    return states


class Reading(NamedTuple):
    """What the base makes of snippets."""

    states_BMD: torch.Tensor
    """Last hidden states at base ids; what is behind a snippet's end is padding."""
    texts: list[tuple[Int64, Int64]]
    """Base ids of each snippet, and where the last part of each extended id is."""


@torch.no_grad()
def read_snippets(model: Any, spelled: Spelled, snippets: Sequence[Snippet]) -> Reading:
    """Let the base read snippets in its own ids."""
    texts = [spelled.write_out(snippet.ids_L) for snippet in snippets]
    ids_BM = pad_ids([base_M for base_M, _ in texts]).to(input_rows(model).device)
    return Reading(hidden_states(model, input_ids=ids_BM), texts)


def pad_ids(rows: Sequence[Int64]) -> torch.Tensor:
    """Put ids of several lengths into one int64 array, zeros behind them."""
    ids_BL = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, ids in enumerate(rows):
        ids_BL[row, : len(ids)] = ids
    return torch.from_numpy(ids_BL)


def start_rows(
    name: str, base_VD: torch.Tensor, added: Added, role: Role, seed: int
) -> torch.Tensor:
    """Make the rows that training starts from, by a method that needs nothing else.

    Raises:
        UsageError: There is no such method, or it needs more.
    """
    method = find_method(name, role)
    if set(method.needs) - ({"counts"} if added.counts is not None else set()):
        raise UsageError(
            f"start = {name!r}: this method needs {' and '.join(method.needs)}.",
            way_out="Start from one that needs nothing, such as 'mean'.",
        )
    return method.load()(base_VD, added, role, seed)


def root_mean_square(rows: torch.Tensor) -> float:
    """Typical size of a number in the rows: learning rates are shares of it."""
    return float(rows.float().square().mean().sqrt())


@dataclass
class RowAdam:
    """Adam in which a row's moments and step count move only when the row has a gradient.

    With ordinary Adam a rare row would drift on its momentum through all the steps that do not
    mention it, and then leap, because its second moment has decayed.

    A softmax gives every row a gradient, most of them tiny and all of one direction. Adam would
    blow each up to a whole step. With `floor`, that share of the rows' mean second moment is added
    to a row's own, so that a row whose gradients are small beside others moves little.
    """

    rows_ND: torch.Tensor
    lr: float
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Start with empty moments."""
        self._mean_ND = torch.zeros_like(self.rows_ND)
        self._square_ND = torch.zeros_like(self.rows_ND)
        self._steps_N1 = torch.zeros_like(self.rows_ND[:, :1])

    @torch.no_grad()
    def step(self, grad_ND: torch.Tensor, share: float = 1.0) -> None:
        """Move the rows whose gradient is not zero, at `share` of the rate.

        Raises:
            LingraftError: A gradient is not finite.
        """
        size = float(grad_ND.abs().max())
        if not np.isfinite(size):
            raise LingraftError(
                f"a gradient of the new rows is {size}; expected finite numbers.",
                effect="Rows would become NaN and spread through training.",
                way_out="Look for NaN in the base model, or lower the learning rate.",
            )
        touched = grad_ND.ne(0).any(dim=1).nonzero().squeeze(1)
        grad = grad_ND[touched]
        steps = self._steps_N1[touched] + 1
        mean = self._mean_ND[touched].lerp(grad, 1 - self.beta1)
        square = self._square_ND[touched].lerp(grad.square(), 1 - self.beta2)
        self._steps_N1[touched], self._mean_ND[touched] = steps, mean
        self._square_ND[touched] = square
        square = square / (1 - self.beta2**steps)
        scale = (square + self.floor * square.mean()).sqrt_().add_(self.eps)
        self.rows_ND[touched] -= self.lr * share * (mean / (1 - self.beta1**steps)) / scale
