"""Overlap with benchmarks, and the files that those come in."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus.collecting import Collected
from lingraft.corpus.grams import find_tokens
from lingraft.corpus.items import Item, find_benchmarks, read_items
from lingraft.corpus.methods import OverlapSettings
from lingraft.corpus.overlap import PARTS, Overlap
from lingraft.errors import InputError, UsageError

QUESTION = (
    "Which of the three bridges that cross the river near the old mill was built before the war?"
)
CHINESE = "下列关于在老磨坊附近横跨河流的三座桥梁的说法中，哪一座是在战争爆发之前建成的"
ROW = {"question": QUESTION, "choices": ["the northern one", "the southern one"], "answer": 0}


def write_jsonl(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def index_of(folder: Path, *rows: Any, **options: Any) -> Overlap:
    path = write_jsonl(folder / "quiz.jsonl", *(rows or (ROW,)))
    return Overlap.build(OverlapSettings(benchmarks=[str(path)], **options))


def found(overlap: Overlap, *texts: str) -> list[str]:
    return overlap.find(texts, find_tokens(texts))


# What overlaps


def test_a_text_with_13_words_of_a_question_overlaps_its_benchmark(tmp_path: Path) -> None:
    words = QUESTION.split()
    assert len(words) == 18
    thirteen, twelve = " ".join(words[3:16]), " ".join(words[3:15])
    texts = [f"He asked: {thirteen} again", f"He asked: {twelve} again", "Nothing of it."]
    assert found(index_of(tmp_path), *texts) == ["quiz", "", ""]


def test_layout_case_and_punctuation_do_not_matter(tmp_path: Path) -> None:
    text = "\n".join(QUESTION.upper().rstrip("?").split())
    assert found(index_of(tmp_path), text) == ["quiz"]


def test_a_question_goes_on_into_each_of_its_answers(tmp_path: Path) -> None:
    words = QUESTION.split()[-10:]
    texts = [f"{' '.join(words)} {answer}" for answer in ("The southern one", "No other one")]
    assert found(index_of(tmp_path), *texts) == ["quiz", ""]


def test_a_long_answer_is_looked_for_too(tmp_path: Path) -> None:
    answer = " ".join(f"word{n}" for n in range(20))
    overlap = index_of(tmp_path, {"question": "Why?", "answer": answer})
    assert found(overlap, " ".join(answer.split()[5:18])) == ["quiz"]


def test_without_spaces_22_characters_must_agree(tmp_path: Path) -> None:
    chars = CHINESE.replace("，", "")
    texts = [f"他问{chars[5:27]}吗", f"他问{chars[5:26]}吗", f"他问，{chars[5:15]}，{chars[15:27]}"]
    assert found(index_of(tmp_path, {"question": CHINESE}), *texts) == ["quiz", "", "quiz"]


@pytest.mark.parametrize(
    ("question", "num_tokens"),
    [("one two three four five six seven eight", 8), ("这座老桥是在战争之前建成的吗", 14)],
)
def test_a_short_question_is_looked_for_as_a_whole(
    tmp_path: Path, question: str, num_tokens: int
) -> None:
    assert len(find_tokens([question]).tokens_T) == num_tokens
    overlap = index_of(tmp_path, {"question": question})
    texts = [f"So: {question}.", question[1:], question[:-1]]
    assert found(overlap, *texts) == ["quiz", "", ""]


def test_shorter_questions_and_short_answers_are_not_looked_for(tmp_path: Path) -> None:
    seven = "one two three four five six seven"
    overlap = index_of(tmp_path, {"question": seven}, ROW)
    assert overlap.num_items == {"quiz": 1}
    assert found(overlap, seven, "the southern one") == ["", ""]


def test_the_lengths_are_settings(tmp_path: Path) -> None:
    overlap = index_of(tmp_path, gram_words=4, min_words=2)
    assert found(overlap, "near the old mill", "near the mill") == ["quiz", ""]
    overlap = index_of(tmp_path, {"question": "短问题"}, gram_chars=10, min_chars=3)
    assert found(overlap, "一个短问题呢") == ["quiz"]


def test_the_item_is_told(tmp_path: Path) -> None:
    overlap = index_of(tmp_path, {"question": CHINESE}, ROW)
    tokens = find_tokens(["none", QUESTION])
    assert overlap.find_items(tokens) == ["", f"{tmp_path / 'quiz.jsonl'}:2"]


def test_of_two_benchmarks_with_the_same_item_the_first_is_told(tmp_path: Path) -> None:
    paths = [str(write_jsonl(tmp_path / name, ROW)) for name in ("b.jsonl", "a.jsonl")]
    overlap = Overlap.build(OverlapSettings(benchmarks=paths))
    assert found(overlap, QUESTION) == ["b"]


def test_the_digest_tells_other_items_lengths_and_names(tmp_path: Path) -> None:
    def digest(*rows: Any, name: str = "quiz", **options: Any) -> str:
        path = write_jsonl(tmp_path / f"{name}.jsonl", *rows)
        return Overlap.build(OverlapSettings(benchmarks=[str(path)], **options)).digest

    same = [digest(ROW), digest(ROW)]
    other = [digest({"question": CHINESE}), digest(ROW, name="test"), digest(ROW, gram_words=12)]
    assert same[0] == same[1]
    assert len({same[0], *other}) == 4


def test_the_index_knows_its_size(tmp_path: Path) -> None:
    assert index_of(tmp_path).size_bytes > 1 << 17


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=14), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from("abc"), max_size=30), max_size=5),
    st.integers(3, 9),
    st.integers(2, 9),
)
def test_overlap_is_that_of_a_plain_search(
    questions: list[list[str]], documents: list[list[str]], gram: int, least: int
) -> None:
    options = OverlapSettings(benchmarks=["x"], gram_words=gram, min_words=least)
    collected = Collected(options)
    items = [Item(str(n), " ".join(words), ()) for n, words in enumerate(questions)]
    if not collected.add("x", items):
        return
    texts = [" ".join(words) for words in documents]
    wanted = {tuple(q[k : k + gram]) for q in questions for k in range(len(q) - gram + 1)}
    wanted |= {tuple(q) for q in questions if min(least, gram) <= len(q) < gram}
    expected = [
        any(tuple(d[k : k + n]) in wanted for n in range(1, gram + 1) for k in range(len(d)))
        for d in documents
    ]
    overlap = Overlap.of(collected, {"x": len(items)})
    assert [name == "x" for name in found(overlap, *texts)] == expected


def test_a_benchmark_without_long_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of its 1 items is long enough"):
        index_of(tmp_path, {"question": "Why?"})
    options = OverlapSettings(benchmarks=[str(write_jsonl(tmp_path / "none.jsonl"))])
    with pytest.raises(InputError, match="none of its 0 items"):
        Overlap.build(options)


# Files


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "Question", "A", "B", "Answer"])
        writer.writeheader()
        writer.writerow({"id": 0, "Question": "q", "A": "one", "B": "two\nlines", "Answer": "A"})


def write_arrow(path: Path) -> None:
    table = pa.Table.from_pylist([{"question": "q", "choices": ["one", "two\nlines"]}])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


LINES = json.dumps({"query": "q", "choices": ["one", "two\nlines"]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", write_csv),
        ("a.arrow", write_arrow),
        ("a.jsonl", lambda path: path.write_bytes(LINES)),
        ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(LINES))),
        ("a.ndjson.zst", lambda path: path.write_bytes(zstandard.compress(LINES))),
        ("a.json", lambda path: path.write_bytes(b"[" + LINES.strip() + b"]")),
        (
            "a.parquet",
            lambda path: pq.write_table(
                pa.Table.from_pylist(
                    [{"ctx": "q", "endings": {"text": ["one", "two\nlines"], "label": ["A", "B"]}}]
                ).rename_columns(["ctx", "choices"]),
                path,
            ),
        ),
    ],
)
def test_each_kind_of_file_gives_questions_and_answers(
    tmp_path: Path, name: str, write: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    write(path)
    items = list(read_items(path))
    assert [
        (item.question, item.answers[-2:] if name != "a.csv" else item.answers[1:])
        for item in items
    ] == [("q", ("one", "two\nlines"))]
    assert items[0].where == f"{path}:{2 if name == 'a.csv' else 1}"


@pytest.mark.parametrize(
    ("name", "pack"), [("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.bz2", bz2.compress)]
)
def test_lines_of_text_are_items(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(pack("一\n\n二\n".encode()))
    assert [item.question for item in read_items(path)] == ["一", "", "二"]


@pytest.mark.parametrize(
    ("row", "question", "answers"),
    [
        (
            {"doc": {"query": "q", "choices": ["a"]}, "request": {"context": "five shots"}},
            "q",
            ("a",),
        ),
        (
            {"sentence": "s _ t", "option1": "x", "option2": "y", "answer": "1"},
            "s _ t",
            ("1", "x", "y"),
        ),
        ({"context_options": ["x so", "y so"], "continuation": "z"}, "x so", ("y so", "z")),
        ({"question": "", "ctx": "c", "label": 3}, "c", ()),
        ({"question": "q", "answer": 3, "explanation": "because"}, "q", ("because",)),
        ({"question": None}, "", ()),
    ],
)
def test_rows_of_known_benchmarks_are_understood(
    tmp_path: Path, row: Any, question: str, answers: tuple[str, ...]
) -> None:
    item = next(read_items(write_jsonl(tmp_path / "a.jsonl", row)))
    assert (item.question, item.answers) == (question, answers)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"q": 1, "x": 2}\n', "a.jsonl:1: no question .*there are: q, x"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: no question .*there are: none"),
        ("a.csv", b"What is it?,one,two,A\nWhy?,one,two,B\n", "a table needs a header"),
        ("a.jsonl", b"{\n", "cannot be read as items"),
        ("a.json", b"{", "cannot be read as items"),
        ("a.csv", b"question\n\xff\n", "cannot be read as items"),
        ("a.parquet", b"PAR1", "cannot be read as items"),
        ("a.arrow", b"ARROW", "cannot be read as items"),
        ("a.txt.bz2", b"BZh9", "cannot be read as items"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_items(path))


# Places


def test_a_folder_of_folders_holds_a_benchmark_in_each(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "two" / "test" / "b.jsonl", ROW)
    write_jsonl(tmp_path / "two" / "dev" / "a.jsonl", ROW)
    write_jsonl(tmp_path / "one" / "x.jsonl", ROW)
    (tmp_path / "LICENSE").write_text("free", encoding="utf-8")
    (tmp_path / "one" / ".hidden.jsonl").write_text("{", encoding="utf-8")
    found = find_benchmarks([str(tmp_path)])
    names = {name: [p.relative_to(tmp_path).as_posix() for p in files] for name, files in found}
    assert names == {"one": ["one/x.jsonl"], "two": ["two/dev/a.jsonl", "two/test/b.jsonl"]}


def test_a_folder_of_splits_and_a_file_are_one_benchmark(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "quiz" / "test" / "b.jsonl", ROW)
    write_jsonl(tmp_path / "hard.v2.jsonl", ROW)
    places = [str(tmp_path / "quiz"), str(tmp_path / "hard.v2.jsonl")]
    assert [benchmark.name for benchmark in find_benchmarks(places)] == ["quiz", "hard"]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["none"], "nothing there"),
        (["empty"], "no file in .* has a known ending"),
        (["a/x", "b/x"], "'x' comes twice, the second time from .*b/x"),
    ],
)
def test_places_that_give_no_benchmark_are_refused(
    tmp_path: Path, places: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    write_jsonl(tmp_path / "a" / "x" / "1.jsonl", ROW)
    write_jsonl(tmp_path / "b" / "x" / "1.jsonl", ROW)
    with pytest.raises(UsageError, match=message):
        find_benchmarks([str(tmp_path / place) for place in places])


def test_the_benchmarks_beside_the_project_are_read(shared_data: Path) -> None:
    places = [str(shared_data / "evals" / name) for name in ("ceval", "gsm8k", "truthfulqa")]
    overlap = Overlap.build(OverlapSettings(benchmarks=places))
    assert list(overlap.num_items) == ["ceval", "gsm8k", "truthfulqa"]
    assert overlap.num_items["gsm8k"] == 7473 + 1319
    test = next(read_items(shared_data / "evals" / "gsm8k" / "test.jsonl"))
    assert found(overlap, f"Q: {test.question}") == ["gsm8k"]


def test_every_benchmark_beside_the_project_is_understood(shared_data: Path) -> None:
    benchmarks = find_benchmarks([str(shared_data / "evals")])
    assert [benchmark.name for benchmark in benchmarks] == [
        "arc", "ceval", "cmmlu", "gsm8k", "hellaswag", "mmlu", "truthfulqa", "winogrande",
    ]  # fmt: skip
    for benchmark in benchmarks:
        firsts = [next(read_items(path), None) for path in benchmark.files]
        assert any(item is not None and item.question for item in firsts)


def test_an_index_that_is_loaded_finds_the_same(tmp_path: Path) -> None:
    overlap = index_of(
        tmp_path, ROW, {"question": CHINESE}, {"question": "one two three four " * 2}
    )
    paths = {end: tmp_path / end for end in PARTS}
    overlap.save(paths)
    loaded = Overlap.load(paths)
    assert (loaded.digest, loaded.num_items) == (overlap.digest, overlap.num_items)
    texts = [QUESTION, CHINESE, "One, two, three, four, one, two, three, four.", "Nothing of it."]
    assert found(loaded, *texts) == found(overlap, *texts) == ["quiz", "quiz", "quiz", ""]
    with pytest.raises(AssertionError, match="knows none"):
        loaded.find_items(find_tokens(texts))
