"""Less memory for a second forward pass: of a decoder layer, only its input is kept.

The backward pass runs a layer once more to learn what its steps need. Expert blocks need their
input alone, and nothing but a sum comes after them, so in that second run they only keep it:
their products are made again inside their own backward pass, and the down product never.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["is_second_run", "recompute_layers"]

_local = threading.local()


def is_second_run() -> bool:
    """Tell whether a layer is run only for what its steps keep."""
    return getattr(_local, "second_run", False)


def recompute_layers(layers: nn.ModuleList) -> None:
    """Make each layer keep its input only, when gradients are wanted; results stay the same."""
    for layer in layers:
        # An instance's forward goes before its class's; hooks and `train` are as they were.
        run = partial(_run, layer.forward)
        layer.forward = run


def _run(forward: Any, *arguments: Any, **named: Any) -> Any:
    return checkpoint(forward, *arguments, use_reentrant=False, context_fn=_contexts, **named)


def _contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _SecondRun()


class _SecondRun(AbstractContextManager[Any]):
    def __enter__(self) -> None:
        _local.second_run = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _local.second_run = False
