"""Web archives of extracted text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lingraft.corpus.wet import read_wet
from lingraft.errors import InputError
from lingraft.texts import BAD_ROW


def record(text: str | bytes, kind: str = "conversion", mime: str = "text/plain") -> bytes:
    data = text.encode() if isinstance(text, str) else text
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.org/\r\n"
        f"WARC-Date: 2024-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:1>\r\n"
        f"Content-Type: {mime}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data + b"\r\n\r\n"


INFO = record("software: x\r\n", "warcinfo", "application/warc-fields")


def write(path: Path, *records: bytes) -> Path:
    packed = path.name.endswith(".gz")
    path.write_bytes(b"".join(gzip.compress(r) if packed else r for r in records))
    return path


@pytest.mark.parametrize("name", ["a.warc.wet.gz", "a.warc.wet"])
def test_each_conversion_is_a_document(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, INFO, record("一篇\n文章\n"), record(""), record("another"))
    docs = list(read_wet(path))
    assert [(doc.text, doc.line) for doc in docs] == [("一篇\n文章\n", 2), ("", 3), ("another", 4)]
    assert docs[-1].position == path.stat().st_size


def test_a_file_packed_as_a_whole_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.wet.gz"
    path.write_bytes(gzip.compress(INFO + record("one") + record("two")))
    assert [doc.text for doc in read_wet(path)] == ["one", "two"]


def test_an_empty_file_holds_no_documents(tmp_path: Path) -> None:
    assert list(read_wet(write(tmp_path / "a.wet"))) == []
    assert list(read_wet(write(tmp_path / "a.wet.gz", INFO))) == []


@pytest.mark.parametrize(("lost", "number"), [(3, 3), (15, 2), (40, 2)])
def test_a_packed_file_cut_short_is_told(tmp_path: Path, lost: int, number: int) -> None:
    path = write(tmp_path / "a.wet.gz", INFO, record("one"), record("two " * 9))
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(InputError, match=f"after record {number} begins, it cannot be unpacked"):
        list(read_wet(path))


def test_a_packed_file_of_which_only_the_start_is_there_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wet.gz", INFO)
    path.write_bytes(path.read_bytes()[:15])
    with pytest.raises(InputError, match="at once, it cannot be unpacked"):
        list(read_wet(path))


def test_a_plain_file_cut_short_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wet", INFO, record("one"), record("two"))
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputError, match="record 3 has 1 of 3 bytes"):
        list(read_wet(path))


def test_damage_inside_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wet.gz", INFO, record("one" * 99), record("two"))
    data = bytearray(path.read_bytes())
    middle = len(gzip.compress(INFO)) + 40
    data[middle : middle + 30] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(InputError, match="record"):
        list(read_wet(path))


def test_a_wrong_length_is_told(tmp_path: Path) -> None:
    wrong = record("one two three").replace(b"Content-Length: 13", b"Content-Length: 3")
    path = write(tmp_path / "a.wet", INFO, wrong, record("next"))
    with pytest.raises(InputError, match="record"):
        list(read_wet(path))
    path = write(tmp_path / "b.wet", INFO, wrong)
    with pytest.raises(InputError, match="after record 2"):
        list(read_wet(path))


@pytest.mark.parametrize("data", [b"no archive\n", b"\x00\x01\x02", b"{}\n"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.wet"
    path.write_bytes(data)
    with pytest.raises(InputError, match="record 1 is no WARC record"):
        list(read_wet(path))


@pytest.mark.parametrize(
    ("kind", "mime"),
    [
        ("response", "application/http; msgtype=response"),
        ("resource", "text/html"),
        ("conversion", "application/pdf"),
    ],
)
def test_pages_as_they_were_fetched_are_refused(tmp_path: Path, kind: str, mime: str) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"
    path = write(tmp_path / "a.wet.gz", INFO, record(page, kind, mime))
    with pytest.raises(InputError, match=r"(?s)record 2 is a .*trafilatura") as caught:
        list(read_wet(path))
    assert kind in str(caught.value)


def test_a_record_that_is_not_utf8_stops_or_is_given_to_be_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wet", record("好"), record("好".encode("gb18030")), record("ok"))
    with pytest.raises(InputError, match=r"record 2: byte 1 of its text is 0xba"):
        list(read_wet(path))
    docs = list(read_wet(path, keep_bad=True))
    assert [doc.drop for doc in docs] == ["", BAD_ROW, ""]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        list(read_wet(tmp_path / "none.wet"))
