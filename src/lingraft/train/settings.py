"""What the training stage takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..errors import UsageError
from ..manifest import Facts
from ..parts import parse_mixture, parse_part
from ..rows import Documents
from ..settings import Settings, StageSettings

__all__ = ["LaunchSettings", "LoraSettings", "MixedPart", "TrainFacts", "TrainSettings"]

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


Role = Literal[
    "q_proj", "k_proj", "v_proj", "o_proj", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"
]


class LoraSettings(Settings):
    """Low-rank adapters on every linear role of the body (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Positive = 64
    alpha: Annotated[float, Field(gt=0)] = 128.0
    dropout: Share = 0.05
    targets: Annotated[list[Role], Field(min_length=1)] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "w1",
        "w2",
        "w3",
    ]
    """Roles, in the published names (w1, w2, w3 in a Mixtral's experts; gate_proj, up_proj,
    down_proj in a dense model); the router is not among them."""


class LaunchSettings(Settings):
    """How many processes train together."""

    nodes: Positive = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """0: one process, on the GPU if there is one, else on the CPU."""

    def refuse_many(self) -> None:
        """Refuse more than one process, which this version cannot start.

        Raises:
            UsageError: More are asked for.
        """
        processes = self.nodes * max(self.gpus_per_node, 1)
        if processes > 1:
            raise UsageError(
                f"train.launch asks for {processes} processes ({self.nodes} nodes x "
                f"{self.gpus_per_node} GPUs); this version trains in one.",
                way_out="Train in one: --set train.launch.nodes=1 --set "
                f"train.launch.gpus_per_node=0, and --set train.accumulation={processes} "
                "keeps the tokens of a step.",
            )


class TrainSettings(StageSettings):
    """QLoRA continued pretraining (Dettmers et al. 2023, arXiv 2305.14314)."""

    mixture: Annotated[list[str], Field(min_length=1)]
    """Parts: `0.1:SET` a tenth of the documents, `2:SET` or `2 epochs:SET` two passes, `5e9
    tokens:SET` a budget, `30%:SET` a weight, a share of total_tokens (of all parts, or of none)."""
    total_tokens: Positive | None = None
    """Tokens of one pass over the mixture, where its parts are weights."""
    documents: Documents = "isolated"
    """Whether the documents of a sequence are "isolated", each seeing itself alone, or "joined":
    each also sees those before it, as the reference trains. Joining saves the masks, and mixes
    texts that have nothing to do with each other (Zhao et al. 2024, arXiv 2402.13991)."""
    seq_len: Annotated[int, Field(ge=2)] = 2_048
    """Tokens in a training sequence."""
    micro_batch_size: Positive = 16
    """Sequences that one process takes at a time."""
    accumulation: Positive = 1
    """Micro-batches in an optimizer step."""
    max_steps: Annotated[int, Field(ge=0)] = 0
    """Stop after this many steps; 0: one pass over the mixture."""
    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate of the adapters."""
    embed_lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of embed_tokens and lm_head; by default `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_frac: Share = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    quantize: Literal["nf4", "none"] = "nf4"
    """Storage of the frozen body: NF4 with doubly quantised constants, or as it is."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the frozen body; everything trained stays float32."""
    lora: LoraSettings = LoraSettings()
    launch: LaunchSettings = LaunchSettings()
    eval_every: Positive = 500
    """Steps between validations (always also before step 0 and at the end)."""
    eval_docs: Positive = 200
    """Validation documents of each set, at most."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints: what a kill may cost."""

    @field_validator("mixture")
    @classmethod
    def _parts_parse(cls, mixture: list[str]) -> list[str]:
        for part in mixture:
            parse_part(part)
        return mixture

    @model_validator(mode="after")
    def _parts_agree(self) -> TrainSettings:
        parse_mixture(self.mixture, self.total_tokens)
        return self


class MixedPart(Facts):
    """What a part of the mixture comes to, in one pass."""

    part: str
    total_tokens: int
    epochs: float
    """Tokens over those of the whole set."""
    share: float
    """Of the mixture's tokens, 0 to 1."""


class TrainFacts(Facts):
    """What training did."""

    steps: int
    mixture: list[MixedPart]
    """In the order of train.mixture."""
    total_tokens: int
    """Tokens trained on, repeats included."""
    trainable_parameters: int
    lora_parameters: int
    embed_parameters: int
    """embed_tokens and lm_head."""
    frozen_parameters: int
    lora_modules: int
    """Linear maps that carry an adapter; equal to `lora_modules_expected` or training stops."""
    lora_modules_expected: int
    bits_per_frozen_parameter: float
    """Storage of the quantised body, constants included."""
    first_loss: float
    """Mean loss of the first tenth of steps, nats per token."""
    final_loss: float
    """Mean loss of the last tenth of steps."""
    valid_bpb_start: dict[str, float]
    """Bits per byte before step 0, by set."""
    valid_bpb_end: dict[str, float]
