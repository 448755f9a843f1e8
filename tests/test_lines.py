"""Lines of files, plain and packed, and where a file that is not whole breaks off."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lingraft import lines
from lingraft.errors import InputError
from lingraft.lines import Span, TextLine, count_lines, first_line, read_blocks, read_lines


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def texts_of(path: Path) -> list[str]:
    return [line.text for line in read_lines(path)]


def test_lines_have_numbers_from_1_and_no_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "一\r\n\nb\rc\u2028d\n".encode())
    assert list(read_lines(path)) == [
        TextLine(1, "一", 14),
        TextLine(2, "", 14),
        TextLine(3, "b\rc\u2028d", 14),
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_an_empty_file_has_no_lines(tmp_path: Path, name: str) -> None:
    assert texts_of(write(tmp_path / name, b"")) == []


def test_a_byte_order_mark_belongs_to_no_line_but_elsewhere_it_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeffa\n\ufeffb\n".encode())
    assert texts_of(path) == ["a", "\ufeffb"]


def pack(data: bytes, suffix: str) -> bytes:
    """Pack as two frames, cut at an arbitrary byte."""
    one, two = data[: len(data) // 3], data[len(data) // 3 :]
    match suffix:
        case ".gz":
            return gzip.compress(one) + gzip.compress(two)
        case ".zst":
            return zstandard.compress(one) + zstandard.compress(two)
        case _:
            return data


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))),
    suffix=st.sampled_from(["", ".gz", ".zst"]),
    block=st.integers(1, 40),
    ended=st.booleans(),
)
def test_lines_read_back_whatever_the_blocks_are(
    texts: list[str],
    suffix: str,
    block: int,
    ended: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    texts = ["first", *texts, "last"]
    data = ("\n".join(texts) + ("\n" if ended else "")).encode()
    path = write(tmp_path_factory.mktemp("a") / f"a.txt{suffix}", pack(data, suffix))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block)
        assert [(n, t) for n, t, _ in read_lines(path)] == list(enumerate(texts, 1))
        positions = [b.position for b in read_blocks(path)]
    assert positions == sorted(positions)
    assert positions[-1] <= path.stat().st_size


def test_endings_of_packed_files_may_be_capitals(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path / "A.TXT.GZ", gzip.compress(b"a"))) == ["a"]


def test_zeros_after_a_gzip_frame_are_padding(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path / "a.gz", gzip.compress(b"a\n") + bytes(512))) == ["a"]


def test_a_gzip_file_of_zeros_alone_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.gz:1: not a whole"):
        texts_of(write(tmp_path / "a.gz", bytes(512)))


def test_zstd_frames_to_be_skipped_are_skipped(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    packed = skipped + zstandard.compress(b"a\n") + skipped
    assert texts_of(write(tmp_path / "a.zst", packed)) == ["a"]


def test_zstd_files_with_a_long_window_are_read(tmp_path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    path = write(tmp_path / "a.zst", packer.compress(b"a\nb\n") + packer.flush())
    assert texts_of(path) == ["a", "b"]


NUMBERS = "".join(f"{n} {n * n * 7919 % 1000003}\n" for n in range(1, 100_001)).encode()
"""About 1.3 MB, so that the packed data is several blocks."""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cut.gz", gzip.compress(NUMBERS)[:-9]),
        ("cut.zst", zstandard.compress(NUMBERS)[:-3]),
    ],
)
def test_a_cut_file_is_refused_after_its_last_whole_line(
    tmp_path: Path, name: str, data: bytes
) -> None:
    path = write(tmp_path / name, data)
    whole: list[TextLine] = []
    with pytest.raises(InputError) as caught:
        whole.extend(read_lines(path))
    assert len(whole) > 50_000
    place = f"{path}:{len(whole) + 1}"
    assert str(caught.value).startswith(f"{place}: not a whole {path.suffix} file")
    assert "Fetch or pack the file again." in caught.value.way_out


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_cut_at_a_frame_of_whole_lines_names_the_next_line(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    path = write(tmp_path / f"a{suffix}", compress(b"a\nb\n") + compress(b"c\nd\n")[:-5])
    with pytest.raises(InputError, match=rf"a\{suffix}:[345]: not a whole"):
        texts_of(path)


@pytest.mark.parametrize("name", ["not.gz", "not.zst"])
def test_what_is_not_packed_is_refused_at_line_1(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}:1: not a whole"):
        texts_of(write(tmp_path / name, b"plain text, and more of it"))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_waste_after_the_last_frame_is_refused(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.compress
    with pytest.raises(InputError, match=r":3: not a whole"):
        texts_of(write(tmp_path / f"a{suffix}", compress(b"a\nb\n") + b"<html>error</html>"))


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("好\n".encode() + "好\n".encode("gb18030"), "2: byte 1 of the line is 0xba"),
        (b"\xff\xfea\x00", "1: byte 1 of the line is 0xff"),
        ("a\r\n\nb好".encode()[:-1] + b"\nc", "3: byte 2 of the line is 0xe5"),
        ("a\nb好".encode()[:-1], "2: byte 2 of the line is 0xe5"),
    ],
)
@pytest.mark.parametrize("block", [3, 1 << 17])
def test_a_byte_that_is_not_utf8_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, place: str, block: int
) -> None:
    monkeypatch.setattr(lines, "_BLOCK_BYTES", block)
    with pytest.raises(InputError, match=rf"a\.txt:{place}; expected UTF-8"):
        texts_of(write(tmp_path / "a.txt", data))


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.txt: cannot be read: No such file"):
        texts_of(tmp_path / "absent.txt")


@given(
    data=st.text("a中\n\r", max_size=60),
    cuts=st.lists(st.integers(0, 200), max_size=4),
    block_bytes=st.integers(1, 9),
)
def test_spans_that_follow_each_other_hold_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, data: str, cuts: list[int], block_bytes: int
) -> None:
    path = write(tmp_path_factory.mktemp("spans") / "a.txt", data.encode())
    size_bytes = path.stat().st_size
    bounds = sorted({0, size_bytes, *(cut for cut in cuts if cut < size_bytes)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BLOCK_BYTES", block_bytes)
        whole = [line for block in read_blocks(path) for line in block.lines]
        parts = [
            line
            for begin, end in itertools.pairwise(bounds)
            for block in read_blocks(path, Span(begin, end))
            for line in block.lines
        ]
        assert parts == whole
        assert count_lines(path, size_bytes) == data.count("\n")


def test_only_the_start_of_a_file_can_have_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a\n\ufeffb\n".encode())
    block = next(read_blocks(path, Span(2, 6), first=7))
    assert (block.first, block.lines) == (7, ["\ufeffb"])


@given(data=st.text("a中\n", max_size=40), begin=st.integers(0, 60))
def test_the_first_line_of_a_span_has_the_number_it_has_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: str, begin: int
) -> None:
    path = write(tmp_path_factory.mktemp("spans") / "a.txt", data.encode())
    span = Span(begin, max(begin, path.stat().st_size))
    numbered = {(line.number, line.text) for line in read_lines(path)}
    first = first_line(path, span)
    for block in read_blocks(path, span, first):
        assert set(enumerate(block.lines, block.first)) <= numbered


def test_lines_that_are_not_utf8_can_be_given_with_what_they_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "好\n".encode() + b"a\xffb\n")
    block = next(read_blocks(path, keep_broken=True))
    assert (block.lines, block.is_broken) == (["好", "a\udcffb"], True)
    assert not next(read_blocks(write(path, b"a\n"), keep_broken=True)).is_broken
