"""Model folders as Hugging Face lays them out, read and written one tensor at a time.

A checkpoint of 88 GB is handled in the memory of one tensor: headers are read without the
data, a shard's header is written before its first tensor, and shards that do not change are
linked, not parsed. Parameter names are the published ones
(`model.layers.0.block_sparse_moe.experts.0.w1.weight` for Mixtral).

Source of the file format: safetensors (u64 header length, JSON header, raw little-endian
data); of the index: transformers' `model.safetensors.index.json`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .store import link_or_copy, write_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "TOKENIZER_FILES",
    "ModelFolder",
    "TensorEntry",
    "link_tokenizer",
    "load_causal_lm",
    "plan_shards",
    "write_index",
    "write_shard",
]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_ITEM_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1}
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True)
class TensorEntry:
    """One tensor, as a header describes it; `dtype` in safetensors' words (`BF16`)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_items(self) -> int:
        """Numbers in the tensor."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        return self.num_items * _ITEM_BYTES[self.dtype]


class ModelFolder:
    """A model on disk: config, which shard holds which tensor, and the tensors themselves."""

    def __init__(self, path: Path) -> None:
        """Open a folder; reads JSON only.

        Raises:
            InputError: There is no config.json, or no safetensors weights, or one of them is
                damaged.
        """
        self.path = path
        self.config: dict[str, Any] = _read_json(path / "config.json")
        if (path / INDEX).is_file():
            self.weight_map = _weight_map(path / INDEX)
        elif (path / SINGLE).is_file():
            self.weight_map = {entry.name: SINGLE for entry in _read_header(path / SINGLE)}
        else:
            raise InputError(
                f"{path}: no {SINGLE} and no {INDEX}; expected a model in safetensors.",
                way_out="Convert other formats with transformers: save_pretrained writes this.",
            )
        missing = [s for s in self.shards if not (path / s).is_file()]
        if missing:
            raise InputError(f"{path}: shard '{missing[0]}' of the index is missing.")

    @property
    def shards(self) -> list[str]:
        """Names of the weight files, in order."""
        return sorted(set(self.weight_map.values()))

    @cached_property
    def _entries(self) -> dict[str, TensorEntry]:
        return {e.name: e for shard in self.shards for e in self.entries(shard)}

    def entries(self, shard: str) -> list[TensorEntry]:
        """What a shard's header lists, in the order of the data."""
        return _read_header(self.path / shard)

    def entry(self, name: str) -> TensorEntry:
        """Describe one tensor.

        Raises:
            InputError: The model has no such tensor.
        """
        if name not in self._entries:
            raise InputError(f"{self.path}: no tensor '{name}' among {len(self._entries)}.")
        return self._entries[name]

    def all_entries(self) -> list[TensorEntry]:
        """Every tensor of the model."""
        return list(self._entries.values())

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor, in its own dtype."""
        from safetensors import safe_open

        shard = self.weight_map.get(self.entry(name).name, SINGLE)
        with safe_open(self.path / shard, "pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]


def plan_shards(entries: Iterable[TensorEntry], max_bytes: int) -> dict[str, list[TensorEntry]]:
    """Distribute tensors over shards of at most `max_bytes` (or one tensor), in order.

    Returns:
        File name -> its tensors, named as transformers names them.
    """
    shards: list[list[TensorEntry]] = []
    filled = 0
    for entry in entries:
        if not shards or filled + entry.size_bytes > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += entry.size_bytes
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    total = len(shards)
    return {f"model-{i:05d}-of-{total:05d}.safetensors": s for i, s in enumerate(shards, 1)}


def write_shard(
    path: Path,
    entries: Iterable[TensorEntry],
    tensor_of: Callable[[TensorEntry], torch.Tensor],
) -> None:
    """Write one safetensors file, holding one tensor at a time.

    Args:
        path: The file; it is there whole or not at all.
        entries: What to write, in order. Each tensor is cast to its entry's dtype.
        tensor_of: Gives the tensor of an entry when its turn comes.
    """
    import torch

    entries = list(entries)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.size_bytes],
        }
        offset += entry.size_bytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for entry in entries:
            tensor = tensor_of(entry).detach().to("cpu", _torch_dtype(entry.dtype)).contiguous()
            assert tuple(tensor.shape) == entry.shape, f"{entry} got shape {tuple(tensor.shape)}"
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_index(folder: Path, weight_map: Mapping[str, str], total_bytes: int) -> None:
    """Write the index of a sharded model; a model in one file needs none."""
    if set(weight_map.values()) == {SINGLE}:
        return
    index = {
        "metadata": {"total_size": total_bytes},
        "weight_map": dict(sorted(weight_map.items())),
    }
    write_json(folder / INDEX, index)


def link_tokenizer(source: Path, target: Path) -> None:
    """Give a model folder the tokenizer files of another folder."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            link_or_copy(source / name, target / name)


def load_causal_lm(folder: Path, dtype: str = "float32") -> Any:
    """Load a model with transformers, in eval mode; no remote code, no network.

    Raises:
        InputError: transformers cannot read the folder.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # lingraft shows its own
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: transformers cannot load it: {error}") from error
    return model.eval()


def _torch_dtype(name: str) -> torch.dtype:
    import torch

    table = {
        "F64": torch.float64,
        "F32": torch.float32,
        "BF16": torch.bfloat16,
        "F16": torch.float16,
        "I64": torch.int64,
        "I32": torch.int32,
        "U8": torch.uint8,
        "I8": torch.int8,
    }
    return table[name]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; expected a model folder as Hugging Face lays it out."
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON {type(value).__name__}; expected an object.")
    return value


def _weight_map(path: Path) -> dict[str, str]:
    weight_map = _read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_text, weight_map.values())):
        raise InputError(
            f"{path}: no table 'weight_map' of tensors and their files.",
            way_out="Fetch or write the model again.",
        )
    return weight_map


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _read_header(path: Path) -> list[TensorEntry]:
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER_BYTES + 1
        if length > _MAX_HEADER_BYTES:
            raise InputError(f"{path}: not a safetensors file (header of {length} bytes).")
        head = file.read(length)
    try:
        header = json.loads(head)
        rows = [
            (*spec["data_offsets"], TensorEntry(name, spec["dtype"], tuple(spec["shape"])))
            for name, spec in header.items()
            if name != "__metadata__"
        ]
        rows.sort(key=lambda row: row[0])
        size_bytes = 8 + length + max((end for _, end, _ in rows), default=0)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a safetensors file: bad header ({error}).") from None
    entries = [entry for *_, entry in rows]
    _refuse_damaged(path, size_bytes, entries)
    return entries


def _refuse_damaged(path: Path, size_bytes: int, entries: Sequence[TensorEntry]) -> None:
    """Notice a broken download here, not hours later when its tensors are read."""
    found_bytes = path.stat().st_size
    if found_bytes != size_bytes:
        raise InputError(
            f"{path}: {found_bytes:,} bytes; its header speaks of {size_bytes:,}.",
            effect="The tensors at its end would be missing.",
            way_out="Fetch or write the file again.",
        )
    odd = [entry for entry in entries if entry.dtype not in _ITEM_BYTES]
    if odd:
        raise InputError(
            f"{path}: tensor '{odd[0].name}' is {odd[0].dtype}; "
            f"expected one of {', '.join(_ITEM_BYTES)}.",
            way_out="Convert the model, as to bfloat16.",
        )
