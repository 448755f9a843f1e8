"""Bits per byte of held-out text: the one figure that tokenizers of any size can share.

A loss per token falls when tokens get shorter, whatever the model knows. The nats of a whole
document over the bytes of its text do not depend on how it was cut:
`bpb = nats / ln 2 / bytes`.

Each document stands on its own. One longer than the context is cut into windows that share
nothing but one token: the last of a window is predicted there, and is the first that the next
one sees. So every token after BOS is predicted exactly once.

Shapes: B windows of up to L tokens, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .errors import InputError
from .losses import linear_cross_entropy
from .progress import Progress
from .rows import IGNORE

__all__ = ["Score", "score_docs"]

_BATCH_TOKENS = 8_192
"""Tokens that go through the model at once, padding included."""


class Score(NamedTuple):
    """How a model reads a set of documents."""

    nats: float
    """Summed over all predicted tokens."""
    total_tokens: int
    """Tokens predicted: all but the first of each document."""
    size_bytes: int
    """UTF-8 bytes of the texts."""
    bpb: float
    """Bits per byte."""


def score_docs(
    model: Any,
    docs_ids: Sequence[Sequence[int] | npt.NDArray[np.integer[Any]]],
    sizes_bytes: Sequence[int] | npt.NDArray[np.integer[Any]],
    max_tokens: int,
    progress: Progress | None = None,
    batch_tokens: int = _BATCH_TOKENS,
) -> Score:
    """Score documents; equal calls on one machine give equal bits.

    Args:
        model: A transformers causal LM whose logits are its output embeddings times the last
            hidden states. Its training mode is put back afterwards.
        docs_ids: Ids of each document. They begin with BOS, which is context only, and end
            with EOS, which counts.
        sizes_bytes: UTF-8 bytes of each document's text.
        max_tokens: L, the longest context.
        progress: Advances by one for each document, once its last window is done.
        batch_tokens: Tokens that go through the model at once, padding included.

    Raises:
        InputError: There is no text to score.
    """
    assert len(docs_ids) == len(sizes_bytes), f"{len(docs_ids)} docs, {len(sizes_bytes)} sizes"
    size_bytes = int(sum(int(size) for size in sizes_bytes))
    if not size_bytes:
        raise InputError(
            f"{len(docs_ids)} documents with 0 bytes of text to score; expected some.",
            way_out="Hold more out: raise corpus.valid_frac, or add documents.",
        )
    left = [max(math.ceil((len(ids) - 1) / max_tokens), 0) for ids in docs_ids]
    if progress:
        progress.advance(left.count(0))
    nats, total_tokens = 0.0, 0
    training = model.training
    model.eval()
    try:
        for batch in _batches(docs_ids, max_tokens, batch_tokens):
            inputs_BL, labels_BL = _padded([window for _, window in batch])
            batch_nats, batch_tokens = _score(model, inputs_BL, labels_BL)
            nats += batch_nats
            total_tokens += batch_tokens
            for doc, _ in batch:
                left[doc] -= 1
                if progress and not left[doc]:
                    progress.advance(1)
    finally:
        model.train(training)
    return Score(nats, total_tokens, size_bytes, nats / math.log(2) / size_bytes)


_Window = tuple[int, npt.NDArray[np.int64]]
"""Number of a document, and a stretch of its ids: inputs and, one further on, labels."""


def _batches(
    docs_ids: Sequence[Any], max_tokens: int, batch_tokens: int
) -> Iterator[list[_Window]]:
    """Group windows of like length, longest first, so that memory shows its peak at once."""
    windows = [
        (number, np.asarray(ids[start : start + max_tokens + 1], np.int64))
        for number, ids in enumerate(docs_ids)
        for start in range(0, len(ids) - 1, max_tokens)
    ]
    windows.sort(key=lambda window: -len(window[1]))
    cuts, rows, longest = [0], 0, 0
    for place, (_, ids) in enumerate(windows):
        longest = longest or len(ids) - 1
        if rows and (rows + 1) * longest > batch_tokens:
            cuts.append(place)
            rows, longest = 0, len(ids) - 1
        rows += 1
    if windows:
        yield from (windows[start:stop] for start, stop in pairwise([*cuts, len(windows)]))


def _padded(windows: list[npt.NDArray[np.int64]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels (B, L), padded on the right.

    A causal model's positions never see what is on their right, so padding needs no mask;
    it costs time only.
    """
    longest = max(map(len, windows)) - 1
    inputs_BL = np.zeros((len(windows), longest), np.int64)
    labels_BL = np.full((len(windows), longest), IGNORE, np.int64)
    for row, ids in enumerate(windows):
        inputs_BL[row, : len(ids) - 1] = ids[:-1]
        labels_BL[row, : len(ids) - 1] = ids[1:]
    return torch.from_numpy(inputs_BL), torch.from_numpy(labels_BL)


@torch.no_grad()
def _score(model: Any, inputs_BL: torch.Tensor, labels_BL: torch.Tensor) -> tuple[float, int]:
    """Sum of nats over the labels that count, and their number."""
    head = model.get_output_embeddings()
    assert getattr(head, "bias", None) is None, "a head with bias is not scored here"
    device = head.weight.device
    hidden = model.base_model(input_ids=inputs_BL.to(device), use_cache=False).last_hidden_state
    labels = labels_BL.flatten().to(device)
    counted = labels != IGNORE
    rows_ND = hidden.flatten(0, 1)[counted]
    mean = linear_cross_entropy(rows_ND, head.weight, labels[counted])
    return float(mean) * len(rows_ND), len(rows_ND)
