"""What the embedding stage takes and gives."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from ..errors import UsageError
from ..manifest import Facts
from ..settings import StageSettings
from .methods import INPUT_DEFAULT, METHODS, OUTPUT_DEFAULT, Role, check_ranges, find_method

__all__ = ["EmbedFacts", "EmbedSettings", "Option", "ProbeCurve"]

Option = bool | int | float | str


class EmbedSettings(StageSettings):
    """How the rows of new pieces start; `lingraft embed methods` lists the methods."""

    method: str = INPUT_DEFAULT
    """Makes the rows of embed_tokens, and of a tied head."""
    head_method: str = OUTPUT_DEFAULT
    """Makes the rows of lm_head."""
    options: dict[str, Option] = {}
    """Of `method`, where they are not its defaults."""
    head_options: dict[str, Option] = {}
    """Of `head_method`."""
    tie_break: bool = True
    """Whether pieces with the same parts, as 上海 and 海上, get rows that differ."""
    pad_to_multiple_of: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Rows of the matrices become a multiple of this."""

    @model_validator(mode="after")
    def _check_methods(self) -> Self:
        roles: tuple[tuple[Role, str, dict[str, Option]], ...] = (
            ("input", self.method, self.options),
            ("output", self.head_method, self.head_options),
        )
        for role, name, options in roles:
            try:
                check_ranges(find_method(name, role), options)
            except UsageError as error:
                raise ValueError(error.what) from None
        return self

    def also_takes(self) -> tuple[str, ...]:
        """The token folder, for methods that look at text; others do not wait for it."""
        names = (self.method, self.head_method)
        needs = {need for name in names for need in METHODS[name].needs}
        return ("encode",) if needs & {"counts", "tokens", "auxiliary"} else ()


class ProbeCurve(Facts):
    """What became of a candidate of the probe."""

    method: str
    head_method: str | None
    steps: list[int]
    """Steps at which held-out text was scored."""
    bpb: dict[str, list[float]]
    """Bits per byte of each held-out set at these steps."""


class EmbedFacts(Facts):
    """What the embedding stage made."""

    method: str
    """Of the input rows."""
    head_method: str | None
    """Of the output rows; None where they are tied to the input rows."""
    tied: bool
    base_rows: int
    """Rows that stay as they are."""
    added_rows: int
    """Rows of new pieces."""
    padded: int
    """Rows that no piece has."""
    copied: int
    """New pieces that are one base id to the base, whose row they take."""
    special: int
    """New pieces that stand for no text: mean of all base rows."""
    unspellable: int
    """New pieces that the base has no ids for: mean of all base rows."""
    completed_bytes: int = 0
    """Bytes that the base has no ids for: mean of the rows of its bytes."""
    averaged_over: dict[str, int]
    """New pieces by the number of base ids that spell them."""
    mean_spelling_tokens: float
    """Base ids that a new piece is spelled with, on average."""
    identical_before: int
    """New input rows equal to another one before ties were broken."""
    identical_rows: int
    """New input rows equal to another one as they were written."""
    head_identical_before: int | None
    """Likewise of output rows; None where they are tied."""
    head_identical_rows: int | None
    notes: dict[str, int]
    """Pieces that a method treated otherwise than its name says."""
    shards_linked: int
    """Shards taken over without being read."""
    shards_written: int
    probe_judge: str | None = None
    """Held-out set that chose the methods; None: they were named."""
    probe: list[ProbeCurve] = []
    """Curves of all candidates."""
