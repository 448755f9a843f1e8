"""What tokenizers and texts are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.errors import UsageError
from lingraft.tokenizer.naming import name_texts, name_tokenizers, problem_error


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a/x.tokenizer.model", "b/y.json"], ["x", "y"]),
        (["mixtral/tokenizer.model", "ours"], ["mixtral", "ours"]),
        (["m/tokenizer.model", "m/tokenizer.json"], ["tokenizer.model", "tokenizer.json"]),
        (["a/x.model", "b/x.model"], ["a/x.model", "b/x.model"]),
        (["Qwen/Qwen3-8B", "hub:hfl/zh"], ["Qwen3-8B", "zh"]),
        (["tokenizer.model"], ["tokenizer.model"]),
        (["mine=x.model", "x.model"], ["mine", "x"]),
        (["package:mistral_common/data/tokenizer.model.v1"], ["tokenizer.model.v1"]),
        (["dir=1/x.model"], ["dir"]),
        (["a/dir=1/x.model"], ["x"]),
    ],
)
def test_names_are_shortened_to_what_tells_apart(sources: list[str], names: list[str]) -> None:
    assert [name for name, _ in name_tokenizers(sources)] == names


def test_a_file_that_is_there_has_no_name_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.model").touch()
    assert name_tokenizers(["a=b.model"]) == [("a=b", "a=b.model")]


def test_names_and_sources_may_be_a_mapping() -> None:
    assert name_tokenizers({"a": Path("x.model")}) == [("a", "x.model")]
    assert name_texts({"zh": "a.txt", "en": ["b.txt"]}) == {"zh": ["a.txt"], "en": ["b.txt"]}


def test_words_after_a_name_belong_to_it_and_before_it_stand_alone() -> None:
    words = ["x/a.jsonl.zst", "b.txt", "zh=c.txt", "d.txt", "en=e.txt"]
    assert name_texts(words) == {
        "a": ["x/a.jsonl.zst"], "b": ["b.txt"], "zh": ["c.txt", "d.txt"], "en": ["e.txt"],
    }  # fmt: skip
    assert list(name_texts(["zh/*.jsonl.zst"])) == ["*.jsonl.zst"]


@pytest.mark.parametrize("tokenizers", [[], {}, None, [3], ["=x"], ["a="]])
def test_no_tokenizer_is_refused(tokenizers: Any) -> None:
    with pytest.raises(UsageError):
        name_tokenizers(tokenizers)


@pytest.mark.parametrize("tokenizers", [["x.model", "x.model"], ["a=x", "a=y"], ["a=x", "a"]])
def test_two_tokenizers_of_one_name_are_refused(tokenizers: list[str]) -> None:
    with pytest.raises(UsageError, match="two tokenizers are called"):
        name_tokenizers(tokenizers)


@pytest.mark.parametrize("text", [[], {}, {"a": []}, ["a.txt", "a.txt"]])
def test_no_text_or_two_of_one_name_are_refused(text: Any) -> None:
    with pytest.raises(UsageError):
        name_texts(text)


def test_many_problems_are_one_error() -> None:
    assert str(problem_error(["one\n  way"])) == "one\n  way"
    assert str(problem_error(["one\n  way", "two"])) == "2 problems:\n  one\n    way\n  two"
