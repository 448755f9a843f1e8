"""Read, clean, de-duplicate and split every set, one after the other.

Memory holds the cleaned texts of one set, and 16 bytes for each document of all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from ..documents import Document
from ..errors import InputError
from ..progress import Progress
from ..settings import StageSettings
from ..store import Artefact, Draft, write_text
from ..texts import RawDocument
from .clean import clean, why_dropped
from .fetch import SourceFile, find_files
from .read import read_raw
from .registry import write_registry
from .settings import CorpusFacts, CorpusSet, CorpusSettings, SetFacts, SplitFacts
from .split import document_id, is_valid, text_digest

__all__ = ["run"]

_SPLITS = ("train", "valid")
_MAX_EXAMPLES = 20
_EXAMPLE_CHARS = 200


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> CorpusFacts:
    """Write `SET-train.jsonl` and `SET-valid.jsonl` of every set, `dropped.jsonl`, the registry.

    Raises:
        InputError: A file cannot be read or fetched, or a split of a set is empty.
    """
    assert isinstance(settings, CorpusSettings), "corpus.run got another stage's settings"
    seen: set[bytes] = set()
    facts: dict[str, SetFacts] = {}
    with (draft.path / "dropped.jsonl").open("w", encoding="utf-8", newline="\n") as examples:
        for corpus_set in settings.sets:
            dropped = _Dropped(corpus_set.name, examples)
            facts[corpus_set.name] = _make_set(corpus_set, settings, seen, dropped, draft)
    write_text(draft.path / "datasets.toml", write_registry(facts, _SPLITS))
    return CorpusFacts(sets=facts)


def _make_set(
    corpus_set: CorpusSet,
    settings: CorpusSettings,
    seen: set[bytes],
    dropped: _Dropped,
    draft: Draft,
) -> SetFacts:
    files = find_files(
        corpus_set.sources, corpus_set.reader, corpus_set.patterns, corpus_set.revision
    )
    total_bytes = sum(file.path.stat().st_size for file in files)
    with draft.progress(f"corpus {corpus_set.name}", total_bytes, "bytes") as progress:
        raws = _read_files(files, corpus_set, progress)
        docs = sorted(_keep(raws, settings, seen, dropped))
    parts: dict[str, list[Document]] = {split: [] for split in _SPLITS}
    for doc in docs:
        held_out = is_valid(doc.id, draft.seed, settings.valid_frac)
        parts["valid" if held_out else "train"].append(doc)
    _refuse_empty(corpus_set.name, parts, settings.valid_frac, dropped)
    sizes = {
        split: _write(draft.path / f"{corpus_set.name}-{split}.jsonl", part)
        for split, part in parts.items()
    }
    facts = SetFacts(
        language=corpus_set.language,
        **sizes,
        num_docs_read=len(docs) + dropped.counts.total(),
        dropped=dict(sorted(dropped.counts.items())),
    )
    draft.note(_summary(corpus_set.name, facts))
    return facts


def _read_files(
    files: Sequence[SourceFile], corpus_set: CorpusSet, progress: Progress
) -> Iterator[tuple[str, RawDocument]]:
    """Give every raw document with its place; report the bytes read on the way."""
    for file in files:
        done = 0
        for raw in read_raw(file.path, corpus_set.reader, corpus_set.text_key):
            if raw.position > done:
                progress.advance(raw.position - done)
                done = raw.position
            yield f"{file.label}:{raw.line}", raw
        progress.advance(file.path.stat().st_size - done)


def _keep(
    raws: Iterator[tuple[str, RawDocument]],
    settings: CorpusSettings,
    seen: set[bytes],
    dropped: _Dropped,
) -> Iterator[Document]:
    """Clean documents, and give those that no reason speaks against."""
    for where, raw in raws:
        text = clean(raw.text)
        digest = text_digest(text)
        reason = raw.drop or why_dropped(text, settings.min_chars, settings.max_chars)
        if not reason and settings.deduplicate and digest[:16] in seen:
            reason = "duplicate"
        if reason:
            dropped.add(reason, where, text)
        else:
            seen.add(digest[:16])
            yield Document(document_id(digest), text)


class _Dropped:
    """Counts what one set drops, and writes the first few of each reason."""

    def __init__(self, name: str, examples: TextIO) -> None:
        self.counts: Counter[str] = Counter()
        self._name, self._examples = name, examples

    def add(self, reason: str, where: str, text: str) -> None:
        self.counts[reason] += 1
        if self.counts[reason] <= _MAX_EXAMPLES:
            shown = text if len(text) <= _EXAMPLE_CHARS else text[: _EXAMPLE_CHARS - 1] + "…"
            row = {"set": self._name, "reason": reason, "where": where, "text": shown}
            self._examples.write(json.dumps(row, ensure_ascii=False) + "\n")


def _refuse_empty(
    name: str, parts: Mapping[str, Sequence[Document]], valid_frac: float, dropped: _Dropped
) -> None:
    empty = [split for split in _SPLITS if not parts[split]]
    if not empty:
        return
    num_docs = sum(map(len, parts.values()))
    if not num_docs:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(dropped.counts.items()))
        raise InputError(
            f"set '{name}': no document was kept (dropped: {reasons or 'none, none was found'}).",
            way_out="Check its sources, reader and text_key, or lower corpus.min_chars.",
        )
    raise InputError(
        f"set '{name}': {num_docs:,} documents leave none for {empty[0]} at "
        f"corpus.valid_frac = {valid_frac}; expected 1 or more in each split.",
        effect="Losses of this set could not be measured."
        if empty[0] == "valid"
        else "There would be nothing to train on.",
        way_out=f"{'Raise' if empty[0] == 'valid' else 'Lower'} corpus.valid_frac, "
        "or add documents.",
    )


def _write(path: Path, docs: Sequence[Document]) -> SplitFacts:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for doc in docs:
            file.write(json.dumps(doc._asdict(), ensure_ascii=False) + "\n")
    return SplitFacts(
        num_docs=len(docs),
        num_chars=sum(len(doc.text) for doc in docs),
        size_bytes=sum(len(doc.text.encode()) for doc in docs),
    )


def _summary(name: str, facts: SetFacts) -> str:
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in facts.dropped.items())
    return (
        f"{name}: {facts.train.num_docs:,} train + {facts.valid.num_docs:,} valid documents, "
        f"{(facts.train.size_bytes + facts.valid.size_bytes) / 1e6:.1f} MB; "
        f"dropped {sum(facts.dropped.values()):,} of {facts.num_docs_read:,}"
        + (f" ({reasons})" if reasons else "")
    )
