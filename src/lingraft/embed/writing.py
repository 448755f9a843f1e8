"""The expanded model folder: shards with a matrix are written anew, all others linked unread.

The two matrices are made one after the other, so that memory holds one of them: its base rows as
they are stored, and the new rows. All else in their shards passes through in slices.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..matrices import Matrices, require_equal
from ..models import INDEX, TOKENIZER_FILES, ModelFolder
from ..store import Draft, link_or_copy, write_json
from ..threads import kept_memory, torch_threads
from ..weights import SLICE_ITEMS, TensorEntry, require_finite, write_shard
from .filling import Filled, mean_of_all
from .methods import Role

__all__ = ["Growth", "Written", "plan_growth", "small_files", "space_needed", "write_model"]

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx")
_OWN = ("config.json", "manifest.json", "README.md", *TOKENIZER_FILES)
_TOKENIZER_EXTRA = ("chat_template.jinja", "extension.json")
_STALE = ("added_tokens.json", "vocab.json", "merges.txt")
_CHECKED = 512  # rows looked at together: few enough to stay in the processor's cache
FillRows = Callable[[torch.Tensor, Role], Filled]


@dataclass(frozen=True)
class Growth:
    """How the matrices grow.

    Attributes:
        num_base: Base rows that stay as they are.
        added: New rows behind them.
        padded: Rows behind those that no piece has.
    """

    num_base: int
    added: int
    padded: int

    @property
    def rows(self) -> int:
        """Rows of an expanded matrix."""
        return self.num_base + self.added + self.padded


@dataclass
class Written:
    """What was written."""

    linked: list[str] = field(default_factory=list)
    """Shards taken over without being read."""
    shards_written: int = 0
    filled: dict[Role, Filled] = field(default_factory=dict)


def plan_growth(matrices: Matrices, num_base: int, added: int, multiple: int) -> Growth:
    """Plan the rows: as many as ids, up to a multiple; never fewer than the base has."""
    wanted = -(-(num_base + added) // multiple) * multiple
    rows = max(wanted, -(-matrices.rows // multiple) * multiple)
    return Growth(num_base, added, rows - num_base - added)


def write_model(
    model: ModelFolder,
    matrices: Matrices,
    growth: Growth,
    tokenizer: Path,
    fill: FillRows,
    draft: Draft,
) -> Written:
    """Write the expanded folder.

    Args:
        model: The base model.
        matrices: Its matrices.
        growth: How they grow.
        tokenizer: Folder of the extended tokenizer, whose files go along.
        fill: Makes the new rows of a matrix from its base rows.
        draft: Where the folder is written.

    Raises:
        InputError: A matrix holds numbers that are not finite, or the model is tied and its two
            matrices differ.
    """
    written = Written()
    grower = _Grower(model, matrices, growth, fill, written)
    names = {shard: _safe_name(shard) for shard in model.shards}
    with draft.progress("expand", len(model.shards), "shards") as progress, kept_memory():
        total_bytes = total_items = 0
        for shard in model.shards:
            entries = [grower.grown(entry) for entry in model.entries(shard)]
            total_bytes += sum(entry.size_bytes for entry in entries)
            total_items += sum(entry.num_items for entry in entries)
            if names[shard] == shard and not any(e.name in matrices.names for e in entries):
                link_or_copy(model.path / shard, draft.path / shard)
                written.linked.append(shard)
            else:
                sha256 = write_shard(draft.path / names[shard], entries, grower.pieces)
                draft.know_sha256(names[shard], sha256)
                written.shards_written += 1
            progress.advance(1, shard)
    _write_index(model, names, total_bytes, total_items, draft.path)
    _write_configs(model, growth.rows, draft.path)
    for name, path in small_files(model.path, tokenizer).items():
        shutil.copyfile(path, draft.path / name)
    return written


class _Grower:
    """Gives each tensor of the expanded model in pieces."""

    def __init__(
        self,
        model: ModelFolder,
        matrices: Matrices,
        growth: Growth,
        fill: FillRows,
        written: Written,
    ) -> None:
        self._model, self._matrices, self._growth = model, matrices, growth
        self._fill, self._written = fill, written
        self._threads = torch.get_num_threads()  # methods that train need them; writing does not
        self._twice: dict[Role, Filled] = {}  # of a tied matrix that is stored twice

    def grown(self, entry: TensorEntry) -> TensorEntry:
        """Describe a tensor as it will be."""
        if entry.name not in self._matrices.names:
            return entry
        return TensorEntry(entry.name, entry.dtype, (self._growth.rows, *entry.shape[1:]))

    def pieces(self, entry: TensorEntry) -> Iterator[torch.Tensor]:
        """Give the numbers of a tensor in order."""
        if entry.name not in self._matrices.names:
            for first in range(0, entry.num_items, SLICE_ITEMS):
                count = min(SLICE_ITEMS, entry.num_items - first)
                yield self._model.read(entry.name, first, count)
            return
        base_VD = self._model.rows(entry.name, 0, self._growth.num_base)
        self._check(entry.name, base_VD, 0)
        if self._matrices.rows > self._growth.num_base:
            rest = self._model.rows(entry.name, self._growth.num_base, self._matrices.rows)
            self._check(entry.name, rest, self._growth.num_base)
        filled = self._filled(entry.name, base_VD)
        yield base_VD
        yield filled.rows_ND
        kept = range(self._growth.rows - self._growth.padded, self._matrices.rows)
        if kept:  # the base's own padding: its head has learnt that these are no pieces
            yield self._model.rows(entry.name, kept.start, kept.stop)
        if self._growth.padded > len(kept):
            row_D = mean_of_all(base_VD).to(base_VD.dtype)
            yield row_D.expand(self._growth.padded - len(kept), -1)

    def _check(self, name: str, rows: torch.Tensor, first: int) -> None:
        for begin in range(0, len(rows), _CHECKED):
            part = rows[begin : begin + _CHECKED]
            require_finite(f"{self._model.path}: tensor '{name}'", part, first + begin)

    def _filled(self, name: str, base_VD: torch.Tensor) -> Filled:
        role: Role = "input"
        if name == self._matrices.output_name:
            if self._matrices.tied:
                require_equal(self._model, *self._matrices.names)
            else:
                role = "output"
        if role in self._twice:
            return self._twice[role]
        with torch_threads(self._threads):
            filled = self._fill(base_VD, role)
        self._written.filled[role] = replace(filled, rows_ND=filled.rows_ND[:0].clone())
        if self._matrices.tied and self._matrices.output_name:
            self._twice[role] = filled
        return filled


def space_needed(model: ModelFolder, matrices: Matrices, growth: Growth, folder: Path) -> int:
    """Give the bytes of all shards that cannot be linked into a folder's file system."""
    standing = folder.absolute()
    while not standing.exists():
        standing = standing.parent
    same = standing.stat().st_dev == model.path.stat().st_dev
    total = 0
    for shard in model.shards:
        entries = model.entries(shard)
        grown = [entry for entry in entries if entry.name in matrices.names]
        if grown or not same or _safe_name(shard) != shard:
            total += sum(entry.size_bytes for entry in entries)
        total += sum(e.size_bytes // e.shape[0] * (growth.rows - e.shape[0]) for e in grown)
    return total


def _safe_name(shard: str) -> str:
    """Name a shard as safetensors: `pytorch_model-00001-of-00002.bin` becomes `model-...`."""
    if shard.endswith(".safetensors"):
        return shard
    return shard.removeprefix("pytorch_").removesuffix(".bin") + ".safetensors"


def _write_index(
    model: ModelFolder, names: Mapping[str, str], total_bytes: int, total_items: int, folder: Path
) -> None:
    weight_map = {name: names[shard] for name, shard in sorted(model.weight_map.items())}
    if len(names) == 1 and not (model.path / INDEX).is_file():
        return
    metadata: dict[str, Any] = {}
    if (model.path / INDEX).is_file():
        found = json.loads((model.path / INDEX).read_text(encoding="utf-8")).get("metadata")
        metadata = dict(found) if isinstance(found, dict) else {}
    metadata["total_size"] = total_bytes
    if "total_parameters" in metadata:
        metadata["total_parameters"] = total_items
    write_json(folder / INDEX, {"metadata": metadata, "weight_map": weight_map})


def _write_configs(model: ModelFolder, vocab_size: int, folder: Path) -> None:
    config = dict(model.config)
    if isinstance(config.get("text_config"), dict):
        config["text_config"] = {**config["text_config"], "vocab_size": vocab_size}
    if "vocab_size" in config or not isinstance(config.get("text_config"), dict):
        config["vocab_size"] = vocab_size
    write_json(folder / "config.json", config)


def small_files(model: Path, tokenizer: Path) -> dict[str, Path]:
    """List what is copied as it is: the tokenizer's files, all other small ones of the model."""
    theirs = {*TOKENIZER_FILES, *_TOKENIZER_EXTRA, *_STALE}
    found: dict[str, Path] = {}
    for path in sorted(model.iterdir()):
        is_weights = path.suffix in _WEIGHTS or path.name.endswith(".index.json")
        skipped = path.name in _OWN or path.name in theirs or path.name.startswith(".")
        if path.is_file() and not is_weights and not skipped:
            found[path.name] = path
    for name in (*TOKENIZER_FILES, *_TOKENIZER_EXTRA):
        if (tokenizer / name).is_file():
            found[name] = tokenizer / name
    template = "chat_template.jinja"
    if (model / template).is_file():
        found.setdefault(template, model / template)
    return found
