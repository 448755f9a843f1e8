"""`lingraft.corpus.stats`: what is known, what is counted, and what does not fit together."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_tokenizers import BY_HAND, build

import lingraft
from lingraft.corpus.counting import length_histogram
from lingraft.corpus.registry import write_registry
from lingraft.corpus.tables import dropped_view, list_view, sizes_view, tokens_view
from lingraft.corpus.tallies import SplitTally, TokenTally, read_tally, sum_splits
from lingraft.corpus.totals import StatsResult
from lingraft.errors import DiskFullError, InputError, UsageError
from lingraft.exact import Encoder
from lingraft.shards import IndexedFile, IndexedTokenizer, TokenIndex, write_tokens

TEXTS = {"zh-train": ["中文嗨", "abc", ""], "zh-valid": ["abc abc"]}
# "abc" is ▁ abc; "中文嗨" is ▁ 中文 and three bytes; "abc abc" is ▁ abc ▁ abc.
TOKENS = {"zh-train": 5 + 2, "zh-valid": 4}
CHARS = {"zh-train": 6, "zh-valid": 7}
BYTES = {"zh-train": 12, "zh-valid": 7}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A registry of one set of two splits, its documents and a tokenizer."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "datasets.toml").write_text(
        write_registry(["zh"], ["train", "valid"]), encoding="utf-8"
    )
    for name, texts in TEXTS.items():
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    (tmp_path / "ours.model").write_bytes(build((*BY_HAND, ("▁abc", -20.0))))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.model"
    path.write_bytes(build())
    return path


def write_stats(folder: Path, **changes: Any) -> None:
    splits = {
        split: {
            "num_docs": len(TEXTS[f"zh-{split}"]),
            "num_chars": CHARS[f"zh-{split}"],
            "size_bytes": BYTES[f"zh-{split}"],
        }
        for split in ("train", "valid")
    }
    found = {
        "language": "zh",
        "num_docs_read": 7,
        "dropped": {"too_short": 2, "duplicate": 1},
        "splits": splits,
        **changes,
    }
    (folder / "stats.json").write_text(json.dumps({"sets": {"zh": found}}), encoding="utf-8")


def write_folder(folder: Path, names: list[str], num_docs: int = 2, num_empty: int = 1) -> None:
    """Write token files of documents of three ids each, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name in names:
        write_tokens(folder / f"{name}.npy", [[1, 5, 2]] * num_docs, 300)
        np.save(folder / f"{name}.bytes.npy", np.full(num_docs, 6, np.uint32))
        entry = IndexedFile(
            name=name, source="x", num_docs=num_docs, num_empty=num_empty,
            total_tokens=3 * num_docs, size_bytes=6 * num_docs, sha256={},
        )  # fmt: skip
        entries.append(entry)
    tokenizer = IndexedTokenizer(name="mix", digest="d" * 64, vocab_size=300, bos_id=1, eos_id=2)
    index = TokenIndex.build(tokenizer, entries)
    (folder / "index.json").write_text(index.model_dump_json(), encoding="utf-8")


def write_saved(folder: Path, rows: list[list[int]], column: str = "input_ids") -> None:
    """Write what `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    table = pa.table({column: rows})
    with pa.ipc.new_stream(str(folder / "data-0.arrow"), table.schema) as stream:
        stream.write_table(table)
    state = {"_data_files": [{"filename": "data-0.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def split_of(result: StatsResult, split: str = "train") -> dict[str, Any]:
    return dict(result.stats["sets"]["zh"]["splits"][split])


def tokens_of(result: StatsResult, split: str = "train") -> list[tuple[str, int, str]]:
    found = split_of(result, split).get("tokens", [])
    return [(one["tokenizer"], one["total_tokens"], one["how"]) for one in found]


# --- counted now


def test_halves_of_surrogate_pairs_are_counted_by_set(place: Path) -> None:
    assert "num_surrogates" not in lingraft.corpus.stats(place, count=True).stats["sets"]["zh"]
    for split, row in (("train", r"\ud83d and \ude00"), ("valid", r"\ud83d\ude00 \udc00")):
        path = place / f"zh-{split}.jsonl"
        path.write_text(f'{{"text": "{row}"}}\n', encoding="utf-8")
    result = lingraft.corpus.stats(place, count=True)
    assert result.record["sets"]["zh"]["num_surrogates"] == 3
    assert result.tally.sets["zh"].num_surrogates == 3


def test_halves_that_were_replaced_before_are_still_told(place: Path) -> None:
    write_stats(place, num_surrogates=4)
    assert lingraft.corpus.stats(place, count=True).tally.sets["zh"].num_surrogates == 4


def test_documents_are_counted_with_each_tokenizer(place: Path, base: Path) -> None:
    ours = base.with_name("ours.model")
    result = lingraft.corpus.stats(place, tokenizers=[base, f"mine={ours}"])
    # "▁abc" joins each "abc" with its space: one token less a word.
    assert tokens_of(result) == [("base", 7, "counted"), ("mine", 6, "counted")]
    assert tokens_of(result, "valid") == [("base", 4, "counted"), ("mine", 2, "counted")]
    train = split_of(result)
    assert (train["num_docs"], train["num_chars"], train["size_bytes"]) == (3, 6, 12)
    assert train["tokens"][0]["tokens_per_char"] == 7 / 6
    assert train["tokens"][0]["tokens_per_byte"] == 7 / 12
    assert [one.encoder for one in result.tokenizers] == ["compiled", "compiled"]
    assert result.record["tokenizers"][0]["digest"] == Encoder(base).base.digest


def test_lengths_are_counted_with_the_documents(place: Path) -> None:
    result = lingraft.corpus.stats(place, count=True)
    # Characters: 3, 3, 0 and 7; edges 0, 1, 2, 4, 8.
    expected = {"edges": [0, 1, 2, 4, 8], "counts": [1, 0, 2, 1]}
    assert result.stats["sets"]["zh"]["chars_histogram"] == expected
    assert tokens_of(result) == []


def test_a_histogram_has_an_edge_at_each_power_of_two() -> None:
    assert length_histogram(Counter({2: 5, 4: 1})) == {"edges": [2, 4, 8, 16], "counts": [5, 0, 1]}
    assert length_histogram(Counter()) == {"edges": [0], "counts": []}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_threads_do_not_change_the_result(
    place: Path, base: Path, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.streaming._BATCH_CHARS", 4)
    result = lingraft.corpus.stats(place, tokenizers=base, jobs=jobs)
    assert tokens_of(result) == [("base", 7, "counted")]


def test_the_references_own_registry_and_files_without_ending_are_counted(
    tmp_path: Path, base: Path
) -> None:
    name = "DKYoon-SlimPajama-6B"
    root = tmp_path / "data/en" / name
    root.mkdir(parents=True)
    (tmp_path / "data/datasets.toml").write_text(
        f'[{name}]\nsplits = ["train", "dev"]\nroot = "{{DATA_DIR}}/en/{{name}}"\n'
        'doc = "{name}-{split}"\nencoded = "encoded-{name}-{split}"\n',
        encoding="utf-8",
    )
    (root / f"{name}-train.jsonl").write_text('{"text": "abc"}\n', encoding="utf-8")
    (root / f"{name}-dev").write_text('{"text": "abc abc"}\n', encoding="utf-8")
    write_saved(root / f"encoded-{name}-train", [[1, 2, 3], [4]])
    result = lingraft.corpus.stats(tmp_path / "data/datasets.toml", tokenizers=base)
    splits = result.stats["sets"][name]["splits"]
    found = {s: [(t["how"], t["total_tokens"]) for t in splits[s]["tokens"]] for s in splits}
    assert found == {"train": [("encoded", 4), ("counted", 2)], "dev": [("counted", 4)]}


def test_another_column_can_be_counted(place: Path) -> None:
    (place / "zh-valid.jsonl").write_text('{"body": "abc"}\n', encoding="utf-8")
    (place / "zh-train.jsonl").write_text('{"body": "ab"}\n', encoding="utf-8")
    assert split_of(lingraft.corpus.stats(place, count=True, text_key="body"))["num_chars"] == 2
    with pytest.raises(InputError, match="no column 'text'"):
        lingraft.corpus.stats(place, count=True)


def test_documents_that_are_not_there_are_told(place: Path) -> None:
    (place / "zh-valid.jsonl").unlink()
    result = lingraft.corpus.stats(place, count=True)
    assert result.notes == (
        f"zh, valid: no documents at {place / 'zh-valid.jsonl'}; nothing was counted.",
    )
    assert "chars_histogram" not in result.stats["sets"]["zh"]
    (place / "zh-train.jsonl").unlink()
    with pytest.raises(InputError, match="there are no documents to count"):
        lingraft.corpus.stats(place, count=True)


def test_a_tokenizer_that_is_not_compiled_is_told(place: Path, base: Path) -> None:
    # Unigram models go through sentencepiece.
    def unigram(proto: Any) -> None:
        proto.trainer_spec.model_type = 1

    base.write_bytes(build(change=unigram))
    result = lingraft.corpus.stats(place, tokenizers=base)
    assert result.notes[0].startswith("base: encoded by sentencepiece: ")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["a/tokenizer.model", "b/tokenizer.json"], ["a", "b"]),
        (["x.model", "m=a/tokenizer.model"], ["x", "m"]),
        (["owner/name-2.1"], ["name-2.1"]),
        (["."], ["."]),
    ],
)
def test_tokenizers_are_named_after_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], names: list[str]
) -> None:
    from lingraft.corpus.totals import _split_name

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.model").touch()
    assert [_split_name(word)[0] for word in words] == names


def test_two_tokenizers_of_one_name_are_refused(place: Path, base: Path) -> None:
    with pytest.raises(UsageError, match="two tokenizers are called 'base'"):
        lingraft.corpus.stats(place, tokenizers=[base, base])


# --- token files


def test_tokens_of_token_files_need_no_reading(place: Path) -> None:
    write_folder(place, ["zh-train", "zh-valid"])
    result = lingraft.corpus.stats(place)
    assert tokens_of(result) == [("mix", 6, "encoded")]
    assert split_of(result)["num_docs"] == 3  # an empty one was left out
    assert split_of(result)["tokens"][0]["tokens_per_byte"] == 6 / 12


def test_a_token_file_without_an_index_does_not_tell_its_tokenizer(place: Path) -> None:
    write_tokens(place / "zh-train.npy", [[1, 2]], 300)
    np.save(place / "zh-train.bytes.npy", np.array([4], np.uint32))
    write_tokens(place / "zh-valid.npy", [[1], [2]], 300)
    result = lingraft.corpus.stats(place)
    assert tokens_of(result) == [("", 2, "encoded")]
    assert split_of(result)["size_bytes"] == 4
    assert split_of(result, "valid")["size_bytes"] is None


def test_a_token_file_that_another_index_tells_of_is_read_alone(place: Path) -> None:
    write_folder(place, ["other"])
    write_tokens(place / "zh-train.npy", [[1, 2]], 300)
    assert tokens_of(lingraft.corpus.stats(place)) == [("", 2, "encoded")]


def test_all_files_of_a_token_folder_are_one_split(place: Path) -> None:
    registry = (place / "datasets.toml").read_text(encoding="utf-8")
    (place / "datasets.toml").write_text(registry.replace(".npy", ""), encoding="utf-8")
    write_folder(place / "zh-train", ["part-0", "part-1"])
    result = lingraft.corpus.stats(place)
    assert tokens_of(result) == [("mix", 12, "encoded")]
    assert split_of(result)["num_docs"] == 6


def registry_of_folders(place: Path) -> Path:
    registry = (place / "datasets.toml").read_text(encoding="utf-8")
    (place / "datasets.toml").write_text(registry.replace(".npy", ""), encoding="utf-8")
    return place / "zh-train"


def test_what_datasets_saved_is_counted_by_its_rows(place: Path) -> None:
    write_saved(registry_of_folders(place), [[1, 2, 3], [], [4, 5]])
    assert tokens_of(lingraft.corpus.stats(place)) == [("", 5, "encoded")]


def test_an_empty_data_set_has_no_tokens(place: Path) -> None:
    folder = registry_of_folders(place)
    folder.mkdir()
    schema = pa.schema([("input_ids", pa.list_(pa.int32()))])
    with pa.ipc.new_stream(str(folder / "d.arrow"), schema):
        pass
    state = {"_data_files": [{"filename": "d.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert tokens_of(lingraft.corpus.stats(place)) == [("", 0, "encoded")]


@pytest.mark.parametrize("damage", ["column", "cut", "gone", "state", "keys"])
def test_a_data_set_that_cannot_be_read_is_named(place: Path, damage: str) -> None:
    folder = registry_of_folders(place)
    write_saved(folder, [[1, 2, 3]] * 1000, "ids" if damage == "column" else "input_ids")
    arrow = folder / "data-0.arrow"
    match damage:
        case "cut":
            arrow.write_bytes(arrow.read_bytes()[:900])
        case "gone":
            arrow.unlink()
        case "state":
            (folder / "state.json").write_text("{", encoding="utf-8")
        case "keys":
            (folder / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="zh-train: not a data set that can be read"):
        lingraft.corpus.stats(place)


def test_a_folder_of_something_else_is_named(place: Path) -> None:
    registry_of_folders(place).mkdir()
    with pytest.raises(InputError, match="no token files in it"):
        lingraft.corpus.stats(place)


def test_a_token_file_that_is_cut_short_is_named(place: Path) -> None:
    write_folder(place, ["zh-train", "zh-valid"])
    path = place / "zh-train.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"zh-train\.npy: not a token file"):
        lingraft.corpus.stats(place)


def test_token_files_of_another_text_are_noticed(place: Path, base: Path) -> None:
    write_folder(place, ["zh-train", "zh-valid"], num_docs=5)
    with pytest.raises(InputError, match=r"zh, train: the documents have num_docs = 3; .* says 6"):
        lingraft.corpus.stats(place, tokenizers=base)


def test_encoded_and_counted_tokens_stand_side_by_side(place: Path, base: Path) -> None:
    write_folder(place, ["zh-train"])
    (place / "zh-valid.jsonl").unlink()
    result = lingraft.corpus.stats(place, tokenizers=base)
    assert tokens_of(result) == [("mix", 6, "encoded"), ("base", 7, "counted")]
    assert split_of(result)["tokens"][0]["tokens_per_char"] == 1  # known once it is counted


# --- stats.json


def test_what_prepare_counted_is_taken_over(place: Path) -> None:
    write_stats(place)
    result = lingraft.corpus.stats(place)
    assert result.stats["sets"]["zh"]["dropped"] == {"too_short": 2, "duplicate": 1}
    assert split_of(result, "valid")["num_chars"] == 7


def test_statistics_alone_need_no_registry(place: Path, base: Path) -> None:
    write_stats(place)
    (place / "datasets.toml").unlink()
    assert split_of(lingraft.corpus.stats(place))["num_docs"] == 3
    with pytest.raises(InputError, match="there are no documents to count"):
        lingraft.corpus.stats(place, tokenizers=base)


def test_statistics_of_other_files_are_not_taken_over(place: Path, tmp_path: Path) -> None:
    write_stats(place)
    result = lingraft.corpus.stats(place, data_dir=tmp_path)
    assert "dropped" not in result.stats["sets"]["zh"]


def test_documents_that_statistics_do_not_tell_of_are_noticed(place: Path) -> None:
    write_stats(place)
    with (place / "zh-train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(InputError, match=r"num_docs = 4; its stats\.json or token file says 3"):
        lingraft.corpus.stats(place, count=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not the statistics of a corpus: file: "),
        ('{"sets": {"a": {}}}', r".*: sets\.a\.splits: Field required"),
        (
            '{"sets": {"a": {"splits": {}, "chars_histogram": {"edges": [1], "counts": [1]}}}}',
            r"sets\.a\.chars_histogram has 1 edges of 1 counts",
        ),
    ],
)
def test_statistics_that_are_none_are_named(place: Path, text: str, message: str) -> None:
    (place / "stats.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"stats.json: {message}"):
        lingraft.corpus.stats(place)


def test_a_place_without_a_registry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no registry"):
        lingraft.corpus.stats(tmp_path)


# --- sums


def tally(docs: int | None, **tokens: int) -> SplitTally:
    listed = [TokenTally(tokenizer=t, total_tokens=n, how="counted") for t, n in tokens.items()]
    return SplitTally(num_docs=docs, tokens=listed)


def test_what_one_split_does_not_tell_is_not_told_of_all() -> None:
    whole = sum_splits([tally(1, a=10, b=1), tally(2, a=20)])
    assert whole.num_docs == 3
    assert [(t.tokenizer, t.total_tokens) for t in whole.tokens] == [("a", 30)]
    assert sum_splits([tally(1), tally(None)]).num_docs is None
    assert sum_splits([]).num_docs is None


# --- tables and page


def render(view: Any) -> str:
    from rich.console import Console

    console = Console(width=400, file=io.StringIO())
    console.print(view)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_tables_tell_sizes_tokens_and_what_was_dropped(place: Path, base: Path) -> None:
    write_stats(place)
    tally = lingraft.corpus.stats(place, tokenizers=base).tally
    sizes, tokens, dropped = (
        render(view(tally)).splitlines() for view in (sizes_view, tokens_view, dropped_view)
    )
    assert sizes[2].split() == ["zh", "train", "3", "6", "12", "2"]
    assert sizes[4].split() == ["zh", "all", "4", "13", "19", "3"]
    assert tokens[3].split() == ["zh", "train", "base", "7", "1.1667", "0.5833", "counted"]
    assert tokens[5].split() == ["zh", "all", "base", "11", "0.8462", "0.5789", "counted"]
    assert dropped[2].split() == ["zh", "too_short", "2", "28.57%"]


def test_tables_of_several_sets_end_in_all_of_them() -> None:
    sets = {name: {"splits": {"train": {"num_docs": 2}}, "dropped": {"x": 1}} for name in "ab"}
    found = read_tally({"sets": sets}, "here")
    assert render(sizes_view(found)).splitlines()[-1].split() == ["all", "4", "–", "–", "–"]
    assert render(dropped_view(found)).splitlines()[2].split() == ["a", "x", "1", "–"]
    assert tokens_view(found) is None


def test_a_corpus_that_lost_nothing_has_no_table_of_it() -> None:
    assert dropped_view(read_tally({"sets": {}}, "here")) is None


def test_the_listing_tells_what_is_not_there(place: Path) -> None:
    (place / "zh-valid.jsonl").unlink()
    (place / "zh-valid").mkdir()
    for n in range(2):
        (place / f"zh-valid/{n}.txt").write_text("x", encoding="utf-8")
    write_tokens(place / "zh-valid.npy", [[1]], 300)
    train, valid = render(list_view(lingraft.corpus.list(place))).splitlines()[2:]
    assert f"{place}/zh-train.npy (not there)" in train
    assert f"{place}/zh-valid (2 files)" in valid
    assert valid.rstrip().endswith(f"{place}/zh-valid.npy")


def test_the_page_is_written_where_it_is_asked_for(place: Path, tmp_path: Path) -> None:
    write_stats(place)
    page = tmp_path / "out/stats.html"
    lingraft.corpus.stats(place, html=page)
    assert "too_short" in page.read_text(encoding="utf-8")


def test_a_page_cannot_take_the_place_of_a_folder(place: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; a file is to be written there"):
        lingraft.corpus.stats(place, html=place)


def test_a_full_disk_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("lingraft.corpus.page.write_text", fill)
    with pytest.raises(DiskFullError, match="No space left"):
        lingraft.corpus.stats(place, html=place / "stats.html")


# --- real data


@pytest.mark.slow
def test_totals_of_real_text_are_those_of_sentencepiece(shared_data: Path, tmp_path: Path) -> None:
    import sentencepiece

    from lingraft.texts import read_texts

    model = shared_data / "tokenizers/mixtral-8x7b-v0.1.tokenizer.model"
    source = shared_data / "corpora/zh/book_luxun.jsonl.zst"
    (tmp_path / "zh-train.jsonl.zst").write_bytes(source.read_bytes())
    lingraft.corpus.add(tmp_path, "zh", splits=["train"])
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    expected = sum(len(processor.encode(doc.text)) for doc in read_texts(source))
    assert tokens_of(lingraft.corpus.stats(tmp_path, tokenizers=f"m={model}")) == [
        ("m", expected, "counted")
    ]


@pytest.mark.parametrize("num_docs", [1, 7])
def test_token_files_of_before_the_corpus_was_made_again_are_refused(
    num_docs: int, place: Path
) -> None:
    write_stats(place)
    write_folder(place, ["zh-train"], num_docs=num_docs)
    message = rf"zh-train\.npy holds {num_docs + 1} documents, the documents have 3"
    with pytest.raises(InputError, match=message):
        lingraft.corpus.stats(place)
