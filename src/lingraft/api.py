"""The verbs of the command line as Python functions: same names, same parameters.

>>> import lingraft
>>> lingraft.run("recipes/demo.toml")            # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import Problem, RecipeError, UsageError
from .estimate import Estimate, estimate_needs
from .progress import Reporter
from .recipe import find_problems, find_warnings, read_recipe
from .runner import RunResult, resolve_run, run_recipe
from .shards import INDEX_NAME, check_folder
from .store import Artefact, verify_artefact

__all__ = ["CheckResult", "Difference", "check", "diff", "run", "show", "verify"]


@dataclass(frozen=True)
class CheckResult:
    """What `check` found: problems (empty where the recipe is fine), and what a run needs."""

    problems: tuple[Problem, ...]
    estimate: Estimate | None
    warnings: tuple[Problem, ...] = ()
    """What is allowed and seldom meant."""


@dataclass(frozen=True)
class Difference:
    """One thing that differs between two runs."""

    stage: str
    part: str
    """`identity` (what decides the bytes), `files`, or `facts`."""
    text: str


def run(
    recipe: str | Path,
    *,
    set: Sequence[str] = (),
    to: str = "",
    redo: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> RunResult:
    """Do every stage of a recipe that is not done yet; see `runner.run_recipe`."""
    read = read_recipe(Path(recipe), set)
    return run_recipe(read, source=str(recipe), to=to, redo=redo, reporter=reporter)


def check(recipe: str | Path, *, set: Sequence[str] = ()) -> CheckResult:
    """Check a recipe whole, without doing any work, and estimate what it needs.

    Raises:
        UsageError: The file cannot be read at all.
    """
    try:
        read = read_recipe(Path(recipe), set)
    except RecipeError as error:
        return CheckResult(error.problems, None)
    shape, vocab = read.base.shape, read.vocab
    problems, warnings = tuple(find_problems(read)), tuple(find_warnings(read))
    if shape is None:
        return CheckResult(problems, None, warnings)
    size = vocab.size if isinstance(vocab.size, int) else vocab.max_pieces
    added = read.estimate.added_pieces or size
    estimate = estimate_needs(shape, read.train, read.estimate, added)
    return CheckResult(problems, estimate, warnings)


def show(path: str | Path) -> list[dict[str, Any]]:
    """Give the manifests of a run (or of one stage), in order.

    Raises:
        UsageError: There is no run and no artefact at `path`.
    """
    return [a.manifest.model_dump(mode="json") for a in resolve_run(Path(path))]


def verify(path: str | Path) -> list[str]:
    """Hash every file of a run, a stage or token files, and list what differs from its record.

    A run is also checked for whether each stage was made from the stages that stand beside it,
    and token files for files that their index does not know.

    Raises:
        UsageError: There is no run, no artefact and no `index.json` at `path`.
    """
    folder = Path(path)
    if (folder / INDEX_NAME).is_file() and not (folder / "manifest.json").is_file():
        return check_folder(folder)
    artefacts = resolve_run(folder)
    wrong = [text for a in artefacts for text in verify_artefact(a, full=True)]
    return wrong + _broken_chain(artefacts)


def diff(a: str | Path, b: str | Path) -> list[Difference]:
    """List what differs between two runs or two artefacts: identity, files, facts.

    Raises:
        UsageError: There is no run or artefact at `a` or `b`, or they share no stage.
    """
    left = {x.manifest.identity.stage: x for x in resolve_run(Path(a))}
    right = {x.manifest.identity.stage: x for x in resolve_run(Path(b))}
    shared = [stage for stage in left if stage in right]
    if not shared:
        raise UsageError(f"{a} and {b} have no stage in common.")
    missing = [
        Difference(stage, "identity", f"only in {a if stage in left else b}")
        for stage in [*left, *right]
        if (stage in left) != (stage in right)
    ]
    return missing + [d for stage in shared for d in _diff_stage(left[stage], right[stage])]


def _broken_chain(artefacts: Sequence[Artefact]) -> list[str]:
    digests = {a.manifest.identity.stage: a.manifest.digest for a in artefacts}
    return [
        f"{a.path}: made from another '{name}' than the one beside it"
        for a in artefacts
        for name, digest in a.manifest.identity.inputs.items()
        if name in digests and digests[name] != digest
    ]


def _diff_stage(a: Artefact, b: Artefact) -> list[Difference]:
    stage = a.manifest.identity.stage
    found = [
        Difference(stage, "identity", text)
        for text in b.manifest.identity.changes_from(a.manifest.identity)
    ]
    files_a = {f.path: f.sha256 for f in a.manifest.files}
    files_b = {f.path: f.sha256 for f in b.manifest.files}
    found += [
        Difference(stage, "files", name)
        for name in sorted(files_a.keys() | files_b.keys())
        if files_a.get(name) != files_b.get(name)
    ]
    facts_a, facts_b = flat_facts(a.facts), flat_facts(b.facts)
    found += [
        Difference(stage, "facts", f"{key}: {facts_a.get(key)} -> {facts_b.get(key)}")
        for key in sorted(facts_a.keys() | facts_b.keys())
        if facts_a.get(key) != facts_b.get(key)
    ]
    return found


def flat_facts(facts: Any, prefix: str = "") -> dict[str, Any]:
    """Spread nested facts out as `a.b.c` -> value."""
    if isinstance(facts, list):
        facts = {str(i): value for i, value in enumerate(facts)}
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict | list):
            flat.update(flat_facts(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
