"""A look at all gradients in the second step: does everything train that should?

A parameter that gets no gradient stays as it was, and no loss curve shows it. Experts that PEFT
missed, adapters folded away, rows that are tied where they should not be: each was found in
others' runs after days. In the second step every B has moved, so every A has a gradient.

What may rightly have none: an expert that no token went to, an A whose B is still zero because
its expert had no token before, and a row of an id that did not occur. Positions without a target
(the last of a document, what fills a row up) do not count as occurrences: nothing depends on them.
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


def audit_gradients(
    step: int,
    built: Built,
    loads: Sequence[Sequence[int]],
    inputs: torch.Tensor,
    labels: torch.Tensor,
) -> str:
    """Check the gradients of everything that asks for one.

    Args:
        step: Its number, for the message.
        built: The model, after a backward pass.
        loads: Tokens of each expert, by layer.
        inputs: Distinct ids that stood at positions with a target.
        labels: Distinct ids that were targets.

    Returns:
        What was checked, as a line.

    Raises:
        LingraftError: Something has no gradient, or one that is not finite; all are named.
    """
    checked, wrong = 0, []
    for name, grad in [*_adapters(built, loads), *_rows(built, inputs, labels)]:
        checked += 1
        if grad is None or not bool(grad.any()):
            wrong.append(f"{name} has no gradient")
        elif not bool(grad.isfinite().all()):
            wrong.append(f"{name} has a gradient that is not finite")
    if wrong:
        more = f", and {len(wrong) - _SHOWN} more" if wrong[_SHOWN:] else ""
        raise LingraftError(
            f"gradient audit of step {step}: {len(wrong)} of {checked} trained matrices and rows: "
            + "; ".join(wrong[:_SHOWN])
            + more,
            effect="They would stay as they are, and no loss curve would show it.",
            way_out="This is a defect of this program or of the model's code: please report it.",
        )
    return f"gradient audit of step {step}: all {checked:,} trained matrices and rows have one"


def _adapters(
    built: Built, loads: Sequence[Sequence[int]]
) -> Iterator[tuple[str, torch.Tensor | None]]:
    for name, pair in built.pairs.items():
        if not pair.A.requires_grad:
            continue
        layer = int(re.findall(r"layers\.(\d+)\.", name)[0])
        for group in range(len(pair.A)):
            if len(pair.A) > 1 and not loads[layer][group]:
                continue
            if bool(pair.B[group].any()):
                yield f"{name.format(group)}.A", _part(pair.A, group)
            yield f"{name.format(group)}.B", _part(pair.B, group)


def _rows(
    built: Built, inputs: torch.Tensor, labels: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor | None]]:
    for name, matrix in built.matrices.items():
        ids = inputs if name == _EMBED else labels
        border = len(matrix.base)
        for part, own in (("base", ids[ids < border]), ("added", ids[ids >= border] - border)):
            parameter = getattr(matrix, part)
            if not parameter.requires_grad:
                continue
            for row in own.tolist():
                yield f"{name}[{row + (border if part == 'added' else 0)}]", _part(parameter, row)


def _part(parameter: torch.Tensor, index: int) -> torch.Tensor | None:
    return None if parameter.grad is None else parameter.grad[index]
