"""All steps of a preparation, in order, and what they leave.

    Indexing    benchmarks -> an index of n-grams, where asked for        `indexing`
    Sift        units of files -> documents in buckets, counts            `sift`
    Matching    signatures -> near duplicates, where asked for            `nearby`
    Gather      a bucket of all units -> rows in order, without copies    `gather`
    SummingUp   counts -> statistics, page, examples, registry            `summing`
    Joining     rows of all buckets -> a file of each set and split       `finishing`

Each writes into the work folder only. What is there already is not done again, so work that was
stopped goes on; a work folder that was begun with another plan is thrown away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ..progress import Reporter
from ..store import disk_errors
from ..work import Work, carry_out
from .finishing import DATA, Joining, list_outputs
from .gather import Gather
from .indexing import Indexing
from .judging import Judge
from .nearby import Matching
from .plan import Plan, has_plan, plan_key, write_plan
from .results import OUTPUTS, STEPS, result_path
from .settings import CorpusFacts
from .sift import Sift
from .summing import SMALL_FILES, SUMS, SummingUp, facts_of

__all__ = ["begin", "do_here", "list_places", "list_steps", "place", "read_facts"]

_SMALL_BYTES = 1 << 23
"""Less text than this is done sooner by one process than more are started."""


def begin(folder: Path, plan: Plan, note: Callable[[str], None]) -> str:
    """Make the work folder, or go on with the one that is there; give the plan's key.

    Raises:
        LingraftError: A method that is asked for cannot work here.
    """
    for n in range(len(plan.sets)):
        Judge(plan, n, None)
    key = plan_key(plan)
    if has_plan(folder, key):
        note("going on with what was done before")
        return key
    if folder.exists():
        note("what was begun before was of other files or settings: it is thrown away")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_plan(folder, plan)
    return key


def list_steps(folder: Path, key: str, plan: Plan) -> list[Work]:
    """Give the steps in order; none needs another to be done before it can be described."""
    steps: list[Work] = []
    if plan.benchmarks:
        steps.append(Indexing(str(folder), key))
    steps.append(Sift(str(folder), key))
    if plan.settings.near_duplicates is not None:
        steps.append(Matching(str(folder), key))
    return [
        *steps,
        Gather(str(folder), key),
        SummingUp(str(folder), key),
        Joining(str(folder), key),
    ]


def do_here(steps: Sequence[Work], jobs: int, reporter: Reporter) -> None:
    """Do steps in processes of this machine."""
    for step in steps:
        step_bytes = sum(map(step.size_bytes, range(len(step))))
        carry_out(step, 1 if step_bytes < _SMALL_BYTES else jobs, reporter)


def list_places(folder: Path, plan: Plan) -> dict[str, Path]:
    """Tell, for each file of the result by name, where it stands in the work folder."""
    places = {
        output.name: result_path(str(folder), OUTPUTS, n, DATA)
        for n, output in enumerate(list_outputs(plan))
    }
    return places | {name: result_path(str(folder), STEPS, SUMS, name) for name in SMALL_FILES}


def place(folder: Path, plan: Plan, target: Path) -> None:
    """Move all files of the result to where they belong."""
    with disk_errors(target, place=plan.place):
        for name, path in list_places(folder, plan).items():
            (target / name).parent.mkdir(exist_ok=True)
            path.replace(target / name)


def read_facts(stats: Path, plan: Plan) -> CorpusFacts:
    """Give the facts of a result from its `stats.json`."""
    return facts_of(json.loads(stats.read_text(encoding="utf-8")), plan)
