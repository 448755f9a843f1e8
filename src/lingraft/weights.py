"""Files of weights, read and written in slices: safetensors, and `.bin` for reading.

A tensor is read by ranges of its numbers, straight from the file and not through a memory map,
so that memory holds the range that was asked for and nothing else. A shard is written behind its
header from pieces that arrive in order; other threads hash and write them meanwhile.

Source of the format: safetensors (u64 header length, JSON header, raw little-endian data).
`.bin` files are PyTorch's; they are read with `weights_only=True`, which builds tensors and runs
no code. The zip files of PyTorch 1.6 and later stay on disk (`mmap=True`); older files are read
whole.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import InputError
from .uncached import UncachedFile

if TYPE_CHECKING:
    import torch

__all__ = [
    "SLICE_ITEMS",
    "PickledFile",
    "SafetensorsFile",
    "TensorEntry",
    "WeightFile",
    "fill_shard",
    "finish_shard",
    "is_finite",
    "open_weights",
    "read_header",
    "require_finite",
    "row_slices",
    "shard_header",
    "torch_dtype",
    "write_shard",
]

_ITEM_BYTES = {
    "F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
_TORCH_NAMES = {
    "F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_ZIP_MAGIC = b"PK\x03\x04"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
SLICE_ITEMS = 1 << 21
"""Numbers that are computed on at a time: 8 MiB in float32. Larger slices leave the processor's
cache, and the C library hands their memory back to the kernel each time: three times the work."""
_PARTIAL = ".partial"


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

    @property
    def row_items(self) -> int:
        """Numbers in one row: what one index of the first dimension holds."""
        return self.num_items // self.shape[0] if self.shape and self.shape[0] else 1


class WeightFile(Protocol):
    """A file of tensors that can be read by ranges."""

    path: Path

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Its tensors by name, in the order of the data."""

    def read(self, name: str, first: int, count: int) -> torch.Tensor:
        """Read `count` numbers of a tensor from number `first` on, flat, in its own dtype."""


class SafetensorsFile:
    """A safetensors file. `read` gives memory of its own: nothing stays mapped."""

    def __init__(self, path: Path) -> None:
        """Open a file; reads the header.

        Raises:
            InputError: It is not whole, or not safetensors, or a dtype is not known here.
        """
        self.path = path
        self._offsets, self._entries = read_header(path)

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Its tensors by name, in the order of the data."""
        return self._entries

    def read(self, name: str, first: int, count: int) -> torch.Tensor:
        """Read `count` numbers of a tensor from number `first` on, flat, in its own dtype."""
        import torch

        entry = self._entries[name]
        item = _ITEM_BYTES[entry.dtype]
        buffer = torch.empty(count * item, dtype=torch.uint8)
        view = buffer.numpy().data
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._offsets[name] + first * item)
            done = 0
            while done < len(view):
                got = file.readinto(view[done:])
                if not got:
                    raise InputError(f"{self.path}: ends inside tensor '{name}'.")
                done += got
        return buffer.view(torch_dtype(entry.dtype))


class PickledFile:
    """A PyTorch `.bin` file of tensors alone; its data stays on disk until it is asked for.

    A file of the format before PyTorch 1.6 is no zip file and cannot be mapped: it is in memory.
    """

    def __init__(self, path: Path) -> None:
        """Open a file without running anything that it holds; reads nothing yet."""
        self.path = path

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        from pickle import UnpicklingError

        import torch

        with self.path.open("rb") as file:
            is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=is_zip)
        except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise InputError(
                f"{self.path}: cannot be read as tensors alone: {_first_line(error)}",
                effect="It is damaged, or loading it would run code that it holds.",
                way_out="Fetch it again; or convert it to safetensors where you trust it: "
                "save_pretrained does.",
            ) from None
        if not isinstance(content, dict) or not all(
            isinstance(value, torch.Tensor) for value in content.values()
        ):
            raise InputError(f"{self.path}: expected a table of tensors.")
        return content

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Its tensors by name, in the order of the file."""
        names = {value: key for key, value in _TORCH_NAMES.items()}
        entries = {}
        for name, tensor in self._tensors.items():
            dtype = str(tensor.dtype).removeprefix("torch.")
            _refuse_dtype(self.path, name, names.get(dtype, dtype))
            entries[name] = TensorEntry(name, names[dtype], tuple(tensor.shape))
        return entries

    def read(self, name: str, first: int, count: int) -> torch.Tensor:
        """Read `count` numbers of a tensor from number `first` on, flat, in its own dtype."""
        flat: torch.Tensor = self._tensors[name].reshape(-1)[first : first + count].clone()
        return flat


def open_weights(path: Path) -> WeightFile:
    """Open a file of weights by its ending: `.bin`, or safetensors."""
    return PickledFile(path) if path.suffix == ".bin" else SafetensorsFile(path)


def row_slices(entry: TensorEntry, items: int = SLICE_ITEMS) -> Iterator[tuple[int, int]]:
    """Cut a tensor's rows into ranges (first, last) of about `items` numbers, one row at least."""
    rows = entry.shape[0] if entry.shape else 1
    step = max(1, items // max(1, entry.row_items))
    for first in range(0, rows, step):
        yield first, min(rows, first + step)


def is_finite(numbers: torch.Tensor) -> bool:
    """Tell whether all numbers are finite; where they are, many times as fast as asking each."""
    import torch

    if not numbers.is_floating_point():
        return True
    if numbers.element_size() == 1:
        numbers = numbers.float()  # PyTorch can neither ask nor add eight bits
    # A number that is not finite makes the sum so. A sum may also leave float32's range by itself.
    total = numbers.sum(dtype=None if numbers.element_size() == 8 else torch.float32)
    return bool(total.isfinite()) or bool(numbers.isfinite().all())


def require_finite(where: str, rows: torch.Tensor, first_row: int = 0) -> None:
    """Refuse numbers that are not finite, and say in which rows they are.

    Raises:
        InputError: A number is NaN or infinite.
    """
    if is_finite(rows):
        return
    finite = (rows.float() if rows.element_size() == 1 else rows).isfinite()
    bad = (~finite).reshape(rows.shape[0], -1).any(1).nonzero().flatten()[:5] + first_row
    raise InputError(
        f"{where}: numbers that are not finite, first in row(s) "
        f"{', '.join(map(str, bad.tolist()))}.",
        effect="They would spread through whatever is computed from them.",
        way_out="Take the file from its source again, or repair these rows.",
    )


def shard_header(entries: Iterable[TensorEntry]) -> bytes:
    """Give the first bytes of a safetensors file: the header's length and the header."""
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
    return struct.pack("<Q", len(head)) + head


def fill_shard(
    path: Path,
    entries: Sequence[TensorEntry],
    pieces_of: Callable[[TensorEntry], Iterable[torch.Tensor]],
) -> str:
    """Write the content of a safetensors file beside its place; `finish_shard` puts it there.

    Args:
        path: Where the file will stand.
        entries: What to write, in order.
        pieces_of: Gives the numbers of an entry when its turn comes, in order, in pieces of any
            shape. Each piece is cast to the entry's dtype.

    Returns:
        sha256 of the file.
    """
    partial = path.with_name(path.name + _PARTIAL)
    with UncachedFile(partial) as file, ThreadPoolExecutor(1) as writer:
        file.write(memoryview(shard_header(entries)))
        pending: Future[None] | None = None
        for entry in entries:
            written = 0
            for piece in pieces_of(entry):
                data = _data_of(piece, entry)
                written += len(data)
                if pending is not None:
                    pending.result()  # at most one piece waits
                pending = writer.submit(file.write, data)
            assert written == entry.size_bytes, f"{entry} got {written} bytes"
        if pending is not None:
            pending.result()
    return file.sha256


def finish_shard(path: Path) -> None:
    """Bring a filled shard to the disk, then under its name: it is there whole or not at all."""
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def write_shard(
    path: Path,
    entries: Iterable[TensorEntry],
    tensor_of: Callable[[TensorEntry], torch.Tensor | Iterable[torch.Tensor]],
) -> str:
    """Write one safetensors file, holding one tensor, or one piece of a tensor, at a time.

    Args:
        path: The file; it is there whole or not at all.
        entries: What to write, in order.
        tensor_of: Gives the tensor of an entry when its turn comes, or its numbers in order, in
            pieces. They are cast to the entry's dtype.

    Returns:
        sha256 of the file.
    """
    import torch

    def pieces_of(entry: TensorEntry) -> Iterable[torch.Tensor]:
        given = tensor_of(entry)
        if not isinstance(given, torch.Tensor):
            return given
        assert tuple(given.shape) == entry.shape, f"{entry} got shape {tuple(given.shape)}"
        return [given]

    digest = fill_shard(path, list(entries), pieces_of)
    finish_shard(path)
    return digest


def torch_dtype(name: str) -> torch.dtype:
    """Give the dtype that safetensors calls `name`."""
    import torch

    dtype: torch.dtype = getattr(torch, _TORCH_NAMES[name])
    return dtype


def read_header(path: Path) -> tuple[dict[str, int], dict[str, TensorEntry]]:
    """Read the header of a safetensors file.

    Returns:
        Where in the file each tensor's data starts, and its entry; both in the data's order.

    Raises:
        InputError: The file is not whole, or not safetensors, or a dtype is not known here.
    """
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
    _refuse_cut(path, size_bytes)
    for begin, end, entry in rows:
        _refuse_dtype(path, entry.name, entry.dtype)
        if end - begin != entry.size_bytes:
            raise InputError(
                f"{path}: tensor '{entry.name}' has {end - begin:,} bytes; its shape "
                f"{list(entry.shape)} in {entry.dtype} needs {entry.size_bytes:,}.",
                way_out="Fetch or write the file again.",
            )
    offsets = {entry.name: 8 + length + begin for begin, _, entry in rows}
    return offsets, {entry.name: entry for *_, entry in rows}


def _data_of(piece: torch.Tensor, entry: TensorEntry) -> memoryview:
    import torch

    flat = piece.detach().to("cpu", torch_dtype(entry.dtype)).contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _refuse_cut(path: Path, size_bytes: int) -> None:
    """Notice a broken download here, not hours later when its tensors are read."""
    found_bytes = path.stat().st_size
    if found_bytes != size_bytes:
        raise InputError(
            f"{path}: {found_bytes:,} bytes; its header speaks of {size_bytes:,}.",
            effect="The tensors at its end would be missing.",
            way_out="Fetch or write the file again.",
        )


def _refuse_dtype(path: Path, name: str, dtype: str) -> None:
    if dtype not in _ITEM_BYTES:
        raise InputError(
            f"{path}: tensor '{name}' is {dtype}; expected one of {', '.join(_ITEM_BYTES)}.",
            way_out="Convert the model, as to bfloat16.",
        )
