"""Documents of one unit, sorted into buckets by their ids, in one compressed file.

A bucket holds the documents whose digests lie in one of `num_buckets` equal ranges, so buckets in
order hold documents in the order of their ids, however many there are. Documents are buffered up
to a fixed total; then each bucket's go to the file as one chunk. An index tells which chunks
belong to a bucket.

    chunk   a zstd frame: rows of `RECORD`, then the texts as JSON strings, end to end
    index   rows of int64: bucket, place in the file, packed bytes, unpacked bytes, documents

Texts are kept as they will be written, so that they are put into JSON once only.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

__all__ = ["RECORD", "BucketWriter", "Chunk", "bucket_of", "read_bucket"]

RECORD = np.dtype(
    [
        ("high", "<u8"),
        ("low", "<u8"),
        ("number", "<u4"),
        ("kept", "<u4"),
        ("piece", "<u4"),
        ("line", "<u8"),
        ("num_chars", "<u8"),
        ("size_bytes", "<u8"),
        ("row_bytes", "<u8"),
    ]
)
"""A document: both halves of its digest's first 16 bytes, its number among all documents of its
unit and among the kept ones, the piece and line where it begins, its characters, its UTF-8 bytes,
the bytes of its JSON string."""

_BUFFER_BYTES = 1 << 26
_LEVEL = 1
_RECORD_BYTES = 200  # of a waiting record, as Python keeps it
_COLUMNS = 5
_HALVES = struct.Struct(">QQ")


class Chunk(NamedTuple):
    """Documents of one bucket that follow each other in a unit."""

    records: npt.NDArray[Any]
    texts: memoryview
    """Their JSON strings, end to end."""


def bucket_of(digest: bytes, num_buckets: int) -> int:
    """Give the bucket of a digest."""
    high, _ = _HALVES.unpack_from(digest)
    return int(high) * num_buckets >> 64


class BucketWriter:
    """Takes the documents of a unit, in order."""

    def __init__(self, file: BinaryIO, num_buckets: int) -> None:
        """Write chunks to `file`."""
        self._file, self._num_buckets = file, num_buckets
        self._packer = zstandard.ZstdCompressor(level=_LEVEL)
        self._waiting: defaultdict[int, tuple[list[tuple[Any, ...]], list[bytes]]]
        self._waiting = defaultdict(lambda: ([], []))
        self._waiting_bytes = self._place = 0
        self._index: list[tuple[int, ...]] = []

    def add(self, digest: bytes, text: bytes, *columns: int) -> None:
        """Take one document.

        Args:
            digest: sha256 of its text.
            text: The text as a JSON string.
            *columns: `number` to `size_bytes` of its record.
        """
        high, low = _HALVES.unpack_from(digest)
        records, texts = self._waiting[high * self._num_buckets >> 64]
        records.append((high, low, *columns, len(text)))
        texts.append(text)
        self._waiting_bytes += len(text) + _RECORD_BYTES
        if self._waiting_bytes >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> npt.NDArray[np.int64]:
        """Write what waits; give the index, sorted by bucket."""
        self._flush()
        rows = np.array(sorted(self._index), np.int64)
        return rows.reshape(len(self._index), _COLUMNS)

    def _flush(self) -> None:
        for bucket in sorted(self._waiting):
            records, texts = self._waiting.pop(bucket)
            content = b"".join((np.array(records, RECORD).tobytes(), *texts))
            packed = self._packer.compress(content)
            self._file.write(packed)
            self._index.append((bucket, self._place, len(packed), len(content), len(records)))
            self._place += len(packed)
        self._waiting_bytes = 0


def read_bucket(rows: Path, index: Path, bucket: int) -> Iterator[Chunk]:
    """Read the documents of one bucket from the files of one unit, in the order of the unit."""
    table = np.load(index, mmap_mode="r", allow_pickle=False)
    begin, end = np.searchsorted(table[:, 0], [bucket, bucket + 1])
    if begin == end:
        return
    unpacker = zstandard.ZstdDecompressor()
    with rows.open("rb") as file:
        for _, place, packed_bytes, content_bytes, num_docs in table[begin:end].tolist():
            file.seek(place)
            content = unpacker.decompress(file.read(packed_bytes), content_bytes)
            texts = memoryview(content)[num_docs * RECORD.itemsize :]
            yield Chunk(np.frombuffer(content, RECORD, num_docs), texts)
