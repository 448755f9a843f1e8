"""`lingraft corpus prepare`: files of any kind to clean, distinct documents, split and counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cluster import Cluster
from ..errors import StaleError, UsageError, VerifyError
from ..manifest import Identity, read_manifest
from ..progress import Reporter, SilentReporter
from ..stages import find_stage
from ..store import Artefact, disk_errors, lock_folder, verify_artefact, write_text
from ..streaming import num_jobs
from ..work import Work
from .asking import Names, expand, find_language, make_settings, read_sets
from .engine import begin, do_here, list_places, list_steps
from .finding import SourceFile, find_files
from .plan import Plan, make_plan
from .sealing import FORMER_NAME, IDENTITY_NAME, MANIFEST_NAME, Sealing
from .settings import PrepareSettings, method_inputs
from .tallies import STATS_NAME

__all__ = ["WORK", "PrepareResult", "prepare"]

WORK = ".work"
"""Folder inside the result where the work lies until it is done."""
_STAGE = "corpus"
_UNKNOWN = "und"
_SHOWN = 8


@dataclass(frozen=True)
class PrepareResult:
    """A corpus that is prepared, or whose preparation was handed to SLURM."""

    folder: Path
    stats: Mapping[str, Any]
    """What `stats.json` holds; empty where a job goes on."""
    was_done: bool = False
    """Whether it was there already."""
    job_id: str = ""
    """SLURM's number of the last job, which goes on; "" where all is done."""


def prepare(
    sets: Mapping[str, Names] | Names,
    *,
    out: str | Path,
    name: str = "",
    language: str | Mapping[str, str] = "",
    seed: int = 17,
    jobs: int | None = None,
    cluster: Cluster | None = None,
    redo: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> PrepareResult:
    """Read, clean, filter, clear of duplicates and split; the same bytes whoever does the work.

    What a stopped or killed call has finished is kept, and the next one goes on from there.

    Args:
        sets: Files, folders, patterns, `hub:OWNER/NAME`, `package:NAME/path` of one set, or of
            each set by name.
        out: The folder to write.
        name: What a set without a name is called; "": after its file or folder.
        language: Of all sets, or of each by name; "": as their scripts tell.
        seed: Decides which documents are held out.
        jobs: Processes to use here; None: one a core.
        cluster: Where else the work is done; None: here.
        redo: Whether a result that was made from other things is replaced.
        reporter: Where progress goes.
        **options: Fields of `settings.PrepareSettings`, and of `settings.CorpusSet` for all sets.
            True stands for a method's default settings; a list of kinds for `mask`, a list of
            files for `decontaminate`.

    Raises:
        DiskFullError: There is no room; what is finished is kept.
        InputError: A file or a row cannot be read, or a split of a set is empty.
        LockedError: Another process is at work in `out`.
        StaleError: `out` holds a result that was made from other things.
        UsageError: There is no such file, or a setting cannot be.
    """
    teller, threads, folder = reporter or SilentReporter(), num_jobs(jobs), Path(out).absolute()
    if cluster is not None:
        cluster.check()
    settings, found = _ask(read_sets(sets, name), language, options, teller)
    identity = _identify(settings, seed, found)
    with disk_errors(folder, place="--out DIR"):
        # Only while the work is dealt out, where there is a cluster: datatrove's processes would
        # inherit the lock, and one of them outlives a killed parent.
        with lock_folder(folder, place="--out DIR", other="--out OTHER"):
            if _is_done(folder, identity, redo=redo):
                teller.note(f"{folder}: done already")
                shutil.rmtree(folder / WORK, ignore_errors=True)
                return PrepareResult(folder, _read_stats(folder), was_done=True)
            steps = _begin(folder, settings, found, identity, teller)
            if cluster is None:
                do_here(steps, threads, teller)
                return PrepareResult(folder, _read_stats(folder))
        logs = folder / f".logs-{1 + len(list(folder.glob('.logs-*')))}"
        job_id = cluster.run(steps, logs, "lingraft-corpus")
    return PrepareResult(folder, {} if job_id else _read_stats(folder), job_id=job_id)


def _begin(
    folder: Path,
    settings: PrepareSettings,
    found: Sequence[Sequence[SourceFile]],
    identity: Identity,
    teller: Reporter,
) -> list[Work]:
    """Plan the work, and give its steps."""
    work, digest = folder / WORK, identity.digest
    plan = make_plan(settings, found, identity=digest, seed=identity.seed, in_recipe=False)
    _refuse_foreign(folder, plan)
    key = begin(work, plan, teller.note)
    write_text(work / IDENTITY_NAME, identity.model_dump_json())
    return [*list_steps(work, key, plan), Sealing(str(work), key, str(folder))]


def _ask(
    sets: Mapping[str, Sequence[str]],
    language: str | Mapping[str, str],
    options: Mapping[str, Any],
    teller: Reporter,
) -> tuple[PrepareSettings, list[list[SourceFile]]]:
    """Check what is asked for, and find its files and languages."""
    unknown = [name for name in language if name not in sets] if _is_by_name(language) else []
    if unknown:
        raise UsageError(
            f"language of '{unknown[0]}': there is no such set; there are {', '.join(sets)}."
        )
    sources = {name: list(expand(names)) for name, names in sets.items()}
    told = {n: language if isinstance(language, str) else language.get(n, "") for n in sets}
    options = {"reader": "auto", **options}
    settings = make_settings(sources, {name: told[name] or _UNKNOWN for name in sets}, options)
    found = [find_files(s.sources, s.reader, s.patterns, s.revision) for s in settings.sets]
    for one, files in zip(settings.sets, found, strict=True):
        if not told[one.name]:
            told[one.name] = find_language(one, files, settings.on_bad_row == "drop")
            teller.note(f"{one.name}: language {told[one.name]}, by its script (--language)")
    return make_settings(sources, told, options), found


def _is_by_name(language: str | Mapping[str, str]) -> bool:
    return not isinstance(language, str)


def _identify(
    settings: PrepareSettings, seed: int, found: Sequence[Sequence[SourceFile]]
) -> Identity:
    """Give what decides the result: settings, files as they are now, what methods depend on."""
    read = {file.label: file.path for files in found for file in files}
    if settings.decontaminate is not None:
        from .items import find_benchmarks

        benchmarks = find_benchmarks(settings.decontaminate.benchmarks)
        read |= {str(path): path for benchmark in benchmarks for path in benchmark.files}
    inputs = method_inputs(settings)
    for label, path in read.items():
        stat = path.stat()
        inputs[label] = f"{stat.st_size} bytes, changed {stat.st_mtime_ns}"
    return Identity(
        stage=_STAGE,
        stage_version=find_stage(_STAGE).version,
        settings=settings.model_dump(mode="json"),
        seed=seed,
        inputs=inputs,
    )


def _is_done(folder: Path, identity: Identity, *, redo: bool) -> bool:
    """Whether the folder holds this very result.

    Raises:
        StaleError: It holds another one, and `redo` does not allow to replace it.
        VerifyError: It holds this one, damaged.
    """
    if redo or not (folder / MANIFEST_NAME).is_file():
        return False
    manifest = read_manifest(folder)
    changes = identity.changes_from(manifest.identity)
    if changes:
        more = [f"... and {len(changes) - _SHOWN} more"] if changes[_SHOWN:] else []
        raise StaleError(
            f"{folder}: holds a corpus that was made differently; nothing was overwritten. "
            "What changed:",
            effect="\n  ".join([*changes[:_SHOWN], *more]),
            way_out="Replace it with --redo, or choose another folder: --out OTHER.",
        )
    wrong = verify_artefact(Artefact(folder, manifest), full=False)
    if wrong:
        raise VerifyError(
            f"{folder}: differs from its manifest: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if wrong[1:] else ""),
            way_out="Make it again with --redo.",
        )
    return True


def _refuse_foreign(folder: Path, plan: Plan) -> None:
    """Refuse to write over files that are not of an earlier result."""
    targets = {folder / name for name in list_places(folder / WORK, plan)}
    for file in plan.files:
        if Path(file.path) in targets:
            raise UsageError(
                f"{file.path}: is read, and would be written over.",
                way_out="Choose another folder: --out OTHER.",
            )
    ours = (MANIFEST_NAME, FORMER_NAME, WORK)
    if any((folder / name).exists() for name in ours):
        return
    for target in sorted(targets):
        if target.exists():
            raise UsageError(
                f"{target}: is there already, and no manifest tells where it comes from.",
                effect="It would be written over.",
                way_out="Choose another folder (--out OTHER), or move the file away.",
            )


def _read_stats(folder: Path) -> dict[str, Any]:
    stats: dict[str, Any] = json.loads((folder / STATS_NAME).read_text(encoding="utf-8"))
    return stats
