"""The packed body of a model on disk: packed once, read at every later start.

To pack Mixtral-8x7B means to read 93 GB and to round 46 G numbers; what comes of it is 24 GB. A
cache is a folder of safetensors shards with the four parts of every matrix under its published
name, and `packed.json`: what it was made of, and a CRC-32 of each matrix. It is written while a
first load packs, beside its place, and renamed at the end: killed half-way it is not there. Each
matrix is checked as it is read. A cache that is damaged, or of something else, is told and made
again; one that cannot be read just now, or cannot be written, is told, and the load goes on
without. So a cache may cost time and disk (4.13 bits a number), and never changes a bit of what is
loaded.

Memory, beside the model: one matrix as it is stored, and while a cache is written the packed
matrices of one shard, 256 MB.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InputError, LingraftError, LockedError
from .folders import hold_place, model_fingerprint
from .manifest import canonical_json
from .models import ModelFolder
from .nf4 import BLOCK, GROUP, PARTS, Packed, packed_bytes, quantize
from .store import require_space, write_json
from .weights import SafetensorsFile, TensorEntry, write_shard

if TYPE_CHECKING:
    import torch

__all__ = ["PACKING", "Pack", "PackedCache", "body_entries", "open_cache", "pack_anew"]

_ROUTER = ".gate.weight"
_Made = TypeVar("_Made")
Pack = Callable[[str, Callable[[], "torch.Tensor"]], Packed]
"""Gives a matrix packed, by its published name and a function that reads it as it is stored."""

PACKING = 1
"""Version of what `nf4.quantize` gives. Raise it whenever that gives other bits than before."""
_FORMAT = "lingraft.packed/1"
_INDEX = "packed.json"
_SHARD_BYTES = 1 << 28


def pack_anew(name: str, read: Callable[[], torch.Tensor]) -> Packed:
    """Pack a matrix without a cache."""
    return quantize(read())


def body_entries(files: ModelFolder) -> list[TensorEntry]:
    """Give the matrices that are packed: those of the layers, but routers."""
    return [
        entry
        for entry in files.all_entries()
        if ".layers." in entry.name and len(entry.shape) > 1 and not entry.name.endswith(_ROUTER)
    ]


def open_cache(
    place: Path, files: ModelFolder, device: torch.device, note: Callable[[str], None]
) -> PackedCache:
    """Name the cache of a model in a folder that may hold those of many.

    A model is known by its manifest's digest, or else its config and headers, and in either case
    by the sizes and times of its files: a manifest does not see that they were written over.
    Copied or touched, a model is packed anew.

    Args:
        place: Where caches are; made when one is written.
        files: The model.
        device: Where matrices are packed: a CPU's and a GPU's are kept apart.
        note: Told what is read, made or wrong.
    """
    stats = [(files.path / shard).stat() for shard in files.shards]
    times = "".join(f" {stat.st_size}:{stat.st_mtime_ns}" for stat in stats)
    source = model_fingerprint(files) + times
    identity = {"packing": PACKING, "source": source, "device": device.type}
    key = hashlib.sha256(canonical_json(identity).encode()).hexdigest()
    return PackedCache(place / f"nf4-{key[:16]}", identity, files, device, note)


class _DamagedError(Exception):
    """A cache is not what was written; never leaves this module."""


class _UnreadableError(Exception):
    """A cache may be whole, and cannot be read just now; never leaves this module."""


@dataclass(frozen=True)
class PackedCache:
    """The cache of one model, there or not; see `open_cache`."""

    folder: Path
    identity: dict[str, Any]
    files: ModelFolder
    device: torch.device
    note: Callable[[str], None]

    @property
    def draft(self) -> Path:
        """Where it is written, until it is whole."""
        return self.folder.with_name(f".draft-{self.folder.name}")

    def build(
        self,
        make: Callable[[Pack], _Made],
        *,
        writes: bool = True,
        decided: Callable[[bool], object] = bool,
    ) -> _Made:
        """Have a model built from kept matrices, or from ones that are packed anew, and kept.

        Args:
            make: Builds the model from what it is given. It is called a second time where a
                matrix turns out to be damaged.
            writes: Whether this process may make the cache.
            decided: Told before each making of the model whether what is packed is kept.
        """
        seen = self.stamp()
        try:
            if (kept := self._open()) is not None:
                decided(False)
                return make(kept.packed)
        except _UnreadableError as error:
            self.note(
                f"WARNING: {self.folder}: the packed body cannot be read ({error}); packed anew "
                "this once."
            )
            decided(False)
            return make(pack_anew)
        except _DamagedError as error:
            self.note(f"WARNING: {self.folder}: the packed body is damaged ({error}); packed anew.")
        if not writes:
            decided(False)
            return make(pack_anew)
        with self._writing(seen) as writer:
            decided(writer is not None)
            return make(writer.packed if writer else pack_anew)

    def stamp(self) -> tuple[int, int] | None:
        """Tell one making of the cache from another; None: there is none."""
        try:
            stat = (self.folder / _INDEX).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def _open(self) -> _Kept | None:
        """Read the index.

        Raises:
            _DamagedError: It is not what was written.
            _UnreadableError: It cannot be read just now.
        """
        try:
            if not self.folder.exists():
                return None
            index = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
            found, matrices = index["identity"], dict(index["matrices"])
            is_known = index["format"] == _FORMAT
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise _DamagedError(_told(error)) from None
        except OSError as error:
            raise _UnreadableError(_told(error)) from None
        if not is_known or found != self.identity:
            self.note(f"WARNING: {self.folder}: holds another model's packed body; packed anew.")
            return None
        self.note(f"packed body read from {self.folder}")
        return _Kept(self, matrices)

    @contextmanager
    def _writing(self, seen: tuple[int, int] | None) -> Iterator[_Writer | None]:
        """Give what keeps matrices as they are packed; None where they cannot be kept."""
        with ExitStack() as stack:
            writer = self._open_writer(stack, seen)
            try:
                yield writer
                if writer:
                    writer.finish()
            finally:
                if writer:
                    writer.clear()

    def _open_writer(self, stack: ExitStack, seen: tuple[int, int] | None) -> _Writer | None:
        size_bytes = sum(packed_bytes(entry.num_items) for entry in body_entries(self.files))
        try:
            stack.enter_context(hold_place(self.folder))
            if self.stamp() != seen:
                self.note(
                    f"{self.folder}: made by another process meanwhile; packed anew this once"
                )
                return None
            self._clear_place()
            require_space(self.folder, size_bytes)
            self.draft.mkdir(parents=True)
        except LockedError:
            self.note(f"{self.folder}: another process is making it; packed anew this once")
            return None
        except LingraftError as error:
            self.tell_not_kept(error.what)
            return None
        except OSError as error:
            self.tell_not_kept(f"{error.filename or self.folder}: {error.strerror}.")
            return None
        return _Writer(self)

    def _clear_place(self) -> None:
        """Make room for a new one.

        What was there is moved aside first: a reader finds it whole or not at all, and where it
        cannot be moved, as another user's, that shows before anything is packed.
        """
        aside = self.folder.with_name(f".former-{self.folder.name}")
        for left in (self.draft, aside):  # by a killed run
            shutil.rmtree(left, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def tell_not_kept(self, why: str) -> None:
        """Tell that loading goes on, and what it will cost."""
        self.note(f"WARNING: the packed body is not kept, and the next start packs anew: {why}")


class _Kept:
    """Reads matrices from a cache, and checks each."""

    def __init__(self, cache: PackedCache, matrices: dict[str, Any]) -> None:
        self._cache, self._matrices = cache, matrices
        self._shards: dict[int, SafetensorsFile] = {}

    def packed(self, name: str, read: Callable[[], torch.Tensor]) -> Packed:
        """Give a matrix; `read` is not needed.

        Raises:
            _DamagedError: It is missing, or not what was written.
            _UnreadableError: It cannot be read just now.
        """
        shape = self._cache.files.entry(name).shape
        if name not in self._matrices:
            raise _DamagedError(f"matrix '{name}' is missing")
        try:
            number, crc32 = self._matrices[name]
            parts = self._parts(int(number), name, shape)
        except (InputError, FileNotFoundError, TypeError, ValueError) as error:
            raise _DamagedError(f"matrix '{name}': {_told(error)}") from None
        except OSError as error:
            raise _UnreadableError(f"matrix '{name}': {_told(error)}") from None
        if _crc32(parts) != crc32:
            raise _DamagedError(f"matrix '{name}': its bytes are not those that were written")
        codes, constants, group_maxima, mean = (part.to(self._cache.device) for part in parts)
        return Packed(codes, constants, group_maxima, mean, shape)

    def _parts(self, number: int, name: str, shape: tuple[int, ...]) -> list[torch.Tensor]:
        if number not in self._shards:
            self._shards[number] = SafetensorsFile(self._cache.folder / _shard_name(number))
        shard, parts = self._shards[number], []
        for entry in _entries(name, shape):
            if shard.entries.get(entry.name) != entry:
                raise ValueError("is of another shape")
            parts.append(shard.read(entry.name, 0, entry.num_items).reshape(entry.shape))
        return parts


class _Writer:
    """Packs matrices, and keeps them in shards as soon as one is full."""

    def __init__(self, cache: PackedCache) -> None:
        self._cache = cache
        self._draft = cache.draft
        self._waiting: dict[str, Packed] = {}
        self._matrices: dict[str, tuple[int, int]] = {}
        self._num_shards = self._size_bytes = 0
        self._is_kept = True

    def packed(self, name: str, read: Callable[[], torch.Tensor]) -> Packed:
        """Pack a matrix and keep it."""
        packed = quantize(read())
        if self._is_kept:
            self._waiting[name] = packed
            if sum(waiting.size_bytes for waiting in self._waiting.values()) >= _SHARD_BYTES:
                self._write(self._write_shard)
        return packed

    def finish(self) -> None:
        """Write what is left and put the cache into its place."""
        if self._is_kept:
            self._write(self._rename)

    def clear(self) -> None:
        """Remove what was not finished."""
        shutil.rmtree(self._draft, ignore_errors=True)

    def _write(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self._cache.tell_not_kept(f"{error.filename or self._draft}: {error.strerror}.")
            self._is_kept = False
            self._waiting.clear()
            self.clear()

    def _write_shard(self) -> None:
        self._num_shards += 1
        tensors: dict[str, torch.Tensor] = {}
        entries: list[TensorEntry] = []
        for name, packed in self._waiting.items():
            parts = [part.cpu() for part in packed.parts]
            own = _entries(name, packed.shape)
            entries += own
            tensors |= {entry.name: part for entry, part in zip(own, parts, strict=True)}
            self._matrices[name] = self._num_shards, _crc32(parts)
            self._size_bytes += packed.size_bytes
        path = self._draft / _shard_name(self._num_shards)
        write_shard(path, entries, lambda entry: tensors[entry.name])
        self._waiting.clear()

    def _rename(self) -> None:
        if self._waiting:
            self._write_shard()
        cache = self._cache
        about = {"format": _FORMAT, "model": str(cache.files.path), "identity": cache.identity}
        write_json(self._draft / _INDEX, {**about, "matrices": self._matrices})
        self._draft.rename(cache.folder)
        cache.note(f"packed body kept in {cache.folder}: {self._size_bytes / 1e9:.2f} GB")


def _told(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _shard_name(number: int) -> str:
    return f"packed-{number:05d}.safetensors"


def _entries(name: str, shape: tuple[int, ...]) -> list[TensorEntry]:
    """Describe the four parts of a packed matrix, in the order of `PARTS`."""
    num_items = math.prod(shape)
    blocks = num_items // BLOCK
    sizes = (("U8", num_items // 2), ("U8", blocks), ("F32", math.ceil(blocks / GROUP)))
    shapes = [*((dtype, (size,)) for dtype, size in sizes), ("F32", ())]
    return [
        TensorEntry(f"{name}.{part}", *about) for part, about in zip(PARTS, shapes, strict=True)
    ]


def _crc32(parts: list[torch.Tensor]) -> int:
    """CRC-32 of four parts: chance damage shows, and a GB takes about a second."""
    import torch

    found = 0
    for part in parts:
        found = zlib.crc32(part.contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return found
