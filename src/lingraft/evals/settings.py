"""What the evaluation stage takes and gives."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..manifest import Facts
from ..settings import StageSettings

__all__ = ["BpbDifference", "EvalsFacts", "EvalsSettings", "ModelScore", "Sample"]

Positive = Annotated[int, Field(ge=1)]


class EvalsSettings(StageSettings):
    """What base, expanded and merged model are compared on."""

    sets: list[str] = []
    """Corpus sets whose validation split is scored; empty: all."""
    max_docs: Positive = 500
    """Documents of each set, at most."""
    max_tokens: Positive = 2_048
    """Context; longer documents are scored in windows that share nothing."""
    prompts: list[str] = []
    """Beginnings that each model continues, side by side."""
    temperature: Annotated[float, Field(gt=0)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_new_tokens: Positive = 100


class ModelScore(Facts):
    """One model on one set."""

    bpb: float
    """Bits per UTF-8 byte of text, EOS included."""
    num_docs: int
    num_chars: int
    size_bytes: int
    total_tokens: int
    """Tokens predicted: EOS included, BOS not."""
    tokens_per_char: float
    """Tokens of the text alone, a character."""


class BpbDifference(Facts):
    """Bits per byte of a model less those of the base, on the same documents."""

    bpb: float
    low: float | None
    """Lower end of the 95% interval, by a paired bootstrap over documents; None: one document."""
    high: float | None


class Sample(Facts):
    """One continuation."""

    prompt: str
    model: str
    text: str


class EvalsFacts(Facts):
    """Scores: model (base, expanded, trained) -> set -> score; and languages likewise."""

    scores: dict[str, dict[str, ModelScore]]
    languages: dict[str, dict[str, ModelScore]]
    differences: dict[str, dict[str, BpbDifference]]
    """To the base: model -> set -> difference."""
    language_differences: dict[str, dict[str, BpbDifference]]
    samples: list[Sample]
