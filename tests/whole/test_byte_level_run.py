"""The whole job on a base whose tokenizer is a tokenizer.json on bytes, as SmolLM2's or Qwen3's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from byte_recipes import END_ID, MISSING, write_byte_recipe
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from lingraft.errors import VerifyError
from lingraft.shards import open_folder
from lingraft.stages import STAGES
from lingraft.tokenizer import stage as tokenizer_stage
from lingraft.tokenizer import verifying
from lingraft.tokenizer.outcome import Check
from lingraft.tokenizer.verifying import VerifyResult, verify

TEXT = "今天天气很好，the weather"


@pytest.fixture(scope="module", autouse=True)
def few_code_points() -> Any:
    """All of them take half a minute; tests/tokenizer takes them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "code_points", lambda: iter("aé中天气\U00050000"))
        patch.setattr(verifying, "every_code_point", lambda: iter(["\n".join("aé中天气")]))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = write_byte_recipe(tmp_path_factory.mktemp("bytes"))
    return lingraft.run(recipe).folder


@pytest.fixture(scope="module")
def facts(run: Path) -> Mapping[str, Any]:
    return {m["identity"]["stage"]: m["facts"] for m in lingraft.show(run)}


def test_every_stage_is_done_and_verifies(run: Path, facts: Mapping[str, Any]) -> None:
    assert list(facts) == [stage.name for stage in STAGES]
    assert lingraft.verify(run) == []


def test_ids_are_base_then_lost_bytes_then_pieces(facts: Mapping[str, Any]) -> None:
    found = facts["tokenizer"]
    assert found["base_size"] == END_ID + 1
    assert (found["missing_bytes"], found["added_pieces"]) == (len(MISSING), 40)
    assert found["size"] == END_ID + 1 + 2 + 40
    assert facts["embed"]["added_rows"] == 42


def test_chinese_gets_shorter_and_english_does_not_change(facts: Mapping[str, Any]) -> None:
    zh, en = (facts["tokenizer"]["efficiency"][name] for name in ("zh", "en"))
    assert zh["extended_tokens"] < zh["base_tokens"] == zh["size_bytes"]  # no rule joins Chinese
    assert en["extended_tokens"] == en["base_tokens"] < en["size_bytes"]  # "the" is a piece
    assert facts["tokenizer"]["num_texts_unchanged"] > 0


def test_documents_end_with_eos_and_begin_with_nothing(run: Path) -> None:
    tokens = open_folder(run / "35-encode").files["zh-train"]
    first = tokens.doc(0)
    assert first[-1] == END_ID
    assert first[0] != END_ID


def test_the_merged_model_and_its_tokenizer_load_and_agree(run: Path) -> None:
    merged = run / "70-merge"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    ids = tokenizer(TEXT, return_tensors="pt")
    assert (
        ids["input_ids"][0].tolist()
        == Tokenizer.from_file(str(merged / "tokenizer.json")).encode(TEXT).ids
    )
    assert tokenizer.decode(ids["input_ids"][0]) == TEXT
    model = AutoModelForCausalLM.from_pretrained(merged)
    assert model(**ids).logits.shape[-1] == model.config.vocab_size >= len(tokenizer)


def test_equal_recipes_of_other_names_give_equal_tokenizers(run: Path) -> None:
    again = lingraft.run(run.parents[1] / "tiny.toml", set=["run.name=again"], to="tokenizer")
    digests = [
        {m["identity"]["stage"]: m["digest"] for m in lingraft.show(folder)}["tokenizer"]
        for folder in (run, again.folder)
    ]
    assert digests[0] == digests[1]


def test_a_tokenizer_that_fails_a_check_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **options: Any) -> VerifyResult:
        found = verify(*args, **options)
        return replace(found, checks=(Check("reach", "differs", "2 pieces lost"), *found.checks))

    monkeypatch.setattr(tokenizer_stage, "verify", failing)
    with pytest.raises(VerifyError, match="reach: 2 pieces lost"):
        lingraft.run(run.parents[1] / "tiny.toml", set=["run.name=failing"], to="tokenizer")
