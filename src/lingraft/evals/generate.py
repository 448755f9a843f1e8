"""Continuations of a prompt: nucleus sampling with a seed of its own for each.

Source: Holtzman et al. 2019, arXiv 1904.09751 (top-p), as transformers samples it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch

__all__ = ["continue_prompt", "seed_of"]


def seed_of(seed: int, model: str, prompt: str) -> int:
    """Give the seed of one continuation: no other prompt or model changes it."""
    mixed = hashlib.sha256(f"{seed}\0{model}\0{prompt}".encode()).digest()
    return int.from_bytes(mixed[:8], "little")


def continue_prompt(
    model: Any,
    tokenizer: Any,
    prompt: str,
    *,
    seed: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
) -> str:
    """Continue a prompt.

    Args:
        model: A transformers causal LM.
        tokenizer: Its transformers tokenizer; it puts BOS before the prompt.
        prompt: Text to go on from.
        seed: Decides the sample; torch's generator is left seeded with it.
        temperature: Logits are divided by it.
        top_p: The likeliest tokens that reach this probability together are sampled from.
        max_new_tokens: Sampling ends there, or at EOS.

    Returns:
        What follows the prompt, without it; a character cut in its bytes shows as U+FFFD.
    """
    encoded = tokenizer(prompt, return_tensors="pt").to(model.device)
    torch.manual_seed(seed)
    with torch.no_grad():
        ids = model.generate(
            encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            top_k=0,  # off: transformers' own default of 50 is not what was asked
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.eos_token_id,  # one prompt at a time: nothing is padded
        )
    text: str = tokenizer.decode(ids[0], skip_special_tokens=True)
    return text.removeprefix(prompt)
