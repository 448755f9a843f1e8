"""The tables that page and card share, put together from the manifests of a run.

Stages are read as plain JSON facts and settings: a report on a run of an older version needs
no class of that version. A ratio is formed here and nowhere else, always from two facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..manifest import Manifest
from ..stages import STAGES

__all__ = [
    "CorpusRow",
    "EfficiencyRow",
    "Headline",
    "ScoreCell",
    "ScoreRow",
    "StageRow",
    "Summary",
    "language_name",
    "model_name",
    "summarize",
]

_BASE, _TRAINED = "base", "trained"
_MODELS = {_BASE: "base", "expanded": "expanded, untrained", _TRAINED: "trained"}
_LANGUAGES = {
    "ar": "Arabic", "bn": "Bengali", "de": "German", "en": "English", "es": "Spanish",
    "fa": "Persian", "fr": "French", "he": "Hebrew", "hi": "Hindi", "it": "Italian",
    "ja": "Japanese", "kk": "Kazakh", "km": "Khmer", "ko": "Korean", "lo": "Lao",
    "my": "Burmese", "pt": "Portuguese", "ru": "Russian", "ta": "Tamil", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


@dataclass(frozen=True)
class ScoreCell:
    """Bits per byte of one model in one row of the table."""

    model: str
    bpb: float
    change_frac: float | None
    """Against the base model; None for the base itself."""
    interval: tuple[float, float] | None
    """Of the difference to the base in bits per byte, 95%; None where it was not measured."""
    best: bool
    """Lowest of its row."""


@dataclass(frozen=True)
class ScoreRow:
    """One language or one set, scored by every model."""

    name: str
    language: str
    whole_language: bool
    num_docs: int
    size_bytes: int
    cells: tuple[ScoreCell, ...]

    def cell(self, model: str) -> ScoreCell:
        """The cell of one model."""
        return next(cell for cell in self.cells if cell.model == model)


@dataclass(frozen=True)
class EfficiencyRow:
    """Tokens of a set, or of all sets of a language, before and after."""

    name: str
    language: str
    whole_language: bool
    base_tokens: int
    extended_tokens: int
    num_chars: int
    size_bytes: int

    @property
    def change_frac(self) -> float:
        """Relative change of the number of tokens; negative is fewer."""
        return self.extended_tokens / self.base_tokens - 1


@dataclass(frozen=True)
class CorpusRow:
    """One set after cleaning, or the sum of all."""

    name: str
    language: str
    num_docs_read: int
    train_docs: int
    valid_docs: int
    num_chars: int
    size_bytes: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class Headline:
    """One card at the head of the page; numbers are facts, `kind` says how they are shown."""

    kind: str
    language: str
    before: float
    after: float

    @property
    def change_frac(self) -> float:
        """Relative change from before to after."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class StageRow:
    """One link of the chain from corpus to report."""

    folder: str
    does: str
    version: int
    seed: int
    digest: str
    settings: dict[str, Any]
    inputs: dict[str, str]


@dataclass(frozen=True)
class Summary:
    """What page and card print, besides single facts."""

    facts: dict[str, dict[str, Any]]
    """Facts by stage."""
    settings: dict[str, dict[str, Any]]
    """Settings by stage."""
    added_languages: tuple[str, ...]
    """Languages that the vocabulary was learned on."""
    kept_languages: tuple[str, ...]
    """The others: what must not be forgotten."""
    models: tuple[str, ...]
    headlines: tuple[Headline, ...]
    scores: tuple[ScoreRow, ...]
    efficiency: tuple[EfficiencyRow, ...]
    corpus: tuple[CorpusRow, ...]
    stages: tuple[StageRow, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """All languages, the added ones first."""
        return self.added_languages + self.kept_languages


def language_name(code: str) -> str:
    """English name of a common language code, else the code itself."""
    return _LANGUAGES.get(code.partition("-")[0].lower(), code)


def model_name(model: str) -> str:
    """What a model of the comparison is called in print."""
    return _MODELS.get(model, model)


def summarize(manifests: Mapping[str, Manifest]) -> Summary:
    """Put the tables together.

    Args:
        manifests: Manifest of each stage before the report, by stage name.
    """
    facts = {name: m.facts for name, m in manifests.items()}
    settings = {name: m.identity.settings for name, m in manifests.items()}
    added, kept = _languages(facts["corpus"]["sets"], settings["vocab"]["sets"])
    order = (*added, *kept)
    efficiency = _efficiency(facts["tokenizer"]["efficiency"], facts["corpus"]["sets"], order)
    scores = _scores(facts["evals"], facts["corpus"]["sets"], order)
    return Summary(
        facts=facts,
        settings=settings,
        added_languages=added,
        kept_languages=kept,
        models=tuple(_model_order(facts["evals"]["scores"])),
        headlines=tuple(_headlines(efficiency, scores, added)),
        scores=scores,
        efficiency=efficiency,
        corpus=tuple(_corpus(facts["corpus"]["sets"], order)),
        stages=tuple(_chain(manifests)),
    )


def _languages(
    sets: Mapping[str, Any], vocab_sets: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split languages into those the vocabulary was learned on and the rest."""
    added = sorted({sets[name]["language"] for name in vocab_sets})
    kept = sorted({s["language"] for s in sets.values()} - set(added))
    return tuple(added), tuple(kept)


def _sets_of(language: str, sets: Mapping[str, Any], among: Iterable[str]) -> list[str]:
    chosen = set(among)
    return [name for name in sets if name in chosen and sets[name]["language"] == language]


def _efficiency(
    found: Mapping[str, Any], sets: Mapping[str, Any], order: Sequence[str]
) -> tuple[EfficiencyRow, ...]:
    rows: list[EfficiencyRow] = []
    for language in order:
        names = _sets_of(language, sets, found)
        # A set whose validation split is empty has no tokens to compare.
        filled = [name for name in names if found[name]["base_tokens"]]
        parts = [_efficiency_row(name, language, found[name]) for name in filled]
        if parts:
            rows += [_efficiency_sum(parts), *parts]
    return tuple(rows)


def _efficiency_row(name: str, language: str, found: Mapping[str, int]) -> EfficiencyRow:
    return EfficiencyRow(
        name=name,
        language=language,
        whole_language=False,
        base_tokens=found["base_tokens"],
        extended_tokens=found["extended_tokens"],
        num_chars=found["num_chars"],
        size_bytes=found["size_bytes"],
    )


def _efficiency_sum(parts: Sequence[EfficiencyRow]) -> EfficiencyRow:
    return EfficiencyRow(
        name=language_name(parts[0].language),
        language=parts[0].language,
        whole_language=True,
        base_tokens=sum(p.base_tokens for p in parts),
        extended_tokens=sum(p.extended_tokens for p in parts),
        num_chars=sum(p.num_chars for p in parts),
        size_bytes=sum(p.size_bytes for p in parts),
    )


def _model_order(scores: Iterable[str]) -> list[str]:
    """Known models first, in the order they are made; others by name."""
    found = set(scores)
    return [m for m in _MODELS if m in found] + sorted(found - _MODELS.keys())


def _scores(
    evals: Mapping[str, Any], sets: Mapping[str, Any], order: Sequence[str]
) -> tuple[ScoreRow, ...]:
    models = _model_order(evals["scores"])
    assert _BASE in models, "the evals stage scored no base model"
    rows: list[ScoreRow] = []
    for language in order:
        if language not in evals["languages"][_BASE]:
            continue
        by_model = {m: evals["languages"][m][language] for m in models}
        changes = _changes(evals, "language_differences", language)
        rows.append(_score_row(language_name(language), language, by_model, True, changes))
        for name in _sets_of(language, sets, evals["scores"][_BASE]):
            by_model = {m: evals["scores"][m][name] for m in models}
            changes = _changes(evals, "differences", name)
            rows.append(_score_row(name, language, by_model, False, changes))
    return tuple(rows)


def _changes(evals: Mapping[str, Any], kind: str, name: str) -> dict[str, tuple[float, float]]:
    """Intervals by model; {} in runs of before they were measured."""
    found = {model: by_name[name] for model, by_name in evals.get(kind, {}).items()}
    return {m: (d["low"], d["high"]) for m, d in found.items() if d["low"] is not None}


def _score_row(
    name: str,
    language: str,
    by_model: Mapping[str, Any],
    whole_language: bool,
    changes: Mapping[str, tuple[float, float]],
) -> ScoreRow:
    base = by_model[_BASE]
    lowest = min(score["bpb"] for score in by_model.values())
    cells = tuple(
        ScoreCell(
            model=model,
            bpb=score["bpb"],
            change_frac=None if model == _BASE else score["bpb"] / base["bpb"] - 1,
            interval=changes.get(model),
            best=score["bpb"] == lowest,
        )
        for model, score in by_model.items()
    )
    return ScoreRow(name, language, whole_language, base["num_docs"], base["size_bytes"], cells)


def _headlines(
    efficiency: Iterable[EfficiencyRow], scores: Iterable[ScoreRow], added: Sequence[str]
) -> list[Headline]:
    tokens = [
        Headline("tokens", r.language, r.base_tokens / r.num_chars, r.extended_tokens / r.num_chars)
        for r in efficiency
        if r.whole_language and r.language in added
    ]
    bpb = [
        Headline(
            "gain" if r.language in added else "kept",
            r.language,
            r.cell(_BASE).bpb,
            r.cell(_TRAINED).bpb,
        )
        for r in scores
        if r.whole_language
    ]
    return tokens + bpb


def _corpus(sets: Mapping[str, Any], order: Sequence[str]) -> list[CorpusRow]:
    rows = [_corpus_row(n, sets[n]) for lang in order for n in _sets_of(lang, sets, sets)]
    reasons = sorted({reason for row in rows for reason in row.dropped})
    total = CorpusRow(
        name="all sets",
        language="",
        num_docs_read=sum(r.num_docs_read for r in rows),
        train_docs=sum(r.train_docs for r in rows),
        valid_docs=sum(r.valid_docs for r in rows),
        num_chars=sum(r.num_chars for r in rows),
        size_bytes=sum(r.size_bytes for r in rows),
        dropped={reason: sum(r.dropped.get(reason, 0) for r in rows) for reason in reasons},
    )
    return [*rows, total]


def _corpus_row(name: str, found: Mapping[str, Any]) -> CorpusRow:
    train, valid = found["train"], found["valid"]
    return CorpusRow(
        name=name,
        language=found["language"],
        num_docs_read=found["num_docs_read"],
        train_docs=train["num_docs"],
        valid_docs=valid["num_docs"],
        num_chars=train["num_chars"] + valid["num_chars"],
        size_bytes=train["size_bytes"] + valid["size_bytes"],
        dropped={r.replace("_", " "): found["dropped"][r] for r in sorted(found["dropped"])},
    )


def _chain(manifests: Mapping[str, Manifest]) -> list[StageRow]:
    return [
        StageRow(
            folder=stage.folder,
            does=stage.does,
            version=manifests[stage.name].identity.stage_version,
            seed=manifests[stage.name].identity.seed,
            digest=manifests[stage.name].digest,
            settings=manifests[stage.name].identity.settings,
            inputs=manifests[stage.name].identity.inputs,
        )
        for stage in STAGES
        if stage.name in manifests
    ]
