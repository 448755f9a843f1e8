"""Segments of symbols out of encoded documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import build, without_bytes

from lingraft.errors import InputError
from lingraft.pieces import SentencePieces
from lingraft.vocab import segments as segments_module
from lingraft.vocab.segments import BARRIER, SegmentTable, read_segments

BASE = SentencePieces(build())  # its Han pieces: 中文, 中, 文


def table_of(
    training: Sequence[str], evaluation: Mapping[str, Sequence[str]] | None = None
) -> SegmentTable:
    return read_segments(BASE, ["Han"], training, evaluation or {})


def shown(table: SegmentTable, num_chars: int) -> list[tuple[list[str], list[int]]]:
    """Segments as texts (bytes as "|"), each with its weights."""
    rows: list[tuple[list[str], list[int]]] = []
    for g in range(len(table.weights_GW)):
        symbols = table.symbols_with(num_chars)[table.segment_N == g].tolist()
        texts = ["|" if s == BARRIER else table.texts[s] for s in symbols]
        rows.append((texts[1 if g == 0 else 0 : -1], table.weights_GW[g].tolist()))
    return rows


def test_symbols_are_the_tokens_of_the_base_and_characters_that_it_spells_in_bytes() -> None:
    table = table_of(["中文字很"])
    assert shown(table, 2) == [(["中文", "字", "很"], [1])]


def test_characters_are_ordered_by_their_count_and_then_by_code_point() -> None:
    table = table_of(["很字学字", "学"])
    assert table.texts == ("中文", "中", "文", "字", "学", "很")
    assert [ord(char) for char in "字学"] == sorted(map(ord, "字学"))
    assert (table.num_base, table.num_candidates) == (3, 3)


def test_a_character_that_is_not_added_is_a_barrier() -> None:
    table = table_of(["字很字字"])
    assert shown(table, 1) == [(["字", "|", "字", "字"], [1])]
    assert shown(table, 0) == [(["|", "|", "|", "|"], [1])]


def test_other_scripts_punctuation_and_ends_of_documents_part_segments() -> None:
    table = table_of(["中字，字文 ab 文字é文中", "字字"])
    assert [texts for texts, _ in shown(table, 1)] == [
        ["中", "字"],
        ["字", "文"],
        ["文", "字"],
        ["文", "中"],
        ["字", "字"],
    ]


def test_equal_segments_are_one_with_a_weight_for_each_text() -> None:
    table = table_of(["字字", "字字a"], {"x": ["字字"], "y": ["b中文字，字字，字字"]})
    assert shown(table, 1) == [(["字", "字"], [2, 1, 2]), (["中文", "字"], [0, 0, 1])]


def test_single_symbols_make_no_segment_and_are_counted() -> None:
    table = table_of(["字，中"], {"x": ["字"]})
    assert len(table.weights_GW) == 0
    assert table.counts_SW.tolist() == [[0, 0], [1, 0], [0, 0], [1, 1]]


def test_characters_of_evaluation_texts_alone_are_no_candidates() -> None:
    table = table_of(["字"], {"x": ["很"]})
    assert table.num_candidates == 1
    assert table.texts[3:] == ("字", "很")


def test_tokens_outside_the_segments_are_counted_as_the_base_gives_them() -> None:
    table = table_of(["字"], {"x": ["ab字，", "é"]})
    fixed_V, counts_S = table.token_counts(0, 1)
    counted = {BASE.pieces[i]: int(fixed_V[i]) for i in fixed_V.nonzero()[0]}
    comma = {f"<0x{byte:02X}>": 1 for byte in "，".encode()}
    accent = {f"<0x{byte:02X}>": 1 for byte in "é".encode()}
    assert counted == {"▁": 2, "ab": 1, **comma, **accent}
    assert counts_S.tolist() == [0, 0, 0, 1]
    assert (table.evaluation["x"].num_docs, table.evaluation["x"].num_chars) == (2, 5)


def test_bytes_of_characters_that_are_not_added_are_counted_as_tokens() -> None:
    table = table_of(["字"], {"x": ["字字"]})
    fixed_V, counts_S = table.token_counts(0, 0)
    assert [int(fixed_V[BASE.ids[f"<0x{byte:02X}>"]]) for byte in "字".encode()] == [2, 2, 2]
    assert counts_S.tolist() == [0, 0, 0]


def test_a_character_of_four_bytes_is_one_symbol() -> None:
    table = table_of(["𠮷字"])
    assert shown(table, 2) == [(["𠮷", "字"], [1])]


@given(st.lists(st.text("ab 中文字很𠮷é，\n", max_size=12), min_size=1, max_size=8))
@settings(deadline=None)
def test_with_nothing_added_the_tokens_are_those_of_the_base(docs: list[str]) -> None:
    table = table_of(["中"], {"x": [*docs, "中"]})
    fixed_V, counts_S = table.token_counts(0, 0)
    tokens = [id for doc in [*docs, "中"] for id in BASE.encode(doc)]
    expected = [0] * len(BASE.pieces)
    for id in tokens:
        expected[id] += 1
    for text, count in zip(table.texts, counts_S.tolist(), strict=False):
        fixed_V[BASE.ids[text]] += count
    assert fixed_V.tolist() == expected


def test_batches_do_not_change_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = ["中字字", "字很", "很中文字", "字字"]
    whole = table_of(docs, {"x": docs})
    monkeypatch.setattr(segments_module, "_BATCH_DOCS", 1)
    parts = table_of(docs, {"x": docs})
    assert parts.symbols_N.tolist() == whole.symbols_N.tolist()
    assert parts.weights_GW.tolist() == whole.weights_GW.tolist()
    assert parts.counts_SW.tolist() == whole.counts_SW.tolist()


def test_a_base_without_byte_pieces_is_refused() -> None:
    base = SentencePieces(build(change=without_bytes), "poor.model")
    with pytest.raises(InputError, match=r"poor\.model: .* has 0 of 256 byte pieces"):
        read_segments(base, ["Han"], ["中"], {})


def test_a_training_text_without_documents_is_refused() -> None:
    with pytest.raises(InputError, match="the training text has no document"):
        table_of([])


def test_an_evaluation_text_without_the_script_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"evaluation text 'x' has no character .* \(Han\)"):
        table_of(["中"], {"x": ["only ascii"]})
