"""What became of the pieces that a graft added: are they used, found likely, and of one size?

Three looks. The text: how much of it is spelled with added pieces. The model: how probable, and
how high in its order, it finds an added piece where the text has one, beside the base's pieces in
the same text. The matrices: norms of added rows beside base rows. An added piece that is rarely
among the first is written rarely, however much of the text is spelled with it.

Shapes: V pieces, N predicted tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError, UsageError
from ..othertokenizers import read_tokenizer
from ..scoring import Watched
from .loading import Loaded

__all__ = ["Added", "PieceWatch", "find_added", "row_norms"]

_TOP = (1, 10)
_QUANTILES = (0.05, 0.5, 0.95)


class Added(NamedTuple):
    """The pieces that a vocabulary has and its base has not."""

    is_added_V: npt.NDArray[np.bool_]

    @property
    def total(self) -> int:
        """How many there are."""
        return int(self.is_added_V.sum())

    def share(self, ids: Sequence[int]) -> tuple[int, int]:
        """Count the added ones among ids, and all."""
        ids_N = np.asarray(ids, np.int64)
        return int(self.is_added_V[ids_N].sum()), len(ids_N)


def find_added(base_tokenizer: Any, tokenizer: Any) -> Added | None:
    """Find the pieces that were added to a base's vocabulary.

    Args:
        base_tokenizer: A transformers tokenizer.
        tokenizer: Another.

    Returns:
        None where it does not extend the base: a piece of the base is missing or has another id,
        or nothing was added.
    """
    base: dict[str, int] = base_tokenizer.get_vocab()
    grown: dict[str, int] = tokenizer.get_vocab()
    if len(grown) <= len(base) or any(grown.get(piece) != id for piece, id in base.items()):
        return None
    is_added_V = np.zeros(max(grown.values()) + 1, np.bool_)
    is_added_V[[id for piece, id in grown.items() if piece not in base]] = True
    return Added(is_added_V)


class PieceWatch:
    """Collects how a model finds the tokens of a text, added pieces and others apart."""

    def __init__(self, added: Added) -> None:
        """Begin with nothing."""
        self._added = added
        self._ranks: dict[bool, list[npt.NDArray[Any]]] = {True: [], False: []}
        self._probabilities = {True: 0.0, False: 0.0}
        self._counts_V = np.zeros(len(added.is_added_V), np.int64)

    def __call__(self, watched: Watched) -> None:
        """Take a batch."""
        is_added_N = self._added.is_added_V[watched.labels_N]
        for group in (True, False):
            chosen = is_added_N == group
            self._ranks[group].append(watched.ranks_N[chosen].astype(np.int32))
            self._probabilities[group] += float(np.exp(-watched.nats_N[chosen]).sum())
        self._counts_V += np.bincount(watched.labels_N, minlength=len(self._counts_V))

    def result(self, loaded: Loaded) -> dict[str, Any]:
        """Give the figures of one text."""
        counts_V, is_added_V = self._counts_V, self._added.is_added_V
        tokens, of_added = int(counts_V.sum()), int(counts_V[is_added_V].sum())
        return {
            "num_added": self._added.total,
            "num_used": int((counts_V[is_added_V] > 0).sum()),
            "tokens_frac": of_added / tokens,
            "bytes_frac": _bytes_frac(loaded, counts_V, is_added_V),
            "added": self._group(True),
            "base": self._group(False),
        }

    def _group(self, is_added: bool) -> dict[str, Any]:
        ranks_N = np.concatenate([*self._ranks[is_added], np.empty(0, np.int32)])
        if not len(ranks_N):
            return {"tokens": 0}
        tops = {f"top{top}_frac": float((ranks_N < top).mean()) for top in _TOP}
        return {
            "tokens": len(ranks_N),
            "mean_probability": self._probabilities[is_added] / len(ranks_N),
            "median_rank": float(np.median(ranks_N)) + 1,
            **tops,
        }


def _bytes_frac(
    loaded: Loaded, counts_V: npt.NDArray[np.int64], is_added_V: npt.NDArray[np.bool_]
) -> float | None:
    """Share of the text's bytes; None where no file tells what pieces spell."""
    try:
        base = read_tokenizer(str(loaded.folder))
    except (InputError, UsageError):
        return None
    used = np.flatnonzero(counts_V)
    sizes = np.array([len(base.piece_bytes(int(id))) if id < base.size else 0 for id in used])
    weights = counts_V[used] * sizes
    total = int(weights.sum())
    return float(weights[is_added_V[used]].sum() / total) if total else None


def row_norms(loaded: Loaded, added: Added) -> dict[str, Any]:
    """Give quantiles of the Euclidean norms of base and added rows, of input and output matrix."""
    model = loaded.model
    embed = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    matrices = {"input": embed} if head is embed else {"input": embed, "output": head}
    found = {}
    for role, rows_VD in matrices.items():
        norms_V = rows_VD.detach().float().norm(dim=1).cpu().numpy()[: len(added.is_added_V)]
        is_added_V = added.is_added_V[: len(norms_V)]
        found[role] = {
            name: {
                f"q{round(100 * q):02d}": float(np.quantile(norms_V[rows], q)) for q in _QUANTILES
            }
            for name, rows in (("base", ~is_added_V), ("added", is_added_V))
        }
    return found
