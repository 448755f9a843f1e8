"""Input rows of new pieces by token distillation: the body should not notice the difference.

The base reads a snippet of text in its own ids: that is the teacher. The student is the same
frozen model, reading the same text with new pieces as single ids. Their rows are trained so that
the last hidden states of the two agree at the new pieces and at all ids behind them, where both
have read the same text. A piece's row then stands for what the base made of its parts together,
which no mean of the parts' rows can.

In each snippet one new piece is the one it was cut for. The others are shown as new ids, too,
with probability `share`: 0 is the paper's way, one row at a time in text the base knows well; 1
trains every row in the text that the expanded model will read, and needs fewer snippets.

A tied model predicts with the same rows, and states alone say nothing of that: a row that is read
right may predict itself everywhere. So what `headdistil.py` asks of a head row is added to the
loss of a tied model, with `head_weight`; in an untied model it must be 0.

Shapes: V base rows, N new pieces, D width, B snippets, L student ids, M base ids.
Source: Dobler, Elliott & de Melo 2025, Token Distillation (arXiv 2505.20133; ICLR 2026). The
share, the lazy optimizer and the tied rule are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..errors import UsageError
from ..progress import Reporter, SilentReporter
from .added import Added
from .headdistil import HeadTeacher, event_divergence
from .learned import (
    Reading,
    RowAdam,
    Snippet,
    Spelled,
    Text,
    find_snippets,
    hidden_states,
    in_batches,
    input_rows,
    load_teacher,
    output_rows,
    pad_ids,
    read_snippets,
    root_mean_square,
    start_rows,
)
from .methods import Role
from .spelltrie import Endings, SpellTrie

__all__ = ["View", "distil_rows", "state_error", "student_view", "train_input"]

Int64 = npt.NDArray[np.int64]


def distil_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    *,
    model: Path,
    tokens: Path,
    start: str = "mean",
    share: float = 1.0,
    per_piece: int = 8,
    batch: int = 16,
    lr: float = 0.1,
    head_weight: float | None = None,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> torch.Tensor:
    """Train input rows of the new pieces; the base stays as it is.

    Args:
        base_VD: The base's input rows.
        added: The new pieces.
        role: "input".
        seed: Decides snippets, order, and which pieces are shown as new.
        model: Folder of the base model.
        tokens: Token folder of the extended tokenizer.
        start: Method that makes the rows which training starts from.
        share: How often new pieces other than the snippet's own are shown as new, 0 to 1.
        per_piece: Snippets of text for each piece.
        batch: Snippets of a step.
        lr: Peak step of a number, as a share of the root mean square of the base's numbers.
        head_weight: Of the head's loss; None is 1 for a tied model and 0 for another.
        device: Where the model runs.
        reporter: Told of the progress.

    Returns:
        Rows (N, D), float32; pieces that the text does not show keep their start.

    Raises:
        InputError: The token folder is of another tokenizer, or shows no new piece.
        UsageError: `head_weight` is not 0, but the model is not tied.
    """
    text = Text.open(tokens, added)
    base = load_teacher(model, device)
    snippets = find_snippets(text.files, text.spelled, per_piece, seed, bos_id=text.bos_id)
    if head_weight is None:
        head_weight = float(output_rows(base) is input_rows(base))
    return train_input(
        base,
        start_rows(start, base_VD, added, role, seed),
        added,
        text,
        snippets,
        seed,
        share=share,
        batch=batch,
        lr=lr,
        head_weight=head_weight,
        reporter=reporter,
    )


def train_input(
    base: Any,
    start_ND: torch.Tensor,
    added: Added,
    text: Text,
    snippets: Sequence[Snippet],
    seed: int,
    *,
    share: float,
    batch: int,
    lr: float,
    head_weight: float = 0.0,
    reporter: Reporter | None = None,
) -> torch.Tensor:
    """Train on snippets, each once; see `distil_rows`."""
    base_VD = input_rows(base)
    head = _tied_head(base, added, text, head_weight)
    rows_ND = start_ND.to(base_VD.device, torch.float32, copy=True).requires_grad_(True)
    floor = 0.0 if head is None else 1.0  # a head gives every row a gradient
    adam = RowAdam(rows_ND, lr * root_mean_square(base_VD), floor=floor)
    generator = np.random.default_rng([seed, 2])
    num_batches = -(-len(snippets) // batch)
    with (reporter or SilentReporter()).task("distil", len(snippets), "snippets") as progress:
        for step, part in enumerate(in_batches(snippets, batch)):
            reading = read_snippets(base, text.spelled, part)
            views = [student_view(s, text.spelled, share, generator) for s in part]
            error = state_error(base, rows_ND, text.spelled.num_base, reading, views)
            loss = error if head is None else error + head_weight * head.loss(reading, rows_ND)
            (grad,) = torch.autograd.grad(loss, rows_ND)
            adam.step(grad, 1 - step / num_batches)
            progress.advance(len(part), f"error {float(error.detach()):.3f}")
    return rows_ND.detach().cpu()


class View(NamedTuple):
    """A snippet as the student reads it."""

    ids_L: Int64
    """Base ids, and new ones (from `num_base` on) for the pieces that are shown."""
    ends_L: Int64
    """The teacher's position at which each id has been read."""
    first: int
    """Place of the first new id; the student's states count from there on."""


def student_view(
    snippet: Snippet, spelled: Spelled, share: float, generator: np.random.Generator
) -> View:
    """Choose which new pieces of a snippet are shown as one id; its own always is."""
    ids_L = snippet.ids_L
    shown_L = (ids_L >= spelled.num_base) & (generator.random(len(ids_L)) < share)
    if snippet.piece >= 0:
        shown_L[snippet.place] = True
    base_M, ends_L = spelled.write_out(ids_L)
    owner_M = np.searchsorted(ends_L, np.arange(len(base_M)))
    is_end_M = np.zeros(len(base_M), np.bool_)
    is_end_M[ends_L] = True
    kept_M = is_end_M | ~shown_L[owner_M]
    view = np.where(shown_L[owner_M], ids_L[owner_M], base_M)[kept_M]
    added = np.flatnonzero(view >= spelled.num_base)
    first = int(added[0]) if len(added) else len(view)
    return View(view, np.flatnonzero(kept_M), first)


def state_error(
    base: Any,
    rows_ND: torch.Tensor,
    num_base: int,
    reading: Reading,
    views: Sequence[View],
) -> torch.Tensor:
    """Mean squared difference of the states, as a share of the teacher's mean square.

    Args:
        base: The frozen model.
        rows_ND: Input rows of the ids from `num_base` on; gradients reach them.
        num_base: V.
        reading: What the base made of the same snippets.
        views: The snippets as the student reads them.
    """
    base_VD = input_rows(base)
    ids_BL = pad_ids([view.ids_L for view in views]).to(base_VD.device)
    ends_BL = pad_ids([view.ends_L for view in views]).to(base_VD.device)
    counted = np.zeros(tuple(ids_BL.shape), np.bool_)
    for row, view in enumerate(views):
        counted[row, view.first : len(view.ids_L)] = True
    counted_BL = torch.from_numpy(counted).to(base_VD.device)
    added_BL = ids_BL >= num_base
    base_BLD = base.get_input_embeddings()(ids_BL.masked_fill(added_BL, 0))
    own_BLD = torch.nn.functional.embedding((ids_BL - num_base).clamp_min(0), rows_ND)
    mixed_BLD = torch.where(added_BL[..., None], own_BLD.to(base_BLD.dtype), base_BLD)
    states_BLD = hidden_states(base, inputs_embeds=mixed_BLD)
    batch_B1 = torch.arange(len(views), device=ids_BL.device)[:, None]
    wanted = reading.states_BMD[batch_B1, ends_BL][counted_BL].float()
    error = (states_BLD[counted_BL].float() - wanted).square().mean()
    return error / wanted.square().mean()


class _TiedHead:
    """The loss of a tied model's rows as head rows."""

    def __init__(self, base: Any, added: Added, text: Text) -> None:
        self._head_VD = output_rows(base)[: added.num_base]
        trie = SpellTrie(added.spellings)
        endings = Endings(trie).count_all(text.documents())
        self._teacher = HeadTeacher(trie, endings, str(self._head_VD.device))
        self._order_S = torch.from_numpy(trie.order_S).to(self._head_VD.device)

    def loss(self, reading: Reading, rows_ND: torch.Tensor) -> torch.Tensor:
        events = self._teacher.events(reading, self._head_VD)
        return event_divergence(events, self._teacher, rows_ND[self._order_S])


def _tied_head(base: Any, added: Added, text: Text, head_weight: float) -> _TiedHead | None:
    if not head_weight:
        return None
    if output_rows(base) is not input_rows(base):
        raise UsageError(
            f"method 'distil': head_weight = {head_weight}, but the model's head has rows of its "
            "own.",
            effect="The head's loss would train rows that the head does not use.",
            way_out="Leave head_weight at 0 and give a --head-method.",
        )
    return _TiedHead(base, added, text)
