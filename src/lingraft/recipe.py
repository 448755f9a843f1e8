"""One TOML file is a run: one section a stage, checked whole before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from .base.settings import BaseSettings
from .corpus.settings import CorpusSettings
from .embed.settings import EmbedSettings
from .encode.settings import EncodeSettings
from .errors import LingraftError, Problem, RecipeError
from .estimate import EstimateSettings
from .evals.settings import EvalsSettings
from .merge.settings import MergeSettings
from .packages import has_package
from .parts import parse_part
from .report.settings import ReportSettings
from .settings import Settings, StageSettings, apply_overrides, explain, read_toml
from .stages import STAGES
from .tokenizer.settings import TokenizerSettings
from .train.settings import TrainSettings
from .vocab.settings import VocabSettings

__all__ = [
    "Recipe",
    "RunSettings",
    "find_problems",
    "find_warnings",
    "raise_problems",
    "read_recipe",
]


_NEEDED = ("torch", "transformers", "tensorboard")
"""Packages of the extra `train`; the others come with lingraft."""


class RunSettings(Settings):
    """The run as a whole."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run's folder."""
    folder: str = "runs"
    """Folder of all runs, relative to the working directory."""
    seed: Annotated[int, Field(ge=0)] = 17
    """The only source of randomness."""
    reuse: list[str] = []
    """Other run folders: a stage that is identical there is linked, not done again."""


class Recipe(Settings):
    """A whole run."""

    run: RunSettings
    corpus: CorpusSettings
    base: BaseSettings
    vocab: VocabSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    embed: EmbedSettings = EmbedSettings()
    encode: EncodeSettings = EncodeSettings()
    train: TrainSettings
    merge: MergeSettings = MergeSettings()
    evals: EvalsSettings = EvalsSettings()
    report: ReportSettings = ReportSettings()
    estimate: EstimateSettings = EstimateSettings()

    def section(self, stage: str) -> StageSettings:
        """Settings of one stage."""
        settings = getattr(self, stage)
        assert isinstance(settings, StageSettings), f"no stage section '{stage}'"
        return settings

    @property
    def run_folder(self) -> Path:
        """Where the artefacts of this run stand."""
        return Path(self.run.folder).expanduser() / self.run.name


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; every problem is told at once.

    Args:
        path: The TOML file.
        overrides: `a.b=value` pairs that replace settings of the file.

    Raises:
        UsageError: The file cannot be read.
        RecipeError: A setting is unknown, missing or of the wrong type or range.
    """
    tree = apply_overrides(read_toml(path), overrides)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise explain(Recipe, error, str(path)) from None


def find_problems(recipe: Recipe) -> list[Problem]:
    """Problems that show only across sections or on this machine.

    Checked: sets named anywhere exist in `corpus.sets`; a forced vocabulary choice lies in
    the search; sequences fit the model's positions; runs to reuse and local sources exist;
    packages are installed.
    """
    return [
        *_unknown_sets(recipe),
        *_vocab_choice(recipe),
        *_lengths(recipe),
        *_reused_runs(recipe),
        *_sources(recipe),
        *_packages(recipe.train),
    ]


def find_warnings(recipe: Recipe) -> list[Problem]:
    """What is allowed and seldom meant.

    Looked for: a mixture of added languages alone, which lets the model forget what it could; an
    attention that needs a GPU, on a machine without one.
    """
    return [*_no_rehearsal(recipe), *_no_gpu(recipe.train)]


def _no_rehearsal(recipe: Recipe) -> list[Problem]:
    language = {s.name: s.language.partition("-")[0] for s in recipe.corpus.sets}
    added = {language[name] for name in recipe.vocab.sets if name in language}
    mixed = {language.get(parse_part(part).name, "") for part in recipe.train.mixture}
    if not mixed <= added:
        return []
    text = (
        f"holds {', '.join(sorted(mixed))} alone, which pieces are added for; without text of the "
        "base's own languages the model forgets them. Add a part, as '0.1:SET' of such a set."
    )
    return [Problem("train.mixture", str(recipe.train.mixture), text)]


def _no_gpu(train: TrainSettings) -> list[Problem]:
    if train.attention == "sdpa" or not has_package("torch"):  # without it, `_packages` tells
        return []
    import torch

    if torch.cuda.is_available():
        return []
    text = (
        "needs a GPU, and torch finds none on this machine: a run that comes to its training here "
        "ends there. Train on another machine, or with 'sdpa'."
    )
    return [Problem("train.attention", repr(train.attention), text)]


def raise_problems(recipe: Recipe, source: str) -> None:
    """Raise `RecipeError` if `find_problems` finds any."""
    problems = find_problems(recipe)
    if problems:
        raise RecipeError(source, problems)


def _unknown_sets(recipe: Recipe) -> list[Problem]:
    known = [s.name for s in recipe.corpus.sets]
    pretrain = recipe.base.pretrain
    named = {
        "vocab.sets": recipe.vocab.sets,
        "vocab.evaluation": recipe.vocab.evaluation,
        "train.mixture": [parse_part(p).name for p in recipe.train.mixture],
        **_sets_of_phases(recipe.train),
        "train.guard.set": [recipe.train.guard.set] if recipe.train.guard else [],
        "evals.sets": recipe.evals.sets,
        "base.pretrain.sets": pretrain.sets if pretrain else [],
    }
    return [
        Problem(key, repr(name), f"no such set in corpus.sets; there are {', '.join(known)}.")
        for key, names in named.items()
        for name in names
        if name not in known
    ]


def _sets_of_phases(train: TrainSettings) -> dict[str, list[str]]:
    phases = train.phases if isinstance(train.phases, list) else []
    return {
        f"train.phases.{n}.mixture": [parse_part(part).name for part in phase.mixture or []]
        for n, phase in enumerate(phases)
    }


def _vocab_choice(recipe: Recipe) -> list[Problem]:
    vocab, problems = recipe.vocab, []
    if isinstance(vocab.size, int) and vocab.size > vocab.max_pieces:
        text = f"is larger than vocab.max_pieces = {vocab.max_pieces}."
        problems.append(Problem("vocab.size", str(vocab.size), text))
    if isinstance(vocab.num_chars, int) and vocab.num_chars not in vocab.char_counts:
        text = f"is none of vocab.char_counts = {vocab.char_counts}."
        problems.append(Problem("vocab.num_chars", str(vocab.num_chars), text))
    if isinstance(vocab.size, int) and 0 < vocab.size < min(vocab.char_counts):
        text = f"is below the smallest of vocab.char_counts = {vocab.char_counts}."
        problems.append(Problem("vocab.size", str(vocab.size), text))
    if vocab.char_counts and max(vocab.char_counts) > vocab.max_pieces:
        text = f"holds a count above vocab.max_pieces = {vocab.max_pieces}."
        problems.append(Problem("vocab.char_counts", str(vocab.char_counts), text))
    return problems


def _lengths(recipe: Recipe) -> list[Problem]:
    """A sequence longer than the model's positions would meet positions it never learned."""
    shape, pretrain = recipe.base.shape, recipe.base.pretrain
    if shape is None:
        return []
    longest = shape.max_position_embeddings
    lengths = {"train.seq_len": recipe.train.seq_len, "evals.max_tokens": recipe.evals.max_tokens}
    if pretrain:
        lengths["base.pretrain.seq_len"] = pretrain.seq_len
    text = f"is above base.shape.max_position_embeddings = {longest}."
    return [Problem(key, str(n), text) for key, n in lengths.items() if n > longest]


def _reused_runs(recipe: Recipe) -> list[Problem]:
    folders = recipe.run.reuse
    text = "no such run folder; nothing would be reused."
    return [
        Problem("run.reuse", repr(f), text) for f in folders if not Path(f).expanduser().is_dir()
    ]


def _sources(recipe: Recipe) -> list[Problem]:
    problems = []
    for stage in STAGES:
        try:
            recipe.section(stage.name).outside()
        except LingraftError as error:
            text = " ".join(part for part in (error.what, error.way_out) if part)
            problems.append(Problem(stage.name, "", text))
    return problems


def _packages(train: TrainSettings) -> list[Problem]:
    """Missing packages are told before hours of work, not after."""
    needed: dict[str, str] = {name: name for name in train.trackers}
    needed |= dict.fromkeys(_NEEDED, "'lingraft[train]'")
    if train.attention == "flash_attention_2":  # a package flash-attn-4 brings a module, too
        needed["flash_attn"] = "flash-attn"
    if train.optimizer != "adamw":
        needed["bitsandbytes"] = "bitsandbytes"
    missing = [name for name in needed if not has_package(name)]
    text = "is needed by a run and not installed: pip install"
    return [Problem("package", repr(name), f"{text} {needed[name]}.") for name in missing]
