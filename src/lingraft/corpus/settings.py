"""What the corpus stage takes and gives."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from ..manifest import Facts
from ..settings import Settings, StageSettings
from ..sources import identify_source
from .methods import NearDuplicateSettings, OverlapSettings, PiiSettings, QualitySettings

__all__ = [
    "CorpusFacts",
    "CorpusSet",
    "CorpusSettings",
    "PrepareSettings",
    "SetFacts",
    "SplitFacts",
    "check_set_name",
    "method_inputs",
]

Reader = Literal["auto", "jsonl", "parquet", "lines", "wet", "tagged", "python-strings"]
Split = Literal["train", "valid", "test"]


_NAME = re.compile(r"[^\W_][\w.-]*")


def check_set_name(name: str) -> str:
    """Give back a name that a set may have.

    >>> check_set_name("SkyPile-150B-2023"), check_set_name("维基")
    ('SkyPile-150B-2023', '维基')

    Raises:
        ValueError: It is none; what one is made of is told.
    """
    if _NAME.fullmatch(name):
        return name
    raise ValueError(
        "expected letters, digits, '.', '_' and '-', a letter or a digit first, as in "
        "SkyPile-150B-2023: a mixture names a set as RATIO:NAME, and its files are named after it."
    )


class CorpusSet(Settings):
    """One named set of documents."""

    name: Annotated[str, AfterValidator(check_set_name)]
    """Name used in mixtures, file names and the registry."""

    language: Annotated[str, Field(min_length=2)]
    """Language of the set (BCP 47, as `zh` or `en`); groups results in reports."""

    sources: Annotated[list[str], Field(min_length=1)]
    """Files or folders: `package:NAME/path`, `stdlib:path`, `hub:OWNER/NAME`, or a path."""

    reader: Reader = "jsonl"
    """How documents are found: `jsonl` and `parquet` rows, one `lines` document a line, `wet` (text
    extracted from a WARC), `auto` (one of these, by each file's ending), `tagged` (word/tag text,
    tags taken out; a title or a blank line begins a document), or the long `python-strings` of
    Python files (docstrings and literals, their prose alone)."""

    text_key: str = "text"
    """Column that holds the text (`jsonl`, `parquet`)."""

    patterns: list[str] = []
    """Names of files to take from folders and hub repositories, as `2022-*.jsonl`; empty: those
    with the reader's own endings."""

    revision: str = "main"
    """Commit, tag or branch of a hub repository."""

    simplify: bool = False
    """Write traditional Chinese characters as simplified ones (OpenCC t2s), before texts are
    compared. Japanese and Korean texts would be damaged by it."""

    quality: QualitySettings | None = None
    """Filters on length of words, symbols, repetition and scripts; none by default."""


class PrepareSettings(StageSettings):
    """Sets of documents, how they are cleaned, and how they are split."""

    sets: Annotated[list[CorpusSet], Field(min_length=1)]
    """The sets, by name."""

    valid_frac: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Share of documents held out for validation (the reference: 999:1)."""

    test_frac: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of documents held out for tests; they stay the same whatever valid_frac is."""

    min_chars: Annotated[int, Field(ge=1)] = 16
    """Shorter documents are dropped (characters after cleaning)."""

    max_chars: Annotated[int, Field(ge=1)] = 1_000_000
    """Longer documents are dropped: most are dumps, and they would dominate a small set."""

    deduplicate: bool = True
    """Drop documents whose cleaned text was seen before, in any set."""

    near_duplicates: NearDuplicateSettings | None = None
    """Drop documents that are nearly the same as one before them, in any set; off by default."""

    mask: PiiSettings | None = None
    """Mask personal data, before texts are compared; off by default."""

    decontaminate: OverlapSettings | None = None
    """Drop documents that overlap a benchmark; off by default."""

    decontaminate_splits: Annotated[list[Split], Field(min_length=1)] = ["train", "valid", "test"]
    """Splits that documents are dropped from if they overlap a benchmark; in all of them such
    documents are counted."""

    on_bad_row: Literal["stop", "drop"] = "stop"
    """What a row that holds no document does (not JSON, not UTF-8, no text in its column): stop
    everything, or be dropped and counted as `bad_row`. A file that is damaged or cut short always
    stops, and so does a `tagged` one with a word that has no tag."""

    keep_dropped: bool = False
    """Write every dropped document with its reason to `dropped/SET.jsonl.zst`."""

    @field_validator("sets")
    @classmethod
    def _names_differ(cls, sets: list[CorpusSet]) -> list[CorpusSet]:
        names = [s.name for s in sets]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"set names must differ; given twice: {', '.join(twice)}.")
        return sets

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.valid_frac + self.test_frac >= 1:
            raise ValueError(
                f"valid_frac = {self.valid_frac} and test_frac = {self.test_frac} leave nothing "
                "to train on."
            )
        return self

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, the one to train on first."""
        shares = (("valid", self.valid_frac), ("test", self.test_frac))
        return ("train", *(name for name, frac in shares if frac))

    def outside(self) -> dict[str, Path | str]:
        """Every source of every set, and every benchmark."""
        sources = [source for s in self.sets for source in s.sources]
        if self.decontaminate:
            sources += self.decontaminate.benchmarks
        return {
            **{source: identify_source(source) for source in sources},
            **method_inputs(self),
        }


class CorpusSettings(PrepareSettings):
    """Those of a recipe, whose later stages validate on every set."""

    valid_frac: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Share of documents held out for validation (the reference: 999:1)."""


def method_inputs(settings: PrepareSettings) -> dict[str, str]:
    """Tell what the methods that are asked for depend on beside their settings: name -> version."""
    inputs: dict[str, str] = {}
    needs_tokens = settings.near_duplicates or settings.decontaminate
    if needs_tokens or any(one.quality for one in settings.sets):
        from .grams import table_digest

        inputs["characters"] = table_digest()
    if settings.near_duplicates:
        from .minhash import algorithm

        inputs["minhash"] = algorithm()
    packages = {"OpenCC"} if any(one.simplify for one in settings.sets) else set()
    if settings.mask and "phone" in settings.mask.kinds:
        packages.add("phonenumbers")
    return inputs | {name: _version_of(name) for name in sorted(packages)}


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class SplitFacts(Facts):
    """Size of one split of one set."""

    num_docs: int
    num_chars: int
    size_bytes: int
    """UTF-8 bytes of the texts, without JSON."""


class SetFacts(Facts):
    """One set after cleaning."""

    language: str
    train: SplitFacts
    valid: SplitFacts = SplitFacts(num_docs=0, num_chars=0, size_bytes=0)
    test: SplitFacts | None = None
    """None where nothing is held out for tests."""
    num_docs_read: int
    """Documents that the reader found, before any was dropped."""
    dropped: dict[str, int]
    """Documents dropped, by reason."""
    commits: dict[str, str] = {}
    """Commit that each hub repository was read at."""


class CorpusFacts(Facts):
    """What the corpus stage made."""

    sets: dict[str, SetFacts]
