"""Bits per byte of held-out text: the one figure that tokenizers of any size can share.

A loss per token falls when tokens get shorter, whatever the model knows. The nats of a whole
document over the bytes of its text do not depend on how it was cut:
`bpb = nats / ln 2 / bytes`.

Each document stands on its own. One longer than the context is read in windows: each predicts
the next `stride` tokens, and sees as many of those before as the context still holds. So every
token after BOS is predicted exactly once. With a stride of the whole context windows share only
the token between them: the last of a window is predicted there, and is the first that the next
one sees.

Shapes: B windows of up to L tokens, N predicted tokens, D model width, V pieces.
Source of the strides: the Transformers documentation, "Perplexity of fixed-length models".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .errors import InputError
from .progress import Progress
from .rows import IGNORE

__all__ = ["NotFiniteError", "Score", "Watched", "has_plain_head", "score_docs"]

_BATCH_TOKENS = 8_192
"""Tokens that go through the model at once, padding included."""
_CHUNK = {"cuda": 2048}
"""Positions whose logits are held at once; 256 elsewhere, where they stay near the cores."""
_LOGIT_ITEMS = 1 << 28
"""Logits of one batch where the model makes them itself."""


class NotFiniteError(InputError):
    """A model gives logits that are no numbers."""


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
    doc_nats: tuple[float, ...] = ()
    """Of each document, in their order."""


class Watched(NamedTuple):
    """Predicted tokens, in the order in which batches are done."""

    labels_N: npt.NDArray[np.int64]
    nats_N: npt.NDArray[np.float64]
    ranks_N: npt.NDArray[np.int64]
    """How many pieces the model found likelier; 0: it was the first choice."""


Docs = Sequence[Sequence[int] | npt.NDArray[np.integer[Any]]]


def score_docs(
    model: Any,
    docs_ids: Docs,
    sizes_bytes: Sequence[int] | npt.NDArray[np.integer[Any]],
    max_tokens: int,
    progress: Progress | None = None,
    batch_tokens: int = _BATCH_TOKENS,
    *,
    stride: int | None = None,
    plain_head: bool = True,
    count: Literal["docs", "tokens"] = "docs",
    watch: Callable[[Watched], None] | None = None,
    name_doc: Callable[[int], str] = "the model: document {}".format,
    before_batch: Callable[[], None] = lambda: None,
) -> Score:
    """Score documents; equal calls on one machine give equal bits.

    Args:
        model: A transformers causal LM. Its training mode is put back afterwards.
        docs_ids: Ids of each document. They begin with BOS, which is context only, and end
            with EOS where that shall count.
        sizes_bytes: UTF-8 bytes of each document's text.
        max_tokens: L, the longest context.
        progress: Advances by one for each document whose last window is done, or by tokens.
        batch_tokens: Tokens that go through the model at once, padding included.
        stride: Tokens that a window predicts, but for the first, which predicts L; None: L.
        plain_head: Whether logits are output embeddings times last hidden states, as
            `has_plain_head` tells; else the model makes them itself, which takes more memory.
        count: What `progress` counts.
        watch: Gets each batch's tokens with their ranks.
        name_doc: How messages call a document, by its number.
        before_batch: May end the scoring by what it raises.

    Raises:
        InputError: There is no text to score, or an id has no row.
        NotFiniteError: A logit is not finite.
    """
    assert len(docs_ids) == len(sizes_bytes), f"{len(docs_ids)} docs, {len(sizes_bytes)} sizes"
    stride = stride or max_tokens
    assert 1 <= stride <= max_tokens, f"stride {stride} of {max_tokens}"
    size_bytes = _total_bytes(sizes_bytes)
    windows = _all_windows(docs_ids, max_tokens, stride)
    left = np.bincount([window.doc for window in windows], minlength=len(docs_ids))
    if progress and count == "docs":
        progress.advance(int((left == 0).sum()))
    scorer = _Scorer(model, docs_ids, plain_head, watch, name_doc)
    training = model.training
    model.eval()
    try:
        for batch in _batches(windows, scorer.most_tokens(batch_tokens)):
            before_batch()
            scorer.score(batch)
            for window in batch:
                left[window.doc] -= 1
                if progress and (count == "tokens" or not left[window.doc]):
                    progress.advance(window.num_labels if count == "tokens" else 1)
    finally:
        model.train(training)
    total_tokens = sum(window.num_labels for window in windows)
    return _score(scorer.nats_D.tolist(), total_tokens, size_bytes)


def _score(nats_D: list[float], total_tokens: int, size_bytes: int) -> Score:
    nats = math.fsum(nats_D)
    return Score(nats, total_tokens, size_bytes, nats / math.log(2) / size_bytes, tuple(nats_D))


def _total_bytes(sizes_bytes: Sequence[int] | npt.NDArray[np.integer[Any]]) -> int:
    """Add sizes up.

    Raises:
        InputError: There is no text.
    """
    size_bytes = sum(int(size) for size in sizes_bytes)
    if not size_bytes:
        raise InputError(
            f"{len(sizes_bytes)} documents with 0 bytes of text to score; expected some.",
            way_out="Hold more out: raise corpus.valid_frac, or add documents.",
        )
    return size_bytes


class _Window(NamedTuple):
    """Places in a document: inputs from `begin` to before `end`; labels one further on."""

    doc: int
    begin: int
    end: int
    first: int
    """Place of the first label that counts; those before it were counted by other windows."""

    @property
    def num_inputs(self) -> int:
        return self.end - self.begin

    @property
    def num_labels(self) -> int:
        return self.end + 1 - self.first


def _windows(doc: int, size: int, max_tokens: int, stride: int) -> Iterator[_Window]:
    """Cut a document of `size` ids, so that each but the first is one window's to predict."""
    done, end = 0, min(max_tokens, size - 1)
    while done < size - 1:
        begin = max(done - (max_tokens - stride), 0)
        yield _Window(doc, begin, end, done + 1)
        done, end = end, min(end + stride, size - 1)


def _all_windows(docs_ids: Docs, max_tokens: int, stride: int) -> list[_Window]:
    """Cut all documents, in their order."""
    sizes = map(len, docs_ids)
    return [w for n, size in enumerate(sizes) for w in _windows(n, size, max_tokens, stride)]


def _batches(windows: list[_Window], batch_tokens: int) -> Iterator[list[_Window]]:
    """Group windows of like length, longest first, so that memory shows its peak at once."""
    windows = sorted(windows, key=lambda window: -window.num_inputs)
    cuts, rows, longest = [0], 0, 0
    for place, window in enumerate(windows):
        longest = longest or window.num_inputs
        if rows and (rows + 1) * longest > batch_tokens:
            cuts.append(place)
            rows, longest = 0, window.num_inputs
        rows += 1
    if windows:
        yield from (windows[start:stop] for start, stop in pairwise([*cuts, len(windows)]))


class _Scorer:
    """Sums nats by document."""

    def __init__(
        self,
        model: Any,
        docs_ids: Docs,
        plain_head: bool,
        watch: Callable[[Watched], None] | None,
        name_doc: Callable[[int], str],
    ) -> None:
        self._model, self._docs_ids, self._plain_head = model, docs_ids, plain_head
        self._watch, self._name_doc = watch, name_doc
        self._rows: int = model.get_output_embeddings().weight.shape[0]
        self.nats_D = np.zeros(len(docs_ids))

    def most_tokens(self, batch_tokens: int) -> int:
        """Tokens of a batch: fewer where the logits of all of them stand in memory."""
        return batch_tokens if self._plain_head else min(batch_tokens, _LOGIT_ITEMS // self._rows)

    @torch.no_grad()
    def score(self, batch: list[_Window]) -> None:
        """Add what a batch of windows costs."""
        inputs_BL, labels_BL = self._padded(batch)
        device = self._model.get_output_embeddings().weight.device
        labels = torch.from_numpy(labels_BL).flatten()
        counted = (labels != IGNORE).nonzero().squeeze(1)
        labels_N = labels[counted]
        run = _plain_losses if self._plain_head else _own_losses
        nats_N, ranks_N = run(
            self._model,
            torch.from_numpy(inputs_BL).to(device),
            counted.to(device),
            labels_N.to(device),
            with_ranks=self._watch is not None,
        )
        docs_N = np.repeat([window.doc for window in batch], [w.num_labels for w in batch])
        nats = nats_N.cpu().double().numpy()
        self._refuse_not_finite(docs_N, nats)
        self.nats_D += np.bincount(docs_N, nats, len(self.nats_D))
        if self._watch is not None:
            self._watch(Watched(labels_N.numpy(), nats, ranks_N.cpu().numpy()))

    def _padded(self, batch: list[_Window]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Inputs and labels (B, L), padded on the right.

        A causal model's positions never see what is on their right, so padding needs no mask;
        it costs time only.
        """
        longest = max(window.num_inputs for window in batch)
        inputs_BL = np.zeros((len(batch), longest), np.int64)
        labels_BL = np.full((len(batch), longest), IGNORE, np.int64)
        for row, (doc, begin, end, first) in enumerate(batch):
            ids = np.asarray(self._docs_ids[doc][begin : end + 1], np.int64)
            if ids.max() >= self._rows or ids.min() < 0:
                wrong = ids[(ids >= self._rows) | (ids < 0)][0]
                raise InputError(
                    f"{self._name_doc(doc)} holds id {wrong}; the model has {self._rows:,} rows.",
                    way_out="Model and tokenizer do not belong together: name the folder that "
                    "holds both.",
                )
            inputs_BL[row, : end - begin] = ids[:-1]
            labels_BL[row, first - 1 - begin : end - begin] = ids[first - begin :]
        return inputs_BL, labels_BL

    def _refuse_not_finite(
        self, docs_N: npt.NDArray[np.int64], nats_N: npt.NDArray[np.float64]
    ) -> None:
        wrong = np.flatnonzero(~np.isfinite(nats_N))
        if len(wrong):
            raise NotFiniteError(
                f"{self._name_doc(int(docs_N[wrong[0]]))}: the logits of {len(wrong):,} of "
                f"{len(nats_N):,} tokens are not finite.",
                effect="Its bits per byte would be no number.",
                way_out="Look for NaN in the weights (lingraft model diff BASE MODEL), or load "
                "with another --dtype: float16 overflows where bfloat16 does not.",
            )


_Losses = tuple[torch.Tensor, torch.Tensor]
"""Nats (N,) float32 and ranks (N,) int64; no ranks where they are not wanted."""


def _plain_losses(
    model: Any,
    inputs_BL: torch.Tensor,
    counted_N: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    with_ranks: bool,
) -> _Losses:
    """Hidden states of all, logits of a chunk at a time."""
    head = model.get_output_embeddings()
    assert getattr(head, "bias", None) is None, "a head with bias is not plain"
    hidden = model.base_model(input_ids=inputs_BL, use_cache=False).last_hidden_state
    rows_ND = hidden.flatten(0, 1)[counted_N]
    weight_VD = head.weight.to(rows_ND.dtype)
    chunk = _CHUNK.get(rows_ND.device.type, 256)
    found = [
        _losses(
            (rows_ND[n : n + chunk] @ weight_VD.t()).float(), labels_N[n : n + chunk], with_ranks
        )
        for n in range(0, len(rows_ND), chunk)
    ]
    return torch.cat([nats for nats, _ in found]), torch.cat([ranks for _, ranks in found])


def _own_losses(
    model: Any,
    inputs_BL: torch.Tensor,
    counted_N: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    with_ranks: bool,
) -> _Losses:
    """Logits as the model makes them: scaled, capped or with a bias."""
    logits = model(input_ids=inputs_BL, use_cache=False).logits
    return _losses(logits.flatten(0, 1)[counted_N].float(), labels_N, with_ranks)


def _losses(logits_NV: torch.Tensor, labels_N: torch.Tensor, with_ranks: bool) -> _Losses:
    """Nats of each label; the logits are overwritten."""
    labels = labels_N.unsqueeze(1)
    of_label = logits_NV.gather(1, labels)
    ranks = (logits_NV > of_label).sum(1) if with_ranks else labels_N[:0]
    top = logits_NV.amax(1, keepdim=True)
    sums = logits_NV.sub_(top).exp_().sum(1, keepdim=True)
    return (sums.log() - (of_label - top)).squeeze(1), ranks


@torch.no_grad()
def has_plain_head(model: Any) -> bool:
    """Tell whether a model's logits are its output embeddings times its last hidden states.

    Tried on a few ids: some models scale or cap them, or add a bias.
    """
    head = model.get_output_embeddings()
    ids = torch.arange(8, device=head.weight.device).remainder(len(head.weight)).unsqueeze(0)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    made = torch.nn.functional.linear(hidden, head.weight.to(hidden.dtype)).float()
    own = model(input_ids=ids, use_cache=False).logits.float()
    share = 1e-5 if own.dtype == torch.float32 and hidden.dtype == torch.float32 else 1e-3
    most = own.abs().max() * share
    return bool(made.shape == own.shape and ((made - own).abs().max() <= most).item())
