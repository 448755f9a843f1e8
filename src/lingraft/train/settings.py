"""What the training stage takes and gives."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..errors import UsageError
from ..manifest import Facts
from ..optimizers import OptimizerName
from ..parts import parse_mixture, parse_part
from ..rows import Documents
from ..schedules import Schedule
from ..settings import Settings, StageSettings

__all__ = [
    "AttentionName",
    "GuardSettings",
    "LaunchSettings",
    "LoraSettings",
    "MixedPart",
    "Part",
    "PhaseSettings",
    "ReplayRaise",
    "StepSplit",
    "TrackerName",
    "TrainFacts",
    "TrainSettings",
    "is_trained",
]

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
TrackerName = Literal["tensorboard", "trackio", "wandb"]
AttentionName = Literal["sdpa", "flash_attention_2", "flex_attention"]
"""As transformers calls them."""


Role = Literal[
    "all", "q_proj", "k_proj", "v_proj", "o_proj", "w1", "w2", "w3", "gate_proj", "up_proj",
    "down_proj", "gate",
]  # fmt: skip

_ATTENTION: tuple[Role, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
_EXPERT: tuple[Role, ...] = ("w1", "w2", "w3")
_DENSE: tuple[Role, ...] = ("gate_proj", "up_proj", "down_proj")


class LoraSettings(Settings):
    """Low-rank adapters on linear roles of the body (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Positive = 64
    alpha: Annotated[float, Field(gt=0)] = 128.0
    dropout: Share = 0.05
    targets: Annotated[list[Role], Field(min_length=1)] = ["all"]
    """Roles, in the published names (w1, w2, w3 in a Mixtral's experts; gate_proj, up_proj,
    down_proj in a dense model), or "all" of the model's. A Mixtral's router, `gate`, is not among
    "all", and may stand beside it. w1 and w3 go with all of w1, w2 and w3 only: PEFT fuses the
    three when it loads an adapter of experts."""

    def roles(self, model_type: str) -> list[Role]:
        """Give the roles to adapt in a model of this type of transformers' configs."""
        every = (*_ATTENTION, *(_EXPERT if model_type == "mixtral" else _DENSE))
        named = (role for role in self.targets if role != "all")
        return list(dict.fromkeys([*(every if "all" in self.targets else ()), *named]))

    @field_validator("targets")
    @classmethod
    def _go_together(cls, targets: list[Role]) -> list[Role]:
        if "all" in targets:
            if not set(targets) <= {"all", "gate"}:
                raise ValueError(
                    "'all' stands beside other roles than 'gate'. Leave it out, or the others."
                )
            return targets
        missing = [role for role in _EXPERT if role not in targets]
        if missing and {"w1", "w3"} & set(targets):
            raise ValueError(
                f"lacks {', '.join(missing)}; w1 and w3 need all of w1, w2 and w3, because PEFT "
                "fuses them when it loads an adapter, and would give other logits or refuse. Name "
                "all three, w2 alone, or none."
            )
        return targets


class LaunchSettings(Settings):
    """How many processes train together; a step's sequences grow with them."""

    nodes: Positive = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    """0: one process a node, on the GPU if there is one, else on the CPU."""

    @property
    def processes(self) -> int:
        """Processes that a step is reckoned for."""
        return self.nodes * max(self.gpus_per_node, 1)

    def refuse_many(self, accumulation: int) -> None:
        """Refuse processes that nobody has started.

        Args:
            accumulation: Micro-batches of a step, for the way out.

        Raises:
            UsageError: Another number is asked for than there are.
        """
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if self.processes > 1 and started != self.processes:
            raise UsageError(
                f"train.launch asks for {self.processes} processes ({self.nodes} nodes x "
                f"{max(self.gpus_per_node, 1)}); there is {started}.",
                way_out=f"Start them: {self._command()}; or train with what there is: --set "
                "train.launch.nodes=1 --set train.launch.gpus_per_node=0 --set "
                f"train.accumulation={self.processes * accumulation}. A step keeps its sequences "
                "so, and a run that was begun goes on.",
            )

    def _command(self) -> str:
        """Tell what starts the processes."""
        train, each = "-m lingraft train RECIPE", f"--nproc_per_node {max(self.gpus_per_node, 1)}"
        if self.nodes == 1:
            return f"torchrun {each} {train}"
        return (
            f"on each of the {self.nodes} nodes, HOST being the name of one of them, torchrun "
            f"--nnodes {self.nodes} {each} --rdzv_backend c10d --rdzv_endpoint HOST:29500 {train} "
            f"(under SLURM with srun --nodes {self.nodes} --ntasks-per-node 1 before it)"
        )


Part = Literal["lora", "added", "base", "added-input", "added-output", "base-input", "base-output"]
"""What a phase may train: the adapters, or rows of embed_tokens (input) and lm_head (output):
those that the extension added, or those of the base. `added` and `base` are both matrices."""


def is_trained(part: Part, rows: str) -> bool:
    """Tell whether `train.rows` lets a phase train this part."""
    kind = part.partition("-")[0]
    return kind == "lora" or rows in ("all", kind)


class PhaseSettings(Settings):
    """One phase of a run; what it does not say is as `train` says."""

    trains: Annotated[list[Part], Field(min_length=1)]
    frac: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the run's steps. One phase may leave it out, and takes what is left."""
    tokens: Positive | None = None
    """Tokens of the phase, instead of a share: as many steps as hold them."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of all that the phase trains; None: those of `train`."""
    embed_lr: Annotated[float, Field(gt=0)] | None = None
    """That of rows, where it is another than the adapters'; by default `lr`."""
    added_lr: Annotated[float, Field(gt=0)] | None = None
    """That of added rows, where it is another than the base's; by default `embed_lr`."""
    mixture: Annotated[list[str], Field(min_length=1)] | None = None
    """A mixture of its own, begun at its beginning; None: that of `train`, gone on with."""
    total_tokens: Positive | None = None
    """Tokens of one pass over that mixture, where its parts are weights."""


class GuardSettings(Settings):
    """Keeps an eye on a language that must not be forgotten."""

    set: str
    """The set whose validation documents are watched, as `en`."""
    max_rise: Annotated[float, Field(gt=0)] = 0.05
    """Bits per byte above those before step 0 that are too many."""
    action: Literal["warn", "stop", "replay"] = "warn"
    """What follows: a note; an end of training with what was learned so far; or more of the set:
    `replay_frac` more of every step's sequences are taken from it until the end."""
    replay_frac: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of a step's sequences that each such validation gives to the set, taken from the
    mixture. Nothing of the mixture is skipped: it goes on more slowly, and is not finished."""
    most_replay: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Where the raised share ends."""


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
    """Micro-batches of one process in an optimizer step. A step has micro_batch_size x accumulation
    x processes of `launch` sequences; a run may go on with another split of as many."""
    max_steps: Annotated[int, Field(ge=0)] = 0
    """Stop after this many steps; 0: one pass over the mixture. Phases with a mixture of their own
    come on top of it, with their share of all steps."""
    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate of the adapters."""
    embed_lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of embed_tokens and lm_head; by default `lr`."""
    added_lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the rows that the extension added; by default `embed_lr`."""
    rows: Literal["all", "added", "none"] = "all"
    """Rows of embed_tokens and lm_head that are trained. Those of the base keep their bits
    where only the added ones are."""
    phases: Literal["reference", "rows-first", "eeve"] | list[PhaseSettings] = "reference"
    """What is trained when. `reference`: all at once. `rows-first`: the added rows alone for a
    tenth of the steps, then all. `eeve`: seven phases, see docs/training.md."""
    optimizer: OptimizerName = "adamw"
    """`adamw` is torch's; the 8-bit and paged ones need the package bitsandbytes."""
    schedule: Schedule = "cosine"
    """How the rate falls after the warm-up, in each phase anew."""
    warmup_frac: Share = 0.05
    decay_frac: Share = 0.1
    """Share of the steps in which the rate of schedule `wsd` falls."""
    min_lr_frac: Share = 0.1
    """Where the rate ends, as a share of its peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    quantize: Literal["nf4", "none"] = "nf4"
    """Storage of the frozen body: NF4 with doubly quantised constants, or as it is."""
    packed_cache: Annotated[str, Field(min_length=1)] = "auto"
    """Where the packed body is kept, so that a start need not pack it anew: a folder, which runs
    may share and which nothing clears; "auto": with the checkpoints, until the stage is done, if it
    has 1e9 numbers or more; "none". It takes 4.13 bits a number, and no result depends on it."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the frozen body; everything trained stays float32."""
    attention: AttentionName = "sdpa"
    """Who computes attention: `sdpa`, torch's own; on a GPU also `flash_attention_2`, which takes
    the package flash-attn and 16 bits, or `flex_attention`, which torch compiles."""
    lora: LoraSettings = LoraSettings()
    router_aux_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the load-balancing loss of a Mixture of Experts, which bends the router's input,
    and the router where `lora.targets` names it. 0: none, as the reference trains. It is the mean
    of the losses of the micro-batches, each from its own loads: unlike the loss of the text, it
    depends on micro_batch_size and on the number of processes."""
    guard: GuardSettings | None = None
    """A language that must not be forgotten; None: none is watched, beyond its curve."""
    launch: LaunchSettings = LaunchSettings()
    trackers: list[TrackerName] = ["tensorboard"]
    """Who is told the numbers as they come: TensorBoard (files in the artefact), `trackio`,
    `wandb`. No result depends on it, so another choice makes nothing stale."""
    eval_every: Positive = 500
    """Steps between validations (always also before step 0 and at the end)."""
    eval_docs: Positive = 200
    """Validation documents of each set, at most."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints: what a kill may cost."""
    keep_checkpoints: Positive = 2
    """How many are kept, until the stage is done: one more than needed, should one be damaged."""

    @field_validator("mixture")
    @classmethod
    def _parts_parse(cls, mixture: list[str]) -> list[str]:
        for part in mixture:
            parse_part(part)
        return mixture

    @field_validator("attention")
    @classmethod
    def _takes_the_dtype(cls, name: AttentionName, info: ValidationInfo) -> AttentionName:
        if name == "flash_attention_2" and info.data.get("dtype") == "float32":
            raise ValueError("takes 16 bits. Set dtype = 'bfloat16', or take another attention.")
        return name

    @field_validator("phases")
    @classmethod
    def _phases_can_be(
        cls, phases: str | list[PhaseSettings], info: ValidationInfo
    ) -> str | list[PhaseSettings]:
        rows = info.data.get("rows", "all")  # absent where it is wrong itself, and told
        for phase in phases if isinstance(phases, list) else []:
            if left_out := [part for part in phase.trains if not is_trained(part, rows)]:
                raise ValueError(
                    f"a phase trains {', '.join(left_out)}, which train.rows = '{rows}' leaves "
                    "out. Take them out of the phase, or change train.rows."
                )
            if phase.frac is not None and phase.tokens is not None:
                raise ValueError("a phase has both frac and tokens. Leave one of them out.")
            if phase.total_tokens is not None and phase.mixture is None:
                raise ValueError(
                    "a phase has total_tokens, which is of its own mixture, and no mixture. Name "
                    "one, or leave total_tokens out."
                )
        return phases

    @model_validator(mode="after")
    def _parts_agree(self) -> TrainSettings:
        parse_mixture(self.mixture, self.total_tokens)
        for phase in self.phases if isinstance(self.phases, list) else []:
            if phase.mixture:
                parse_mixture(phase.mixture, phase.total_tokens)
        return self

    def decides_nothing(self) -> tuple[str, ...]:
        """Who is told, where the packed body is kept, and how a step is split."""
        return "trackers", "packed_cache", "micro_batch_size", "accumulation", "launch"

    def deciding(self) -> dict[str, Any]:
        """The others, and the sequences of a step, however they are split.

        The load-balancing loss is reckoned from each micro-batch: with it their size decides, too.
        Runs from before there was a choice of attention go on.
        """
        decide = super().deciding() | {"sequences_per_step": self.batch_size}
        if self.router_aux_loss:
            decide["micro_batch_size"] = self.micro_batch_size
        if self.attention == "sdpa":
            del decide["attention"]
        return decide

    @property
    def batch_size(self) -> int:
        """Sequences of a step, of all processes together."""
        return self.micro_batch_size * self.accumulation * self.launch.processes

    @property
    def sets(self) -> list[str]:
        """Names of all sets that are trained on, and of the one that is guarded."""
        phases = self.phases if isinstance(self.phases, list) else []
        parts = [*self.mixture, *(part for phase in phases for part in phase.mixture or [])]
        guarded = [self.guard.set] if self.guard else []
        return list(dict.fromkeys([*(parse_part(part).name for part in parts), *guarded]))


class MixedPart(Facts):
    """What a part of the mixture comes to, in one pass."""

    part: str
    total_tokens: int
    epochs: float
    """Tokens over those of the whole set."""
    share: float
    """Of the mixture's tokens, 0 to 1."""


class StepSplit(Facts):
    """How the sequences of a step were split."""

    processes: int
    micro_batch_size: int
    """Sequences that each process took at a time, at most."""


class ReplayRaise(Facts):
    """From a step on, more of the guarded set was read."""

    step: int
    """Steps that were done."""
    frac: float
    """Share of the sequences, from there on."""


class TrainFacts(Facts):
    """What training did."""

    steps: int
    mixture: list[MixedPart]
    """In the order of train.mixture."""
    total_tokens: int
    """Tokens trained on, repeats included."""
    split: StepSplit | None = None
    """Of the last steps; a run may go on with another one."""
    trainable_parameters: int
    lora_parameters: int
    embed_parameters: int
    """Trained ones of embed_tokens and lm_head; a tied matrix counts once."""
    phases: list[str] = []
    """What each phase trained, for how many steps, of which mixture if not train.mixture, on how
    many tokens."""
    stopped_by_guard: bool = False
    """Whether the guard ended training before its last step."""
    replay: list[ReplayRaise] = []
    """When the guard had more of its set read, and how much."""
    replayed_sequences: int = 0
    """Sequences of the guarded set that were read beside the mixture."""
    frozen_parameters: int
    lora_modules: int
    """Linear maps that carry an adapter; equal to `lora_modules_expected` or training stops."""
    lora_modules_expected: int
    bits_per_frozen_parameter: float
    """Storage of the quantised body, constants included."""
    bytes_per_parameter: dict[str, float] = {}
    """What each class of parameters takes in memory, constants included."""
    first_loss: float
    """Mean loss of the first tenth of steps, nats per token."""
    final_loss: float
    """Mean loss of the last tenth of steps."""
    valid_bpb_start: dict[str, float]
    """Bits per byte before step 0, by set."""
    valid_bpb_end: dict[str, float]
