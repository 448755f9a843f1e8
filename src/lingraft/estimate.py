"""What a recipe needs, by arithmetic, before a GPU hour is spent.

Nothing here is measured: parameters are counted from the model's shape, memory and work are
derived from them. Assumed, and printed with the result: NF4 with doubly quantised constants
(4.127 bits a parameter), float32 masters with AdamW (16 bytes a trained parameter), one
layer's activations beside one checkpoint a layer, 6 FLOP a body parameter and token
(forward, input gradient, recomputation) and 6 a head parameter.

Source of the counts: Mixtral of Experts (Jiang et al. 2024, arXiv 2401.04088); of NF4's size:
QLoRA (Dettmers et al. 2023, arXiv 2305.14314).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from .base.settings import ModelShape
from .settings import Settings
from .shards import token_dtype
from .train.settings import TrainSettings

__all__ = ["Estimate", "EstimateSettings", "count_parameters", "estimate_needs"]

_NF4_BYTES = 4.127 / 8
_KEPT_ITEMS = 10**9  # train.packing.WORTH_ITEMS, which a test holds to it: no torch here
_TRAINED_BYTES = 16
_EXPERT_ROLES = {"w1", "w2", "w3"}


class EstimateSettings(Settings):
    """What `lingraft check` cannot know before the data are there; decides no bytes."""

    corpus_bytes: Annotated[int, Field(ge=0)] = 0
    """UTF-8 bytes of all sets."""
    train_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens in one pass over the mixture."""
    added_pieces: Annotated[int, Field(ge=0)] = 0
    """Pieces the search is expected to choose; 0: vocab.size, else vocab.max_pieces."""
    tflops_per_device: Annotated[float, Field(gt=0)] = 0.08
    """Arithmetic that one device sustains in training, TFLOP/s."""


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a Mixtral-like decoder."""

    attention: int
    experts: int
    other: int
    """Routers and norms."""
    embed: int
    """embed_tokens and lm_head."""
    active_body: int
    """Attention and the experts that one token visits."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.attention + self.experts + self.other + self.embed


@dataclass(frozen=True)
class Estimate:
    """What a recipe needs."""

    total_parameters: int
    lora_parameters: int
    embed_parameters: int
    gpu_memory_bytes: dict[str, int]
    """By purpose, on each device."""
    disk_bytes: dict[str, int]
    """By artefact."""
    train_tokens: int
    train_time_s: float
    devices: int


def count_parameters(shape: ModelShape, vocab_size: int) -> ParameterCount:
    """Count the parameters of a model of this shape with `vocab_size` pieces."""
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    head = shape.head_dim or hidden // shape.num_attention_heads
    queries, keys = shape.num_attention_heads * head, shape.num_key_value_heads * head
    attention = layers * 2 * hidden * (queries + keys)
    expert = 3 * hidden * shape.intermediate_size
    return ParameterCount(
        attention=attention,
        experts=layers * shape.num_local_experts * expert,
        other=layers * (hidden * shape.num_local_experts + 2 * hidden) + hidden,
        embed=2 * vocab_size * hidden,
        active_body=attention + layers * shape.num_experts_per_tok * expert,
    )


def count_lora(shape: ModelShape, train: TrainSettings, experts: int | None = None) -> int:
    """Count LoRA parameters: rank x (inputs + outputs) of every matrix that carries one.

    Args:
        shape: The base model.
        train: The training section.
        experts: Of how many experts; None: of all.
    """
    experts = shape.num_local_experts if experts is None else experts
    hidden, inner = shape.hidden_size, shape.intermediate_size
    head = shape.head_dim or hidden // shape.num_attention_heads
    queries, keys = shape.num_attention_heads * head, shape.num_key_value_heads * head
    sides = {
        "q_proj": hidden + queries,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": queries + hidden,
        "w1": hidden + inner,
        "w2": inner + hidden,
        "w3": hidden + inner,
        "gate": hidden + shape.num_local_experts,
    }
    per_layer = sum(
        sides.get(role, 0) * (experts if role in _EXPERT_ROLES else 1)
        for role in train.lora.roles("mixtral")
    )
    return train.lora.rank * shape.num_hidden_layers * per_layer


def estimate_needs(
    shape: ModelShape, train: TrainSettings, hints: EstimateSettings, added_pieces: int
) -> Estimate:
    """Derive memory, disk and time from sizes.

    Args:
        shape: The base model.
        train: The training section.
        hints: What only the user can know.
        added_pieces: Pieces added to the base vocabulary.
    """
    count = count_parameters(shape, shape.vocab_size + added_pieces)
    lora = count_lora(shape, train)
    devices = train.launch.processes
    tokens = train.total_tokens or hints.train_tokens
    if train.max_steps:
        batch = train.seq_len * train.micro_batch_size * train.accumulation * devices
        tokens = train.max_steps * batch
    active_lora = count_lora(shape, train, shape.num_experts_per_tok)
    flop_per_token = 6 * (count.active_body + active_lora + count.embed // 2)
    body_bytes = _NF4_BYTES if train.quantize == "nf4" else 2
    packed = count.attention + count.experts
    is_kept = train.quantize == "nf4" and (
        packed >= _KEPT_ITEMS if train.packed_cache == "auto" else train.packed_cache != "none"
    )
    return Estimate(
        total_parameters=count.total,
        lora_parameters=lora,
        embed_parameters=count.embed,
        gpu_memory_bytes={
            "frozen body": int((count.attention + count.experts) * body_bytes + 2 * count.other),
            "trained weights, gradients, AdamW": _TRAINED_BYTES * (lora + count.embed),
            "activations": _activation_bytes(shape, train),
        },
        disk_bytes={
            "corpus": int(2.5 * hints.corpus_bytes),
            "token files": token_dtype(shape.vocab_size + added_pieces).itemsize * tokens,
            "base, expanded and merged model": 3 * 2 * count.total,
            "checkpoints": 2 * 12 * (lora + count.embed),
            "packed body": int(packed * _NF4_BYTES) if is_kept else 0,
        },
        train_tokens=tokens,
        train_time_s=tokens * flop_per_token / (hints.tflops_per_device * 1e12 * devices),
        devices=devices,
    )


def _activation_bytes(shape: ModelShape, train: TrainSettings) -> int:
    """One checkpoint a layer, and the insides of one layer, in the body's dtype."""
    item = 2 if train.dtype == "bfloat16" else 4
    tokens = train.micro_batch_size * train.seq_len
    checkpoints = shape.num_hidden_layers * tokens * shape.hidden_size
    inside = tokens * (
        8 * shape.hidden_size + 3 * shape.num_experts_per_tok * shape.intermediate_size
    )
    return item * (checkpoints + inside)
