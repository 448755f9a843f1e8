"""Does the merged model say what base and adapter say?

The reference is computed another way than the merge: weights stay as they are, and
scale (x Aᵀ) Bᵀ is added to what each linear map gives (with DoRA each output is then stretched).
The merged weights are read back from the files that were written. Both run in float32 through the
same modules of transformers, which stream their weights from disk: memory holds a slice of one
matrix, not a model.

The merged model is run with the reference's choice of experts: where two experts are nearly
tied the last bit of a rounded weight decides, and a difference there says nothing about the
merge. The experts' shares remain its own.

Shapes: T tokens, K experts a token, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from ..models import ModelFolder
from ..weights import row_slices
from .fold import is_linear
from .layout import EMBED_HEADS, is_mixtral
from .streamed import routers, stream_model
from .sums import Prepared, Sums
from .targets import Plan, Target
from .threads import torch_threads

__all__ = ["TOLERANCE", "Comparison", "compare", "fixed_prompts"]

TOLERANCE: Mapping[str, float] = {"F32": 1e-4, "F16": 1e-2, "BF16": 5e-2}
"""Largest difference of logits allowed, as a part of the largest logit, by the coarsest
storage dtype of the merged model."""
_COARSER = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Comparison:
    """Logits of the merged model against those of base and adapter."""

    difference: float
    """Largest difference, in logits; NaN where one of them is."""
    largest_logit: float
    """Largest magnitude of the reference's logits."""
    allowed: float
    """What rounding to `dtype` explains."""
    dtype: str
    """The coarsest storage dtype, in safetensors' words."""

    @property
    def is_explained(self) -> bool:
        """Whether rounding explains the difference; a difference that is no number is not."""
        return self.difference <= self.allowed


def compare(
    sums: Sums,
    plan: Plan,
    merged: Path,
    bodies: tuple[str, ...],
    jobs: int,
    report: Callable[[str], None],
) -> dict[str, Comparison]:
    """Run base + adapter and the merged model on fixed prompts, and compare their logits.

    Args:
        sums: Reads base and adapter.
        plan: What was merged.
        merged: The merged model's folder.
        bodies: Which bases to compare with: `original`, `nf4`. The first decides the routing.
        jobs: Threads that read and compute; a slice of a matrix is the work of one of them.
        report: Takes a line on what is being done.

    Raises:
        UsageError: The architecture has parameters that are not known here.
    """
    model = ModelFolder(merged)
    config = _read_config(merged)
    choices: list[torch.Tensor] = []
    expected: dict[str, torch.Tensor] = {}
    with torch.no_grad(), torch_threads(1), ThreadPoolExecutor(jobs) as pool:
        prompts = fixed_prompts(_vocab_size(config))
        for body in bodies:
            report(f"running base and adapter on {prompts.numel()} tokens ({body} body)")
            targets = {
                name: replace(target, packed=body == "nf4" and is_linear(name))
                for name, target in plan.targets.items()
            }
            streamed = stream_model(config, _Beside(sums, targets, pool))
            if expected:
                _follow(streamed, choices)
            else:
                choices = _record(streamed)
            expected[body] = streamed(input_ids=prompts, use_cache=False).logits
        report("running the merged model")
        streamed = stream_model(config, _Merged(model, pool))
        _follow(streamed, choices)
        logits = streamed(input_ids=prompts, use_cache=False).logits
    dtype = max((e.dtype for e in model.all_entries()), key=_COARSER.index)
    return {body: _compared(logits, reference, dtype) for body, reference in expected.items()}


def fixed_prompts(vocab_size: int, count: int = 4, length: int = 32) -> torch.Tensor:
    """Prompts of ids spread over the whole vocabulary, the same on every machine."""
    positions = torch.arange(count * length)
    # A step that is prime to most sizes walks through all of them.
    return (positions * 7919 % vocab_size).view(count, length)


def _compared(found: torch.Tensor, expected: torch.Tensor, dtype: str) -> Comparison:
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    return Comparison(difference, largest, TOLERANCE[dtype] * largest, dtype)


class _Merged:
    """The weights of the merged model, as its files hold them."""

    def __init__(self, model: ModelFolder, pool: Executor) -> None:
        self._model, self._pool = model, pool
        self._ties = {h: e for e, h in EMBED_HEADS.items() if e in model.weight_map}
        self._known = set(model.weight_map)

    def _stored(self, name: str) -> str:
        return name if name in self._known else self._ties[name]

    def has(self, name: str) -> bool:
        return name in self._known or name in self._ties

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        name = self._stored(name)

        def part(rows: tuple[int, int]) -> torch.Tensor:
            return linear(x, self._model.rows(name, *rows).float())

        return torch.cat(list(self._pool.map(part, row_slices(self._model.entry(name)))), -1)

    def lookup(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        name = self._stored(name)
        return _look_up(ids, lambda i: self._model.rows(name, i, i + 1)[0].float())

    def tensor(self, name: str) -> torch.Tensor:
        return self._model.tensor(self._stored(name)).float()


class _Beside:
    """The weights of the base, with the adapter beside them, not in them."""

    def __init__(self, sums: Sums, targets: Mapping[str, Target], pool: Executor) -> None:
        self._sums, self._targets, self._pool = sums, targets, pool
        self._last: tuple[str, Prepared] | None = None
        self._ties = {h: e for e, h in EMBED_HEADS.items() if e in targets}

    def _target(self, name: str) -> Target:
        return self._targets[name if name in self._targets else self._ties[name]]

    def has(self, name: str) -> bool:
        return name in self._targets or name in self._ties

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        target = self._target(name)
        prepared = self._prepared(target)
        factors = prepared.factors
        inner = linear(x, factors.right) * factors.scale if factors is not None else None

        def part(span: tuple[int, int]) -> torch.Tensor:
            rows = self._rows(target, prepared, *span)
            result = linear(x, rows)
            if factors is None or inner is None:
                return result
            left = factors.left[slice(*span)]
            result = result + linear(inner, left)
            if factors.magnitude is None:
                return result
            length = (rows + factors.scale * left @ factors.right).norm(dim=1)
            stretched: torch.Tensor = result * (factors.magnitude[slice(*span)] / length)
            return stretched

        return torch.cat(list(self._pool.map(part, row_slices(target.entry))), -1)

    def lookup(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        target = self._target(name)
        prepared = self._prepared(target)
        factors = prepared.factors

        def row_of(i: int) -> torch.Tensor:
            row = self._rows(target, prepared, i, i + 1)[0]
            if factors is None:
                return row
            return row + factors.scale * factors.left[i] @ factors.right

        return _look_up(ids, row_of)

    def tensor(self, name: str) -> torch.Tensor:
        target = self._target(name)
        prepared = self._prepared(target)
        parts = [
            self._sums.merged(target, prepared, first, last).float()
            for first, last in row_slices(target.entry)
        ]
        return torch.cat(parts).reshape(target.entry.shape)

    def _prepared(self, target: Target) -> Prepared:
        """Prepare a target; the last one is remembered."""
        name = target.entry.name
        if self._last is None or self._last[0] != name:
            self._last = (name, self._sums.prepare(target))
        return self._last[1]

    def _rows(self, target: Target, prepared: Prepared, first: int, last: int) -> torch.Tensor:
        """Rows of the weight alone, with those that training replaced."""
        change = target.change
        rows = self._sums.replaced(target, prepared, first, last)
        if change is None or not change.tokens:
            return rows
        for n, i in enumerate(change.token_ids):
            if first <= i < last:
                rows[i - first] = self._sums.tokens(change)[n]
        return rows


def _look_up(ids: torch.Tensor, row_of: Callable[[int], torch.Tensor]) -> torch.Tensor:
    found = {i: row_of(i) for i in set(ids.flatten().tolist())}
    return torch.stack([found[i] for i in ids.flatten().tolist()]).view(*ids.shape, -1)


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _vocab_size(config: Any) -> int:
    return int(config.get_text_config().vocab_size)


def _record(model: Any) -> list[torch.Tensor]:
    """Give a list that collects each router's choice (T, K) as the model runs."""
    choices: list[torch.Tensor] = []
    for router in _routers(model):
        router.register_forward_hook(lambda _, __, output: choices.append(output[2]))
    return choices


def _follow(model: Any, choices: list[torch.Tensor]) -> None:
    """Make a model's routers choose as recorded, with shares of their own."""
    for router, choice in zip(_routers(model), choices, strict=True):
        router.register_forward_hook(_choosing(choice))


def _routers(model: Any) -> list[Any]:
    """Give the routers whose shares are known here: Mixtral's, a softmax over the chosen."""
    return routers(model) if is_mixtral(model.config.to_dict()) else []


def _choosing(choice_TK: torch.Tensor) -> Callable[..., tuple[torch.Tensor, ...]]:
    def hook(_: Any, __: Any, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        logits = output[0]
        shares = logits.float().softmax(-1).gather(1, choice_TK)
        return logits, shares / shares.sum(-1, keepdim=True), choice_TK

    return hook
