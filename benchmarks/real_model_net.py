"""The model of `real_model.py`: a dense transformers model that is trained whole.

The body computes in bfloat16 with float32 masters, embed_tokens (and a tied head) are float32;
the parts are those of `lingraft.train`.

Shapes: B sequences of L tokens, V ids, D model width.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from lingraft.losses import linear_cross_entropy
from lingraft.scoring import score_docs
from lingraft.train.masters import Masters
from lingraft.train.matrices import GrownEmbedding, GrownHead, GrownMatrix
from lingraft.training import Group

EMBED = "model.embed_tokens.weight"


class Net:
    """A model to train, made anew for each run from tensors that stay on the device."""

    def __init__(
        self,
        config: Any,
        tensors: Mapping[str, torch.Tensor],
        added_ND: torch.Tensor | None,
        dtype: torch.dtype,
        compiled: bool = False,
    ) -> None:
        """Build it; `added_ND` are first rows behind the base's, None for the base itself."""
        base_VD = tensors[EMBED]
        rows = base_VD if added_ND is None else torch.cat([base_VD.float(), added_ND.float()])
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        assert config.tie_word_embeddings, "this benchmark trains tied models"
        self.device, self.config = base_VD.device, config
        self.matrix = GrownMatrix(rows, len(base_VD))
        model.model.embed_tokens = GrownEmbedding(self.matrix, dtype)
        model.lm_head = GrownHead(self.matrix)
        for name, parameter in list(model.named_parameters()):
            if parameter.is_meta:
                owner, _, attribute = name.rpartition(".")
                tensor = tensors[name].to(dtype, copy=True)
                setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(tensor))
        model.model.rotary_emb = type(model.model.rotary_emb)(config).to(self.device)
        self.model = model
        self.body = {n: p for n, p in model.named_parameters() if ".matrix." not in n}
        assert not any(p.is_meta for p in self.body.values()), "a tensor was not read"
        self.masters = Masters(self.body)
        if compiled:
            for layer in model.model.layers:
                layer.compile(dynamic=False)

    def groups(self, lr: float, added_lr: float, weight_decay: float) -> list[Group]:
        """Body, base rows and added rows."""
        groups = [
            Group("body", self.masters.parameters, lr, weight_decay),
            Group("base_rows", {"base": self.matrix.base}, lr, 0.0),
        ]
        if len(self.matrix.added):
            groups.append(Group("added_rows", {"added": self.matrix.added}, added_lr, 0.0))
        return groups

    def backward(self, ids_BL: torch.Tensor, micro_rows: int, only_added: bool) -> float:
        """Forward and backward of a step; (B, L + 1) ids, each predicts the next.

        Documents are joined: attention is plain causal, which every kernel knows.
        """
        self.model.train()
        self.masters.push()
        total = 0.0
        micros = torch.split(ids_BL, micro_rows)
        for micro in micros:
            ids = micro.to(self.device, torch.int64)
            hidden = self.model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            labels = ids[:, 1:].flatten()
            loss = linear_cross_entropy(
                hidden.flatten(0, 1), self.matrix.weight, labels, chunk=4096
            ) * (len(micro) / len(ids_BL))
            loss.backward()  # type: ignore[no-untyped-call]
            (self.masters.drop if only_added else self.masters.collect)()
            total += float(loss.detach())
        if only_added:
            self.matrix.base.grad = None
        return total

    def flops_per_token(self, seq_len: int) -> float:
        """Forward and backward: 6 a weight of the body and of the head, attention causal."""
        c = self.config
        body = sum(p.numel() for p in self.body.values())
        head = len(self.matrix.weight) * c.hidden_size
        width = c.num_attention_heads * c.head_dim
        return float(6 * (body + head) + 6 * seq_len * width * c.num_hidden_layers)

    def score(self, sets: Mapping[str, Any], seq_len: int, batch_tokens: int) -> dict[str, Any]:
        """Bits per byte, and nats per token, of each set (docs, sizes_bytes)."""
        self.masters.push()
        found = {}
        with uncompiled():
            for name, (docs, sizes) in sets.items():
                score = score_docs(self.model, docs, sizes, seq_len, batch_tokens=batch_tokens)
                found[name] = {"bpb": score.bpb, "nats_per_token": score.nats / score.total_tokens}
        return found

    @torch.no_grad()
    def continue_greedily(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        """Give the most probable continuation of each prompt, `tokens` long."""
        self.masters.push()
        self.model.eval()
        found = []
        with uncompiled():
            for prompt in prompts:
                ids = torch.tensor([list(prompt)], device=self.device)
                for _ in range(tokens):
                    hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
                    logits = self.model.lm_head(hidden[:, -1])
                    ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
                found.append(ids[0, len(prompt) :].tolist())
        return found


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled layers as they are: other shapes would be compiled again."""
    with torch.compiler.set_stance("force_eager"):
        yield


def read_model(folder: Path, device: torch.device) -> tuple[Any, dict[str, torch.Tensor]]:
    """Read config and tensors of a single-file folder, onto the device."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, use_cache=False)
    tensors = load_file(folder / "model.safetensors", device=str(device))
    return config, tensors


def time_steps(net: Net, ids_BL: torch.Tensor, micro_rows: int, steps: int) -> float:
    """Seconds a step of forward and backward takes, the first left out."""
    net.backward(ids_BL, micro_rows, False)
    _synchronize(net.device)
    start = time.perf_counter()
    for _ in range(steps):
        net.backward(ids_BL, micro_rows, False)
    _synchronize(net.device)
    for parameter in [*net.masters.parameters.values(), net.matrix.base, net.matrix.added]:
        parameter.grad = None
    return (time.perf_counter() - start) / steps


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def describe(device: torch.device) -> str:
    """Name the device, and torch's version."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return f"{name}, torch {torch.__version__}"


def as_batch(ids: np.ndarray, rows: int, seq_len: int, step: int) -> torch.Tensor:
    """Rows of a step, (rows, L + 1): consecutive stretches, each with one token of the next."""
    start = step * rows * seq_len
    stretch = ids[start : start + rows * seq_len + 1].astype(np.int32)
    view = np.lib.stride_tricks.sliding_window_view(stretch, seq_len + 1)[::seq_len]
    return torch.from_numpy(view[:rows].copy())
