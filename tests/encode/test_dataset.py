"""Token files as data sets: rows, workers, and a training by transformers itself."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pico import SIZES
from small_tokenizers import trained
from token_files import BOS, EOS, count_up, write_folder
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from lingraft.encode import Mixture, MixtureDataset, TokenDataset
from lingraft.errors import InputError, UsageError
from lingraft.othertokenizers import read_tokenizer
from lingraft.rows import IGNORE
from lingraft.shards import TokenFile

DOCS = [[BOS, 10, 11, EOS], [BOS, 12, EOS], [BOS, 13, 14, 15, 16, EOS], [BOS, 17, EOS]]
"""16 tokens."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "tokens", {"a": DOCS})


def column(rows: Any, key: str) -> list[list[int]]:
    return [rows[n][key].tolist() for n in range(len(rows))]


def targets(rows: Any) -> list[tuple[int, int]]:
    """Give what a model of transformers learns: the id that it sees, and the next one."""
    found = []
    for n in range(len(rows)):
        ids, labels = rows[n]["input_ids"].tolist(), rows[n]["labels"].tolist()
        found += [(a, b) for a, b in zip(ids, labels[1:], strict=False) if b != IGNORE]
    return found


def test_rows_overlap_by_a_token_so_that_each_is_predicted_once(folder: Path) -> None:
    rows = TokenDataset(folder, seq_len=6)
    assert column(rows, "input_ids") == [
        [BOS, 10, 11, EOS, BOS, 12],
        [12, EOS, BOS, 13, 14, 15],
        [15, 16, EOS, BOS, 17, EOS],
    ]
    assert column(rows, "labels")[0] == [IGNORE, 10, 11, EOS, IGNORE, 12]
    assert column(rows, "position_ids")[0] == [0, 1, 2, 3, 0, 1]
    assert sorted(targets(rows)) == sorted(p for d in DOCS for p in pairwise(d))


def test_joined_documents_predict_each_other(folder: Path) -> None:
    rows = TokenDataset(folder, 6, documents="joined")
    ids = [id for doc in DOCS for id in doc]
    assert targets(rows) == list(pairwise(ids))
    assert column(rows, "position_ids") == [[0, 1, 2, 3, 4, 5]] * 3


def test_best_fit_cuts_no_document_that_fits(folder: Path) -> None:
    rows = TokenDataset(folder, 7, pack="best-fit")
    assert column(rows, "input_ids") == [
        [*DOCS[0], *DOCS[1]],
        [*DOCS[2], 0],
        [*DOCS[3], 0, 0, 0, 0],
    ]
    assert column(rows, "position_ids")[1:] == [[0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 0, 1, 2, 3]]
    assert rows.filled_frac == 16 / 21


@settings(deadline=None, max_examples=60)  # each writes a folder
@given(
    sizes=st.lists(st.integers(0, 12), max_size=12),
    more=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    seq_len=st.integers(2, 7),
)
def test_best_fit_holds_every_token_once_and_whole_documents(
    sizes: list[int], more: list[int], seq_len: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = iter(range(100, 10_000))
    files = {
        name: [[next(ids) for _ in range(s)] for s in n] for name, n in (("a", sizes), ("b", more))
    }
    rows = TokenDataset(write_folder(tmp_path_factory.mktemp("f"), files), seq_len, pack="best-fit")
    found = [[id for id in row if id] for row in column(rows, "input_ids")]
    assert sorted(id for row in found for id in row) == list(range(100, 100 + sum(sizes + more)))
    for doc in (doc for docs in files.values() for doc in docs if 0 < len(doc) <= seq_len):
        assert any(doc == row[n : n + len(doc)] for row in found for n in range(len(row)))


def test_all_files_take_part_but_those_of_held_out_splits(tmp_path: Path) -> None:
    files = {
        "zh-train": DOCS,
        "zh-valid": [[BOS, 90, EOS]],
        "zh-test": [[BOS, 91, EOS]],
        "en": DOCS,
    }
    folder = write_folder(tmp_path, files)
    assert TokenDataset(folder, 4).names == ["zh-train", "en"]
    assert TokenDataset(folder, 4, names="zh").names == ["zh-train"]
    assert TokenDataset(folder, 4, names=["en", "zh-valid"]).names == ["en", "zh-valid"]
    assert column(TokenDataset(folder, 3, names="zh-test"), "input_ids") == [[BOS, 91, EOS]]


def test_rows_never_lie_across_two_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": [[3, 4, 5]], "empty": [], "b": [[6, 7]]})
    rows = TokenDataset(folder, 2, documents="joined")
    assert column(rows, "input_ids") == [[3, 4], [4, 5], [6, 7]]
    assert rows.filled_frac == 1


def test_rows_are_reached_by_any_index_and_by_iteration(folder: Path) -> None:
    rows = TokenDataset(folder, 6)
    assert rows[-1]["input_ids"].tolist() == rows[2]["input_ids"].tolist()
    assert rows[np.int64(1)]["input_ids"][0] == 12
    assert sum(1 for _ in rows) == 3
    for index in (3, -4):
        with pytest.raises(IndexError):
            rows[index]


def test_a_mixture_gives_each_row_of_its_pass_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": count_up(10, 5), "b-train": count_up(10, 5, 500)})
    rows = MixtureDataset(folder, ["0.5:a", "2:b"], 6, seed=3)
    assert [row.total_tokens for row in rows.rows()] == [25, 100]
    whole = TokenDataset(folder, 6, names="b")
    half = [n for n in column(rows, "input_ids") if any(9 < id < 500 for id in n)]
    twice = [n for n in column(rows, "input_ids") if n not in half]
    assert sorted(twice) == sorted(2 * column(whole, "input_ids"))
    assert len(half) == 5  # 24 targets, 5 a row
    assert 0.9 < rows.filled_frac <= 1
    again = MixtureDataset(folder, ["0.5:a", "2:b"], 6, seed=3)
    assert column(again, "labels") == column(rows, "labels")


@pytest.mark.parametrize("pack", ["stream", "best-fit"])
def test_a_data_set_is_sent_to_workers_as_paths(tmp_path: Path, pack: Any) -> None:
    folder = write_folder(tmp_path, {"a": [[BOS, *range(10, 900), EOS]] * 50})
    rows = TokenDataset(folder, 1_024, pack=pack)
    sent = pickle.dumps(rows)
    assert len(sent) < 4_000
    assert column(pickle.loads(sent), "input_ids") == column(rows, "input_ids")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_torch_give_the_same_rows(folder: Path, method: str) -> None:
    rows: Any = TokenDataset(folder, 6)
    loader: Any = torch.utils.data.DataLoader(
        rows, batch_size=2, num_workers=1, multiprocessing_context=method
    )
    batches = list(loader)
    assert torch.cat([b["input_ids"] for b in batches]).tolist() == column(rows, "input_ids")
    assert {b["labels"].dtype for b in batches} == {torch.int64}


def test_the_trainer_of_transformers_takes_rows_as_they_are(tmp_path: Path) -> None:
    """At a rate of 0, its loss is that of each document read alone."""
    docs = [[BOS, *range(10 + n, 10 + n + 3 * n), EOS] for n in range(1, 9)]
    rows = TokenDataset(write_folder(tmp_path / "t", {"a": docs}), 40, pack="best-fit")
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.3))
    nats, count = 0.0, 0
    for doc in docs:
        with torch.no_grad():
            loss = model(torch.tensor([doc]), labels=torch.tensor([doc])).loss
        nats, count = nats + float(loss) * (len(doc) - 1), count + len(doc) - 1
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        learning_rate=0.0,
        max_steps=1,
        per_device_train_batch_size=len(rows),
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    done = Trainer(model=model, args=arguments, train_dataset=rows).train()
    assert done.training_loss == pytest.approx(nats / count, rel=1e-5)


def test_ids_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(trained())
    digest = read_tokenizer(str(tmp_path / "tokenizer.model")).digest
    ours = write_folder(tmp_path / "ours", {"a": DOCS}, digest=digest)
    other = write_folder(tmp_path / "other", {"a": DOCS}, digest="f" * 64)
    assert len(TokenDataset(ours, 6, tokenizer=tmp_path / "tokenizer.model")) == 3
    for make in (TokenDataset, lambda *a, **k: MixtureDataset(a[0], ["1:a"], a[1], 0, **k)):
        with pytest.raises(InputError, match=r"ids of the tokenizer tokenizer.model \(ffffff"):
            make(other, 6, tokenizer=tmp_path)


def test_a_file_cut_short_is_refused(folder: Path) -> None:
    path = folder / "a.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="not a token file"):
        TokenDataset(folder, 6)


def test_a_file_of_another_length_than_its_index_says_is_refused(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["files"][0]["total_tokens"] += 1
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="its index says"):
        TokenDataset(folder, 6)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"seq_len": 1}, "seq_len = 1; expected 2 or more"),
        ({"documents": "mixed"}, "documents = 'mixed'"),
        ({"pack": "first-fit"}, "pack = 'first-fit'; expected 'stream' or 'best-fit'"),
        ({"fill_id": 60_000}, "fill_id = 60000; expected an id of tokenizer.model, below 60,000"),
        ({"fill_id": -1}, "fill_id = -1"),
        ({"names": "b"}, "no token file 'b' and none 'b-train'"),
    ],
)
def test_arguments_that_make_no_rows_are_refused(
    folder: Path, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        TokenDataset(folder, **{"seq_len": 6, **arguments})


@pytest.mark.parametrize("files", [{"a": []}, {"a": [[5]]}, {"a-valid": DOCS}])
def test_a_folder_without_a_row_is_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="not one row of text"):
        TokenDataset(write_folder(tmp_path, files), 6)


def test_files_are_mapped_and_not_read(folder: Path) -> None:
    file: TokenFile = TokenDataset(folder, 6)._rows[0][0].file
    assert isinstance(file.ids, np.memmap)


ROWS: Any = TokenDataset  # as it is called by those who do not look at types
MIXED_ROWS: Any = MixtureDataset
MIXED: Any = Mixture


def test_numbers_of_numpy_and_torch_are_taken(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": [[BOS, 10, 11, EOS]] * 5})
    rows = ROWS(folder, np.int32(4), fill_id=np.uint16(0))
    for index in (np.int16(1), np.uint8(1), torch.tensor(1), True):
        assert rows[index]["input_ids"].tolist() == rows[1]["input_ids"].tolist()
    assert rows[-1]["labels"].tolist() == rows[len(rows) - 1]["labels"].tolist()
    mixture = MIXED(folder, ["1:a"], np.int64(4), np.int64(3))
    same = MIXED(folder, ["1:a"], 4, 3).batch(1, 2).inputs
    assert mixture.batch(np.int64(1), np.int8(2)).inputs.tolist() == same.tolist()


@pytest.mark.parametrize("index", [1.0, "1", slice(0, 2), [0, 1], None])
def test_what_is_no_number_of_a_row_is_refused(tmp_path: Path, index: Any) -> None:
    rows = TokenDataset(write_folder(tmp_path, {"a": [[BOS, 10, 11, EOS]] * 5}), 4)
    with pytest.raises(TypeError, match=r"row = .*: expected a whole number"):
        rows[index]


@pytest.mark.parametrize("index", [7, -8])
def test_a_row_that_is_not_there_is_told(tmp_path: Path, index: int) -> None:
    rows = TokenDataset(write_folder(tmp_path, {"a": [[BOS, 10, 11, EOS]] * 5}), 4)
    with pytest.raises(IndexError, match=f"row {index} of 7"):
        rows[index]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda f: ROWS(f, 4.0), "seq_len"),
        (lambda f: ROWS(f, 4, fill_id=0.0), "fill_id"),
        (lambda f: MIXED_ROWS(f, ["1:a"], 4.0, 3), "seq_len"),
        (lambda f: MIXED_ROWS(f, ["1:a"], 4, 3.0), "seed"),
        (lambda f: MIXED_ROWS(f, ["1:a"], 4, 3, fill_id="0"), "fill_id"),
        (lambda f: MIXED(f, ["1:a"], 4.0, 3), "seq_len"),
        (lambda f: MIXED(f, ["1:a"], 4, "3"), "seed"),
        (lambda f: MIXED(f, ["100%:a"], 4, 3, total_tokens=5e1), "total_tokens"),
        (lambda f: MIXED(f, ["1:a"], 4, 3).batch(0.0, 2), "step"),
        (lambda f: MIXED(f, ["1:a"], 4, 3).batch(0, 2.0), "batch_size"),
        (lambda f: MIXED(f, ["1:a"], 4, 3).batch(0, 2, 0.0, 1), "rank"),
        (lambda f: MIXED(f, ["1:a"], 4, 3).batch(0, 2, 0, 1.0), "num_ranks"),
        (lambda f: MIXED(f, ["1:a"], 4, 3).steps_per_pass(2.0), "batch_size"),
    ],
)
def test_numbers_that_are_not_whole_are_refused_by_name(
    tmp_path: Path, call: Callable[[Path], object], name: str
) -> None:
    folder = write_folder(tmp_path, {"a": [[BOS, 10, 11, EOS]] * 5})
    with pytest.raises(TypeError, match=f"{name} = .*: expected a whole number"):
        call(folder)


def test_a_pass_has_no_steps_of_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": [[BOS, 10, 11, EOS]] * 5})
    with pytest.raises(UsageError, match="batch_size = 0: expected 1 or more"):
        MIXED(folder, ["1:a"], 4, 3).steps_per_pass(0)
