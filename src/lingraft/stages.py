"""The table of stages: what each takes, where its code is, which version of it this is.

A stage's `run(settings, inputs, draft) -> facts` is named, not imported: reading this table
costs nothing, and no stage can reach another through it. Raise `version` whenever equal
settings and inputs would give other bytes than before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import MissingPackageError, UsageError
from .manifest import Facts
from .settings import StageSettings
from .store import Artefact, Draft

__all__ = ["STAGES", "Stage", "find_stage"]

StageRun = Callable[[StageSettings, Mapping[str, Artefact], Draft], Facts]


@dataclass(frozen=True)
class Stage:
    """One row of the table."""

    name: str
    """Also the recipe's section and the folder under src/lingraft."""
    number: int
    """Orders the folders of a run."""
    version: int
    takes: tuple[str, ...]
    """Stages whose artefacts it always reads; settings may ask for more (`also_takes`)."""
    does: str
    """One line for people."""
    resumable: bool = False
    """Whether it can go on from the draft of a killed run."""

    @property
    def folder(self) -> str:
        """Name of its artefact's folder in a run."""
        return f"{self.number}-{self.name}"

    def load(self) -> StageRun:
        """Import the stage's code.

        Raises:
            MissingPackageError: An optional package that it needs is not installed.
        """
        try:
            module = importlib.import_module(f"lingraft.{self.name}.stage")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("lingraft"):
                raise
            raise MissingPackageError(
                f"stage '{self.name}' needs the package '{error.name}', which is not installed.",
                way_out="pip install 'lingraft[train]'",
            ) from error
        run: StageRun = module.run
        return run


STAGES: tuple[Stage, ...] = (
    Stage("corpus", 10, 2, (), "read, clean, de-duplicate and split the text", resumable=True),
    Stage("base", 15, 2, ("corpus",), "read or train the base model", resumable=True),
    Stage("vocab", 20, 2, ("corpus", "base"), "search vocabularies, choose one by ALP"),
    Stage("tokenizer", 30, 1, ("corpus", "base", "vocab"), "extend the tokenizer and prove it"),
    Stage("encode", 35, 2, ("corpus", "tokenizer"), "turn text into token files", resumable=True),
    Stage("embed", 40, 2, ("base", "tokenizer"), "expand embed_tokens and lm_head"),
    Stage("train", 60, 5, ("embed", "encode"), "QLoRA continued pretraining", resumable=True),
    Stage("merge", 70, 2, ("embed", "train"), "fold the adapter into the weights", resumable=True),
    Stage("evals", 80, 2, ("corpus", "base", "embed", "merge"), "bits per byte, continuations"),
    Stage(
        "report",
        90,
        6,
        ("corpus", "base", "vocab", "tokenizer", "encode", "embed", "train", "merge", "evals"),
        "report.html and the model card",
    ),
)


def find_stage(name: str) -> Stage:
    """Look a stage up by name (`train`) or folder (`60-train`).

    Raises:
        UsageError: There is no such stage.
    """
    for stage in STAGES:
        if name in (stage.name, stage.folder):
            return stage
    known = ", ".join(stage.name for stage in STAGES)
    raise UsageError(f"no stage '{name}'.", way_out=f"Stages: {known}.")
