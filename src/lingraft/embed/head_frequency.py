"""First head rows for new pieces: the mean, moved so that the logit fits the corpus frequency.

Write h for the last hidden state and w_v for the head row of piece v. Over the positions of a
corpus, the mean logit of v is E[h] . w_v. A trained head tells frequent pieces from rare ones by
it: E[h] . w_v = log f_v + c + noise, where f_v is the frequency of v. E[h] is not known without
running the model, but it need not be. Let

    beta = Cov_v(w_v, log f_v) / Var_v(log f_v)

be the mean change of a base row with one nat more of log frequency (D numbers, from base rows
alone). Taking the covariance of the equation above with log f_v gives E[h] . beta = 1, if the
noise does not depend on the frequency. So a row that is moved by t beta gets a mean logit that is
t higher, whatever E[h] is.

The mean m_n of a piece's parts has the mean logit of its parts: that of the frequency
mean_i(log f_i). The piece itself has the frequency f_n, so its row is

    w_n = m_n + beta (log f_n - mean_i(log f_i))

Base rows that occur fewer than `min_count` times take no part in beta; a piece that never occurs
counts as half an occurrence. Moves longer than `max_move` times the median norm of base rows are
cut to it, and counted in `notes`: a base whose rows hardly depend on frequency has no such beta.

Shapes: V base rows, N new pieces, D model width.
Source: ours; that heads hold the logarithm of frequency, Kobayashi et al. 2023 ("Transformer
Language Models Handle Word Frequency in Prediction Head").
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from ..errors import InputError
from .added import Added
from .averaging import weighted_rows
from .calibrated import row_norms
from .methods import Role

__all__ = ["head_frequency_rows"]

_MIN_ROWS = 32
_CHUNK = 1 << 13


def head_frequency_rows(
    base_VD: torch.Tensor,
    added: Added,
    role: Role,
    seed: int,
    *,
    min_count: int = 5,
    max_move: float = 1.0,
    notes: Counter[str] | None = None,
) -> torch.Tensor:
    """Move the mean of each spelling along the direction of frequency.

    Raises:
        InputError: Too few base pieces occur in the counted text, or all equally often.
    """
    assert added.counts is not None, "head-frequency needs counts"
    counts = added.counts.astype(np.float64)
    logs = np.log(np.maximum(counts, 0.5) / max(counts.sum(), 1.0))
    beta_D = _direction(base_VD, counts[: added.num_base], logs[: added.num_base], min_count)
    longest = max_move * float(row_norms(base_VD[: added.num_base]).median())
    length = float(beta_D.norm())
    rows_ND = weighted_rows(base_VD, added.spellings)
    for n, ids in enumerate(added.spellings):
        if not ids:
            continue
        step = float(logs[added.num_base + n] - logs[list(ids)].mean())
        if abs(step) * length > longest:
            step *= longest / (abs(step) * length)
            if notes is not None:
                notes["moves cut"] += 1
        rows_ND[n] += step * beta_D
    return rows_ND


def _direction(
    base_VD: torch.Tensor, counts_V: np.ndarray, logs_V: np.ndarray, min_count: int
) -> torch.Tensor:
    """Give beta: how a base row changes with one nat more of log frequency."""
    ids = np.flatnonzero(counts_V >= min_count)
    spread = logs_V[ids].var() if len(ids) else 0.0
    if len(ids) < _MIN_ROWS or spread == 0:
        raise InputError(
            f"{len(ids)} base pieces occur {min_count} times or more in the counted text; "
            f"expected {_MIN_ROWS} or more, of different frequencies.",
            effect="Nothing would tell how head rows depend on frequency.",
            way_out="Count more text, with text of the base's languages in it.",
        )
    shares = (logs_V[ids] - logs_V[ids].mean()) / (spread * len(ids))
    beta_D = torch.zeros(base_VD.shape[1])
    for begin in range(0, len(ids), _CHUNK):
        part = torch.from_numpy(ids[begin : begin + _CHUNK])
        weights = torch.from_numpy(shares[begin : begin + _CHUNK]).float()
        beta_D += weights @ base_VD[part].float()
    return beta_D
