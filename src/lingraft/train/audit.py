"""A look at all gradients in the second step: does everything train that should?

A parameter that gets no gradient stays as it was, and no loss curve shows it. Experts that PEFT
missed, adapters folded away, rows that are tied where they should not be: each was found in
others' runs after days. In the second step every B has moved, so every A has a gradient.

What may rightly have none: an expert that no token went to, an A whose B is still zero because
its expert had no token before, and a row of an id that did not occur. Positions without a target
(the last of a document, what fills a row up) do not count as occurrences: nothing depends on them.
Nor need an adapter have one whose whole input dropout may have dropped, by chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch

from ..errors import LingraftError
from .build import Built

__all__ = ["audit_gradients"]

_EMBED = "model.embed_tokens.weight"
_SHOWN = 8
_CHANCE = 1e-12
"""What dropout does less often than this is not its doing."""


def audit_gradients(
    step: int,
    built: Built,
    loads: Sequence[Sequence[int]],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    dropout: float = 0.0,
) -> str:
    """Check the gradients of everything that asks for one.

    Args:
        step: Its number, for the message.
        built: The model, after a backward pass.
        loads: Tokens of each expert, by layer.
        inputs: Distinct ids that stood at positions with a target.
        labels: Distinct ids that were targets.
        dropout: Share of an adapter's input that is dropped.

    Returns:
        What was checked, as a line. Where a gradient is not finite, it says so and that nothing
        was checked: the loop ends the run for it, and tells the cause.

    Raises:
        LingraftError: Something has no gradient, and not by chance; all of it is named.
    """
    checked, wrong, by_chance = 0, [], 0
    chances = _adapters(built, loads, len(inputs), dropout)
    for name, grad, chance in [*chances, *_rows(built, inputs, labels)]:
        checked += 1
        if grad is None or not bool(grad.any()):
            if grad is not None and chance > _CHANCE:
                by_chance += 1
            else:
                wrong.append(f"{name} has no gradient")
        elif not bool(grad.isfinite().all()):
            return f"gradient audit of step {step}: left out, {name} has a gradient not finite"
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if wrong[_SHOWN:] else ""
        raise LingraftError(
            f"gradient audit of step {step}: {len(wrong)} of {checked} trained matrices and rows: "
            + "; ".join(wrong[:_SHOWN])
            + more,
            effect="They would stay as they are, and no loss curve would show it.",
            way_out="This is a defect of this program or of the model's code: please report it.",
        )
    if by_chance:
        return (
            f"WARNING: gradient audit of step {step}: {by_chance:,} of {checked:,} trained "
            f"matrices and rows have none, which train.lora.dropout = {dropout} does by chance: "
            "it may drop the whole input of an adapter."
        )
    return f"gradient audit of step {step}: all {checked:,} trained matrices and rows have one"


def _adapters(
    built: Built, loads: Sequence[Sequence[int]], num_tokens: int, dropout: float
) -> Iterator[tuple[str, torch.Tensor | None, float]]:
    """Give each adapter's gradients, and how probable it is that dropout took all its input."""
    for name, pair in built.pairs.items():
        if not pair.A.requires_grad:
            continue
        layer = int(re.findall(r"layers\.(\d+)\.", name)[0])
        for group in range(len(pair.A)):
            if len(pair.A) > 1 and not loads[layer][group]:
                continue
            tokens = loads[layer][group] if len(pair.A) > 1 else num_tokens
            chance = dropout ** (pair.A.shape[2] * max(tokens, 1))
            if bool(pair.B[group].any()):
                yield f"{name.format(group)}.A", _part(pair.A, group), chance
            yield f"{name.format(group)}.B", _part(pair.B, group), chance


def _rows(
    built: Built, inputs: torch.Tensor, labels: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor | None, float]]:
    for name, matrix in built.matrices.items():
        ids = inputs if name == _EMBED else labels
        border = len(matrix.base)
        for part, own in (("base", ids[ids < border]), ("added", ids[ids >= border] - border)):
            parameter = getattr(matrix, part)
            if not parameter.requires_grad:
                continue
            for row in own.tolist():
                shown = f"{name}[{row + (border if part == 'added' else 0)}]"
                yield shown, _part(parameter, row), 0.0


def _part(parameter: torch.Tensor, index: int) -> torch.Tensor | None:
    return None if parameter.grad is None else parameter.grad[index]
