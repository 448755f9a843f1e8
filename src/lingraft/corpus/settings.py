"""What the corpus stage takes and gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from ..manifest import Facts
from ..settings import Settings, StageSettings
from ..sources import identify_source

__all__ = ["CorpusFacts", "CorpusSet", "CorpusSettings", "SetFacts", "SplitFacts"]

Reader = Literal["jsonl", "parquet", "lines", "tagged", "python-strings"]


class CorpusSet(Settings):
    """One named set of documents."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name used in mixtures, file names and the registry."""

    language: Annotated[str, Field(min_length=2)]
    """Language of the set (BCP 47, as `zh` or `en`); groups results in reports."""

    sources: Annotated[list[str], Field(min_length=1)]
    """Files or folders: `package:NAME/path`, `stdlib:path`, `hub:OWNER/NAME`, or a path."""

    reader: Reader = "jsonl"
    """How documents are found: `jsonl` and `parquet` rows, one `lines` document a line, `tagged`
    (word/tag text, tags taken out; a title or a blank line begins a document), or the long
    `python-strings` of Python files (docstrings and literals, their prose alone)."""

    text_key: str = "text"
    """Column that holds the text (`jsonl`, `parquet`)."""

    patterns: list[str] = []
    """Names of files to take from folders and hub repositories, as `2022-*.jsonl`; empty: those
    with the reader's own endings."""

    revision: str = "main"
    """Commit, tag or branch of a hub repository."""


class CorpusSettings(StageSettings):
    """Sets of documents, how they are cleaned, and how they are split."""

    sets: Annotated[list[CorpusSet], Field(min_length=1)]
    """The sets, by name."""

    valid_frac: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Share of documents held out for validation (the reference: 999:1)."""

    min_chars: Annotated[int, Field(ge=1)] = 16
    """Shorter documents are dropped (characters after cleaning)."""

    max_chars: Annotated[int, Field(ge=1)] = 1_000_000
    """Longer documents are dropped: most are dumps, and they would dominate a small set."""

    deduplicate: bool = True
    """Drop documents whose cleaned text was seen before, in any set."""

    @field_validator("sets")
    @classmethod
    def _names_differ(cls, sets: list[CorpusSet]) -> list[CorpusSet]:
        names = [s.name for s in sets]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"set names must differ; given twice: {', '.join(twice)}.")
        return sets

    def outside(self) -> dict[str, Path | str]:
        """Every source of every set."""
        return {source: identify_source(source) for s in self.sets for source in s.sources}


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
    valid: SplitFacts
    num_docs_read: int
    """Documents that the reader found, before any was dropped."""
    dropped: dict[str, int]
    """Documents dropped, by reason."""


class CorpusFacts(Facts):
    """What the corpus stage made."""

    sets: dict[str, SetFacts]
