"""The phases of a run: what is trained, for how many steps, how fast, on which mixture.

`reference` trains adapters and all rows together, as HIT-SCIR/Chinese-Mixtral-8x7B does.
`rows-first` trains the added rows alone for a tenth of the steps: they begin as means, and their
gradients are large while the body's would be noise. `eeve` is like EEVE (Kim et al. 2024, arXiv
2402.14714), which trains in seven stages: added input rows; added output rows; both; all output
rows; added input and all output rows; everything; the adapters alone. The shares of the steps are
ours: a tenth each, and four tenths for everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

from torch import nn

from ..errors import UsageError
from ..training import Group
from .build import Built
from .settings import Part, PhaseSettings, TrainSettings, is_trained

__all__ = [
    "Phase",
    "count_steps",
    "count_trained",
    "cut_phases",
    "group_parameters",
    "needs_border",
    "plan_phases",
]

_ALL: list[Part] = ["lora", "added", "base"]
_EEVE: list[tuple[list[Part], float | None]] = [
    (["added-input"], 0.1),
    (["added-output"], 0.1),
    (["added"], 0.1),
    (["added-output", "base-output"], 0.1),
    (["added", "base-output"], 0.1),
    (_ALL, None),
    (["lora"], 0.1),
]
_PRESETS: Mapping[str, list[tuple[list[Part], float | None]]] = {
    "reference": [(_ALL, None)],
    "rows-first": [(["added"], 0.1), (_ALL, None)],
    "eeve": _EEVE,
}


@dataclass(frozen=True)
class Phase:
    """One phase, planned.

    Attributes:
        settings: What it trains.
        first: The run's number of its first step.
        steps: How many it has, 1 or more.
    """

    settings: PhaseSettings
    first: int
    steps: int

    @property
    def told(self) -> str:
        """What it trains, in short, and on what, where it has a mixture of its own."""
        own = f" of {' + '.join(self.settings.mixture)}" if self.settings.mixture else ""
        return f"{' + '.join(self.settings.trains)}: {self.steps:,} steps{own}"


def count_steps(settings: TrainSettings, pass_steps: int) -> int:
    """Give the steps of a run that goes through `train.mixture` once.

    The phases without a mixture of their own do; those with one come on top.

    Args:
        settings: Of the run.
        pass_steps: Steps that hold one pass.

    Raises:
        UsageError: No share of the steps is left to `train.mixture`, or see `plan_phases`.
    """
    phases = settings.phases if isinstance(settings.phases, list) else []
    own = [phase for phase in phases if phase.mixture]
    if not own:
        return pass_steps
    shared = [phase for phase in phases if not phase.mixture]
    num_tokens = settings.batch_size * settings.seq_len
    # Steps that read train.mixture are a share of all, and a fixed number more or less.
    if any(phase.frac is None and phase.tokens is None for phase in own):
        frac, more = _sum_fracs(shared), _sum_steps(shared, num_tokens)
    else:
        frac, more = 1 - _sum_fracs(own), -_sum_steps(own, num_tokens)
    if not shared or frac <= 0 or pass_steps <= more:
        raise UsageError(
            "train.max_steps = 0 is one pass over train.mixture, of which train.phases has no "
            "share of the steps read.",
            way_out="Set train.max_steps, or have a phase without a mixture of its own take a "
            "share (`frac`), or what is left.",
        )
    steps = math.ceil((pass_steps - more) / frac)
    # Shares are rounded, so the fewest steps that hold a pass may be some more, or fewer.
    while _shared_steps(plan_phases(settings, steps)) < pass_steps:
        steps += 1
    with suppress(UsageError):  # too few steps for the phases
        while _shared_steps(plan_phases(settings, steps - 1)) >= pass_steps:
            steps -= 1
    return steps


def _sum_fracs(phases: Sequence[PhaseSettings]) -> Fraction:
    return sum((Fraction(str(phase.frac or 0)) for phase in phases), Fraction(0))


def _sum_steps(phases: Sequence[PhaseSettings], tokens_per_step: int) -> int:
    return sum(math.ceil((phase.tokens or 0) / tokens_per_step) for phase in phases)


def _shared_steps(phases: Sequence[Phase]) -> int:
    return sum(phase.steps for phase in phases if not phase.settings.mixture)


def plan_phases(settings: TrainSettings, steps: int) -> list[Phase]:
    """Divide the steps of a run.

    Raises:
        UsageError: Shares do not come to the whole, or a phase would have no step.
    """
    wanted = settings.phases
    if isinstance(wanted, str):
        wanted = [_preset(trains, frac, settings.rows) for trains, frac in _PRESETS[wanted]]
    shares = [_share(phase, settings.batch_size * settings.seq_len, steps) for phase in wanted]
    open_ended = [n for n, share in enumerate(shares) if share is None]
    total = sum(share or 0.0 for share in shares)
    if len(open_ended) > 1 or (not open_ended and abs(total - 1) > 1e-6) or total > 1 + 1e-6:
        raise UsageError(
            f"train.phases: shares come to {total:g}, and {len(open_ended)} phases have none; "
            "expected 1, or less and one phase without.",
            way_out="Leave `frac` and `tokens` out of one phase; it takes what is left.",
        )
    counts = [round((share or 0.0) * steps) for share in shares]
    last = open_ended[0] if open_ended else len(wanted) - 1
    counts[last] = steps - sum(counts[:last]) - sum(counts[last + 1 :])
    if min(counts) < 1:
        raise UsageError(
            f"train.phases: {steps} steps in {len(wanted)} phases come to {counts}.",
            effect="A phase would be left out.",
            way_out="Train for more steps, or take fewer phases.",
        )
    firsts = [sum(counts[:n]) for n in range(len(counts))]
    return [Phase(*phase) for phase in zip(wanted, firsts, counts, strict=True)]


def _share(phase: PhaseSettings, tokens_per_step: int, steps: int) -> float | None:
    """Give a phase's share of the steps; None where it takes what is left."""
    if phase.tokens is None:
        return phase.frac
    return math.ceil(phase.tokens / tokens_per_step) / steps


def _preset(trains: list[Part], frac: float | None, rows: str) -> PhaseSettings:
    """Give a preset's phase what `train.rows` lets it train; with nothing, it is refused later."""
    allowed = [part for part in trains if is_trained(part, rows)]
    return PhaseSettings(trains=allowed or trains, frac=frac)


def cut_phases(phases: Sequence[Phase], steps: int) -> list[Phase]:
    """Give the phases of a run that ended after so many steps."""
    return [
        replace(phase, steps=min(phase.steps, steps - phase.first))
        for phase in phases
        if phase.first < steps
    ]


def needs_border(settings: TrainSettings, phases: Sequence[Phase]) -> bool:
    """Tell whether base rows and added rows must be parameters of their own."""
    if settings.rows == "added" or settings.added_lr is not None:
        return True
    return any(p.settings.added_lr or _is_partial(p.settings.trains) for p in phases)


def _is_partial(trains: Sequence[Part]) -> bool:
    """Whether some rows of a matrix are trained without the others."""
    return any(
        _has(trains, "added", side) != _has(trains, "base", side) for side in ("input", "output")
    )


def _has(trains: Sequence[Part], kind: str, side: str) -> bool:
    return kind in trains or f"{kind}-{side}" in trains


def group_parameters(built: Built, settings: TrainSettings, phase: Phase) -> list[Group]:
    """Give what a phase trains, with its rates; all else is frozen until it is asked for.

    What is frozen gives the memory of its gradient back.

    Raises:
        UsageError: Nothing of what it names can be trained.
    """
    groups = _groups(built, settings, phase)
    if not groups:
        raise UsageError(
            f"train.phases: a phase trains {', '.join(phase.settings.trains)}, of which this run "
            f"has nothing (train.rows = '{settings.rows}').",
            way_out="Take what is trained by train.rows, or other phases.",
        )
    kept = {id(p) for group in groups for p in group.parameters.values()}
    for parameter in [*built.lora.values(), *built.embed.values(), *built.added.values()]:
        parameter.requires_grad_(id(parameter) in kept)
        if not parameter.requires_grad:
            parameter.grad = None
    return groups


def count_trained(
    built: Built, settings: TrainSettings, phases: Sequence[Phase]
) -> tuple[int, int]:
    """Count the parameters that one phase or another trains: of adapters, of rows."""
    lora: dict[int, int] = {}
    rows: dict[int, int] = {}
    for phase in phases:
        for group in _groups(built, settings, phase):
            counted = lora if group.name == "lora" else rows
            counted |= {id(p): p.numel() for p in group.parameters.values()}
    return sum(lora.values()), sum(rows.values())


def _groups(built: Built, settings: TrainSettings, phase: Phase) -> list[Group]:
    own, trains, decay = phase.settings, phase.settings.trains, settings.weight_decay
    lr = own.lr or settings.lr
    embed_lr = own.embed_lr or own.lr or settings.embed_lr or settings.lr
    added_lr = own.added_lr or own.embed_lr or own.lr or settings.added_lr or embed_lr
    candidates = [
        Group("lora", built.lora if "lora" in trains else {}, lr, decay),
        Group("embed", _rows(built.embed, trains, "base"), embed_lr, decay),
        Group("added", _rows(built.added, trains, "added"), added_lr, decay),
    ]
    return [group for group in candidates if group.parameters]


def _rows(
    parameters: Mapping[str, nn.Parameter], trains: Sequence[Part], kind: str
) -> dict[str, nn.Parameter]:
    """Rows of the sides that are asked for; a tied matrix is trained if either side is."""
    is_tied = len(parameters) == 1
    found = {}
    for name, parameter in parameters.items():
        sides = ["input"] if "embed_tokens" in name else ["output"]
        sides = ["input", "output"] if is_tied else sides
        if any(_has(trains, kind, side) for side in sides):
            found[name] = parameter
    return found
