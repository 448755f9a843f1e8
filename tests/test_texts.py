"""Documents of users' files: found by name, read by ending."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.errors import InputError, UsageError
from lingraft.texts import BAD_ROW, RawDocument, find_texts, read_texts


def write(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def texts_of(path: Path, text_key: str = "text") -> list[str]:
    return [doc.text for doc in read_texts(path, text_key)]


def names_of(folder: Path, *names: str) -> list[str]:
    found = find_texts([str(folder / name) for name in names])
    return [path.relative_to(folder).as_posix() for path in found]


# Found by name


def test_a_folder_gives_known_files_in_order_of_name_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in [
        "b.txt",
        "a/z.jsonl.zst",
        "a.parquet",
        "C.NDJSON.GZ",
        "en.json.gz",
        "readme.md",
        "x.json",
        ".d.txt",
        ".git/e.txt",
    ]:
        write(tmp_path / name, b"")
    assert names_of(tmp_path, ".") == [
        "C.NDJSON.GZ",
        "a.parquet",
        "a/z.jsonl.zst",
        "b.txt",
        "en.json.gz",
    ]


def test_a_folder_whose_own_path_is_hidden_is_searched(tmp_path: Path) -> None:
    write(tmp_path / ".cache" / "a.txt", b"")
    assert names_of(tmp_path, ".cache") == [".cache/a.txt"]


def test_each_file_is_given_once_where_it_was_named_first(tmp_path: Path) -> None:
    for name in ["a.txt", "b.txt", "sub/c.txt"]:
        write(tmp_path / name, b"")
    assert names_of(tmp_path, "b.txt", "sub/../a.txt", "*", "sub") == [
        "b.txt",
        "sub/../a.txt",
        "sub/c.txt",
    ]


def test_a_pattern_gives_its_matches_in_order_of_name(tmp_path: Path) -> None:
    for name in ["b/1.txt", "a/2.txt", "a/3.jsonl", "a/deep/4.txt"]:
        write(tmp_path / name, b"")
    assert names_of(tmp_path, "*/*.txt") == ["a/2.txt", "b/1.txt"]
    assert names_of(tmp_path, "**/*.txt") == ["a/2.txt", "a/deep/4.txt", "b/1.txt"]


def test_a_file_is_taken_as_named_before_its_name_is_taken_as_a_pattern(tmp_path: Path) -> None:
    for name in ["a[1].txt", "a1.txt"]:
        write(tmp_path / name, b"")
    assert names_of(tmp_path, "a[1].txt") == ["a[1].txt"]


def test_a_link_stays_as_it_is_named(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "0123", "a\n")
    (tmp_path / "a.txt").symlink_to(blob)
    assert names_of(tmp_path, "a.txt") == ["a.txt"]


def test_the_home_folder_may_be_written_as_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt", b"")
    assert find_texts(["~/a.txt"]) == [tmp_path / "a.txt"]


@pytest.mark.parametrize("name", ["absent.txt", "*.jsonl", "empty"])
def test_a_name_that_gives_nothing_is_refused_with_the_known_endings(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path / "empty" / "readme.md", b"")
    with pytest.raises(UsageError, match="no text file there") as caught:
        find_texts([str(tmp_path / name)])
    assert name in caught.value.what
    assert ".jsonl.zst" in caught.value.way_out


def test_an_empty_name_is_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.txt", b"")
    with pytest.raises(UsageError, match="'': no text file there"):
        find_texts([""])


@pytest.mark.parametrize("call", [lambda path: find_texts([str(path)]), read_texts])
def test_a_file_whose_ending_says_nothing_is_refused(
    tmp_path: Path, call: Callable[[Path], object]
) -> None:
    path = write(tmp_path / "a.pdf", b"")
    with pytest.raises(UsageError, match=r"a\.pdf: the ending tells no format") as caught:
        call(path)
    assert ".parquet" in caught.value.way_out


def test_a_name_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: File name too long"):
        find_texts([str(tmp_path / ("x" * 999))])


def test_a_folder_that_cannot_be_listed_is_told_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.txt", b"")
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="closed cannot be read: Permission denied"):
        find_texts([str(tmp_path)])


# Read by ending

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff"))


@given(
    texts=st.lists(ANY_TEXT),
    name=st.sampled_from(
        [f"a{ending}{packed}" for ending in (".jsonl", ".ndjson") for packed in PACK]
        + ["a.json.gz"]
    ),
    key=st.sampled_from(["text", "正文"]),
    ascii_only=st.booleans(),
)
def test_json_lines_give_back_any_texts(
    texts: list[str],
    name: str,
    key: str,
    ascii_only: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = [json.dumps({"n": 1, key: text}, ensure_ascii=ascii_only) + "\n" for text in texts]
    packed = PACK.get(Path(name).suffix, bytes)("".join(rows).encode())
    path = write(tmp_path_factory.mktemp("a") / name, packed)
    assert texts_of(path, key) == texts


@given(texts=st.lists(LINE), packed=st.sampled_from(list(PACK)))
def test_plain_text_gives_back_any_lines_but_blank_ones(
    texts: list[str], packed: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = PACK[packed]("".join(f"{text}\n" for text in texts).encode())
    path = write(tmp_path_factory.mktemp("a") / f"a.txt{packed}", data)
    assert [(doc.text, doc.line) for doc in read_texts(path)] == [
        (text, n) for n, text in enumerate(texts, 1) if text.strip()
    ]


@settings(deadline=None)
@given(texts=st.lists(ANY_TEXT), group=st.integers(1, 3))
def test_tables_give_back_any_texts(
    texts: list[str], group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.parquet"
    pq.write_table(pa.table({"body": pa.array(texts, pa.string())}), path, row_group_size=group)
    assert texts_of(path, "body") == texts


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.ndjson", "a.txt", "a.txt.zst"]
)
def test_an_empty_file_has_no_documents(tmp_path: Path, name: str) -> None:
    assert texts_of(write(tmp_path / name, b"")) == []


def test_a_document_tells_where_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "中文"}\r\n\n \t{"text": "b", "x": 1} \n\u3000\n')
    assert list(read_texts(path)) == [
        RawDocument("中文", 1, path.stat().st_size),
        RawDocument("b", 3, path.stat().st_size),
    ]


def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", r'{"text": "a\ud83d\uDE00b\ud83dc\uDE00"}')
    assert texts_of(path) == ["a😀b\ufffdc\ufffd"]
    assert [doc.num_surrogates for doc in read_texts(path)] == [2]


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
def test_texts_of_a_table_are_read_however_they_are_stored(
    tmp_path: Path, kind: pa.DataType
) -> None:
    texts = ["中文", "", "b", "b", "中文"]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array(texts, kind)}), path, row_group_size=2)
    assert pa.types.is_dictionary(
        pq.read_schema(path).field("text").type
    ) == pa.types.is_dictionary(kind)
    assert texts_of(path) == texts
    column = pa.array(["b", None], pa.string()).cast(kind)
    pq.write_table(pa.table({"text": column}), path)
    with pytest.raises(InputError, match="row 2: an empty cell"):
        texts_of(path)


def test_a_long_row_gives_its_text_whole(tmp_path: Path) -> None:
    long = "ab 中 " * 300_000
    rows = [json.dumps({"text": text}) for text in ("a", long, "b")]
    assert texts_of(write(tmp_path / "a.jsonl", "\n".join(rows))) == ["a", long, "b"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "a"', "not JSON"),
        ('{"text": "a"} {"text": "b"}', "not JSON: Extra data"),
        ("\u3000{}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"text": ' + "1" * 5000 + "}", "not JSON"),
        ('["a"]', "a JSON list"),
        ('{"body": "a", "id": 1}', r"no column 'text' \(there are: 'body', 'id'\)"),
        ("{}", r"no column 'text' \(there are: none\)"),
        ('{"text": null}', "column 'text' is null"),
        ('{"text": 12}', "column 'text' is 12"),
    ],
)
def test_a_bad_row_is_named_with_file_line_and_way_out(
    tmp_path: Path, row: str, message: str
) -> None:
    path = write(tmp_path / "a.jsonl", f'{{"text": "good"}}\n{row}\n')
    with pytest.raises(InputError, match=rf"a\.jsonl:2: .*{message}") as caught:
        texts_of(path)
    assert "text_key" in caught.value.way_out


@pytest.mark.parametrize(
    ("column", "name", "message"),
    [
        (pa.array(["a"]), "body", "no column 'text'"),
        (pa.array([1]), "text", "column 'text' holds int64"),
        (pa.array([b"a"]), "text", "column 'text' holds binary"),
        (pa.array(["a", "b", None]), "text", "row 3: an empty cell"),
        (pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False), "text", "after row 0"),
    ],
)
def test_a_table_without_text_is_refused(
    tmp_path: Path, column: pa.Array, name: str, message: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: column}), path)
    with pytest.raises(InputError, match=message):
        texts_of(path)


def test_a_table_with_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(1000)]}), path)
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    with pytest.raises(InputError, match="after row 0: not a readable Parquet file"):
        texts_of(write(path, bytes(data)))


@pytest.mark.parametrize("data", [b"", b"plain text"])
def test_what_is_no_table_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="not a readable Parquet file"):
        texts_of(write(tmp_path / "a.parquet", data))


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.parquet"])
def test_a_file_that_is_gone_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        texts_of(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (b"{", "{"),
        (b'{"txt": 1}', '{"txt": 1}'),
        (b'{"text": "\xe4\xb8"}', '{"text": "\ufffd\ufffd"}'),
    ],
)
def test_a_bad_row_may_be_given_to_be_counted(tmp_path: Path, row: bytes, shown: str) -> None:
    good = '{"text": "好"}'.encode()
    path = write(tmp_path / "a.jsonl", b"\n".join([good, row, good]))
    docs = list(read_texts(path, keep_bad=True))
    assert [(d.text, d.line, d.drop) for d in docs] == [
        ("好", 1, ""),
        (shown, 2, BAD_ROW),
        ("好", 3, ""),
    ]


def test_a_broken_line_and_an_empty_cell_may_be_given_to_be_counted(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", "好\n".encode() + b"\xff\n")
    assert [(d.text, d.drop) for d in read_texts(lines, keep_bad=True)] == [
        ("好", ""),
        ("\ufffd", BAD_ROW),
    ]
    pq.write_table(pa.table({"text": ["a", None, ""]}), tmp_path / "a.parquet")
    docs = list(read_texts(tmp_path / "a.parquet", keep_bad=True))
    assert [(d.text, d.line, d.drop) for d in docs] == [
        ("a", 1, ""),
        ("", 2, BAD_ROW),
        ("", 3, ""),
    ]


def test_real_files_read_whole(shared_data: Path) -> None:
    path = shared_data / "corpora" / "zh-eval" / "wiki.jsonl.zst"
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        assert texts_of(path) == [json.loads(line)["text"] for line in file]
