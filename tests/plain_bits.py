"""Bits per byte in plain PyTorch."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

__all__ = ["independent_bpb"]


def independent_bpb(folder: Path, docs: list[str], context: int, stride: int) -> float:
    """Plain PyTorch and transformers, nothing of ours: the sum of nats over the bytes."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = [*tokenizer("")["input_ids"], tokenizer.eos_token_id][0]  # what stands around nothing
    nats = 0.0
    for doc in docs:
        ids = [start, *tokenizer(doc, add_special_tokens=False)["input_ids"]]
        done = 1
        while done < len(ids):
            end = min(context + 1, len(ids)) if done == 1 else min(done + stride, len(ids))
            begin = max(done - 1 - (context - stride), 0)
            with torch.no_grad():
                logits = model(torch.tensor([ids[begin : end - 1]])).logits[0].double()
            logp = torch.log_softmax(logits, -1)
            for place in range(done, end):
                nats -= float(logp[place - 1 - begin, ids[place]])
            done = end
    return nats / math.log(2) / sum(len(doc.encode()) for doc in docs)
