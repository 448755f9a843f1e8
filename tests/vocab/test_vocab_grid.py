"""The whole search in memory: what is scored is what ships."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from byte_tokenizers import extend, trained_bytes
from samples import ARABIC, CHINESE, HINDI, THAI, VIETNAMESE
from searches import SMALL, alp_of, made_up_chinese, small_grid
from small_tokenizers import build

from lingraft.bases import ByteLevelBase
from lingraft.encoder import FastEncoder
from lingraft.errors import InputError, UsageError
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.piecerules import PieceRow, extend_model
from lingraft.vocab.alphabet import Alphabet
from lingraft.vocab.chars import Row
from lingraft.vocab.grid import Grid, default_char_counts
from lingraft.vocab.results import piece_rows
from lingraft.vocab.symbols import Symbols, order_symbols

TRAIN = [*made_up_chinese(120), *CHINESE]
EVALS = {"a": [*made_up_chinese(20, 2), "ABC 中文，嬗é"], "b": [*CHINESE[:9], "", "no Han"]}


@cache
def han() -> Alphabet:
    return Alphabet(SMALL, ["Han"])


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    folder = tmp_path_factory.mktemp("grid")
    return small_grid(folder, TRAIN, EVALS, char_counts=(40, 150), max_size=260)


@cache
def byte_base() -> ByteLevelBase:
    return ByteLevelBase(trained_bytes())


SIZES = [(c, s) for c in (40, 150) for s in (c, c + 1, c + 7, c + 30, c + 77, c + 110)]


@pytest.mark.parametrize(("num_chars", "size"), SIZES)
def test_the_trace_equals_encoding_with_the_extended_model(
    grid: Grid, num_chars: int, size: int
) -> None:
    rows = [PieceRow(**row) for row in piece_rows(grid, num_chars, size)]
    assert len(rows) == size
    extended = SentencePieces(extend_model(SentencePieces(build()), rows))
    curve = next(c for c in grid.curves if c.num_chars == num_chars)
    for place, texts in enumerate(EVALS.values()):
        ids = extended.encode_batch(texts)
        assert curve.tokens_EK[place, size - curve.start] == sum(map(len, ids))
        alp = curve.alp_EK[place, size - curve.start]
        assert alp == pytest.approx(alp_of(ids), rel=1e-12)
        bytes_ = sum(3 <= id < 3 + 256 for doc in ids for id in doc)
        assert curve.byte_tokens_E[place] == bytes_


@pytest.mark.parametrize("num_chars", [0, 5, 12])
@pytest.mark.parametrize("script", ["Thai", "Devanagari", "Latin"])
def test_the_trace_equals_encoding_with_an_extended_byte_level_tokenizer(
    tmp_path: Path, script: str, num_chars: int
) -> None:
    texts = {"Thai": THAI, "Devanagari": HINDI, "Latin": VIETNAMESE}[script]
    base, evals = byte_base(), [*texts[18:], *ARABIC[:3]]
    alphabet = Alphabet(base, [script])
    found = small_grid(
        tmp_path, texts[:18], {"a": evals}, alphabet=alphabet, char_counts=(num_chars,), max_size=90
    )
    (curve,) = found.curves
    assert found.evals[0].base_alp == pytest.approx(alp_of(base.encode_batch(evals)), rel=1e-12)
    for size in {curve.start, (curve.start + curve.end) // 2, curve.end}:
        rows = list(piece_rows(found, curve.num_chars, size))
        told = [Row(row["piece"], row["kind"], row["left"], row["right"]) for row in rows]
        content = extend(json.loads(trained_bytes()), told, base.size)
        ids = FastEncoder.parse(content).encode_batch(evals)
        assert curve.tokens_EK[0, size - curve.start] == sum(map(len, ids))
        alp = curve.alp_EK[0, size - curve.start]
        assert alp == pytest.approx(alp_of(ids), rel=1e-12)


def test_evaluation_texts_are_described_as_the_base_encodes_them(grid: Grid) -> None:
    for text, texts in zip(grid.evals, EVALS.values(), strict=True):
        ids = SMALL.encode_batch(texts)
        assert (text.num_docs, text.num_words) == (len(texts), 0)
        assert text.num_chars == sum(map(len, texts))
        assert text.num_bytes == sum(len(t.encode()) for t in texts)
        assert text.base_tokens == sum(map(len, ids))
        assert text.base_byte_tokens == sum(3 <= id < 259 for doc in ids for id in doc)
        assert text.base_alp == pytest.approx(alp_of(ids), rel=1e-12)


def test_training_text_is_counted(grid: Grid) -> None:
    assert grid.num_docs == len(TRAIN)
    assert grid.num_bytes == sum(len(text.encode()) for text in TRAIN)


def test_characters_come_by_falling_count_and_then_rules_of_them(grid: Grid) -> None:
    rows = list(piece_rows(grid, 40, 60))
    assert [row["kind"] for row in rows] == ["char"] * 40 + ["rule"] * 20
    counts = [row["count"] for row in rows]
    assert counts[:40] == sorted(counts[:40], reverse=True)
    assert counts[40:] == sorted(counts[40:], reverse=True)
    text = "".join(TRAIN)
    assert counts[:40] == [text.count(row["piece"]) for row in rows[:40]]
    assert all(row["piece"] == row["left"] + row["right"] for row in rows[40:])


def test_smaller_sizes_are_the_heads_of_larger_ones(grid: Grid) -> None:
    for curve in grid.curves:
        whole = list(piece_rows(grid, curve.num_chars, curve.end))
        assert len({row["piece"] for row in whole}) == curve.end
        for size in (curve.start, curve.start + 1, curve.end - 9):
            assert list(piece_rows(grid, curve.num_chars, size)) == whole[:size]


def test_a_smaller_search_finds_the_head_of_a_larger_one(grid: Grid, tmp_path: Path) -> None:
    small = small_grid(tmp_path, TRAIN, EVALS, char_counts=(40,), max_size=99)
    assert list(piece_rows(small, 40, 99)) == list(piece_rows(grid, 40, 99))
    assert small.curves[0].alp_EK.tolist() == grid.curves[0].alp_EK[:, : 99 - 40 + 1].tolist()


def test_no_pieces_at_all_are_a_search_too(tmp_path: Path) -> None:
    found = small_grid(tmp_path, TRAIN, EVALS, char_counts=(0,), max_size=0)
    assert [curve.alp_EK.shape for curve in found.curves] == [(2, 1)]
    assert found.curves[0].alp_EK[:, 0].tolist() == [text.base_alp for text in found.evals]


def test_a_base_without_characters_to_add_still_gets_rules(tmp_path: Path) -> None:
    found = small_grid(tmp_path, ["中文中文文中"] * 4, {"a": ["文中"]}, max_size=5)
    rows = list(piece_rows(found, 0, found.curves[0].end))
    assert [(row["piece"], row["count"]) for row in rows] == [
        ("中文中文", 4), ("中文中文文", 4), ("中文中文文中", 4),
    ]  # fmt: skip


def symbols_of(counts: Sequence[int]) -> Symbols:
    counts_C = np.zeros(len(han().flags_C), np.int64)
    first = ord("天")
    counts_C[han().num_base + first : han().num_base + first + len(counts)] = counts
    return order_symbols(han(), counts_C)


@pytest.mark.parametrize(
    ("max_size", "counts"), [(100, (2, 3, 4, 5)), (4, (2, 3, 4)), (1, (1,)), (0, (0,))]
)
def test_default_counts_leave_out_1_percent_and_tenths_of_it(
    max_size: int, counts: tuple[int, ...]
) -> None:
    """Of 10,000 characters 10,000, 1,000, 100, 10, 1, 0 are left out by 0 to 5 added ones."""
    assert default_char_counts(symbols_of([9000, 900, 90, 9, 1]), max_size) == counts


def test_equal_default_counts_are_searched_once(tmp_path: Path) -> None:
    assert default_char_counts(symbols_of([5, 5]), 100) == (2,)
    found = small_grid(tmp_path, ["天地"] * 5, {"a": ["天地"]}, max_size=5)
    assert [curve.num_chars for curve in found.curves] == [2]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], r"0\.jsonl: no document in 1 file"),
        (["plain", "text"], r"0\.jsonl: no character of the scripts \(Han\) in 2 documents"),
    ],
)
def test_a_corpus_with_nothing_to_learn_from_is_refused(
    tmp_path: Path, train: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        small_grid(tmp_path, train, EVALS)


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "'a' has no text"), (["plain"], r"'a' has no character of the scripts \(Han\)")],
)
def test_an_evaluation_text_with_nothing_to_measure_is_refused(
    tmp_path: Path, texts: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        small_grid(tmp_path, TRAIN, {"a": texts})


def test_more_characters_than_the_text_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 single characters to add; the training text has 2"):
        small_grid(tmp_path, ["天地"], EVALS, char_counts=(1, 9))


def test_a_size_below_what_characters_need_in_partial_pieces_is_refused(tmp_path: Path) -> None:
    alphabet = Alphabet(byte_base(), ["Thai"])
    with pytest.raises(UsageError, match="the largest size, 9, is below the 10 pieces that 9 "):
        small_grid(tmp_path, THAI, {"a": THAI}, alphabet=alphabet, char_counts=(9,), max_size=9)
