"""Model folders as Hugging Face lays them out, read and written one slice at a time.

A checkpoint of 88 GB is handled in the memory of a few slices of one tensor: headers are read
without the data, tensors by ranges of rows, and shards that do not change are linked, not parsed.
Parameter names are the published ones (`model.layers.0.block_sparse_moe.experts.0.w1.weight` for
Mixtral).

Source of the index: transformers' `model.safetensors.index.json`; `pytorch_model.bin` is read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .store import write_json
from .weights import TensorEntry, WeightFile, open_weights, require_finite, write_shard

if TYPE_CHECKING:
    import torch

__all__ = [
    "TOKENIZER_FILES",
    "ModelFolder",
    "TensorEntry",
    "load_causal_lm",
    "plan_shards",
    "write_index",
    "write_shard",
]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_BIN_INDEX = "pytorch_model.bin.index.json"
_BIN_SINGLE = "pytorch_model.bin"
_IN_TURN = (SINGLE, INDEX, _BIN_SINGLE, _BIN_INDEX)  # transformers takes the first that is there
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


class ModelFolder:
    """A model on disk: config, which shard holds which tensor, and the tensors themselves."""

    def __init__(self, path: Path) -> None:
        """Open a folder; reads JSON and headers only.

        Raises:
            InputError: There is no config.json, or there are no weights, or index and shards do
                not say the same, or the index names a file elsewhere, or a file is damaged.
        """
        self.path = path
        self.config: dict[str, Any] = _read_json(path / "config.json")
        self._files: dict[str, WeightFile] = {}
        found = next((name for name in _IN_TURN if (path / name).is_file()), None)
        if found is None:
            raise InputError(
                f"{path}: no {SINGLE} and no {INDEX}, nor {_BIN_SINGLE}; expected a model's "
                "weights.",
                way_out="Convert other formats with transformers: save_pretrained writes these.",
            )
        if found in (INDEX, _BIN_INDEX):
            self.weight_map = _weight_map(path / found)
        else:
            self.weight_map = dict.fromkeys(self._file(found).entries, found)
        missing = [s for s in self.shards if not (path / s).is_file()]
        if missing:
            raise InputError(
                f"{path}: shard '{missing[0]}' of the index is missing "
                f"({len(missing)} of {len(self.shards)}).",
                way_out="Fetch the missing files.",
            )
        _compare_index(path, self.weight_map, {s: self._file(s).entries for s in self.shards})

    @property
    def shards(self) -> list[str]:
        """Names of the weight files, in order."""
        return sorted(set(self.weight_map.values()))

    @property
    def is_safetensors(self) -> bool:
        """Whether every shard is a safetensors file, so that it can be linked as it is."""
        return all(shard.endswith(".safetensors") for shard in self.shards)

    @cached_property
    def _entries(self) -> dict[str, TensorEntry]:
        return {e.name: e for shard in self.shards for e in self.entries(shard)}

    def entries(self, shard: str) -> list[TensorEntry]:
        """What a shard's header lists, in the order of the data."""
        return list(self._file(shard).entries.values())

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

    def tensor(self, name: str, *, finite: bool = False) -> torch.Tensor:
        """Read one tensor, in its own dtype; with `finite`, refuse NaN and infinity."""
        entry = self.entry(name)
        whole = self.read(name, 0, entry.num_items).reshape(entry.shape)
        if finite:
            require_finite(f"{self.path}: tensor '{name}'", whole)
        return whole

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        """Read the rows [first, last) of one tensor, in its own dtype."""
        entry = self.entry(name)
        items = self.read(name, first * entry.row_items, (last - first) * entry.row_items)
        return items.reshape(last - first, *entry.shape[1:])

    def read(self, name: str, first: int, count: int) -> torch.Tensor:
        """Read `count` numbers of a tensor from number `first` on, flat, in its own dtype."""
        return self._file(self.weight_map[self.entry(name).name]).read(name, first, count)

    def _file(self, shard: str) -> WeightFile:
        if shard not in self._files:
            self._files[shard] = open_weights(self.path / shard)
        return self._files[shard]


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


def write_index(folder: Path, weight_map: Mapping[str, str], total_bytes: int) -> None:
    """Write the index of a sharded model; a model in one file needs none."""
    if set(weight_map.values()) == {SINGLE}:
        return
    index = {
        "metadata": {"total_size": total_bytes},
        "weight_map": dict(sorted(weight_map.items())),
    }
    write_json(folder / INDEX, index)


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
    elsewhere = sorted(shard for shard in set(weight_map.values()) if not _is_plain_name(shard))
    if elsewhere:
        raise InputError(
            f"{path}: names the file {elsewhere[0]!r}; expected names of .safetensors or .bin "
            "files in its own folder.",
            effect="A model made of this one would be written to places outside its folder.",
            way_out="Do not use a model whose source you do not trust; or write it again with "
            "save_pretrained.",
        )
    return weight_map


def _is_plain_name(shard: str) -> bool:
    """Tell whether a name stays in its folder, on any system, and is one of weights."""
    is_weights = shard.endswith((".safetensors", ".bin")) and not shard.startswith(".")
    return is_weights and not any(mark in shard for mark in "/\\:\0")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _compare_index(
    path: Path, weight_map: Mapping[str, str], shards: Mapping[str, Mapping[str, TensorEntry]]
) -> None:
    """Refuse an index that says something else than the shards' own headers."""
    places: dict[str, str] = {}
    for shard, entries in shards.items():
        for name in entries:
            if name in places:
                what = f"tensor '{name}' is in two shards, {places[name]} and {shard}"
                raise _bad_index(path, what, "One of the two would be used, by chance.")
            places[name] = shard
    for name, shard in weight_map.items():
        if places.get(name) != shard:
            found = f"it is in {places[name]}" if name in places else "it is in no shard"
            what = f"the index places tensor '{name}' in {shard}; {found}"
            raise _bad_index(path, what, "A model without its trained weights would be made.")
    unlisted = sorted(places.keys() - weight_map.keys())
    if unlisted:
        what = f"{places[unlisted[0]]} holds tensor '{unlisted[0]}', which the index does not name"
        raise _bad_index(path, what, "It would be lost, or loaded unseen.")


def _bad_index(path: Path, what: str, effect: str) -> InputError:
    way_out = "Fetch or write the model again: its index and shards are not of one writing."
    return InputError(f"{path}: {what}.", effect=effect, way_out=way_out)
