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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..errors import InputError
from ..progress import Progress
from .kept import Kept

__all__ = ["make_keeping_lm", "refuse_nan", "request_key", "request_keys", "watch_logits"]


def request_key(kind: str, args: Iterable[Any]) -> str:
    """Name a request by its kind, prompt and continuation or settings."""
    text = json.dumps([kind, *args], ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def request_keys(kind: str, requests: Iterable[Sequence[Any]]) -> list[str]:
    """Name requests; the same one asked again (a task with repeats) has a name of its own."""
    seen: Counter[str] = Counter()
    keys = []
    for args in requests:
        key = request_key(kind, args)
        keys.append(_numbered(key, seen[key]))
        seen[key] += 1
    return keys


def _numbered(key: str, occurrence: int) -> str:
    return f"{key}#{occurrence}" if occurrence else key


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
            way_out=_NAN_WAY_OUT,
        )


_NAN_WAY_OUT = (
    "Look for tensors that are not finite (lingraft model diff BASE MODEL), or use "
    "--dtype float32 or bfloat16: float16 overflows in some models."
)


def watch_logits(lm: Any, model: str) -> Any:
    """Let a transformers model of the harness refuse to generate from logits that are no numbers.

    A likelihood shows them; a generated text does not, for the likeliest of NaN is some token.

    Args:
        lm: The harness's; changed.
        model: Its name, for messages.
    """
    generate = lm._model_generate

    def watched(context: Any, *args: Any, **options: Any) -> Any:
        def look(_: Any, logits_BV: Any) -> Any:
            bad_B = (logits_BV.isnan() | (logits_BV == math.inf)).any(-1)
            if bool(bad_B.any()):
                row = int(bad_B.int().argmax()) * len(context) // len(bad_B)  # beams are rows, too
                ids = context[row]
                raise _bad_logit(model, lm.tokenizer.decode(ids, skip_special_tokens=True))
            return logits_BV

        return generate(context, *args, logits_processor=[look], **options)

    lm._model_generate = watched
    return lm


def _bad_logit(model: str, prompt: str) -> InputError:
    return InputError(
        f"model '{model}': a logit is NaN or infinite where it generates; expected finite numbers. "
        f"The prompt ends with {prompt[-60:]!r}.",
        effect="The text would mean nothing, and its score would pass for the model's.",
        way_out=_NAN_WAY_OUT,
    )


class _Hook:
    """What the harness's models call with each answer."""

    def __init__(self, model: str, kept: Kept, progress: Progress) -> None:
        self._model, self._kept, self._progress = model, kept, progress

    def add_partial(self, kind: str, args: Sequence[Any], answer: Any) -> None:
        refuse_nan(answer, self._model, str(args[0]))
        key, occurrence = request_key(kind, args), 0
        while self._kept.get(_numbered(key, occurrence)) is not None:
            occurrence += 1
        self._kept.put(_numbered(key, occurrence), answer)
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
            keys = request_keys(kind, (request.args for request in requests))
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
