"""Head rows of new pieces by exact self-distillation: the base already knows their probability.

The extended encoding is a coarsening of the base's. So at the border between two extended tokens
the base, reading its own ids, says how probable each new piece is: the product of its
conditionals along the piece's spelling. No text is needed as target, and one forward pass of the
base gives, for every border, the whole distribution of the next base id and those behind it.

Teacher. Let x be the text so far, P the base, b1 b2 ... bm the ids that follow, as far as they
are a path of the spellings' trie. The next extended token is exactly one of these events:

    a first id f that is not b1, and any token whose spelling begins with f:      P(f | x)
    a branch s = b1..bd c off the path, and any token at or below it:   P(s | x) * reach(s)
    a token that ends on the path, at depth h:    what is left of the path's mass, where it ends

The events exclude each other and their masses add up to 1. The first line is exact whatever the
merge rules do: a token that begins with f is read by the base as f and so on. In the other two
P(s | x) = P(b1|x) P(b2|x b1) ... is exact, and `reach(s)`, the share of texts beginning with s
whose first token does not end above s, is counted on encoded text (`Endings`): it is 1 where
the longest spelling always wins, and else depends on the text behind, of which only the average
is used.

Student. The same hidden states of the base, its head rows W_V, frozen, and new rows W_N behind
them: one softmax over V + N. An event's probability is the sum over its tokens. The loss is the
Kullback-Leibler divergence of the events, teacher from student, in nats a border. Base rows are
not moved, so their logits stay; a new piece can only take from them through the softmax, and
the best that can be had may lie above 0.

Shapes: B snippets, M base ids, P borders, S spelled new pieces in the trie's order, D width, V
base rows, U of whose ids are in spellings, T nodes and H height of the trie.
Sources: the exact use of the coarsening is ours. Near it: Minixhofer et al. 2025 (ALM, arXiv
2503.20083) and the self-distillation of arXiv 2508.15807.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..progress import Reporter, SilentReporter
from .added import Added
from .learned import (
    Reading,
    RowAdam,
    Snippet,
    Text,
    find_snippets,
    in_batches,
    load_teacher,
    output_rows,
    read_snippets,
    root_mean_square,
    start_rows,
)
from .methods import Role
from .spelltrie import Endings, SpellTrie

__all__ = ["Events", "HeadTeacher", "event_divergence", "head_distil_rows"]

_TINY = 1e-30


class Events(NamedTuple):
    """The teacher's events at P borders; masses of a border add up to 1."""

    states_PD: torch.Tensor
    """Hidden states of the base, from which the student predicts."""
    log_sum_P: torch.Tensor
    """ln of the sum of exp of the base's logits."""
    first_PF: torch.Tensor
    """Mass of each first id of the trie (columns as `HeadTeacher.firsts_F`)."""
    off_PF: torch.Tensor
    """1 where that first id is an event of its own, 0 where the text goes that way."""
    border_Q: torch.Tensor
    """Number of the border of each event behind b1."""
    start_Q: torch.Tensor
    """Its tokens: new pieces [start, stop) in the trie's order,"""
    stop_Q: torch.Tensor
    first_Q: torch.Tensor
    """and the base piece of this column of `first_PF`, if not -1."""
    mass_Q: torch.Tensor


class HeadTeacher:
    """Makes events of what the base computes."""

    def __init__(self, trie: SpellTrie, endings: Endings, device: str) -> None:
        """Put the trie's tables on a device."""
        self.trie, self._device = trie, device
        self.firsts_F = torch.tensor(list(trie.roots), dtype=torch.long, device=device)
        self._column = {first: column for column, first in enumerate(trie.roots)}
        nodes = torch.tensor(list(trie.roots.values()), dtype=torch.long, device=device)
        self._start_T, self._stop_T = self._tensor(trie.start_T), self._tensor(trie.stop_T)
        self.start_F, self.stop_F = self._start_T[nodes], self._stop_T[nodes]
        self._short_TH, self._leave_TH = (
            self._tensor(endings.short_TH),
            self._tensor(endings.leave_TH),
        )
        self._reach_T = self._tensor(endings.reach_T)
        parts = np.unique(np.concatenate([list(trie.roots), *trie.child_parts]).astype(np.int64))
        self._parts_U = self._tensor(parts)

    def events(self, reading: Reading, head_VD: torch.Tensor) -> Events:
        """Give the events at every border inside the snippets, their first one left out."""
        states_WD = reading.states_BMD.flatten(0, 1).float()
        logits_WV = states_WD @ head_VD.float().t()
        log_sum_W = logits_WV.logsumexp(dim=1)
        log_p_WU = logits_WV[:, self._parts_U] - log_sum_W[:, None]
        walks = self._walk(reading)
        border_W = self._tensor(walks.border_rows)
        first_PF = log_p_WU[border_W][:, self._place(self.firsts_F)].double().exp()
        off_PF = torch.ones_like(first_PF)
        off_PF[self._tensor(walks.on_borders), self._tensor(walks.on_columns)] = 0
        return Events(
            states_WD[border_W],
            log_sum_W[border_W],
            first_PF,
            off_PF,
            *self._deeper(walks, log_p_WU, len(border_W)),
        )

    def _place(self, parts: torch.Tensor) -> torch.Tensor:
        """Columns of base ids among the U that spellings have."""
        return torch.searchsorted(self._parts_U, parts)

    def _tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _walk(self, reading: Reading) -> _Walks:
        """Follow the text of every border down the trie."""
        walks = _Walks()
        width = reading.states_BMD.shape[1]
        for row, (base_M, ends_L) in enumerate(reading.texts):
            base = base_M.tolist()
            for end in ends_L[:-1].tolist():
                path = self.trie.walk(base, end + 1)
                walks.add(row * width + end, path, base[end + 1 :], self.trie, self._column)
        return walks

    def _deeper(
        self, walks: _Walks, log_p_WU: torch.Tensor, num_borders: int
    ) -> tuple[torch.Tensor, ...]:
        """Events behind b1: branches off the paths, and ends on them."""
        height = self.trie.height
        on_path_PH = torch.zeros(num_borders, height, dtype=torch.float64, device=self._device)
        if not walks.visits:
            none = torch.zeros(0, dtype=torch.long, device=self._device)
            return none, none, none, none, none.double()
        border, row, node = (self._tensor(np.array(c, np.int64)) for c in walks.visit_columns())
        steps = log_p_WU[
            self._tensor(walks.step_rows), self._place(self._tensor(walks.step_parts))
        ].double()
        log_mass = _running_sums(steps, self._tensor(walks.step_depths))
        visit, part, child, goes_on = (self._tensor(c) for c in walks.branches(self.trie))
        mass_of_branch = (log_mass[visit] + log_p_WU[row[visit], self._place(part)].double()).exp()
        taken = torch.zeros_like(log_mass).index_add_(0, visit, mass_of_branch)
        leaving = (log_mass.exp() - taken).clamp_min(0)
        on_path_PH.index_add_(0, border, leaving[:, None] * self._leave_TH[node])
        off = ~goes_on
        visit, child, mass_of_branch = visit[off], child[off], mass_of_branch[off]
        at = border[visit]
        on_path_PH.index_add_(0, at, mass_of_branch[:, None] * self._short_TH[child])
        end_border, end_depth, end_start, end_stop, end_first = (
            self._tensor(c) for c in walks.ends(self.trie)
        )
        return (
            torch.cat([at, end_border]),
            torch.cat([self._start_T[child], end_start]),
            torch.cat([self._stop_T[child], end_stop]),
            torch.cat([torch.full_like(at, -1), end_first]),
            torch.cat(
                [mass_of_branch * self._reach_T[child], on_path_PH[end_border, end_depth - 1]]
            ),
        )


class _Walks:
    """Where the texts of many borders go in the trie, as columns of numbers."""

    def __init__(self) -> None:
        self._border_rows: list[int] = []
        self._on: list[tuple[int, int]] = []
        self.visits: list[tuple[int, int, int, int]] = []  # border, row, node, next node or -1
        self._steps: list[tuple[int, int, int]] = []  # row, part, depth
        self._ends: list[tuple[int, int, int, int]] = []  # border, depth, node, column of b1

    def add(
        self,
        row: int,
        path: Sequence[int],
        parts: Sequence[int],
        trie: SpellTrie,
        column_of: dict[int, int],
    ) -> None:
        """Add a border: the row that predicts its first id, and the nodes behind it."""
        border = len(self._border_rows)
        self._border_rows.append(row)
        if not path:
            return
        column = column_of[parts[0]]
        self._on.append((border, column))
        for depth, node in enumerate(path, 1):
            following = path[depth] if depth < len(path) else -1
            self.visits.append((border, row + depth, node, following))
            self._steps.append((row + depth - 1, parts[depth - 1], depth))
            if depth == 1 or trie.own_stop_T[node] > trie.start_T[node]:
                self._ends.append((border, depth, node, column if depth == 1 else -1))

    @property
    def border_rows(self) -> npt.NDArray[np.int64]:
        return np.array(self._border_rows, np.int64)

    @property
    def on_borders(self) -> npt.NDArray[np.int64]:
        return np.array([border for border, _ in self._on], np.int64)

    @property
    def on_columns(self) -> npt.NDArray[np.int64]:
        return np.array([column for _, column in self._on], np.int64)

    @property
    def step_rows(self) -> npt.NDArray[np.int64]:
        return np.array([row for row, _, _ in self._steps], np.int64)

    @property
    def step_parts(self) -> npt.NDArray[np.int64]:
        return np.array([part for _, part, _ in self._steps], np.int64)

    @property
    def step_depths(self) -> npt.NDArray[np.int64]:
        return np.array([depth for _, _, depth in self._steps], np.int64)

    def visit_columns(self) -> list[list[int]]:
        """Border, row and node of each visit."""
        return [list(column) for column in zip(*(v[:3] for v in self.visits), strict=True)]

    def branches(self, trie: SpellTrie) -> list[npt.NDArray[Any]]:
        """Visit, base id, node of every branch at a visited node; whether the text goes there."""
        parts = [trie.child_parts[node] for _, _, node, _ in self.visits]
        nodes = [trie.child_nodes[node] for _, _, node, _ in self.visits]
        sizes = [len(p) for p in parts]
        following = np.repeat([v[3] for v in self.visits], sizes)
        node = np.concatenate(nodes)
        return [
            np.repeat(np.arange(len(self.visits)), sizes),
            np.concatenate(parts),
            node,
            node == following,
        ]

    def ends(self, trie: SpellTrie) -> list[npt.NDArray[np.int64]]:
        """Border, depth, range and column of every token that could end on its path."""
        border, depth, node, column = np.array(self._ends, np.int64).T
        start = trie.start_T[node]
        # A base piece is no new one: its range is empty, and its column says which it is.
        stop = np.where(depth == 1, start, trie.own_stop_T[node])
        return [border, depth, start, stop, column]


def _running_sums(steps: torch.Tensor, depths: torch.Tensor) -> torch.Tensor:
    """Sum log-probabilities along each path; a path begins where the depth is 1."""
    sums = steps.cumsum(0)
    place = torch.arange(len(steps), device=steps.device)
    begin = place - (depths - 1)
    before = torch.where(begin > 0, sums[(begin - 1).clamp_min(0)], 0.0)
    return sums - before


def event_divergence(events: Events, teacher: HeadTeacher, rows_SD: torch.Tensor) -> torch.Tensor:
    """Mean divergence of the events, teacher from student, in nats a border.

    Args:
        events: Of P borders.
        teacher: Whose events they are.
        rows_SD: Head rows of the spelled new pieces in the trie's order; gradients reach them.
    """
    logits_PS = events.states_PD @ rows_SD.t()
    log_sum_P = torch.logaddexp(events.log_sum_P, logits_PS.logsumexp(dim=1))
    p_PS = (logits_PS - log_sum_P[:, None]).double().exp()
    below_PS = torch.nn.functional.pad(p_PS.cumsum(dim=1), (1, 0))
    shrink_P1 = (events.log_sum_P - log_sum_P).double().exp()[:, None]
    first_PF = events.first_PF * shrink_P1  # of the base pieces themselves, to the student
    group_PF = first_PF + below_PS[:, teacher.stop_F] - below_PS[:, teacher.start_F]
    loss_P = (_divergence(events.first_PF, group_PF) * events.off_PF).sum(dim=1)
    rest_P = 1 - events.first_PF.sum(dim=1)
    loss_P = loss_P + rest_P.clamp_min(0) * (log_sum_P - events.log_sum_P)
    at, first = events.border_Q, events.first_Q
    p_Q = below_PS[at, events.stop_Q] - below_PS[at, events.start_Q]
    p_Q = p_Q + torch.where(first >= 0, first_PF[at, first.clamp_min(0)], 0.0)
    loss_P = loss_P.index_add(0, at, _divergence(events.mass_Q, p_Q))
    return loss_P.mean()


def _divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Terms q ln(q / p); 0 where q is 0."""
    return teacher * (teacher.clamp_min(_TINY).log() - student.clamp_min(_TINY).log())


def head_distil_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    *,
    model: Path,
    tokens: Path,
    start: str = "mean",
    per_piece: int = 8,
    batch: int = 4,
    lr: float = 0.05,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> torch.Tensor:
    """Train head rows of the new pieces to give what the base says of their spellings.

    Args:
        base_VD: The base's head rows.
        added: The new pieces.
        role: "output".
        seed: Decides snippets and order.
        model: Folder of the base model.
        tokens: Token folder of the extended tokenizer.
        start: Method that makes the rows which training starts from.
        per_piece: Snippets of text for each piece.
        batch: Snippets of a step.
        lr: Peak step of a number, as a share of the root mean square of the base's numbers.
        device: Where the model runs.
        reporter: Told of the progress.

    Returns:
        Rows (N, D), float32; pieces with fewer than two parts keep their start.

    Raises:
        InputError: The token folder is of another tokenizer, or shows no new piece.
    """
    text = Text.open(tokens, added)
    start_ND = start_rows(start, base_VD, added, role, seed)
    snippets = find_snippets(text.files, text.spelled, per_piece, seed, bos_id=text.bos_id)
    snippets += text.draw(len(snippets) // 4, seed)
    base = load_teacher(model, device)
    return train_head(base, start_ND, added, text, snippets, batch=batch, lr=lr, reporter=reporter)


def train_head(
    base: Any,
    start_ND: torch.Tensor,
    added: Added,
    text: Text,
    snippets: Sequence[Snippet],
    *,
    batch: int,
    lr: float,
    reporter: Reporter | None = None,
) -> torch.Tensor:
    """Train on snippets, each once; see `head_distil_rows`."""
    head_VD = output_rows(base)
    device = str(head_VD.device)
    trie = SpellTrie(added.spellings)
    teacher = HeadTeacher(trie, Endings(trie).count_all(text.documents()), device)
    rows_ND = start_ND.to(device, torch.float32, copy=True)
    order_S = torch.from_numpy(trie.order_S).to(device)
    rows_SD = rows_ND[order_S].requires_grad_(True)
    adam = RowAdam(rows_SD, lr * root_mean_square(head_VD), floor=1.0)
    num_batches = -(-len(snippets) // batch)
    with (reporter or SilentReporter()).task("headdistil", len(snippets), "snippets") as progress:
        for step, part in enumerate(in_batches(snippets, batch)):
            reading = read_snippets(base, text.spelled, part)
            loss = event_divergence(
                teacher.events(reading, head_VD[: added.num_base]), teacher, rows_SD
            )
            (grad,) = torch.autograd.grad(loss, rows_SD)
            adam.step(grad, 1 - step / num_batches)
            progress.advance(len(part), f"divergence {float(loss.detach()):.3f}")
    rows_ND[order_S] = rows_SD.detach()
    return rows_ND.cpu()
