"""The merged shards on disk: planned, linked or written, gone on with after a kill.

A shard is written beside its place, synced and renamed by a second thread while the next one is
computed, so a file under its own name is whole. The hash that was computed meanwhile is kept in
the draft's scratch; a later run keeps the shards whose size, header and hash file agree.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..manifest import file_sha256
from ..models import INDEX, TOKENIZER_FILES, ModelFolder, plan_shards, write_index
from ..progress import Progress
from ..store import Draft, link_or_copy, require_space, write_json
from ..threads import kept_memory
from ..weights import TensorEntry, fill_shard, finish_shard, row_slices, shard_header
from .sums import Sums
from .targets import Plan, Target

__all__ = [
    "Shard",
    "copied_files",
    "forget_shards",
    "plan_files",
    "write_configs",
    "write_shards",
]

_MAX_SHARD_BYTES = 5 * 10**9
_HASHES = "hashes"
_BESIDE = (
    "generation_config.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
)


@dataclass(frozen=True)
class Shard:
    """One file of the merged model."""

    name: str
    targets: tuple[Target, ...]
    linked: Path | None = None
    """The base's own file, where nothing in it changes."""

    @property
    def entries(self) -> list[TensorEntry]:
        """Its tensors, in order."""
        return [target.entry for target in self.targets]

    @property
    def size_bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(entry.size_bytes for entry in self.entries)


def plan_files(model: ModelFolder, plan: Plan, max_shard_bytes: int | None) -> list[Shard]:
    """Distribute the merged tensors over files.

    Args:
        model: The base.
        plan: Every tensor of the merged model.
        max_shard_bytes: Most bytes of a file; None: the base's own files, if it has the
            published layout in safetensors, and 5 GB otherwise.
    """
    targets = plan.targets
    as_stored = model.is_safetensors and all(
        target.is_stored_alone or name == plan.untied for name, target in targets.items()
    )
    if max_shard_bytes is not None or not as_stored:
        entries = [target.entry for target in targets.values()]
        files = plan_shards(entries, max_shard_bytes or _MAX_SHARD_BYTES)
        return [Shard(name, tuple(targets[e.name] for e in some)) for name, some in files.items()]
    shards = []
    for name in model.shards:
        inside = [targets[entry.name] for entry in model.entries(name)]
        is_new = plan.untied and plan.untied not in model.weight_map
        if is_new and targets[plan.untied].part.stored in {t.entry.name for t in inside}:
            inside.append(targets[plan.untied])
        kept = all(target.is_kept and target.is_stored_alone for target in inside)
        shards.append(Shard(name, tuple(inside), model.path / name if kept else None))
    return shards


def write_shards(shards: Sequence[Shard], sums: Sums, draft: Draft, jobs: int) -> int:
    """Write or link every shard, and the index.

    Args:
        shards: The files.
        sums: Gives their tensors.
        draft: Where they are written.
        jobs: Threads that read and compute; another one hashes and writes.

    Returns:
        Bytes of all tensors.

    Raises:
        DiskFullError: There is no room for what is left to write.
    """
    hashes = _Hashes(draft.scratch)
    for partial in draft.path.glob("*.safetensors.partial"):
        partial.unlink()  # a kill cut it short
    done = {shard.name for shard in shards if hashes.holds(draft.path, shard)}
    left = [shard for shard in shards if shard.name not in done]
    require_space(draft.path, sum(_cost(shard, draft.path) for shard in left))
    total = sum(shard.size_bytes for shard in shards)
    finished = sum(shard.size_bytes for shard in shards if shard.name in done)
    if done:
        draft.note(f"{len(done)} of {len(shards)} shards were written before; they are kept")
    with (
        draft.progress("merge", total, "bytes", finished) as progress,
        kept_memory(),
        ThreadPoolExecutor(1) as finisher,
    ):
        pending: Future[None] | None = None
        for shard in left:
            made = (
                _link(shard, draft) if shard.linked else _fill(shard, sums, draft, jobs, progress)
            )
            if pending is not None:
                pending.result()
            pending = finisher.submit(_finish, shard, made, draft.path, hashes)
            if shard.linked:
                progress.advance(shard.size_bytes, shard.name)
        if pending is not None:
            pending.result()
    for shard in shards:
        draft.know_sha256(shard.name, hashes.of(shard.name))
    (draft.path / INDEX).unlink(missing_ok=True)
    write_index(draft.path, {e.name: shard.name for shard in shards for e in shard.entries}, total)
    return total


def write_configs(model: ModelFolder, plan: Plan, dtype: str, folder: Path) -> None:
    """Write config.json for the merged weights, and copy the other small files."""
    config: dict[str, Any] = dict(model.config)
    if dtype != "keep":
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
    if plan.untied:
        config["tie_word_embeddings"] = False
        if isinstance(nested := config.get("text_config"), dict):
            config["text_config"] = {**nested, "tie_word_embeddings": False}
    write_json(folder / "config.json", config)
    for path in copied_files(model):  # people edit them in place: a link would follow
        (folder / path.name).unlink(missing_ok=True)
        shutil.copyfile(path, folder / path.name)


def copied_files(model: ModelFolder) -> list[Path]:
    """List the files of a model that its merged model has, too, as they are: no weights."""
    paths = [model.path / name for name in (*_BESIDE, *TOKENIZER_FILES)]
    return [path for path in paths if path.is_file()]


def forget_shards(draft: Draft) -> None:
    """Let the next run write every shard anew."""
    shutil.rmtree(draft.scratch / _HASHES, ignore_errors=True)


class _Hashes:
    """sha256 of finished shards, kept in scratch across a kill."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch / _HASHES
        self._folder.mkdir(exist_ok=True)

    def of(self, name: str) -> str:
        return str(self._read(name)["sha256"])

    def keep(self, name: str, sha256: str, size_bytes: int) -> None:
        write_json(self._folder / f"{name}.json", {"sha256": sha256, "size_bytes": size_bytes})

    def holds(self, folder: Path, shard: Shard) -> bool:
        """Tell whether a shard is there, whole, with the header that it must have."""
        path, record = folder / shard.name, self._read(shard.name)
        if not (path.is_file() and record.get("size_bytes") == path.stat().st_size):
            return False
        if path.stat().st_size != _stored_bytes(shard):
            return False
        if shard.linked is not None:
            return True
        head = shard_header(shard.entries)
        with path.open("rb") as file:
            return file.read(len(head)) == head

    def _read(self, name: str) -> dict[str, Any]:
        path = self._folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _stored_bytes(shard: Shard) -> int:
    if shard.linked is not None:
        return shard.linked.stat().st_size
    return len(shard_header(shard.entries)) + shard.size_bytes


def _cost(shard: Shard, folder: Path) -> int:
    """Bytes that a shard takes from the disk: none where it can be linked."""
    if shard.linked is not None and shard.linked.stat().st_dev == folder.stat().st_dev:
        return 0
    return _stored_bytes(shard)


def _link(shard: Shard, draft: Draft) -> str:
    assert shard.linked is not None, "nothing to link"
    link_or_copy(shard.linked, draft.path / shard.name)
    return ""


def _fill(shard: Shard, sums: Sums, draft: Draft, jobs: int, progress: Progress) -> str:
    pieces = sums.pieces(shard.targets, jobs)

    def pieces_of(entry: TensorEntry) -> Iterator[torch.Tensor]:
        for first, last in row_slices(entry):
            yield next(pieces)
            rows = last - first
            progress.advance(rows * entry.size_bytes // max(1, entry.shape[0]), shard.name)

    return fill_shard(draft.path / shard.name, shard.entries, pieces_of)


def _finish(shard: Shard, sha256: str, folder: Path, hashes: _Hashes) -> None:
    path = folder / shard.name
    if shard.linked is None:
        finish_shard(path)
    hashes.keep(shard.name, sha256 or file_sha256(path), path.stat().st_size)
