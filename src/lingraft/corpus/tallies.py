"""`stats.json`: what a corpus holds, as counted while it was prepared, and its tokens.

`prepare` writes it, `corpus stats` adds tokens, the page and the tables show it. Everything that a
reader could do without may be missing: a registry tells less than `prepare` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import InputError

__all__ = [
    "STATS_NAME",
    "CorpusTally",
    "Example",
    "Examples",
    "Histogram",
    "SetTally",
    "SourceTally",
    "SplitTally",
    "TokenTally",
    "read_stats",
    "read_tally",
    "sum_splits",
]

STATS_NAME = "stats.json"


class _Tally(BaseModel):
    """Base: what a later version may add is passed over."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


class TokenTally(_Tally):
    """Tokens of one split."""

    tokenizer: str
    """Name; "" where a token file does not tell."""
    total_tokens: int
    how: Literal["encoded", "counted"]
    """From token files, special pieces included, or counted now, without any."""
    digest: str = ""


class SplitTally(_Tally):
    """One split of a set; None: not known."""

    num_docs: int | None = None
    num_chars: int | None = None
    size_bytes: int | None = None
    """UTF-8 bytes of the texts."""
    tokens: list[TokenTally] = []


class Histogram(_Tally):
    """Documents by length: `counts[i]` of them have `edges[i]` to `edges[i + 1] - 1` characters."""

    edges: list[int]
    counts: list[int]


class SourceTally(_Tally):
    """Where kept documents came from."""

    name: str
    num_docs: int
    size_bytes: int


class Example(_Tally):
    """The beginning of a document."""

    where: str
    text: str


class Examples(_Tally):
    """A few documents, and what was dropped, by reason."""

    kept: list[Example] = []
    dropped: dict[str, list[Example]] = {}


class SetTally(_Tally):
    """One set."""

    language: str = ""
    num_docs_read: int | None = None
    dropped: dict[str, int] = {}
    """Documents by reason."""
    splits: dict[str, SplitTally]
    chars_histogram: Histogram | None = None
    """Of kept documents."""
    sources: list[SourceTally] = []
    num_surrogates: int = 0
    """Halves of surrogate pairs, each of which became U+FFFD: in documents that no filter dropped
    while they were prepared, or as counted in documents that were read."""
    masked: dict[str, int] = {}
    """Places masked, by kind."""
    overlaps: dict[str, int] = {}
    """Documents that overlap a benchmark, by its name."""
    examples: Examples = Examples()


class CorpusTally(_Tally):
    """All sets, by name."""

    sets: dict[str, SetTally]


def read_stats(path: Path) -> dict[str, Any]:
    """Read a `stats.json`.

    Raises:
        InputError: It is none.
    """
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}.") from None
    read_tally(stats, str(path))
    return dict(stats)


def read_tally(stats: Mapping[str, Any], source: str) -> CorpusTally:
    """Read statistics; `source` names them in messages.

    Raises:
        InputError: They are none.
    """
    try:
        tally = CorpusTally.model_validate(stats)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            f"{source}: not the statistics of a corpus: "
            f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}.",
            way_out="Prepare the corpus again.",
        ) from None
    for name, found in tally.sets.items():
        histogram = found.chars_histogram
        if histogram and len(histogram.edges) != len(histogram.counts) + 1:
            raise InputError(
                f"{source}: sets.{name}.chars_histogram has {len(histogram.edges)} edges of "
                f"{len(histogram.counts)} counts; expected one more.",
                way_out="Prepare the corpus again.",
            )
    return tally


def sum_splits(splits: Iterable[SplitTally]) -> SplitTally:
    """Add up splits; what one of them does not tell is not told of all.

    Tokens are added up by tokenizer, and by how they were counted: token files hold special
    pieces, and what is counted now does not.
    """
    listed = list(splits)
    fields = ("num_docs", "num_chars", "size_bytes")
    sums = {field: _sum_known([getattr(one, field) for one in listed]) for field in fields}
    totals: dict[tuple[str, str, str], list[int]] = {}
    for one in listed:
        for found in one.tokens:
            key = (found.tokenizer, found.how, found.digest)
            totals.setdefault(key, []).append(found.total_tokens)
    tokens = [
        TokenTally.model_validate(
            {"tokenizer": name, "how": how, "digest": digest, "total_tokens": sum(counts)}
        )
        for (name, how, digest), counts in totals.items()
        if len(counts) == len(listed)
    ]
    return SplitTally(**sums, tokens=tokens)


def _sum_known(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None
