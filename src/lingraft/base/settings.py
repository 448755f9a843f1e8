"""What the base stage takes and gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ..manifest import Facts
from ..rows import Documents
from ..settings import Settings, StageSettings
from ..sources import identify_source, is_hub_source

__all__ = ["BaseFacts", "BaseSettings", "ModelShape", "PretrainSettings"]

Positive = Annotated[int, Field(ge=1)]


class ModelShape(Settings):
    """The sizes of a Mixtral-like decoder, named as in its Hugging Face config."""

    vocab_size: Positive = 32_000
    hidden_size: Positive
    intermediate_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    num_key_value_heads: Positive
    head_dim: Positive | None = None
    """Width of one head; by default hidden_size / num_attention_heads."""
    num_local_experts: Positive = 8
    num_experts_per_tok: Positive = 2
    max_position_embeddings: Positive = 4_096
    rope_theta: Annotated[float, Field(gt=0)] = 1e6

    @model_validator(mode="after")
    def _divides(self) -> ModelShape:
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads.")
        if self.num_experts_per_tok > self.num_local_experts:
            raise ValueError("num_experts_per_tok must not exceed num_local_experts.")
        return self


class PretrainSettings(Settings):
    """How the run itself trains a small base model (demonstrations and tests)."""

    sets: Annotated[list[str], Field(min_length=1)]
    """Corpus sets to train on."""
    seq_len: Annotated[int, Field(ge=2)] = 256
    """Tokens in a training sequence."""
    batch_size: Positive = 8
    """Sequences in an optimizer step."""
    steps: Positive
    """Optimizer steps."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    """Peak learning rate of AdamW (cosine, to a tenth of it)."""
    warmup_frac: Annotated[float, Field(ge=0, lt=1)] = 0.05
    documents: Documents = "isolated"
    """Whether a sequence's documents see each other: "isolated" or "joined"; see `train`."""
    checkpoint_every: Positive = 25
    """Steps between checkpoints: what a kill may cost."""
    max_shard_mb: Annotated[float, Field(gt=0)] = 8.0
    """Size of a safetensors shard, MiB."""


class BaseSettings(StageSettings):
    """The model and tokenizer that a language is grafted onto."""

    model: str = ""
    """Local folder, or `hub:OWNER/NAME`; empty where `pretrain` makes the model."""
    revision: str = "main"
    """Commit, tag or branch of a hub model."""
    tokenizer: str = ""
    """A `tokenizer.model` or `tokenizer.json`, or a folder of one; by default the model folder."""
    shape: ModelShape | None = None
    """Sizes of the model: needed by `pretrain`, and by `lingraft check` for estimates."""
    pretrain: PretrainSettings | None = None
    """Train a small base model from nothing instead of reading one."""

    @model_validator(mode="after")
    def _one_origin(self) -> BaseSettings:
        if bool(self.model) == (self.pretrain is not None):
            raise ValueError("give either base.model or base.pretrain, one of the two.")
        if self.pretrain and not (self.shape and self.tokenizer):
            raise ValueError("base.pretrain needs base.shape and base.tokenizer.")
        return self

    def outside(self) -> dict[str, Path | str]:
        """The tokenizer file, and a local model's config and shard sizes."""
        found: dict[str, Path | str] = {}
        if self.tokenizer:
            found[self.tokenizer] = identify_source(self.tokenizer)
        if is_hub_source(self.model):
            found[self.model] = f"{self.model}@{self.revision}"
        elif self.model:
            found[self.model] = identify_source(self.model)
        return found


class BaseFacts(Facts):
    """What the base stage made."""

    num_parameters: int
    vocab_size: int
    num_shards: int
    size_bytes: int
    train_tokens: int
    """Tokens the run trained the model on; 0 for a model that was read."""
    final_loss: float | None
    """Mean training loss of the last tenth of steps, nats per token."""
