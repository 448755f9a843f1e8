"""The plan of a preparation: files, the units that they are read in, and the buckets they fill.

It follows from the settings and the files alone, never from who does the work, and is written down
before any work: whoever takes part reads it from the work folder.

    unit     pieces of files of one set that follow each other, about 32 MB of text
    bucket   the documents of all sets whose ids begin alike, about 32 MB of text

Documents are numbered by (unit, place in it), which is the order of sets, files and lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..manifest import canonical_json
from ..store import write_text
from ..units import Unit, cut_units
from .finding import SourceFile
from .read import can_be_cut
from .settings import CorpusSet, PrepareSettings

__all__ = [
    "PLAN_NAME",
    "Piece",
    "Plan",
    "PlannedFile",
    "has_plan",
    "make_plan",
    "plan_key",
    "read_plan",
    "refuse_changed",
    "unit_of",
    "write_plan",
]

PLAN_NAME = "plan.json"
_UNIT_BYTES = 1 << 25  # a second of work
_MAX_UNIT_BYTES = 1 << 28
_MOST_UNITS = 1 << 10  # of the smallest size; with more text they grow
_BUCKET_BYTES = 1 << 25  # of text, which is in memory while it is put in order
_PACKED_RATIO = 4
_PACKED = (".gz", ".zst", ".parquet")


class PlannedFile(NamedTuple):
    """A file, as it was when the plan was made."""

    set_index: int
    """Number of its set, or of its benchmark."""
    path: str
    label: str
    size_bytes: int
    mtime_ns: int
    commit: str
    """Commit of the hub repository that it came from, or ""."""


class Piece(NamedTuple):
    """Part of a file, or the whole; see `units.Unit`."""

    file: int
    begin: int
    end: int
    kind: str
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    identity: str
    """Digest of what decides the result."""
    seed: int
    in_recipe: bool
    """Whether settings come from a recipe or from options: how messages name them."""
    settings: PrepareSettings
    files: tuple[PlannedFile, ...]
    units: tuple[tuple[Piece, ...], ...]
    num_buckets: int
    benchmarks: tuple[PlannedFile, ...]
    """Files that documents are compared with; their label is the benchmark's name."""

    @property
    def benchmark_names(self) -> Sequence[str]:
        """Names of benchmarks, in order."""
        return list(dict.fromkeys(file.label for file in self.benchmarks))

    @property
    def place(self) -> str:
        """How messages tell to name another place for the result."""
        return "--set run.folder=PATH" if self.in_recipe else "--out DIR"

    def option(self, name: str) -> str:
        """How messages name a setting."""
        return f"corpus.{name}" if self.in_recipe else f"--{name.replace('_', '-')}"

    @property
    def sets(self) -> Sequence[CorpusSet]:
        """The sets, in order."""
        return self.settings.sets

    def set_of(self, unit: int) -> int:
        """Give the set that a unit belongs to."""
        return self.files[self.units[unit][0].file].set_index

    def unit_bytes(self, unit: int) -> int:
        """Bytes of files that a unit reads."""
        return sum(piece.size_bytes for piece in self.units[unit])

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def make_plan(
    settings: PrepareSettings,
    found: Sequence[Sequence[SourceFile]],
    *,
    identity: str,
    seed: int,
    in_recipe: bool,
) -> Plan:
    """Make the plan of a preparation.

    Args:
        settings: What is asked for.
        found: The files of each set, in order.
        identity: Digest of all that decides the result.
        seed: Seed of the splits.
        in_recipe: Whether settings come from a recipe.

    Raises:
        InputError: A Parquet file is none.
        UsageError: There is no benchmark at a place, or a file's ending tells no format.
    """
    files = tuple(_look_at(index, file) for index, one in enumerate(found) for file in one)
    text_bytes = sum(file.size_bytes * _ratio(file) for file in files)
    unit_bytes = min(max(_UNIT_BYTES, text_bytes // _MOST_UNITS), _MAX_UNIT_BYTES)
    return Plan(
        identity=identity,
        seed=seed,
        in_recipe=in_recipe,
        settings=_with_whole_paths(settings),
        files=files,
        units=tuple(_group(files, settings, unit_bytes)),
        num_buckets=max(1, -(-text_bytes // _BUCKET_BYTES)),
        benchmarks=tuple(_find_benchmarks(settings)),
    )


def _with_whole_paths(settings: PrepareSettings) -> PrepareSettings:
    """Name benchmarks so that they are found from every working directory."""
    if settings.decontaminate is None:
        return settings
    places = [str(Path(p).expanduser().absolute()) for p in settings.decontaminate.benchmarks]
    benchmarks = settings.decontaminate.model_copy(update={"benchmarks": places})
    return settings.model_copy(update={"decontaminate": benchmarks})


def _find_benchmarks(settings: PrepareSettings) -> Iterator[PlannedFile]:
    if settings.decontaminate is not None:
        from .items import find_benchmarks

        for number, benchmark in enumerate(find_benchmarks(settings.decontaminate.benchmarks)):
            for path in benchmark.files:
                yield _look_at(number, SourceFile(path, benchmark.name))


def _look_at(index: int, file: SourceFile) -> PlannedFile:
    stat = file.path.stat()
    path = str(file.path.absolute())
    return PlannedFile(index, path, file.label, stat.st_size, stat.st_mtime_ns, file.commit)


def _group(
    files: Sequence[PlannedFile], settings: PrepareSettings, unit_bytes: int
) -> Iterator[tuple[Piece, ...]]:
    """Put pieces together to units: a large file is cut, small ones of a set share a unit."""
    unit: list[Piece] = []
    size = 0
    for number, file in enumerate(files):
        ratio = _ratio(file)
        reader = settings.sets[file.set_index].reader
        for piece in _cut(number, file, reader, unit_bytes // ratio):
            other_set = unit and files[unit[0].file].set_index != file.set_index
            if unit and (other_set or size + piece.size_bytes * ratio > unit_bytes):
                yield tuple(unit)
                unit, size = [], 0
            unit.append(piece)
            size += piece.size_bytes * ratio
    if unit:
        yield tuple(unit)


def _ratio(file: PlannedFile) -> int:
    """About how much text there is to a byte of a file."""
    return _PACKED_RATIO if file.path.lower().endswith(_PACKED) else 1


def _cut(number: int, file: PlannedFile, reader: str, unit_bytes: int) -> Iterator[Piece]:
    path = Path(file.path)
    if not can_be_cut(path, reader):
        yield Piece(number, 0, file.size_bytes, "whole", file.size_bytes)
        return
    for unit in cut_units([path], unit_bytes):
        yield Piece(number, unit.begin, unit.end, unit.kind, unit.size_bytes)


def unit_of(plan: Plan, piece: Piece) -> Unit:
    """Give a piece as what readers take.

    Raises:
        InputError: The file is no longer what it was when the plan was made.
    """
    file = plan.files[piece.file]
    refuse_changed(file)
    return Unit(file.path, piece.begin, piece.end, piece.kind, piece.size_bytes)


def refuse_changed(file: PlannedFile) -> None:
    """Refuse a file that is no longer what it was when the plan was made.

    Raises:
        InputError: Its size or time of change is another, or it is gone.
    """
    try:
        stat = Path(file.path).stat()
    except OSError as error:
        raise _changed(file, error.strerror or "it cannot be looked at") from None
    if (stat.st_size, stat.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        raise _changed(file, "its size or time of change is another")


def _changed(file: PlannedFile, why: str) -> InputError:
    return InputError(
        f"{file.path}: not what it was when the work was begun: {why}.",
        effect="The result would be made of two states of the text.",
        way_out="Leave the files alone while they are read, on disks that all machines share, and "
        "run it again.",
    )


def write_plan(folder: Path, plan: Plan) -> None:
    """Write a plan into the work folder."""
    write_text(folder / PLAN_NAME, _as_json(plan))


def plan_key(plan: Plan) -> str:
    """Digest a plan: what all results of the work folder were made from."""
    return hashlib.sha256(_as_json(plan).encode()).hexdigest()


@lru_cache(maxsize=4)
def read_plan(folder: str, key: str) -> Plan:
    """Read the plan of a work folder; what was read is kept for this process."""
    content = (Path(folder) / PLAN_NAME).read_text(encoding="utf-8")
    assert hashlib.sha256(content.encode()).hexdigest() == key, f"{folder} holds another plan"
    tree: dict[str, Any] = json.loads(content)
    files = tuple(PlannedFile(*row) for row in tree["files"])
    units = tuple(tuple(Piece(*row) for row in unit) for unit in tree["units"])
    tree |= {"settings": PrepareSettings.model_validate(tree["settings"])}
    benchmarks = tuple(PlannedFile(*row) for row in tree["benchmarks"])
    return Plan(**{**tree, "files": files, "units": units, "benchmarks": benchmarks})


def has_plan(folder: Path, key: str) -> bool:
    """Whether a work folder was begun with this very plan."""
    try:
        return hashlib.sha256((folder / PLAN_NAME).read_bytes()).hexdigest() == key
    except FileNotFoundError:
        return False


def _as_json(plan: Plan) -> str:
    tree = {**vars(plan), "settings": plan.settings.model_dump(mode="json")}
    return canonical_json(tree)
