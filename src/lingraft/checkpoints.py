"""Checkpoints of a training run: the last few, each whole or passed over.

A checkpoint is a safetensors file (parameters and optimizer state) and then a JSON file (losses,
steps, the first file's size and CRC-32, and a CRC-32 of all this), each written beside, synced
and renamed; the JSON makes it complete, and only then the oldest goes. A checkpoint that cannot
be read, or whose bytes are not those that were written, or that is of more steps than the
curve has rows of, is told, and the one before is taken: what it costs is time.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .errors import InputError
from .models import TensorEntry, write_shard
from .optimizers import Group, load_state, state_of
from .store import write_json

__all__ = ["Checkpoints"]

_DTYPES = {torch.float32: "F32", torch.uint8: "U8", torch.bfloat16: "BF16", torch.int32: "I32"}
_BLOCK_BYTES = 1 << 24
_GOING_ON = "going on from the one before it, or from the beginning."


class _DamagedError(Exception):
    """A checkpoint is not what was written; never leaves this module."""


class Checkpoints:
    """Those of one run, in one folder."""

    def __init__(self, folder: Path, keep: int, note: Callable[[str], None]) -> None:
        """Use a folder, which is made when it is needed.

        Args:
            folder: Holds checkpoints of this run only.
            keep: How many are kept, 1 or more.
            note: Told of those that are damaged.
        """
        self._folder, self._keep, self._note = folder, keep, note

    def save(self, groups: Sequence[Group], optimizer: Any, losses: Sequence[float]) -> None:
        """Write the state after `len(losses)` steps; former ones beyond `keep` go."""
        tensors: dict[str, torch.Tensor] = {}
        steps_taken: dict[str, int] = {}
        for group in groups:
            for name, parameter in group.parameters.items():
                tensors[f"parameter:{name}"] = parameter
                steps_taken[name], state = state_of(optimizer, parameter)
                tensors |= {f"{key}:{name}": tensor for key, tensor in state.items()}
        entries = [TensorEntry(n, _DTYPES[t.dtype], tuple(t.shape)) for n, t in tensors.items()]
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"checkpoint-{len(losses):08d}.safetensors"
        write_shard(path, entries, lambda entry: tensors[entry.name])
        about = {
            "steps_taken": steps_taken,
            "size_bytes": path.stat().st_size,
            "crc32": _crc32(path),
            "losses": list(losses),
        }
        # The JSON makes the checkpoint complete, so it comes last.
        write_json(path.with_suffix(".json"), about | {"about_crc32": _about_crc32(about)})
        self._clear(len(losses))

    def restore(
        self, groups: Sequence[Group], optimizer: Any, most: int | None = None
    ) -> list[float]:
        """Load the newest whole checkpoint; give the losses of the steps that it covers.

        Args:
            groups: Their parameters get its values.
            optimizer: Gets its state.
            most: Steps that it may cover, at most; None: any number.

        Raises:
            InputError: It is one of other parameters.
        """
        for path in sorted(self._folder.glob("checkpoint-*.json"), reverse=True):
            if most is not None and _number(path) > most:
                self._note(
                    f"WARNING: checkpoint {path.stem} is passed over, because the curve has rows "
                    f"of only {max(most, 0)} of its steps; {_GOING_ON}"
                )
                continue
            try:
                about = _read_about(path)
            except _DamagedError as error:
                self._note(f"WARNING: checkpoint {path.stem} is damaged ({error}); {_GOING_ON}")
                continue
            return _load(path, about, groups, optimizer)
        return []

    def _clear(self, newest: int) -> None:
        """Keep the newest `keep`; drop what a damaged or interrupted one left, too."""
        complete = sorted(self._folder.glob("checkpoint-*.json"))
        kept = [path.stem for path in complete if _number(path) <= newest][-self._keep :]
        for path in self._folder.glob("checkpoint-*"):
            if path.name.partition(".")[0] not in kept:
                path.unlink()


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _read_about(path: Path) -> dict[str, Any]:
    weights = path.with_suffix(".safetensors")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        written = about.pop("about_crc32")
        if _about_crc32(about) != written or len(about["losses"]) != _number(path):
            raise _DamagedError("its JSON is not what was written")
        size_bytes, crc32 = about["size_bytes"], about["crc32"]
        found_bytes = weights.stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(str(error) or type(error).__name__) from None
    if found_bytes != size_bytes:
        raise _DamagedError(f"{found_bytes:,} bytes, {size_bytes:,} were written")
    if _crc32(weights) != crc32:
        raise _DamagedError("its bytes are not those that were written")
    return about


def _load(
    path: Path, about: dict[str, Any], groups: Sequence[Group], optimizer: Any
) -> list[float]:
    parameters = {name: p for group in groups for name, p in group.parameters.items()}
    if about["steps_taken"].keys() != parameters.keys():
        raise InputError(
            f"{path}: a checkpoint of other parameters than the {len(parameters)} here.",
            way_out="Delete it, and the stage starts from its beginning.",
        )
    try:
        file: Any = safe_open(path.with_suffix(".safetensors"), "pt")
    except SafetensorError as error:  # its checksum was right: it was written so
        raise InputError(f"{path}: {error}.", way_out="Delete it.") from None
    with file, torch.no_grad():
        keys: dict[str, list[str]] = {}
        for key in file.keys():  # noqa: SIM118 - not a dict
            kind, _, name = key.partition(":")
            keys.setdefault(name, []).append(kind)
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(f"parameter:{name}"))
            if taken := about["steps_taken"][name]:
                kinds = [kind for kind in keys[name] if kind != "parameter"]
                state = {kind: file.get_tensor(f"{kind}:{name}") for kind in kinds}
                load_state(optimizer, parameter, taken, state)
    losses: list[float] = about["losses"]
    return losses


def _about_crc32(about: dict[str, Any]) -> int:
    """CRC-32 of what the JSON says, whatever its spaces."""
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def _crc32(path: Path) -> int:
    """CRC-32 of a file: chance damage shows, and a GB takes about a second."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found = zlib.crc32(block, found)
    return found
