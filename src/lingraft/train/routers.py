"""A Mixture of Experts' router with an adapter beside its frozen matrix.

transformers 5 keeps the router as a matrix in a module of its own, which nothing that looks for
linear maps finds. Here that matrix stays where it is, in 16 bits, and the module is replaced.

Shapes: T tokens, E experts, K experts a token, D model width.
Source of the arithmetic: Mixtral of Experts, Jiang et al. 2024 (arXiv 2401.04088), section 2.1:
a softmax over the logits of the chosen experts, reckoned in float32 as transformers does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import dropout, linear

from .lora import LoraPair

__all__ = ["AdaptedRouter"]


class AdaptedRouter(nn.Module):
    """Stands in for transformers' MixtralTopKRouter: same call, same result."""

    def __init__(self, router: Any, pair: LoraPair, dropout: float) -> None:
        """Take the place of a router.

        Args:
            router: transformers' module. Its weight (E, D) becomes this one's, read or not.
            pair: The adapter.
            dropout: Share of the adapter's input that is dropped in training.
        """
        super().__init__()
        self.weight: nn.Parameter = router.weight
        self.pair = pair
        self.num_experts: int = router.num_experts
        self.top_k: int = router.top_k
        self._dropout = dropout

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Choose the experts of each token.

        Args:
            hidden_states: (..., D), of T tokens.

        Returns:
            Logits (T, E), shares of the chosen (T, K) in float32, and the chosen (T, K).
        """
        x_TD = hidden_states.reshape(-1, hidden_states.shape[-1])
        dropped = dropout(x_TD, self._dropout, self.training) if self._dropout else x_TD
        logits_TE = linear(x_TD, self.weight) + self.pair(dropped, [len(x_TD)])
        probabilities = logits_TE.float().softmax(-1)
        shares_TK, chosen_TK = probabilities.topk(self.top_k, -1)
        return logits_TE, shares_TK / shares_TK.sum(-1, keepdim=True), chosen_TK
