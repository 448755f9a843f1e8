"""What becomes of a raw document: its text as it is kept, or the reason to drop it.

In this order, each step on what the one before left:

    clean       one spelling for equal text
    simplify    traditional characters as simplified ones
    mask        personal data
    bounds      too short, too long, lost characters
    quality     length of words, symbols, repetition, scripts
    overlap     n-grams of a benchmark

Documents are judged many at a time: compiled code then runs on all of their characters at once. A
document does not depend on the others beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from ..texts import RawDocument
from .clean import TOO_LONG, clean, why_dropped
from .methods import PiiSettings, QualitySettings
from .split import document_id, split_of

if TYPE_CHECKING:
    from .overlap import Overlap
    from .plan import Plan

__all__ = ["OVERLAP", "Judge", "Verdict", "as_json"]

OVERLAP = "benchmark_overlap"
"""Reason to drop a document that shares text with a benchmark."""
_HEAD, _MARGIN = 2, 1024
"""How many times the longest text is looked at first, and characters that cutting may change."""


@dataclass
class Verdict:
    """What becomes of one document."""

    text: str
    """As it is kept, or would be."""
    reason: str = ""
    """Why it is dropped; "" if it is kept."""
    overlap: str = ""
    """The benchmark that it shares text with."""
    masked: dict[str, int] = field(default_factory=dict)
    """Places masked, by kind."""
    data: bytes = b""
    """The text in UTF-8, of a kept document."""
    digest: bytes = b""
    """sha256 of it."""


class Judge:
    """Judges the documents of one set."""

    def __init__(self, plan: Plan, set_index: int, overlap: Overlap | None) -> None:
        """Prepare the methods that are asked for.

        Args:
            plan: What is asked for.
            set_index: The set.
            overlap: What finds benchmarks in documents, where that is asked for.

        Raises:
            MissingPackageError: A method needs a package that is not installed.
            UsageError: A method cannot do what is asked for.
        """
        settings, one = plan.settings, plan.sets[set_index]
        self._settings, self._seed = settings, plan.seed
        self._simplify = _simplifier() if one.simplify else None
        self._quality = _quality_filter(one.quality.model_dump_json()) if one.quality else None
        self._overlap = overlap
        if settings.mask is not None:
            _check_mask(settings.mask)
        self._needs_tokens = bool(self._quality or self._overlap or settings.near_duplicates)

    def judge(self, raws: Sequence[RawDocument]) -> tuple[list[Verdict], tuple[Any, ...]]:
        """Judge documents.

        Returns:
            A verdict each, and the signatures of those that are kept: bands and low bits, or
            nothing where near duplicates are not asked for.
        """
        verdicts = [self._look(raw) for raw in raws]
        alive = [verdict for verdict in verdicts if not verdict.reason]
        signatures = self._look_at_tokens(alive) if alive and self._needs_tokens else ()
        return verdicts, signatures

    def _look(self, raw: RawDocument) -> Verdict:
        """Take the steps that look at one text alone."""
        settings = self._settings
        head = _HEAD * (settings.max_chars + _MARGIN)
        if len(raw.text) > head and not raw.drop and not settings.keep_dropped:
            # What follows the head can only make a text longer, but for a few characters where
            # it is cut: no need to work on all of a document that is too long in any case.
            verdict = self._clean(raw.text[:head])
            if len(verdict.text) > settings.max_chars + _MARGIN:
                verdict.reason = TOO_LONG
                return verdict
        verdict = self._clean(raw.text)
        text = verdict.text
        verdict.reason = raw.drop or why_dropped(text, settings.min_chars, settings.max_chars)
        if not verdict.reason:
            verdict.data = text.encode()
            verdict.digest = hashlib.sha256(verdict.data).digest()
        return verdict

    def _clean(self, text: str) -> Verdict:
        verdict = Verdict(clean(text))
        if self._simplify is not None:
            verdict.text = self._simplify(verdict.text)
        if self._settings.mask is not None:
            verdict.text, verdict.masked = _mask(verdict.text, self._settings.mask)
        return verdict

    def _look_at_tokens(self, alive: Sequence[Verdict]) -> tuple[Any, ...]:
        from .grams import find_tokens

        texts = [verdict.text for verdict in alive]
        tokens = find_tokens(texts)
        if self._quality is not None:
            for verdict, reason in zip(alive, self._quality.reasons(texts, tokens), strict=True):
                verdict.reason = reason
        if self._overlap is not None:
            for verdict, name in zip(alive, self._overlap.find(texts, tokens), strict=True):
                verdict.overlap = "" if verdict.reason else name
                if verdict.overlap and self._is_watched(verdict):
                    verdict.reason = OVERLAP
        if self._settings.near_duplicates is None:
            return ()
        from .minhash import signatures

        kept = [n for n, verdict in enumerate(alive) if not verdict.reason]
        return tuple(array[kept] for array in signatures(tokens, self._settings.near_duplicates))

    def _is_watched(self, verdict: Verdict) -> bool:
        """Whether documents of this one's split are dropped for an overlap."""
        settings = self._settings
        doc_id = document_id(verdict.digest)
        split = split_of(doc_id, self._seed, settings.valid_frac, settings.test_frac)
        return split in settings.decontaminate_splits


def as_json(text: str, data: bytes) -> bytes:
    """Give a text as a JSON string; `data` is its UTF-8."""
    quoted = encode_basestring(text)
    if len(quoted) == len(text) + 2:  # nothing was escaped
        return b'"%b"' % data
    return quoted.encode()


@lru_cache(maxsize=1)
def _simplifier() -> Any:
    from .chinese import Simplifier

    return Simplifier()


@lru_cache(maxsize=8)
def _quality_filter(settings: str) -> Any:
    from .quality import QualityFilter

    return QualityFilter(QualitySettings.model_validate_json(settings))


def _check_mask(settings: PiiSettings) -> None:
    from .pii import check_regions

    if "phone" in settings.kinds:
        check_regions(settings.phone_regions)


def _mask(text: str, settings: PiiSettings) -> tuple[str, dict[str, int]]:
    from .pii import mask

    return mask(text, settings.kinds, settings.phone_regions)
