"""Runs of target characters encode by themselves: equality with the base's own encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import CHINESE, KAZAKH, THAI
from small_tokenizers import BY_HAND, build

from lingraft.bases import SentencePieceBase
from lingraft.pieces import SentencePieces
from lingraft.vocab.alphabet import BARRIER, Alphabet
from lingraft.vocab.scan import RunScanner

Int32 = npt.NDArray[np.int32]

CROWDED = (
    ("丁丁", -1.0),
    ("乙丙", -2.0),
    ("甲乙", -2.0),
    ("甲乙丙", -3.0),
    ("丁丁丁", -4.0),
    ("丙丁", -5.0),
    ("丁丁丁丁", -6.0),
    ("𠮷甲", -7.0),
    *((char, -10.0 - n) for n, char in enumerate("▁ab甲乙丙丁𠮷")),
)
"""Pieces that overlap and tie, one of a character beyond 16 bits."""


def han(pieces: Sequence[tuple[str, float]]) -> Alphabet:
    return Alphabet(SentencePieceBase(SentencePieces(build(pieces))), ["Han"])


ALPHABETS = {"by hand": han(BY_HAND), "crowded": han(CROWDED)}
SCANNERS = {name: RunScanner(alphabet) for name, alphabet in ALPHABETS.items()}


def segments(codes: Int32) -> list[list[int]]:
    """Give what stands between BARRIERs: the two ways differ in how many of these they give."""
    found: list[list[int]] = [[]]
    for code in [*codes.tolist(), BARRIER]:
        if code != BARRIER:
            found[-1].append(code)
        elif found[-1]:
            found.append([])
    return found[:-1]


def assert_same(alphabet: Alphabet, scanner: RunScanner, texts: Sequence[str]) -> None:
    codes = scanner.scan(texts)
    assert codes[-1] == BARRIER
    assert segments(codes) == segments(alphabet.read(texts)[0])


def test_anything_between_runs_gives_one_barrier() -> None:
    alphabet, scanner = ALPHABETS["by hand"], SCANNERS["by hand"]
    zhongwen = alphabet.base.find_piece("中文")
    codes = scanner.scan(["中文, and 嬗", "", "x"])
    assert codes.tolist() == [zhongwen, BARRIER, alphabet.num_base + ord("嬗"), BARRIER]


def test_no_text_gives_a_barrier() -> None:
    assert SCANNERS["by hand"].scan([]).tolist() == [BARRIER]


def test_the_best_rule_goes_first_and_the_leftmost_of_equals() -> None:
    alphabet, scanner = ALPHABETS["crowded"], SCANNERS["crowded"]
    texts = ["甲乙丙丁", "丁丁丁", "丁丁丁丁丁", "𠮷甲乙"]
    spelled = [[alphabet.text_of(code) for code in part] for part in segments(scanner.scan(texts))]
    assert spelled == [["甲乙丙", "丁"], ["丁丁丁"], ["丁丁", "丁丁丁"], ["𠮷", "甲乙"]]
    assert_same(alphabet, scanner, texts)


NEAR = st.text(st.sampled_from("甲乙丙丁𠮷中文嬗々ab ▁，\n\u0301é😀"), max_size=40)


@pytest.mark.parametrize("name", ALPHABETS)
@given(st.lists(NEAR | st.text(max_size=10), max_size=4))
@settings(max_examples=200, deadline=None)
def test_codes_are_those_of_the_base_whatever_the_text(name: str, texts: list[str]) -> None:
    assert_same(ALPHABETS[name], SCANNERS[name], texts)


@pytest.mark.parametrize(
    ("length", "asks_base", "rest"), [(254, False, ["丁丁"]), (257, True, ["丁丁", "丁丁丁"])]
)
def test_a_very_long_part_is_left_to_the_base(
    monkeypatch: pytest.MonkeyPatch, length: int, asks_base: bool, rest: list[str]
) -> None:
    alphabet = han(CROWDED)
    read, asked = alphabet.read, list[Sequence[str]]()

    def ask(texts: Sequence[str]) -> tuple[Int32, npt.NDArray[np.int64]]:
        asked.append(texts)
        return read(texts)

    monkeypatch.setattr(alphabet, "read", ask)
    codes = RunScanner(alphabet).scan(["丁" * length + "甲乙"])
    assert bool(asked) is asks_base
    spelled = [alphabet.text_of(code) for code in codes[codes >= 0].tolist()]
    assert spelled == ["丁丁丁丁"] * 63 + rest + ["甲乙"]


def test_a_base_whose_runs_depend_on_what_stands_beside_them_is_not_scanned() -> None:
    alphabet = han([*BY_HAND, ("a中", -20.0)])
    with pytest.raises(AssertionError, match="do not encode by themselves"):
        RunScanner(alphabet)


@cache
def mixtral() -> Alphabet:
    pytest.importorskip("mistral_common")
    path = resources.files("mistral_common") / "data" / "tokenizer.model.v1"
    return Alphabet(SentencePieceBase(SentencePieces(path.read_bytes())), ["Han"])


def test_mixtral_reads_the_same_in_both_ways() -> None:
    alphabet = mixtral()
    texts = [*CHINESE, *THAI, *KAZAKH, "今天 2999元。ABC中国人民中华人民共和国", "日本語の本々"]
    assert_same(alphabet, RunScanner(alphabet), texts)


def test_mixtral_reads_real_documents_the_same_in_both_ways(shared_data: Path) -> None:
    alphabet, texts = mixtral(), []
    for path in sorted((shared_data / "corpora" / "zh").glob("*.jsonl.zst")):
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            texts += [json.loads(file.readline())["text"] for _ in range(20)]
    assert_same(alphabet, RunScanner(alphabet), texts)
