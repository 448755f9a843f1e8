"""How a Mixture of Experts spreads its tokens, and the loss that wants them spread evenly.

Shapes: N tokens, E experts, K experts a token.
Source of the loss: Switch Transformers, Fedus et al. 2021 (arXiv 2101.03961), equation 4, with K
experts a token as Mixtral's own training code has it: E x sum over experts of (share of the
choices) x (mean probability); it is K where all are equal.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..ranks import Ranks
from .recompute import is_second_run

__all__ = ["Loads"]


class Loads:
    """Watches the routers of a model in training; a dense model has none."""

    def __init__(self, model: nn.Module) -> None:
        """Watch every router of transformers' kind."""
        gates = [m for n, m in model.named_modules() if n.endswith("mlp.gate")]
        self.num_layers = len(gates)
        self._counts: list[torch.Tensor] = []
        self._logits: list[torch.Tensor] = []
        self._counted_N: torch.Tensor | None = None
        self._text_N: torch.Tensor | None = None
        for layer, gate in enumerate(gates):
            self._counts.append(torch.zeros(gate.num_experts, dtype=torch.int64))
            gate.register_forward_hook(_Hook(self, layer))

    def clear(self) -> None:
        """Begin to count anew."""
        for counts in self._counts:
            counts.zero_()

    def begin(self, counted_N: torch.Tensor, text_N: torch.Tensor | None = None) -> None:
        """Begin a micro-batch.

        Args:
            counted_N: Whether a position has a target; choices of others are not counted, because
                nothing depends on them.
            text_N: Whether it holds text, as the last token of a document does, too, and what fills
                a row up does not; the balance loss is of these. None: all do.
        """
        self._logits = []
        self._counted_N, self._text_N = counted_N, text_N

    def see(self, layer: int, logits_NE: torch.Tensor, chosen_NK: torch.Tensor) -> None:
        """Take what a router said."""
        self._logits.append(logits_NE)
        chosen = chosen_NK if self._counted_N is None else chosen_NK[self._counted_N]
        found = torch.bincount(chosen.flatten(), minlength=logits_NE.shape[1])
        self._counts[layer] = self._counts[layer].to(found.device) + found

    def counts(self) -> list[list[int]]:
        """Choices of each expert, by layer, since `clear`."""
        return [counts.tolist() for counts in self._counts]

    def told(self, ranks: Ranks) -> dict[str, float]:
        """Give the loads of the most and of the least loaded expert since `clear`.

        A load is the share of its layer's choices that an expert got, times E: 1 is the even
        share, 0 is none, E / K that every token chose it. They are the extremes over the experts
        of all layers, so the two may be of different layers.
        """
        counts = [ranks.sum_counts(counts) for counts in self._counts]
        shares = [c.double() * len(c) / max(int(c.sum()), 1) for c in counts]
        if not shares:
            return {}
        return {
            "most_loaded": max(float(share.max()) for share in shares),
            "least_loaded": min(float(share.min()) for share in shares),
        }

    def balance_loss(self, top_k: int) -> torch.Tensor:
        """Give the load-balancing loss of the micro-batch's text, the mean over layers; K if even.

        As transformers' function of the same loss leaves out what its attention mask leaves out.
        """
        assert self._logits, "no router was seen"
        losses = []
        for all_NE in self._logits:
            logits_NE = all_NE if self._text_N is None else all_NE[self._text_N]
            probabilities = logits_NE.float().softmax(-1)
            chosen = probabilities.topk(top_k, -1).indices
            shares_E = nn.functional.one_hot(chosen, logits_NE.shape[1]).float().mean(0).sum(0)
            losses.append(logits_NE.shape[1] * (shares_E * probabilities.mean(0)).sum())
        return torch.stack(losses).mean()


class _Hook:
    def __init__(self, loads: Loads, layer: int) -> None:
        self._loads, self._layer = loads, layer

    def __call__(self, module: Any, inputs: Any, output: Any) -> None:
        if module.training and not is_second_run():
            logits_NE, _, chosen_NK = output
            self._loads.see(self._layer, logits_NE, chosen_NK)
