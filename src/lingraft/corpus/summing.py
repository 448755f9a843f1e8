"""Summing up: what was kept and dropped, in figures and examples.

stats.json      figures of each set, see `tallies`
stats.html      the same as a page
dropped.jsonl   examples of dropped documents: `{"set", "reason", "where", "text"}`
datasets.toml   the registry
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..store import disk_errors, write_json, write_text
from .adding import SetSum
from .finding import SourceFile, find_commits
from .gather import SOURCES
from .plan import Plan, read_plan
from .registry import REGISTRY_NAME, write_registry
from .results import (
    BUCKETS,
    STEPS,
    UNITS,
    Totals,
    is_whole,
    read_result,
    read_totals,
    result_path,
    writing,
)
from .settings import CorpusFacts, SetFacts, SplitFacts
from .tallies import STATS_NAME

__all__ = ["SMALL_FILES", "SUMS", "SummingUp", "facts_of"]

DROPPED_NAME, PAGE_NAME = "dropped.jsonl", "stats.html"
SMALL_FILES = (STATS_NAME, PAGE_NAME, DROPPED_NAME, REGISTRY_NAME)
"""The files that this step writes."""
SUMS = 1
"""Its number among the steps."""


@dataclass(frozen=True)
class SummingUp:
    """The step as one unit of work."""

    folder: str
    key: str
    label: str = "sum up"

    def __len__(self) -> int:
        """One."""
        return 1

    def size_bytes(self, n: int) -> int:
        """Nothing to speak of."""
        return 1

    def is_done(self, n: int) -> bool:
        """Whether all is written."""
        return is_whole(self.folder, STEPS, SUMS, self.key)

    def do(self, n: int) -> None:
        """Write the figures.

        Raises:
            DiskFullError: There is no room for them.
            InputError: A split of a set is empty.
        """
        from .page import write_page

        plan = read_plan(self.folder, self.key)
        with (
            disk_errors(Path(self.folder), place=plan.place),
            writing(self.folder, STEPS, SUMS, self.key, SMALL_FILES) as (drafts, _),
        ):
            stats, rows = _add_up(plan, read_totals(self.folder, self.key), self.folder)
            for name, tally in stats["sets"].items():
                _refuse_empty(name, tally, plan)
            names = [one.name for one in plan.sets]
            write_json(drafts[STATS_NAME], stats)
            write_page(stats, drafts[PAGE_NAME])
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(drafts[DROPPED_NAME], "".join(lines))
            write_text(drafts[REGISTRY_NAME], write_registry(names, plan.settings.splits))


def _add_up(plan: Plan, totals: Totals, folder: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Add up what units and buckets tell; give the figures, and examples of what was dropped."""
    sums = [SetSum(plan, n) for n in range(len(plan.sets))]
    docs_F, sizes_F = np.zeros((2, len(plan.files)), np.int64)
    for n in range(len(plan.units)):
        sums[plan.set_of(n)].add_unit(read_result(folder, UNITS, n))
    for n in range(plan.num_buckets):
        told = read_result(folder, BUCKETS, n)
        for set_index, kept in told["kept"].items():
            sums[int(set_index)].add_kept(kept)
        for set_index, dropped in told["dropped"].items():
            sums[int(set_index)].add_dropped(dropped)
        sources = np.load(result_path(folder, BUCKETS, n, SOURCES), allow_pickle=False)
        docs_F[sources[0]] += sources[1]
        sizes_F[sources[0]] += sources[2]
    tallies = {
        one.name: found.stats(docs_F, sizes_F, totals.where)
        for one, found in zip(plan.sets, sums, strict=True)
    }
    rows = [row for found in sums for row in found.dropped_rows(totals.where)]
    return {"sets": tallies}, rows


def _refuse_empty(name: str, tally: Mapping[str, Any], plan: Plan) -> None:
    """Refuse a set with a split that holds nothing."""
    docs = {split: sizes["num_docs"] for split, sizes in tally["splits"].items()}
    empty = next((split for split, num in docs.items() if not num), None)
    if empty is None:
        return
    if not sum(docs.values()):
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in tally["dropped"].items())
        told = "sources, reader and text_key" if plan.in_recipe else "files and --text-key"
        raise InputError(
            f"set '{name}': no document was kept (dropped: {reasons or 'none, none was found'}).",
            way_out=f"Check its {told}, or lower {plan.option('min_chars')}.",
        )
    share = "valid_frac" if empty == "train" else f"{empty}_frac"
    option = plan.option(share)
    raise InputError(
        f"set '{name}': {sum(docs.values()):,} documents leave none for {empty} at "
        f"{option} = {getattr(plan.settings, share)}; expected 1 or more in each split.",
        effect="There would be nothing to train on."
        if empty == "train"
        else "Losses of this set could not be measured.",
        way_out=f"{'Lower' if empty == 'train' else 'Raise'} {option}, or add documents.",
    )


def facts_of(stats: Mapping[str, Any], plan: Plan) -> CorpusFacts:
    """Give the facts of an artefact from what `stats.json` holds."""
    sets = {}
    for n, one in enumerate(plan.sets):
        tally = stats["sets"][one.name]
        splits = {split: SplitFacts(**sizes) for split, sizes in tally["splits"].items()}
        files = [
            SourceFile(Path(f.path), f.label, f.commit) for f in plan.files if f.set_index == n
        ]
        sets[one.name] = SetFacts(
            language=tally["language"],
            **splits,
            num_docs_read=tally["num_docs_read"],
            dropped=tally["dropped"],
            commits=find_commits(one.sources, files),
        )
    return CorpusFacts(sets=sets)
