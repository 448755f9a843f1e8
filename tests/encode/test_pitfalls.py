"""What the field stumbled over between text and training, each once."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pico import SIZES
from small_tokenizers import trained
from token_files import BOS, EOS, count_up, token_file, write_folder
from tokenizers import Tokenizer
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
)

from lingraft import api
from lingraft.encode import Mixture, MixtureDataset, TokenDataset, encode
from lingraft.encoder import FastEncoder
from lingraft.errors import InputError
from lingraft.exact import Encoder
from lingraft.fast import write_tokenizer
from lingraft.progress import SilentReporter
from lingraft.recipe import find_warnings, read_recipe
from lingraft.rows import IGNORE
from lingraft.runner import run_recipe

# P42: the pad token is EOS, the collator masks every pad, and the model never learns to stop.


@pytest.mark.parametrize("pack", ["stream", "best-fit"])
def test_an_eos_is_a_label_even_where_rows_are_filled_up_with_eos(
    tmp_path: Path, pack: Any
) -> None:
    docs = [[BOS, 10, EOS], [BOS, 11, 12, EOS], [BOS, 13, EOS]]
    rows = TokenDataset(write_folder(tmp_path, {"a": docs}), 8, pack=pack, fill_id=EOS)
    labels = np.concatenate([rows[n]["labels"] for n in range(len(rows))]).tolist()
    assert labels.count(EOS) == 3
    last = rows[len(rows) - 1]
    assert last["input_ids"].tolist()[-1] == EOS
    assert last["labels"].tolist()[-1] == IGNORE  # this one fills the row up


def test_an_eos_is_a_label_of_a_mixture_wherever_it_stands() -> None:
    docs = [[BOS, 10 + n, EOS] for n in range(7)]
    mixture = Mixture({"a": token_file(*docs)}, ["1:a"], 4, seed=0)
    labels = mixture.batch(0, mixture.num_windows).labels
    assert int((labels == EOS).sum()) == 7


def test_the_collator_of_the_reference_masks_every_eos(tmp_path: Path) -> None:
    """The trap itself: what rows of ours never go through."""
    write_tokenizer(trained(), tmp_path)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="</s>", eos_token="</s>"
    )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    batch = collator([{"input_ids": [BOS, 10, EOS, BOS, 11, EOS]}])
    assert EOS not in batch["labels"]


# P43: packing lets a document read the one before it.


def tiny_model(attention: str, kind: str = "Llama") -> Any:
    torch.manual_seed(3)
    given = {**SIZES, "initializer_range": 0.3, "attn_implementation": attention}
    if kind == "Mixtral":
        return MixtralForCausalLM(MixtralConfig(**given, num_local_experts=4)).eval()
    return LlamaForCausalLM(LlamaConfig(**given)).eval()


FLEX = pytest.param(
    "flex_attention",
    marks=[
        pytest.mark.slow,  # torch compiles it
        pytest.mark.skipif(shutil.which("g++") is None, reason="torch needs g++ to compile flex"),
        pytest.mark.filterwarnings("ignore"),  # of torch's compiler
    ],
)


@pytest.mark.parametrize("kind", ["Llama", "Mixtral"])
@pytest.mark.parametrize("attention", ["sdpa", "eager", FLEX])
@torch.no_grad()
def test_a_packed_document_has_the_logits_that_it_has_alone(attention: str, kind: str) -> None:
    docs = [[BOS, 50, 51, 52, EOS], [BOS, 60, EOS], [BOS, 70, 71, 72, 73, EOS]]
    model, files = tiny_model(attention, kind), {"a": token_file(*docs)}
    packed = {}
    for documents in ("isolated", "joined"):
        mixture = Mixture(files, ["1:a"], 16, seed=0, documents=documents)
        inputs, _, positions = map(torch.from_numpy, mixture.batch(0, 1))
        packed[documents] = model(inputs, position_ids=positions, use_cache=False).logits[0]
    start = 0
    for number, doc in enumerate(docs):
        alone = model(torch.tensor([doc]), use_cache=False).logits[0]
        place = slice(start, start + len(doc))
        torch.testing.assert_close(packed["isolated"][place], alone, rtol=1e-5, atol=1e-5)
        distance = float((packed["joined"][place] - alone).abs().max())
        assert (distance > 1e-2) == (number > 0)
        start += len(doc)


@torch.no_grad()
def test_rows_of_a_batch_are_isolated_each_by_its_own_documents() -> None:
    docs = [[BOS, 20 + n, *range(30, 30 + n), EOS] for n in range(8)]
    model = tiny_model("sdpa")
    mixture = Mixture({"a": token_file(*docs)}, ["1:a"], 12, seed=0)
    inputs, _, positions = map(torch.from_numpy, mixture.batch(0, mixture.num_windows))
    together = model(inputs, position_ids=positions, use_cache=False).logits
    for row in range(len(inputs)):
        begins = (positions[row] == 0).nonzero().flatten().tolist()
        for begin, stop in zip(begins, [*begins[1:], 12], strict=True):
            alone = model(inputs[row : row + 1, begin:stop], use_cache=False).logits[0]
            torch.testing.assert_close(together[row, begin:stop], alone, rtol=1e-5, atol=1e-5)


# P44: is a weight a probability, a multiplier or a share?


@pytest.mark.parametrize(
    ("parts", "total_tokens", "tokens"),
    [
        (["1:a", "0.1:b"], None, [400, 40]),  # shares of a set's own documents
        (["3 epochs:a", "2.5:b"], None, [1_200, 1_000]),
        (["1K tokens:a", "50 tokens:b"], None, [1_000, 50]),
        (["0.5:a", "300 tokens:b"], None, [200, 300]),
        (["25%:a", "75%:b"], 2_000, [500, 1_500]),  # shares of the mixture, not of a set
    ],
)
def test_each_way_of_telling_an_amount_gives_the_stated_tokens(
    parts: list[str], total_tokens: int | None, tokens: list[int]
) -> None:
    files = {"a": token_file(*count_up(100, 4)), "b": token_file(*count_up(100, 4, 2_000))}
    mixture = Mixture(files, parts, 8, seed=0, total_tokens=total_tokens)
    assert [row.total_tokens for row in mixture.rows()] == tokens
    told = mixture.table()
    assert all(f"{n:,}" in told for n in (*tokens, sum(tokens)))


# P45: the model forgets what is not rehearsed.


def test_a_mixture_without_the_bases_language_is_told_by_check_and_by_run(
    tiny_recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = api.check(tiny_recipe, set=["train.mixture=['1:zh']"]).warnings
    assert warning.key == "train.mixture"
    assert "holds zh alone" in warning.text
    assert api.check(tiny_recipe).warnings == ()  # 0.5:en rehearses
    recipe = read_recipe(tiny_recipe, ["train.mixture=['1:zh']"])
    with caplog.at_level("INFO", logger="lingraft"):
        run_recipe(recipe, to="corpus", reporter=SilentReporter())
    assert "holds zh alone" in caplog.text


def test_languages_are_compared_without_their_regions(tiny_recipe: Path) -> None:
    text = tiny_recipe.read_text(encoding="utf-8").replace('language = "en"', 'language = "zh-TW"')
    tiny_recipe.write_text(text, encoding="utf-8")
    (warning,) = find_warnings(read_recipe(tiny_recipe))
    assert "holds zh alone" in warning.text


# P46: streaming works for one data set only.


def test_a_mixture_of_any_number_of_sets_streams_from_disk(tmp_path: Path) -> None:
    files = {f"set{n}": [[BOS, *range(10 + n, 5_000 + n), EOS]] * 40 for n in range(8)}
    folder = write_folder(tmp_path, files)
    size_bytes = sum(path.stat().st_size for path in folder.glob("set?.npy"))
    parts = [f"{n + 1}:{name}" for n, name in enumerate(files)]
    tracemalloc.start()
    mixture = Mixture(folder, parts, 64, seed=0)
    rows = MixtureDataset(folder, parts, 64, seed=0)
    for step in range(50):
        mixture.batch(step, 8)
    assert rows[len(rows) - 1]["input_ids"].shape == (64,)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size_bytes > 3_000_000
    assert peak_bytes < size_bytes / 10
    assert len({row.name for row in mixture.rows()}) == 8


# P47: BPE-dropout is drawn once, stored, and trained on for ever.


@pytest.fixture
def with_dropout(tmp_path: Path) -> Path:
    write_tokenizer(trained(), tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    spec["model"]["dropout"] = 0.9  # less is seldom seen in texts without pre-tokens
    path = tmp_path / "dropout" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text(json.dumps(spec), encoding="utf-8")
    return path


def test_dropout_would_give_other_ids_each_time_and_is_refused(with_dropout: Path) -> None:
    library = Tokenizer.from_file(str(with_dropout))
    text = "the cat sat on the mat and read the book"
    assert len({tuple(library.encode(text).ids) for _ in range(50)}) > 10
    for read in (FastEncoder.read, Encoder):
        with pytest.raises(InputError, match=r"model\.dropout = 0\.9(.|\n)*one draw for all"):
            read(with_dropout)


def test_no_token_file_is_written_with_dropout(with_dropout: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"model\.dropout = 0\.9"):
        encode(tmp_path / "a.txt", tokenizer=with_dropout, out=tmp_path / "out")
    assert not list(tmp_path.glob("out/*.npy"))


def test_a_dropout_of_0_is_none(with_dropout: Path) -> None:
    spec = json.loads(with_dropout.read_text(encoding="utf-8"))
    spec["model"]["dropout"] = 0.0
    with_dropout.write_text(json.dumps(spec), encoding="utf-8")
    without = FastEncoder.read(with_dropout.parent.parent / "tokenizer.json")
    texts = ["the cat sat", "the book"]
    assert FastEncoder.read(with_dropout).encode_batch(texts) == without.encode_batch(texts)
