"""A model as the harness asks it, whose answers are kept as they come.

The harness hands all requests of a task to the model at once and keeps nothing before the last is
answered. Here every answer is written down when it is there (through the harness's own cache hook),
so that a killed run asks only what is left; the model beneath is the harness's, and so are the
numbers. Two things are looked at on the way: an answer that is no number ends the run, and prompts
longer than the model's context, which the harness cuts at their beginning, are counted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..errors import InputError
from ..progress import Progress
from .kept import Kept

__all__ = ["make_keeping_lm", "refuse_nan", "request_key"]


def request_key(kind: str, args: Iterable[Any]) -> str:
    """Name a request by its kind, prompt and continuation or settings."""
    text = json.dumps([kind, *args], ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def refuse_nan(answer: Any, model: str, prompt: str) -> None:
    """Refuse a likelihood that is no number.

    Raises:
        InputError: It is NaN or infinite above; minus infinity is a probability of 0, and fine.
    """
    number = answer[0] if isinstance(answer, tuple | list) else answer
    if isinstance(number, float) and (math.isnan(number) or number == math.inf):
        raise InputError(
            f"model '{model}': its likelihood of an answer is {number}; expected a finite number. "
            f"The prompt ends with {prompt[-60:]!r}.",
            effect="Every comparison with NaN is false: the item would count as wrong, or as right "
            "by the order of its choices.",
            way_out="Look for tensors that are not finite (lingraft model diff BASE MODEL), or use "
            "--dtype float32 or bfloat16: float16 overflows in some models.",
        )


class _Hook:
    """What the harness's models call with each answer."""

    def __init__(self, model: str, kept: Kept, progress: Progress) -> None:
        self._model, self._kept, self._progress = model, kept, progress

    def add_partial(self, kind: str, args: Sequence[Any], answer: Any) -> None:
        refuse_nan(answer, self._model, str(args[0]))
        self._kept.put(request_key(kind, args), answer)
        self._progress.advance(1)


def make_keeping_lm(
    lm: Any,
    model: str,
    kept: Kept,
    *,
    open_task: Callable[[int, int], AbstractContextManager[Progress]],
    inspect: Callable[[str, list[Any]], None],
    chunk: int = 0,
) -> Any:
    """Wrap a model of the harness.

    Args:
        lm: A model of the harness.
        model: Its name, for messages.
        kept: Answers that are there already, and where new ones go.
        open_task: Opens a progress task of so many requests, of which so many are answered.
        inspect: Sees the kind and all requests before the first is asked.
        chunk: Requests handed over at once, for models that report nothing on the way; 0: all.
    """
    from lm_eval.api.model import LM

    class KeepingLM(LM):  # type: ignore[misc]  # the harness has no types
        def _answer(self, kind: str, requests: list[Any]) -> list[Any]:
            inspect(kind, requests)
            keys = [request_key(kind, request.args) for request in requests]
            left = [r for r, key in zip(requests, keys, strict=True) if kept.get(key) is None]
            with open_task(len(requests), len(requests) - len(left)) as progress:
                lm.set_cache_hook(_Hook(model, kept, progress))
                step = chunk or max(len(left), 1)
                for start in range(0, len(left), step):
                    getattr(lm, kind)(left[start : start + step], disable_tqdm=True)
            return [_as_given(kept.get(key)) for key in keys]

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            return self._answer("loglikelihood", requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            return self._answer("loglikelihood_rolling", requests)

        def generate_until(self, requests: list[Any]) -> list[Any]:
            return self._answer("generate_until", requests)

    return KeepingLM()


def _as_given(answer: Any) -> Any:
    """JSON gives lists where the harness gave tuples."""
    return tuple(answer) if isinstance(answer, list) else answer
