"""Text that was extracted from a web archive: WET files, one document a `conversion` record.

The file is unpacked as other packed files are, so one cut short is noticed; what is in it is read
by `warcio`. A WARC of pages as they were fetched is refused: to find the text of HTML is another
job, which `trafilatura` or datatrove do well.

Source of the format: ISO 28500 (WARC 1.0 and 1.1); Common Crawl's WET files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..lines import unpack
from ..texts import BAD_ROW, RawDocument

__all__ = ["read_wet"]

_FETCHED = ("response", "resource", "revisit", "arc_header")


def read_wet(path: Path, text_key: str = "", *, keep_bad: bool = False) -> Iterator[RawDocument]:
    """Read the documents of a WET file, packed with gzip or not.

    Args:
        path: The file.
        text_key: Of no use: there are no columns.
        keep_bad: Whether a record that is not UTF-8 is given, with a reason to drop it.

    Raises:
        InputError: The file cannot be read, is damaged or cut short, is no WARC, or holds pages
            as they were fetched; or, unless `keep_bad`, a record is not UTF-8. The file and the
            record, counted from 1, are named.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    with _open(path) as file:
        stream = _Stream(file, path)
        records = ArchiveIterator(stream, no_record_parse=True)
        try:
            for record in records:
                stream.num_records += 1
                where = f"{path}: record {stream.num_records}"
                if records.err_count:
                    raise _damaged(where, "it begins where the one before should still go on")
                kind = record.rec_type
                if kind in _FETCHED or (kind == "conversion" and not _is_text(record.content_type)):
                    raise _no_text(where, kind, record.content_type)
                data = record.raw_stream.read()
                if len(data) != record.length:
                    raise _damaged(where, f"has {len(data):,} of {record.length or 0:,} bytes")
                if kind == "conversion":
                    yield _document(data, where, stream.num_records, file.tell(), keep_bad)
        except ArchiveLoadFailed as error:
            where = f"{path}: record {stream.num_records + 1}"
            raise _damaged(where, f"is no WARC record: {str(error)[:80]!r}") from None
        if records.err_count:
            raise _damaged(f"{path}: after record {stream.num_records}", "is something else")


class _Stream:
    """A file as warcio reads it, unpacked; damage is told, which warcio would pass over."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.num_records = 0
        self._path = path
        self._blocks = unpack(file, path.suffix.lower())

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes, however many; none at the end."""
        try:
            return next((block for block in self._blocks if block), b"")
        except (EOFError, zlib.error) as error:
            place = f"after record {self.num_records} begins" if self.num_records else "at once"
            raise _damaged(f"{self._path}: {place}, it", f"cannot be unpacked: {error}") from None


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}.", way_out="Check the path and its rights."
        ) from None


def _is_text(content_type: str | None) -> bool:
    return content_type is None or content_type.lower().startswith("text/plain")


def _document(data: bytes, where: str, number: int, position: int, keep_bad: bool) -> RawDocument:
    try:
        return RawDocument(data.decode("utf-8"), number, position)
    except UnicodeDecodeError as error:
        if keep_bad:
            return RawDocument(data.decode("utf-8", "replace"), number, position, BAD_ROW)
        raise InputError(
            f"{where}: byte {error.start + 1} of its text is 0x{data[error.start]:02x}; "
            "expected UTF-8.",
            effect="Guessing another encoding would train on wrong characters.",
            way_out="Extract the text again, as UTF-8.",
        ) from None


def _damaged(where: str, found: str) -> InputError:
    return InputError(
        f"{where} {found}.",
        effect="What follows would be missing, unseen.",
        way_out="Fetch the file again.",
    )


def _no_text(where: str, kind: str, content_type: str | None) -> InputError:
    return InputError(
        f"{where} is a '{kind}' of {content_type or 'no type'}; expected 'conversion' records of "
        "text/plain.",
        effect="Markup would be trained on as if it were text.",
        way_out="Use the WET files of the crawl, or extract the text first (trafilatura, or "
        "datatrove's WarcReader and Trafilatura) into .jsonl.",
    )
