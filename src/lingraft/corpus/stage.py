"""The corpus of a recipe: every set read, cleaned, cleared of duplicates and split.

The work is that of `lingraft corpus prepare`, see `engine`; here it lies in the draft, so that a
killed run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..settings import StageSettings
from ..store import Artefact, Draft
from ..streaming import num_cores
from .engine import begin, do_here, list_steps, place, read_facts
from .finding import find_files
from .plan import make_plan
from .settings import CorpusFacts, CorpusSettings, SetFacts
from .tallies import STATS_NAME

__all__ = ["run"]

_WORK = "work"


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> CorpusFacts:
    """Write `SET-train.jsonl` and `SET-valid.jsonl` of every set, and what is told of them.

    With them come `dropped.jsonl` (examples), `stats.json`, `stats.html` and the registry.

    Raises:
        InputError: A file cannot be read or fetched, or a split of a set is empty.
    """
    assert isinstance(settings, CorpusSettings), "corpus.run got another stage's settings"
    plan = make_plan(
        settings,
        [find_files(s.sources, s.reader, s.patterns, s.revision) for s in settings.sets],
        identity=draft.identity.digest,
        seed=draft.seed,
        in_recipe=True,
    )
    work = draft.scratch / _WORK
    key = begin(work, plan, draft.note)
    do_here(list_steps(work, key, plan), num_cores(), draft.reporter)
    place(work, plan, draft.path)
    facts = read_facts(draft.path / STATS_NAME, plan)
    for name, found in facts.sets.items():
        draft.note(_summary(name, found))
    return facts


def _summary(name: str, facts: SetFacts) -> str:
    splits = {"train": facts.train, "valid": facts.valid}
    if facts.test is not None:
        splits["test"] = facts.test
    docs = " + ".join(
        f"{found.num_docs:,} {split}" for split, found in splits.items() if found.num_docs
    )
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in facts.dropped.items())
    return (
        f"{name}: {docs} documents, "
        f"{sum(found.size_bytes for found in splits.values()) / 1e6:.1f} MB; "
        f"dropped {sum(facts.dropped.values()):,} of {facts.num_docs_read:,}"
        + (f" ({reasons})" if reasons else "")
    )
