"""Tasks of a user's own (`--include-path`): what they are made of."""

from __future__ import annotations

from pathlib import Path

from ..manifest import file_sha256
from .clearing import RECORD

__all__ = ["digest_tasks"]

_SUFFIXES = (
    *(".yaml", ".yml", ".py", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".arrow"),
    *(".gz", ".zst"),
)


def digest_tasks(folder: Path | None, out: Path) -> dict[str, str]:
    """Give the sha256 of each file of the user's own tasks, their code and their rows.

    Args:
        folder: Of the tasks; None: there are none.
        out: Of this evaluation. Where it, or another one, lies among the tasks, it is none of them.
    """
    if folder is None:
        return {}
    folder = folder.resolve()
    others = {out.resolve(), *(record.parent for record in folder.rglob(RECORD))}
    paths = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    names = {path: path.relative_to(folder) for path in paths if not others & set(path.parents)}
    return {
        name.as_posix(): file_sha256(path)
        for path, name in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }
