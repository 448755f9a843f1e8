"""What a built model takes in memory, by class of its parameters.

A quantiser that passes over a module in silence leaves it in 16 bits, and nothing but memory tells
(bitsandbytes does so with the fused experts of transformers 5, its issue 1849). So every number of
the model is put into a class here, each once, and what a class takes is told before training.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .build import Built
from .lora import FrozenStack

__all__ = ["bytes_per_parameter"]


def bytes_per_parameter(built: Built) -> dict[str, float]:
    """Give the bytes a parameter of each class: frozen maps, adapters, embeddings, the rest."""
    sizes: dict[str, list[int]] = {}
    for name, module in built.model.named_modules():
        if isinstance(module, FrozenStack):
            place = "experts" if ".experts." in f"{name}." else _place_of(name)
            _add(sizes, place, module.num_items, module.size_bytes)
    adapters = {id(p): p for p in built.lora.values()}
    rows = {id(p): p for matrix in built.matrices.values() for p in matrix.parameters()}
    others = {id(p): p for p in built.model.parameters() if id(p) not in adapters.keys() | rows}
    for name, found in (
        ("adapters", adapters),
        ("embed_tokens and lm_head", rows),
        ("routers, norms and biases", others),
    ):
        for parameter in found.values():
            _add(sizes, name, parameter.numel(), parameter.numel() * parameter.element_size())
    _check(built, sizes, [*adapters.values(), *rows.values()])
    return {name: size_bytes / num_items for name, (num_items, size_bytes) in sizes.items()}


def _place_of(name: str) -> str:
    return "attention" if ".self_attn." in name else "dense maps"


def _add(sizes: dict[str, list[int]], name: str, num_items: int, size_bytes: int) -> None:
    entry = sizes.setdefault(name, [0, 0])
    entry[0] += num_items
    entry[1] += size_bytes


def _check(
    built: Built, sizes: dict[str, list[int]], masters: Iterable[torch.nn.Parameter]
) -> None:
    """What each stack takes, `FrozenStack` has checked when it was made."""
    assert all(p.dtype == torch.float32 for p in masters), "a master weight is not float32"
    trained = sum(p.numel() for p in built.model.parameters() if p.requires_grad)
    counted = sum(num_items for num_items, _ in sizes.values())
    assert counted == built.frozen_parameters + trained, f"{counted} parameters were put in a class"
