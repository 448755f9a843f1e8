"""A PEFT adapter on disk: what its config asks for, and its tensors.

Only adapters whose sum we know are taken: LoRA, rsLoRA, DoRA, per-module ranks and alphas,
modules saved whole, single token rows, biases. Kinds of LoRA that change the base weights before
training (PiSSA, OLoRA, CorDA, LoftQ, ...) are refused: their adapter belongs to another base.

Source: PEFT 0.21, `LoraConfig` and its checkpoint format.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..threads import kept_memory, num_cores
from ..weights import TensorEntry, WeightFile, open_weights, require_finite, row_slices

__all__ = ["Adapter", "scale_of"]

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_OTHER_SUMS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
_KEEPS_BASE = (True, False, None, "gaussian", "eva")


class Adapter:
    """The adapter's config and tensors; tensors are read by ranges of rows."""

    def __init__(self, folder: Path) -> None:
        """Open an adapter folder; reads JSON and headers only.

        Raises:
            InputError: There is no adapter, or it is of a kind whose sum is not known here.
        """
        self.path = folder
        self.config = _read_config(folder)
        found = [name for name in WEIGHTS if (folder / name).is_file()]
        if not found:
            raise InputError(
                f"{folder}: no {WEIGHTS[0]}; expected an adapter as PEFT saves it.",
                way_out="Name the folder that holds adapter_config.json and the weights.",
            )
        self._file: WeightFile = open_weights(folder / found[0])

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Its tensors by name."""
        return self._file.entries

    @property
    def files(self) -> list[Path]:
        """Its files: config and weights."""
        return [self.path / CONFIG, self._file.path]

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        """Read the rows [first, last) of one tensor, in float32."""
        entry = self.entries[name]
        count = (last - first) * entry.row_items
        items = self._file.read(name, first * entry.row_items, count)
        return items.reshape(last - first, *entry.shape[1:]).float()

    def items(self, name: str, first: int, count: int) -> torch.Tensor:
        """Read `count` numbers of one tensor from number `first` on, flat, in float32."""
        return self._file.read(name, first, count).float()

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor, in float32."""
        return self.rows(name, 0, self.entries[name].shape[0])

    def check(self) -> str:
        """Read every number once.

        Returns:
            sha256 over config and tensors.

        Raises:
            InputError: A number is NaN or infinite.
        """
        digest = hashlib.sha256((self.path / CONFIG).read_bytes())
        with kept_memory(), ThreadPoolExecutor(num_cores()) as pool:
            for part in pool.map(self._digest, self.entries.values()):
                digest.update(part)
        return digest.hexdigest()

    def _digest(self, entry: TensorEntry) -> bytes:
        """Hash one tensor; see `check`."""
        digest = hashlib.sha256(f"{entry.name} {entry.dtype} {entry.shape}".encode())
        for first, last in row_slices(entry):
            count = (last - first) * entry.row_items
            items = self._file.read(entry.name, first * entry.row_items, count)
            digest.update(items.view(torch.uint8).numpy().data)
            rows = items.reshape(last - first, -1)
            require_finite(f"{self._file.path}: tensor '{entry.name}'", rows, first)
        return digest.digest()


def scale_of(config: Mapping[str, Any], key: str) -> tuple[int, float]:
    """Give rank and scale of one module.

    Args:
        config: The adapter's config.
        key: Name of the module (or parameter, for fused experts) in transformers' model.

    Returns:
        Rank, and what B A is multiplied by: alpha / rank, or alpha / sqrt(rank) for rsLoRA.
    """
    rank = int(_by_pattern(config.get("rank_pattern"), key, config["r"]))
    alpha = float(_by_pattern(config.get("alpha_pattern"), key, config["lora_alpha"]))
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, key: str, default: Any) -> Any:
    """Take the first pattern that ends the name, after a dot or as a whole, as PEFT does."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", key):
            return value
    return default


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder}: no {CONFIG}; expected an adapter as PEFT saves it.",
            way_out="Name the folder that holds adapter_config.json and the weights.",
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: a JSON {type(config).__name__}; expected an object.")
    used = [key for key in _OTHER_SUMS if config.get(key)]
    if config.get("init_lora_weights", True) not in _KEEPS_BASE:
        used.append(f"init_lora_weights = '{config['init_lora_weights']}'")
    if config.get("peft_type") != "LORA" or used:
        raise InputError(
            f"{path}: an adapter of type '{config.get('peft_type')}'"
            f"{' with ' + ', '.join(used) if used else ''}; expected LoRA, rsLoRA or DoRA beside "
            "an unchanged base.",
            effect="Its arithmetic is another than W + scale B A.",
            way_out="Merge it with PEFT: PeftModel.merge_and_unload().",
        )
    for key in ("r", "lora_alpha"):
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise InputError(f"{path}: {key} = {value!r}: expected a number above 0.")
    return config
