"""Bits per byte in plain PyTorch: what `lingraft bpb` must equal, in `check_bpb.py` and in tests.

It shares no code with lingraft: transformers' tokenizer and logits, one window at a time, float64
sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

__all__ = ["plain_bpb"]


def plain_bpb(folder: str | Path, docs: Sequence[str], context: int, stride: int) -> float:
    """Sum the nats of all documents, each after what its tokenizer puts first, over their bytes."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = [*tokenizer("")["input_ids"], tokenizer.eos_token_id][0]  # what stands around nothing
    nats = 0.0
    for doc in docs:
        ids = [start, *tokenizer(doc, add_special_tokens=False)["input_ids"]]
        done = 1
        while done < len(ids):
            end = min(context + 1 if done == 1 else done + stride, len(ids))
            begin = max(done - 1 - (context - stride), 0)
            with torch.no_grad():
                logits = model(torch.tensor([ids[begin : end - 1]])).logits[0]
            logp = torch.log_softmax(logits[done - 1 - begin :].double(), -1)
            nats -= float(logp.gather(1, torch.tensor(ids[done:end]).unsqueeze(1)).sum())
            done = end
    return nats / math.log(2) / sum(len(doc.encode()) for doc in docs)
