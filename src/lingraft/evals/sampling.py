"""Continuations of a prompt: nucleus sampling with a seed of its own for each.

Of a model's generation_config.json the ids of BOS and EOS are used and nothing else, be it a
penalty for repetition or tokens never to be written: models are compared under one way of
sampling, the one that was named.

Source: Holtzman et al. 2019, arXiv 1904.09751 (top-p), as transformers samples it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..errors import InputError

__all__ = [
    "Continuation",
    "Sampling",
    "continue_ids",
    "continue_prompt",
    "refuse_surrogates",
    "sampling_options",
    "seed_of",
]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: Logits are divided by it.
        top_p: The likeliest tokens that reach this probability together are sampled from.
        max_new_tokens: Sampling ends there, or at EOS.
        greedy: Take the likeliest token; temperature and top_p are not used.
    """

    temperature: float = 0.8
    top_p: float = 0.9
    max_new_tokens: int = 100
    greedy: bool = False


class Continuation(NamedTuple):
    """What a model wrote."""

    text: str
    """What follows the prompt, without it; a character cut in its bytes shows as U+FFFD."""
    ids: list[int]
    """Its tokens, EOS left out."""
    ended: bool
    """Whether the model ended it itself, by EOS."""


def seed_of(seed: int, model: str, prompt: str) -> int:
    """Give the seed of one continuation: no other prompt or model changes it.

    Args:
        seed: Decides all of them.
        model: What tells the model; it must not depend on the models beside it.
        prompt: Text to go on from.
    """
    mixed = hashlib.sha256(f"{seed}\0{model}\0{prompt}".encode()).digest()
    return int.from_bytes(mixed[:8], "little")


def refuse_surrogates(text: str, where: str) -> None:
    """Refuse text that is no UTF-8: tokenizers do not take it.

    Args:
        text: To be read by a tokenizer.
        where: How the message names it.

    Raises:
        InputError: It holds half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: character {error.start + 1:,} is half of a surrogate pair "
            f"(U+{ord(text[error.start]):04X}), which is no character.",
            way_out="Write the text in UTF-8; in JSON a pair needs both of its halves.",
        ) from None


def sampling_options(how: Sampling) -> dict[str, Any]:
    """Give what transformers' `generate` takes, beside a configuration that asks nothing."""
    options = {"max_new_tokens": how.max_new_tokens, "do_sample": not how.greedy}
    if how.greedy:
        return options
    # top_k 0 is off: transformers' own default of 50 is not what was asked
    return options | {"temperature": how.temperature, "top_p": how.top_p, "top_k": 0}


def continue_prompt(
    model: Any,
    tokenizer: Any,
    prompt: str,
    how: Sampling,
    *,
    seed: int,
    name: str = "the model",
) -> Continuation:
    """Continue a prompt.

    Args:
        model: A transformers causal LM.
        tokenizer: Its transformers tokenizer; it puts BOS before the prompt where it does so.
        prompt: Text to go on from.
        how: How tokens are chosen.
        seed: Decides the sample; torch's generator is left seeded with it.
        name: How messages call the model.

    Raises:
        InputError: Logits are not finite, see `continue_ids`.
    """
    given: list[int] = tokenizer(prompt)["input_ids"]
    ids = continue_ids(model, tokenizer, given, how, seed=seed, name=name)
    ended = ids[-1:] != [] and ids[-1] in _ends_of(model, tokenizer)
    kept = ids[:-1] if ended else ids
    # Decoded with the prompt: alone, SentencePiece would drop a space before the first piece.
    before: str = tokenizer.decode(given, skip_special_tokens=True)
    text: str = tokenizer.decode([*given, *kept], skip_special_tokens=True)
    return Continuation(text.removeprefix(before), kept, ended)


def continue_ids(
    model: Any,
    tokenizer: Any,
    given: list[int],
    how: Sampling,
    *,
    seed: int | None = None,
    name: str = "the model",
    streamer: Any = None,
) -> list[int]:
    """Give the ids that a model writes after the given ones, EOS with them.

    Args:
        model: A transformers causal LM.
        tokenizer: Its transformers tokenizer.
        given: Ids to go on from, BOS with them.
        how: How tokens are chosen.
        seed: Decides the sample; None: torch's generator as it is.
        name: How messages call the model.
        streamer: Gets tokens as they come.

    Raises:
        InputError: A logit is NaN or +infinity, or all are -infinity: nothing can be chosen. One
            that is -infinity is a token that the model never writes, and fine.
    """
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([given], device=device)
    if seed is not None:
        torch.manual_seed(seed)

    scale = 1.0 if how.greedy else how.temperature  # a finite logit can overflow through it

    def refuse_infinite(ids_BT: torch.Tensor, logits_BV: torch.Tensor) -> torch.Tensor:
        highest = float((logits_BV / scale).max())  # NaN where there is one
        if not math.isfinite(highest):
            raise InputError(
                f"{name}: its highest logit is {highest:g} after {ids_BT.shape[1]:,} tokens, "
                f"{len(given):,} of them prompt; expected a finite number.",
                effect="What it writes would mean nothing.",
                way_out="Look for tensors that are not finite, load with another --dtype, or use "
                "a larger --temperature.",
            )
        return logits_BV

    with torch.no_grad(), _asking_nothing(model, tokenizer):
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=[refuse_infinite],
            streamer=streamer,
            **sampling_options(how),
        )
    written: list[int] = out[0, len(given) :].tolist()
    return written


@contextmanager
def _asking_nothing(model: Any, tokenizer: Any) -> Iterator[None]:
    """Put a generation configuration of ids alone in the place of the model's.

    One handed to `generate` would not do: transformers fills what it leaves open from the model's.
    """
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    ends = _ends_of(model, tokenizer)
    model.generation_config = GenerationConfig(
        bos_token_id=getattr(own, "bos_token_id", None),
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )
    try:
        yield
    finally:
        model.generation_config = own


def _ends_of(model: Any, tokenizer: Any) -> list[int]:
    """Give the ids that end a text: the model's, else the tokenizer's."""
    config = getattr(model, "generation_config", None)
    found = getattr(config, "eos_token_id", None)
    if found is None:
        found = tokenizer.eos_token_id
    if found is None:
        return []
    return list(found) if isinstance(found, list | tuple) else [int(found)]
