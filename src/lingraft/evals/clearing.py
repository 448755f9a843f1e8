"""What `--redo` may remove: what an evaluation wrote, file by file, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .taskfolder import SOURCES

__all__ = ["FORMAT", "RECORD", "clear_evaluation", "clear_tasks", "refuse_place"]

FORMAT = "lingraft.eval/1"
RECORD = "evaluation.json"

_OF_A_MODEL = re.compile(r".+-[0-9a-f]{12}")


def refuse_place(out: Path, inputs: Sequence[Path], *, redo: bool) -> None:
    """Refuse to write among what is read.

    Args:
        out: Where the evaluation goes.
        inputs: Folders of models and data.
        redo: Whether what is there is to be removed.

    Raises:
        UsageError: `out` is one of them; or holds one, and files are to be removed.
    """
    place = out.resolve()
    for path in inputs:
        found = path.resolve()
        if place == found or (redo and place in found.parents):
            raise UsageError(
                f"--out {out}: {'is' if place == found else 'holds'} {path}, which is read.",
                effect="Results would lie among a model's or benchmark's files, and --redo removes "
                "files there.",
                way_out="Name another folder with --out.",
            )


def clear_evaluation(out: Path) -> None:
    """Remove an evaluation.

    Answers are known by the names of the benchmarks in the record; a folder of a model that holds
    something else too is left with that.

    Raises:
        UsageError: There is something, and no record that an evaluation wrote it.
    """
    keys = _recorded_keys(out)
    for place in (out / "models").glob("*"):
        if not _OF_A_MODEL.fullmatch(place.name) or not place.is_dir() or place.is_symlink():
            continue
        for key in keys:
            for name in (f"{key}.json", f"{key}.jsonl", f".{key}.jsonl.partial"):
                (place / name).unlink(missing_ok=True)
            (place / f"{key}.jsonl.writing").unlink(missing_ok=True)
        _remove_empty(place)
    _remove_empty(out / "models")
    clear_tasks(out / "tasks")
    for name in ("results.json", "results.md", RECORD):
        (out / name).unlink(missing_ok=True)


def clear_tasks(folder: Path) -> None:
    """Remove a task folder that was written by us, as its `sources.json` tells."""
    if (folder / SOURCES).is_file() and not folder.is_symlink():
        shutil.rmtree(folder)


def _recorded_keys(out: Path) -> list[str]:
    path = out / RECORD
    if not path.exists() and not (out / "models").exists() and not (out / "results.json").exists():
        return []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] == FORMAT:
            return [str(key) for key in record["benchmarks"]]
        problem = f"its format is {record['format']!r}; expected {FORMAT!r}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{error!r}"
    raise UsageError(
        f"--redo: {path} is no record of an evaluation: {problem}.",
        effect="Files that are not lingraft's might be removed.",
        way_out="Name another folder with --out, or remove this one yourself.",
    )


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
