"""A folder of task files for the harness, whose rows come from this machine instead of the hub.

Each file includes the harness's own configuration of the task by its path and replaces nothing but
where the rows come from. So prompts, metrics and versions are the harness's, and its own command
line gives the same numbers on the same folder: `lm_eval run ... --include_path FOLDER`.

    FOLDER/TASK.yaml              include, dataset_path: parquet, data_files
    FOLDER/rows/TASK-SPLIT.parquet
    FOLDER/sources.json           the files the rows were read from, with their sha256
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError, VerifyError
from ..manifest import file_sha256
from ..store import write_json, write_text
from .localdata import LocalBenchmark, LocalTask, find_local, local_names, read_local

__all__ = [
    "SOURCES",
    "check_sources",
    "local_benchmarks",
    "missing_tasks",
    "read_sources",
    "write_task_folder",
]

SOURCES = "sources.json"


def local_benchmarks(names: Iterable[str]) -> list[str]:
    """Name the benchmarks that hold the rows of tasks or groups.

    Raises:
        UsageError: One of them is read from the hub only.
    """
    found: dict[str, None] = {}
    for name in names:
        benchmark = find_local(name)
        if benchmark is None:
            raise UsageError(
                f"'{name}' with --data-dir: lingraft reads no local files for it.",
                way_out=f"It does for {', '.join(local_names())}. Leave --data-dir away to use the "
                "hub, or give task files of your own with --include-path.",
            )
        found[benchmark] = None
    return list(found)


def write_task_folder(
    benchmarks: Iterable[str],
    wanted: Iterable[str],
    data_dir: Path,
    folder: Path,
    configs: Mapping[str, Path],
) -> dict[str, Any]:
    """Write task files and rows.

    Args:
        benchmarks: What to read from the data folder.
        wanted: Tasks that are to be asked; all of them must be among the rows.
        data_dir: The data folder; its layout: `localdata`.
        folder: Where to write.
        configs: The harness's configuration file of each task.

    Returns:
        What `sources.json` holds: files with their sha256, sizes of splits, and notes.

    Raises:
        InputError: A file is missing or not what it should be.
    """
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    sources: dict[str, Any] = {"folder": str(data_dir.resolve()), "benchmarks": {}}
    for name in benchmarks:
        found = read_local(name, data_dir)
        for task in found.tasks:
            if task.name not in configs:
                raise InputError(
                    f"{data_dir}: holds rows of '{task.name}', a task that the installed harness "
                    "does not have.",
                    effect="It could not be evaluated.",
                    way_out="Remove the files of that subject from the data folder.",
                )
            _write_task(task, configs[task.name], folder, Path(os.path.commonpath(found.files)))
        sources["benchmarks"][name] = _describe(found, data_dir)
    _refuse_missing(sources, set(wanted), data_dir)
    written = sorted([*folder.glob("*.yaml"), *folder.glob("rows/*.parquet")])
    sources["written"] = {str(path.relative_to(folder)): file_sha256(path) for path in written}
    write_json(folder / SOURCES, sources)
    return sources


def missing_tasks(sources: Mapping[str, Any], wanted: Iterable[str]) -> list[str]:
    """Name the tasks that a task folder holds no rows of; the harness would ask the hub."""
    return sorted(set(wanted).difference(*(b["items"] for b in sources["benchmarks"].values())))


def _refuse_missing(sources: Mapping[str, Any], wanted: set[str], data_dir: Path) -> None:
    """Refuse to go on where part of the tasks would be fetched from the hub."""
    missing = missing_tasks(sources, wanted)
    if missing:
        raise InputError(
            f"{data_dir}: holds no rows of {len(missing):,} tasks, the first is '{missing[0]}'.",
            effect="They would be fetched from the hub, or the benchmark would lack subjects.",
            way_out="Put their files there, or evaluate single tasks: --suite TASK.",
        )


def _write_task(task: LocalTask, config: Path, folder: Path, source: Path) -> None:
    """Write a task's file and rows, which come from files at `source`.

    Raises:
        InputError: Rows of a split have no table in common, as a number where others have text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data_files: dict[str, str] = {}
    for split, rows in task.splits.items():
        path = (folder / "rows" / f"{task.name}-{split}.parquet").resolve()
        try:
            table = pa.Table.from_pylist(rows)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            raise InputError(
                f"{source}: the items of {task.name} ({split}) are not all of one kind: {error}.",
                effect="They could not be asked.",
                way_out="Fetch the files again.",
            ) from None
        pq.write_table(table, path)
        data_files[split] = str(path)
    cache = folder.resolve() / ".datasets"
    lines = [
        f"include: {json.dumps(str(config))}",
        "dataset_path: parquet",
        "dataset_name: null",
        "dataset_kwargs:",
        f"  cache_dir: {json.dumps(str(cache))}",
        f"  data_files: {json.dumps(data_files, ensure_ascii=False)}",  # JSON is YAML
    ]
    write_text(folder / f"{task.name}.yaml", "\n".join(lines) + "\n")


def _describe(found: LocalBenchmark, data_dir: Path) -> dict[str, Any]:
    return {
        "files": {str(p.relative_to(data_dir)): file_sha256(p) for p in found.files},
        "items": {t.name: {split: len(r) for split, r in t.splits.items()} for t in found.tasks},
        "notes": found.notes,
    }


def read_sources(folder: Path) -> dict[str, Any]:
    """Read what a task folder tells of itself.

    Raises:
        VerifyError: It is damaged, or was written by another version.
    """
    path = folder / SOURCES
    try:
        sources: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        named = [sources["written"], *(b["files"] for b in sources["benchmarks"].values())]
        whole = all(isinstance(sha256_of, dict) for sha256_of in named) and sources["folder"]
        whole = whole and all(
            isinstance(b["items"], dict) and isinstance(b["notes"], list)
            for b in sources["benchmarks"].values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        whole, problem = False, f": {error!r}"
    else:
        problem = ""
    if not whole:
        raise VerifyError(
            f"{path}: not the record of a task folder, or of another version{problem}.",
            effect="It could not be told whether the items are those that were asked.",
            way_out="Evaluate anew with --redo.",
        )
    return sources


def check_sources(sources: Mapping[str, Any], data_dir: Path, folder: Path) -> None:
    """Compare the data folder with what was read from it, and the task folder too.

    Raises:
        VerifyError: A file is missing or other than it was.
    """
    for benchmark in sources["benchmarks"].values():
        _compare(data_dir, benchmark["files"])
    _compare(folder, sources["written"])


def _compare(folder: Path, sha256_of: Mapping[str, str]) -> None:
    for name, sha256 in sha256_of.items():
        path = folder / name
        if not path.is_file():
            problem = "is gone"
        elif file_sha256(path) != sha256:
            problem = "has other bytes"
        else:
            continue
        raise VerifyError(
            f"{path}: {problem} since this evaluation was begun.",
            effect="Models would be compared on different items.",
            way_out="Put the file back, or evaluate anew with --redo.",
        )
