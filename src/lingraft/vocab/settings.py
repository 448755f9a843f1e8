"""What the vocabulary search takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ..errors import UsageError
from ..manifest import Facts
from ..settings import Settings, StageSettings

__all__ = ["Choosing", "CurveFacts", "Trainer", "VocabFacts", "VocabSettings"]


class Trainer(Settings):
    """What the trainer is held to, in a recipe as on the command line."""

    max_piece_chars: Annotated[int, Field(ge=1, le=1000)] = 16
    """Longest piece, in characters."""
    min_count: Annotated[int, Field(ge=2)] = 2
    """A rule must join at least this many pairs of the training text."""
    ban: list[str] = []
    """Pieces, single characters too, that are not added; the trainer goes on without them."""
    word_start: bool | None = None
    """Whether pieces may begin with a space; unset: unless all scripts are written without."""


class Choosing(Settings):
    """How a size is found where none is given."""

    min_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0035
    """Nats per byte that 1,000 more pieces must add to mean ALP. The default is what the
    reference's own choice, 25,000 pieces, paid on its curves; see docs/vocabulary.md."""
    knee_sensitivity: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Kneedle's S: larger values find the knee later."""


class VocabSettings(StageSettings, Trainer, Choosing):
    """Which vocabularies are searched, and how one of them is chosen."""

    sets: Annotated[list[str], Field(min_length=1)]
    """Corpus sets whose training split the merge rules are learned on."""
    scripts: Annotated[list[str], Field(min_length=1)] = ["Han"]
    """Unicode scripts of the new language; every new piece is made of these alone, but for a space
    at its head where words are written apart."""
    char_counts: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Numbers of added single-character pieces to try, one curve each."""
    max_pieces: Annotated[int, Field(ge=0)]
    """Largest number of added pieces (single characters included)."""
    evaluation: Annotated[list[str], Field(min_length=1)]
    """Corpus sets whose validation split ALP is measured on, one plot panel each."""
    size: Literal["gain", "knee"] | Annotated[int, Field(ge=0)] = "gain"
    """Number of added pieces: as many as pay min_gain, Kneedle's knee, or a number."""
    num_chars: Literal["best"] | Annotated[int, Field(ge=0)] = "best"
    """Which curve: the one with the highest ALP at the chosen size, or one of char_counts."""

    @field_validator("scripts")
    @classmethod
    def _scripts_exist(cls, scripts: list[str]) -> list[str]:
        from ..text import check_scripts

        try:
            check_scripts(scripts)
        except UsageError as error:
            raise ValueError(f"{error.what} {error.way_out}") from None
        return scripts


class CurveFacts(Facts):
    """One single-character count of the search."""

    num_chars: int
    """Single characters added."""
    num_rules: int
    """Merge rules learned."""
    alp_at_choice: dict[str, float]
    """ALP (nats per document) at the chosen size, by evaluation set."""


class VocabFacts(Facts):
    """What the search found."""

    num_candidates: int
    """Vocabularies scored: every size of every curve."""
    num_pieces: int
    """Added pieces of the chosen vocabulary."""
    num_chars: int
    """Single characters among them."""
    num_chars_in_base: int
    """Characters of the scripts that are pieces of the base already."""
    rule: str
    """How the size was found: gain, knee or given."""
    reasons: list[str]
    """Why this vocabulary, in short sentences."""
    knee: int | None
    """Size at Kneedle's knee of the same curves, whatever the rule; null if there is none."""
    curves: list[CurveFacts]
    rule_count_at_cut: int
    """How often the last rule of the chosen vocabulary joined, in the training text."""
