"""What a search refuses: one message each, with file and line, and nothing half-written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from searches import search_files, search_words
from small_tokenizers import build, without_bytes

from lingraft.cli_vocab import parse_counts, parse_evals
from lingraft.errors import UsageError
from lingraft.vocab.command import parse_memory


def damage(place: Path) -> None:
    """Write files that cannot be read."""
    good = '{"text": "天地"}\n'.encode()
    rows = {
        "empty.jsonl": b"",
        "english.jsonl": b'{"text": "no such script"}\n',
        "digits.jsonl": b'{"text": "1 + 2"}\n',
        "latin1.jsonl": good + '{"text": "é"}\n'.encode("latin-1"),
        "broken.jsonl": good * 2 + b'{"text": \n',
        "list.jsonl": b"[1]\n",
        "column.jsonl": good + b'{"body": "x"}\n',
        "number.jsonl": b'{"text": 5}\n',
        "plain.jsonl.gz": b"not packed",
        "text.doc": b"what is this",
    }
    for name, content in rows.items():
        (place / name).write_bytes(content)
    packed = zstandard.compress(b"".join(b'{"text": "%d"}\n' % n for n in range(5000)))
    (place / "cut.jsonl.zst").write_bytes(packed[: len(packed) // 2])
    pq.write_table(pa.table({"body": ["x"]}), place / "column.parquet")
    (place / "no_bytes.model").write_bytes(build(change=without_bytes))
    (place / "noise.model").write_bytes(b"\x00\x01\x02")
    (place / "file").write_text("", encoding="utf-8")


BAD: list[tuple[dict[str, str | None], int, str]] = [
    ({"corpus": "empty.jsonl"}, 1, r"empty\.jsonl: no letters in the first 200 documents"),
    ({"corpus": "empty.jsonl", "scripts": "Han"}, 1, r"empty\.jsonl: no document in 1 file"),
    ({"corpus": "digits.jsonl"}, 1, r"digits\.jsonl: no letters"),
    (
        {"corpus": "english.jsonl", "scripts": "Han"}, 1,
        r"english\.jsonl: no character of the scripts \(Han\)",
    ),
    ({"eval": "a=empty.jsonl"}, 1, "evaluation text 'a' has no text"),
    ({"eval": "a=english.jsonl"}, 1, "evaluation text 'a' has no character of the scripts"),
    ({"max_size": "20"}, 2, "the largest size, 20, is below the number of single characters, 60"),
    ({"max_size": "-1", "chars": None}, 2, "max_size = -1: expected 0 to"),
    ({"chars": "30,9999", "max_size": "10000"}, 1, "9,999 single characters to add"),
    ({"chars": "some"}, 2, "--chars some: expected numbers between commas"),
    ({"size": "121"}, 2, "size 121 is outside 0 to 120"),
    ({"num_chars": "31"}, 2, r"num-chars 31 is none of the counts that are searched \(30, 60\)"),
    ({"base": "no_bytes.model"}, 1, r"no_bytes\.model: .*byte"),
    ({"base": "noise.model"}, 1, r"noise\.model: "),
    ({"base": "absent.model"}, 2, r"absent\.model"),
    ({"corpus": "latin1.jsonl"}, 1, r"latin1\.jsonl:2: byte 11 of the line is 0xe9"),
    ({"eval": "a=latin1.jsonl"}, 1, r"latin1\.jsonl:2: byte 11 of the line is 0xe9"),
    ({"corpus": "cut.jsonl.zst"}, 1, r"cut\.jsonl\.zst:\d+: not a whole \.zst file"),
    ({"corpus": "plain.jsonl.gz"}, 1, r"plain\.jsonl\.gz:1: not a whole \.gz file"),
    ({"corpus": "broken.jsonl"}, 1, r"broken\.jsonl:3: not JSON"),
    ({"corpus": "list.jsonl"}, 1, r"list\.jsonl:1: a JSON list"),
    ({"corpus": "column.jsonl"}, 1, r"column\.jsonl:2: no column 'text' \(there are: 'body'\)"),
    ({"corpus": "number.jsonl"}, 1, r"number\.jsonl:1: column 'text' is 5"),
    ({"corpus": "zh.jsonl", "text_key": "body"}, 1, r"zh\.jsonl:1: no column 'body'"),
    ({"corpus": "column.parquet"}, 1, r"column\.parquet: no column 'text'"),
    ({"corpus": "text.doc"}, 2, r"text\.doc: the ending tells no format"),
    ({"corpus": "absent.jsonl"}, 2, r"'absent\.jsonl': no text file there"),
    ({"eval": "a=absent.jsonl"}, 2, r"'absent\.jsonl': no text file there"),
    ({"eval": "eval.jsonl"}, 2, "--eval eval.jsonl: expected NAME=FILE"),
    ({"eval": None}, 2, "Missing option '--eval'"),
    ({"corpus": None}, 2, "Missing option '--corpus'"),
    ({"memory": "lots"}, 2, "memory 'lots': not an amount"),
    ({"memory": "100MB"}, 2, "memory '100MB': below 512 MiB"),
    ({"jobs": "0"}, 2, "jobs = 0: expected 1 to"),
    ({"cut": "-3"}, 2, "cut = -3: expected 0 to"),
    ({"rule": "taste"}, 2, "rule 'taste': expected gain or knee"),
    ({"min_count": "1"}, 2, "min_count = 1: "),
    ({"scripts": "Hann"}, 2, "no Unicode script 'Hann'. Did you mean 'Han'"),
    ({"frobnicate": "1"}, 2, "No such option"),
    ({"out": "file"}, 2, "file: cannot be made a folder"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    BAD,
    ids=[" ".join(f"{k}={v}" for k, v in changes.items()) for changes, _, _ in BAD],
)
def test_bad_input_ends_in_one_message_and_nothing_half_written(
    place: Path,
    run: Callable[..., Any],
    changes: dict[str, str | None],
    code: int,
    message: str,
) -> None:
    damage(place)
    found, _, err = run(*search_words(**changes))
    told = " ".join(err.split())
    assert re.search(message, told), err
    assert "Traceback" not in err
    assert found == code
    written = [p.name for p in (place / "out").glob("*")] if (place / "out").is_dir() else []
    assert set(written) <= {".lock", ".work"}


def test_an_unknown_option_of_the_function_is_refused_with_the_nearest(place: Path) -> None:
    with pytest.raises(UsageError, match=r"no option 'min_gains'\.\n.*Did you mean 'min_gain'"):
        search_files(min_gains=1)
    with pytest.raises(UsageError, match="There are: ban, "):
        search_files(zzz=1)


def test_no_evaluation_text_and_no_counts_are_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="no evaluation text"):
        search_files(eval={})
    with pytest.raises(UsageError, match="chars is empty"):
        search_files(chars=[])


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("2GB", 2 * 10**9), ("1.5GiB", 3 << 29), ("800 mb", 8 * 10**8), (1 << 30, 1 << 30)],
)
def test_amounts_of_memory_are_read(text: str | int, size_bytes: int) -> None:
    assert parse_memory(text) == size_bytes


def test_counts_and_evaluation_texts_are_read_from_words() -> None:
    assert parse_counts("4451, 5_435") == [4451, 5435]
    assert parse_counts(" ") is None
    assert parse_evals(["x=a.txt", "b.txt", "y=c=d.txt"]) == {
        "x": ["a.txt", "b.txt"],
        "y": ["c=d.txt"],
    }
