"""Does the merged model say what base and adapter say?

The reference is computed another way than the merge: weights stay as they are, and
scale (x Aᵀ) Bᵀ is added to what each linear map gives (with DoRA each output is then stretched).
Where a low-rank part cannot stand beside (routers, scaled embeddings) it is added in float64, by
other lines than the merge's; where a matrix may be stored in any sense, the comparison is refused.
The merged weights are read back from the files that were written. Both run in float32 through the
same modules of transformers, which stream their weights from disk: memory holds a slice of one
matrix, not a model.

The merged model is run with the reference's choice of experts: where two experts are nearly
tied the last bit of a rounded weight decides, and a difference there says nothing about the
merge. The experts' shares remain its own.

Shapes: T tokens, K experts a token, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from ..models import ModelFolder
from ..threads import kept_memory
from ..weights import row_slices
from .fold import is_linear
from .layout import find_shared, is_mixtral
from .streamed import cannot_compare, routers, stream_model
from .sums import Prepared, Sums
from .targets import Plan, Target

__all__ = ["TOLERANCE", "Comparison", "check_names", "compare", "fixed_prompts"]

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
    """The coarsest storage dtype of 16 or more bits, in safetensors' words."""

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
    with torch.no_grad(), kept_memory(), ThreadPoolExecutor(jobs) as pool:
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
    dtype = _coarsest(model)
    return {body: _compared(logits, reference, dtype) for body, reference in expected.items()}


def check_names(sums: Sums, plan: Plan) -> None:
    """Find every parameter of the architecture, before anything is written.

    Raises:
        UsageError: The merged model could not be compared.
    """
    with ThreadPoolExecutor(1) as pool:
        stream_model(_read_config(sums.model.path), _Beside(sums, plan.targets, pool))


def fixed_prompts(vocab_size: int, count: int = 4, length: int = 32) -> torch.Tensor:
    """Prompts of ids spread over the whole vocabulary, the same on every machine."""
    positions = torch.arange(count * length)
    # A step that is prime to most sizes walks through all of them.
    return (positions * 7919 % vocab_size).view(count, length)


def _coarsest(model: ModelFolder) -> str:
    found = {entry.dtype for entry in model.all_entries()}
    return max(found.intersection(_COARSER), key=_COARSER.index, default="F32")


def _compared(found: torch.Tensor, expected: torch.Tensor, dtype: str) -> Comparison:
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    return Comparison(difference, largest, TOLERANCE[dtype] * largest, dtype)


class _Shared:
    """Names of a model's tensors; the head of a tied model may have none of its own."""

    def __init__(self, model: ModelFolder, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._names = set(shapes)
        shared = find_shared(model.config, shapes)
        self._ties = dict([shared]) if shared is not None else {}

    def has(self, name: str) -> bool:
        return name in self._names or name in self._ties

    def stored(self, name: str) -> str:
        return name if name in self._names else self._ties[name]


class _Merged(_Shared):
    """The weights of the merged model, as its files hold them."""

    def __init__(self, model: ModelFolder, pool: Executor) -> None:
        super().__init__(model, {entry.name: entry.shape for entry in model.all_entries()})
        self._model, self._pool = model, pool

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        name = self.stored(name)

        def part(rows: tuple[int, int]) -> torch.Tensor:
            return linear(x, self._model.rows(name, *rows).float())

        return torch.cat(list(self._pool.map(part, row_slices(self._model.entry(name)))), -1)

    def turned_linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        name = self.stored(name)

        def part(rows: tuple[int, int]) -> torch.Tensor:
            return x[..., slice(*rows)] @ self._model.rows(name, *rows).float()

        return _add_up(self._pool.map(part, row_slices(self._model.entry(name))))

    def lookup(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        name = self.stored(name)
        return _look_up(ids, lambda i: self._model.rows(name, i, i + 1)[0].float())

    def tensor(self, name: str) -> torch.Tensor:
        return self._model.tensor(self.stored(name)).float()

    def require_turned(self, name: str) -> None:
        """Nothing stands beside these weights."""

    def require_whole(self, name: str) -> None:
        """Nothing stands beside these weights."""


class _Beside(_Shared):
    """The weights of the base, with the adapter beside them, not in them."""

    def __init__(self, sums: Sums, targets: Mapping[str, Target], pool: Executor) -> None:
        super().__init__(sums.model, {name: t.entry.shape for name, t in targets.items()})
        self._sums, self._targets, self._pool = sums, targets, pool
        self._last: tuple[str, Prepared] | None = None

    def _target(self, name: str) -> Target:
        return self._targets[self.stored(name)]

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

    def turned_linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        target = self._target(name)
        prepared = self._prepared(target)
        factors = prepared.factors

        def part(span: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
            """Give what some inputs add to the outputs, and to their squared lengths (DoRA)."""
            rows, share = self._rows(target, prepared, *span), x[..., slice(*span)]
            result = share @ rows
            if factors is None or factors.magnitude is None:
                return result, rows.new_zeros(())
            whole = rows + factors.scale * factors.left[slice(*span)] @ factors.right
            return result, whole.square().sum(0)

        results, squares = zip(*self._pool.map(part, row_slices(target.entry)), strict=True)
        result = _add_up(results)
        if factors is None:
            return result
        result = result + factors.scale * (x @ factors.left) @ factors.right
        if factors.magnitude is None:
            return result
        return result * (factors.magnitude / _add_up(squares).sqrt())

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
        rows = [self._rows(target, prepared, *span) for span in row_slices(target.entry)]
        whole = torch.cat(rows).reshape(target.entry.shape)
        change, factors = target.change, prepared.factors
        if factors is not None:  # a router, or an embedding that does more than look up
            added = factors.left.double() @ factors.right.double()
            whole = (whole.double() + factors.scale * added).float()
            if factors.magnitude is not None:
                whole = whole * (factors.magnitude / whole.norm(dim=1)).unsqueeze(1)
        return whole + self._sums.shift(change) if change is not None and change.shift else whole

    def require_turned(self, name: str) -> None:
        change = self._target(name).change
        if change is not None and change.low_rank is not None and not change.low_rank.turned:
            raise cannot_compare(f"'{name}' is stored turned, and its architecture is not known so")

    def require_whole(self, name: str) -> None:
        change = self._target(name).change
        if change is not None and change.low_rank is not None:
            raise cannot_compare(
                f"the adapter has a low-rank part for '{name}', and what its module computes is "
                "not known"
            )

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


def _add_up(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    total: torch.Tensor = sum(parts, torch.zeros(()))
    return total


def _look_up(ids: torch.Tensor, row_of: Callable[[int], torch.Tensor]) -> torch.Tensor:
    found = {i: row_of(i) for i in set(ids.flatten().tolist())}
    return torch.stack([found[i] for i in ids.flatten().tolist()]).view(*ids.shape, -1)


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        raise cannot_compare(f"{folder}: {str(error).splitlines()[0]}") from None


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
