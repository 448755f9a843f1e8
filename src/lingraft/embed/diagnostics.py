"""What can be said about new rows beside base rows, before any training.

*Norms* by script: rows much shorter or longer than those that the body has learnt to read are the
first to look at. *Nearest base rows*: what the model will at first take a new piece for. The *map*
shows the two largest directions of base rows, and where new rows lie in them: a cloud beside the
base's is one that the body has never read from.

Shapes: V base rows, N new rows, D model width; S rows of a sample.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from .added import Added
from .calibrated import row_norms, script_of

__all__ = ["Heat", "NormGroup", "PieceView", "RowMap", "Survey", "survey_rows"]

Float32 = npt.NDArray[np.float32]
_SHOWN_PIECES, _NEIGHBOURS = 40, 5
_MAP_ROWS = 1_500
_HEAT_ROWS, _HEAT_COLUMNS = 240, 320
_MOST_GROUPS, _FEWEST = 6, 8
_CHUNK = 1 << 13


@dataclass(frozen=True)
class NormGroup:
    """Norms of rows of one kind."""

    name: str
    is_added: bool
    norms: Float32

    def quantile(self, frac: float) -> float:
        """Give a quantile of the norms."""
        return float(np.quantile(self.norms, frac))


@dataclass(frozen=True)
class PieceView:
    """A new piece and the base rows nearest to its own, by cosine, nearest first."""

    shown: str
    kind: str
    spelling: list[str]
    norm: float
    neighbours: list[tuple[str, float]]


@dataclass(frozen=True)
class RowMap:
    """Samples of rows in the two largest directions of the base's."""

    base_S2: Float32
    added_S2: Float32
    explained: tuple[float, float]
    """Share of the base sample's variance in each direction."""


@dataclass(frozen=True)
class Heat:
    """A matrix in means of blocks, in standard deviations of the base's numbers."""

    blocks: Float32
    base_share: float
    """Share of the height that the base rows take."""


@dataclass(frozen=True)
class Survey:
    """All of it for one matrix."""

    name: str
    num_base: int
    num_added: int
    base_changed: int
    """Base rows that are not those of the base model."""
    groups: list[NormGroup]
    pieces: list[PieceView]
    row_map: RowMap
    heat: Heat


def survey_rows(
    name: str, base_VD: torch.Tensor, rows: torch.Tensor, added: Added, seed: int = 17
) -> Survey:
    """Compare the rows of new pieces with those of the base.

    Args:
        name: Of the tensor.
        base_VD: The base model's rows, padding left out.
        rows: The expanded model's rows, (V + N, D).
        added: The new pieces.
        seed: Decides the samples.
    """
    num_base = added.num_base
    changed_V = (rows[:num_base] != base_VD).any(dim=1)
    added_ND = rows[num_base:]
    generator = np.random.default_rng(seed)
    return Survey(
        name=name,
        num_base=num_base,
        num_added=len(added),
        base_changed=int(changed_V.sum()),
        groups=_groups(row_norms(base_VD).numpy(), row_norms(added_ND).numpy(), added),
        pieces=_pieces(base_VD, added_ND, added),
        row_map=_map(base_VD, added_ND, generator),
        heat=_heat(base_VD, added_ND),
    )


def _groups(base_V: Float32, added_N: Float32, added: Added) -> list[NormGroup]:
    """Group norms by script: those of new pieces first, then the base's largest ones."""
    found: dict[tuple[bool, str], list[float]] = defaultdict(list)
    sides = ((False, added.base_pieces, base_V), (True, added.pieces, added_N))
    for is_added, pieces, norms in sides:
        for data, norm in zip(pieces, norms.tolist(), strict=True):
            found[is_added, _kind_of(data)].append(norm)
    ours = sorted((k for k in found if k[0]), key=lambda k: -len(found[k]))[:_MOST_GROUPS]
    same = [(False, name) for _, name in ours if (False, name) in found]
    rest = sorted((k for k in found if not k[0] and k not in same), key=lambda k: -len(found[k]))
    theirs = [k for k in rest if len(found[k]) >= _FEWEST][: max(_MOST_GROUPS - len(same), 0)]
    return [
        NormGroup(key[1], key[0], np.array(found[key], np.float32)) for key in ours + same + theirs
    ]


def _kind_of(data: bytes) -> str:
    if not data:
        return "special"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "bytes"
    script = script_of(data)
    return "no letters" if script == "none" else script


def _pieces(base_VD: torch.Tensor, added_ND: torch.Tensor, added: Added) -> list[PieceView]:
    """Find the nearest base rows of some new pieces, evenly spread over the ids."""
    if not len(added):
        return []
    chosen = np.unique(np.linspace(0, len(added) - 1, _SHOWN_PIECES).round().astype(int)).tolist()
    near_SV = _unit(added_ND[torch.tensor(chosen)])
    cosines = torch.cat(
        [
            near_SV @ _unit(base_VD[begin : begin + _CHUNK]).T
            for begin in range(0, len(base_VD), _CHUNK)
        ],
        dim=1,
    )
    top = cosines.topk(min(_NEIGHBOURS, len(base_VD)), dim=1)
    norms = row_norms(added_ND)
    return [
        PieceView(
            shown=added.shown(n),
            kind=added.kinds[n],
            spelling=[_shown(added, id) for id in added.spellings[n]],
            norm=float(norms[n]),
            neighbours=[
                (_shown(added, id), cosine)
                for id, cosine in zip(top.indices[s].tolist(), top.values[s].tolist(), strict=True)
            ],
        )
        for s, n in enumerate(chosen)
    ]


def _shown(added: Added, id: int) -> str:
    data = added.base_pieces[id]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02X}>" for byte in data)
    return text.replace(" ", "\u2581") if text else f"id {id}"


def _unit(rows_SD: torch.Tensor) -> torch.Tensor:
    rows = rows_SD.float()
    unit: torch.Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def _map(base_VD: torch.Tensor, added_ND: torch.Tensor, generator: np.random.Generator) -> RowMap:
    """Find the largest directions of base rows, and place samples of both in them."""
    base_SD, added_SD = (_sample(rows, generator) for rows in (base_VD, added_ND))
    mean_D = base_SD.mean(axis=0)
    centred_SD = base_SD - mean_D
    # The left vectors of S rows are cheaper than the D x D covariance of wide models.
    gram_SS = (centred_SD @ centred_SD.T).astype(np.float64)
    values, vectors = np.linalg.eigh(gram_SS)
    directions_D2 = centred_SD.T.astype(np.float64) @ vectors[:, :-3:-1]
    directions_D2 /= np.maximum(np.linalg.norm(directions_D2, axis=0), 1e-12)
    largest = np.abs(directions_D2).argmax(axis=0)  # else the sign would be up to the library
    directions_D2 *= np.sign(directions_D2[largest, [0, 1]])
    total = max(float(np.trace(gram_SS)), 1e-30)
    return RowMap(
        base_S2=(centred_SD @ directions_D2).astype(np.float32),
        added_S2=((added_SD - mean_D) @ directions_D2).astype(np.float32),
        explained=(float(values[-1]) / total, float(values[-2]) / total),
    )


def _sample(rows: torch.Tensor, generator: np.random.Generator) -> Float32:
    if len(rows) > _MAP_ROWS:
        chosen = np.sort(generator.choice(len(rows), _MAP_ROWS, replace=False))
        rows = rows[torch.from_numpy(chosen)]
    sample: Float32 = rows.float().numpy()
    return sample


def _heat(base_VD: torch.Tensor, added_ND: torch.Tensor) -> Heat:
    """Average blocks of rows and columns; new rows get the share of the height that they have."""
    total = len(base_VD) + len(added_ND)
    base_rows = max(min(round(_HEAT_ROWS * len(base_VD) / total), _HEAT_ROWS - 1), 1)
    if not len(added_ND):
        base_rows = _HEAT_ROWS
    parts = [_blocks(base_VD, base_rows), _blocks(added_ND, _HEAT_ROWS - base_rows)]
    blocks = np.concatenate([part for part in parts if len(part)])
    spread = float(np.std(parts[0])) or 1.0
    return Heat((blocks / spread).astype(np.float32), len(parts[0]) / len(blocks))


def _blocks(rows: torch.Tensor, num_rows: int) -> Float32:
    width = rows.shape[1]
    if not len(rows) or not num_rows:
        return np.zeros((0, min(width, _HEAT_COLUMNS)), np.float32)
    edges = np.linspace(0, len(rows), min(num_rows, len(rows)) + 1).round().astype(int).tolist()
    columns = np.linspace(0, width, min(width, _HEAT_COLUMNS) + 1).round().astype(int)
    made = [
        np.add.reduceat(rows[a:b].float().mean(dim=0).numpy(), columns[:-1]) / np.diff(columns)
        for a, b in pairwise(edges)
    ]
    return np.stack(made).astype(np.float32)
