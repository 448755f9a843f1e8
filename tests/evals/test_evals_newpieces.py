"""What became of the pieces that a graft added."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from extended_tokenizers import SIZE
from grafts import base_folder, grafted_folder, write_docs

from lingraft.evals.bitscommand import bits_per_byte
from lingraft.evals.loading import load_model
from lingraft.evals.newpieces import Added, PieceWatch, find_added, row_norms
from lingraft.evals.plans import LoadPlan
from lingraft.scoring import Watched


def vocabulary(**pieces: int) -> Any:
    return SimpleNamespace(get_vocab=lambda: pieces)


def test_added_pieces_are_those_the_base_lacks() -> None:
    found = find_added(vocabulary(a=0, b=1), vocabulary(a=0, b=1, c=3))
    assert found is not None
    assert found.is_added_V.tolist() == [False, False, False, True]
    assert (found.total, found.share([3, 0, 3])) == (1, (2, 3))


@pytest.mark.parametrize("other", [{"a": 0, "b": 1}, {"a": 1, "b": 0, "c": 2}, {"a": 0, "c": 1}])
def test_another_vocabulary_is_no_graft(other: dict[str, int]) -> None:
    assert find_added(vocabulary(a=0, b=1), vocabulary(**other)) is None


def test_figures_of_a_text_are_those_counted_by_hand(tmp_path: Path) -> None:
    """嬗变 is a new piece of 6 bytes; "ab" an old one of 2, and "▁" one of 1."""
    loaded = load_model(str(grafted_folder(tmp_path / "grafted")), LoadPlan())
    get = loaded.tokenizer.get_vocab()
    added = Added(np.arange(SIZE + 4) >= SIZE)
    watch = PieceWatch(added)
    labels = np.array([get["嬗变"], get["ab"], get["嬗变"], get["▁"]])
    watch(Watched(labels[:2], np.log([2.0, 4.0]), np.array([0, 9])))
    watch(Watched(labels[2:], np.log([4.0, 1.0]), np.array([20, 10])))
    found = watch.result(loaded)
    assert (found["num_added"], found["num_used"], found["tokens_frac"]) == (4, 1, 0.5)
    assert found["bytes_frac"] == pytest.approx(12 / 15)
    assert found["added"] == pytest.approx(
        {
            "tokens": 2,
            "mean_probability": 0.375,
            "median_rank": 11,
            "top1_frac": 0.5,
            "top10_frac": 0.5,
        }
    )
    assert found["base"] == pytest.approx(
        {
            "tokens": 2,
            "mean_probability": 0.625,
            "median_rank": 10.5,
            "top1_frac": 0,
            "top10_frac": 0.5,
        }
    )


def test_a_text_without_new_pieces_says_so(tmp_path: Path) -> None:
    models = [base_folder(tmp_path / "base"), grafted_folder(tmp_path / "grafted")]
    text = write_docs(tmp_path / "en.jsonl", ["abc ab", "a"])
    base, grafted = bits_per_byte(models, [text], new_pieces=True)
    assert "new_pieces" not in base
    assert grafted["new_pieces"]["added"] == {"tokens": 0}
    assert grafted["new_pieces"]["bytes_frac"] == 0
    assert grafted["new_pieces"]["base"]["tokens"] == grafted["tokens"]


@pytest.mark.parametrize("tied", [True, False])
def test_norms_of_both_matrices(tmp_path: Path, tied: bool) -> None:
    folder = grafted_folder(tmp_path / "grafted", tie_word_embeddings=tied)
    loaded = load_model(str(folder), LoadPlan())
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[SIZE:] = 0.5  # 32 numbers: norm 2.83
    found = row_norms(loaded, Added(np.arange(SIZE + 4) >= SIZE))
    assert list(found) == (["input"] if tied else ["input", "output"])
    assert found["input"]["added"] == pytest.approx({"q05": 8**0.5, "q50": 8**0.5, "q95": 8**0.5})
    assert found["input"]["base"]["q95"] < 1
