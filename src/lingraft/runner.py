"""Plan a run, do the stages that are not done, skip the rest.

Fresh or not is a comparison of identities, never of dates. An artefact made from other
settings, inputs or code is never overwritten unasked: the run stops, says what changed, and
names the two ways on.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .errors import LingraftError, StaleError, UsageError, VerifyError
from .manifest import Identity, file_sha256
from .progress import Reporter, SilentReporter
from .recipe import Recipe, find_warnings, raise_problems
from .stages import STAGES, Stage, find_stage
from .store import (
    Artefact,
    disk_errors,
    link_or_copy,
    lock_folder,
    open_artefact,
    open_draft,
    verify_artefact,
    write_json,
    write_text,
)

__all__ = ["RunResult", "StageResult", "digests", "resolve_run", "run_recipe"]

_SHOWN = 8  # changes listed in a message
_STAGE_FOLDER = re.compile(r"(?:\.draft-|\.former-)?(\d\d-[a-z]+)")
_PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "sentencepiece", "safetensors")


@dataclass(frozen=True)
class StageResult:
    """How one stage ended: `done`, `skipped` or `reused`."""

    stage: str
    state: str
    time_s: float
    digest: str


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    folder: Path
    stages: tuple[StageResult, ...]


def run_recipe(
    recipe: Recipe,
    *,
    source: str = "recipe",
    to: str = "",
    redo: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> RunResult:
    """Do every stage of a recipe that is not done yet.

    Args:
        recipe: The run.
        source: Name of the recipe's file, for messages.
        to: Last stage to do; by default all.
        redo: Stages to do again; those after them follow if their inputs change.
        reporter: Where progress goes.

    Raises:
        RecipeError: The recipe cannot work on this machine.
        StaleError: An artefact was made differently and `redo` does not name it.
        LockedError: Another run is at work in the folder.
        UsageError: `train.launch` asks for more processes than were started, or a stage
            that is named does not exist.
        LingraftError: A stage could not do its work.
    """
    raise_problems(recipe, source)
    teller = reporter or SilentReporter()
    for warning in find_warnings(recipe):
        teller.note(f"note: {warning}")
    last = find_stage(to) if to else STAGES[-1]
    again = {stage.name for stage in _stages_to_redo(redo, last)}
    if last.number >= find_stage("train").number:
        # Now, not after hours of work on the corpus.
        recipe.train.launch.refuse_many(recipe.train.accumulation)
    folder = recipe.run_folder
    with disk_errors(folder), lock_folder(folder):
        write_json(folder / "recipe.resolved.json", recipe.model_dump(mode="json"))
        for name in _foreign_folders(folder):
            teller.note(
                f"note: {folder / name} belongs to no stage of this version: nothing here reads "
                "it, and it may be deleted."
            )
        worker = _Worker(recipe, folder, again, teller)
        results = [worker.do(stage) for stage in STAGES if stage.number <= last.number]
    return RunResult(folder, tuple(results))


def _stages_to_redo(redo: Sequence[str], last: Stage) -> list[Stage]:
    stages = [find_stage(name) for name in redo]
    late = [stage.name for stage in stages if stage.number > last.number]
    if late:
        raise UsageError(
            f"--redo {late[0]}: that stage comes after --to {last.name} and would not be done.",
            way_out="Leave one of the two out.",
        )
    return stages


def _foreign_folders(folder: Path) -> list[str]:
    """Name folders that are called like a stage's, and are none's: of another version's run."""
    known = {stage.folder for stage in STAGES}
    found = [_STAGE_FOLDER.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()]
    return sorted(match[0] for match in found if match and match[1] not in known)


class _Worker:
    """Does one stage after the other, handing each the artefacts it takes."""

    def __init__(self, recipe: Recipe, folder: Path, again: set[str], reporter: Reporter) -> None:
        self._recipe, self._folder, self._again = recipe, folder, again
        self._reporter = reporter
        self._hashes = _FileHashes(folder / ".hashes.json")
        self._made: dict[str, Artefact] = {}

    def do(self, stage: Stage) -> StageResult:
        begin_s = time.monotonic()
        state, artefact = self._fresh_or_make(stage)
        self._made[stage.name] = artefact
        time_s = time.monotonic() - begin_s
        result = StageResult(stage.name, state, time_s, artefact.manifest.digest)
        self._log(result)
        return result

    def _fresh_or_make(self, stage: Stage) -> tuple[str, Artefact]:
        final = self._folder / stage.folder
        identity = self._identity(stage)
        if final.exists() and stage.name not in self._again:
            artefact = open_artefact(final)
            _refuse_stale(artefact, identity, stage)
            _refuse_damaged(artefact, stage)
            self._reporter.note(f"{stage.folder}: done already ({artefact.manifest.digest[:12]})")
            return "skipped", artefact
        reused = None if stage.name in self._again else self._reuse(stage, identity, final)
        if reused:
            return "reused", reused
        return "done", self._make(stage, identity, final)

    def _identity(self, stage: Stage) -> Identity:
        settings = self._recipe.section(stage.name)
        inputs = {name: made.manifest.digest for name, made in self._taken(stage).items()}
        for name, found in settings.outside().items():
            inputs[name] = self._hashes.of(found) if isinstance(found, Path) else found
        return Identity(
            stage=stage.name,
            stage_version=stage.version,
            settings=settings.deciding(),
            seed=self._recipe.run.seed,
            inputs=inputs,
        )

    def _taken(self, stage: Stage) -> dict[str, Artefact]:
        """Give what a stage reads, with what its settings ask for."""
        also = self._recipe.section(stage.name).also_takes()
        return {name: self._made[name] for name in (*stage.takes, *also)}

    def _make(self, stage: Stage, identity: Identity, final: Path) -> Artefact:
        self._reporter.note(f"{stage.folder}: {stage.does}")
        begin_s = time.monotonic()
        draft = open_draft(final, identity, self._reporter, resumable=stage.resumable)
        if draft.is_sealed:
            return draft.finish()
        code = stage.load()
        inputs = self._taken(stage)
        try:
            facts = code(self._recipe.section(stage.name), inputs, draft)
        except LingraftError as error:
            error.args = (f"stage {stage.folder}: {error}",)
            raise
        return draft.seal(facts, _circumstances(time.monotonic() - begin_s))

    def _reuse(self, stage: Stage, identity: Identity, final: Path) -> Artefact | None:
        """Link an artefact of the same identity from another run, if there is one."""
        for other in self._recipe.run.reuse:
            source = Path(other).expanduser() / stage.folder
            if not (source / "manifest.json").is_file():
                continue
            artefact = open_artefact(source)
            if artefact.manifest.identity == identity and not verify_artefact(artefact, full=True):
                self._reporter.note(f"{stage.folder}: linked from {source}")
                return _link_artefact(artefact, final)
        return None

    def _log(self, result: StageResult) -> None:
        line = {
            "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "stage": result.stage,
            "state": result.state,
            "time_s": round(result.time_s, 3),
            "digest": result.digest,
        }
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _link_artefact(artefact: Artefact, final: Path) -> Artefact:
    draft = final.with_name(f".draft-{final.name}")
    shutil.rmtree(draft, ignore_errors=True)
    # The manifest last: a draft that has one counts as whole.
    name = "manifest.json"
    shutil.copytree(
        artefact.path,
        draft,
        copy_function=_link,
        ignore=lambda folder, _: [name] if Path(folder) == artefact.path else [],
    )
    link_or_copy(artefact.path / name, draft / name)
    draft.rename(final)
    return open_artefact(final)


def _link(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def _refuse_stale(artefact: Artefact, identity: Identity, stage: Stage) -> None:
    changes = identity.changes_from(artefact.manifest.identity)
    if changes:
        more = [f"... and {len(changes) - _SHOWN} more"] if changes[_SHOWN:] else []
        shown = "\n  ".join([*changes[:_SHOWN], *more])
        raise StaleError(
            f"{artefact.path} was made differently; nothing was overwritten. What changed:",
            effect=shown,
            way_out=f"Do it again with --redo {stage.name}, or use another name: "
            "--set run.name=OTHER.",
        )


def _refuse_damaged(artefact: Artefact, stage: Stage) -> None:
    wrong = verify_artefact(artefact, full=False)
    if wrong:
        raise VerifyError(
            f"{artefact.path} differs from its manifest: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if wrong[1:] else ""),
            way_out=f"Do it again with --redo {stage.name}.",
        )


def _circumstances(time_s: float) -> dict[str, Any]:
    """What does not decide the bytes, or should not."""
    packages = {}
    for name in ("lingraft", *_PACKAGES):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "time_s": round(time_s, 3),
        "python": platform.python_version(),
        "packages": packages,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


class _FileHashes:
    """Hashes of outside files, remembered by size and time of change.

    A folder counts as the hashes of its files, by name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            self._known = {}

    def of(self, path: Path) -> str:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            return "+".join(f"{p.name}:{self.of(p)[:16]}" for p in files)
        stat = path.stat()
        key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in self._known:
            self._known[key] = file_sha256(path)
            write_text(self._path, json.dumps(self._known, indent=1))
        return self._known[key]


def resolve_run(path: Path) -> list[Artefact]:
    """Open a run folder (every finished stage) or a single stage folder.

    Raises:
        UsageError: There is neither.
    """
    if (path / "manifest.json").is_file():
        return [open_artefact(path)]
    found = [path / s.folder for s in STAGES if (path / s.folder / "manifest.json").is_file()]
    if not found:
        raise UsageError(
            f"{path}: no run and no artefact.", way_out="Give runs/NAME or runs/NAME/NN-stage."
        )
    return [open_artefact(folder) for folder in found]


def digests(artefacts: Sequence[Artefact]) -> Mapping[str, str]:
    """Digest of each artefact, by stage."""
    return {a.manifest.identity.stage: a.manifest.digest for a in artefacts}
