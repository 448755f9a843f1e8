"""ALP along the rules: by hand, and against SentencePiece itself at every size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import build

from lingraft.pieces import SentencePieces
from lingraft.tokenizer.extend import PieceRow, extend_model
from lingraft.vocab.alp import Curve, trace_alp, trace_curve
from lingraft.vocab.bpe import train_rules
from lingraft.vocab.segments import read_segments

BASE = SentencePieces(build())


def test_alp_is_the_mean_over_documents_of_the_log_probability_of_their_tokens() -> None:
    """a b a b: 4 tokens of probability 1/2; then ab ab: one token type, of probability 1."""
    trace = trace_alp([], [2, 2], [(0, 1)], [2], num_docs=2)
    assert trace == pytest.approx([4 * math.log(1 / 2) / 2, 0.0])


def test_a_rule_that_joins_a_symbol_with_itself_takes_two_of_it() -> None:
    """a a a x -> aa a x."""
    trace = trace_alp([1], [3], [(0, 0)], [1], num_docs=1)
    before = 3 * math.log(3 / 4) + math.log(1 / 4)
    assert trace == pytest.approx([before, 3 * math.log(1 / 3)])


def test_a_rule_that_joins_nothing_in_the_text_leaves_alp_as_it_is() -> None:
    trace = trace_alp([1], [3, 1], [(0, 1)], [0], num_docs=1)
    assert trace[0] == trace[1]


def test_a_curve_starts_at_its_number_of_characters() -> None:
    curve = Curve(3, np.zeros((1, 5)), np.zeros((1, 5), np.int64))
    assert (curve.end, curve.has(2), curve.has(3), curve.has(7), curve.has(8)) == (
        7, False, True, True, False,
    )  # fmt: skip


def test_a_sample_of_sizes_holds_both_ends_and_the_size_asked_for() -> None:
    curve = Curve(10, np.zeros((1, 91)), np.zeros((1, 91), np.int64))
    assert curve.sample(4, 37) == [10, 37, 55, 100]
    assert curve.sample(4, 7) == [10, 40, 70, 100]
    assert len(curve.sample(400)) == 91


def alp_by_encoding(tokenizer: SentencePieces, docs: Sequence[str]) -> tuple[float, int]:
    """Follow the definition: encode, estimate p on the same tokens, sum the logs."""
    counts = Counter(id for doc in docs for id in tokenizer.encode(doc))
    total = sum(counts.values())
    log_probability = sum(c * math.log(c / total) for c in counts.values())
    return log_probability / len(docs), total


TEXT = st.text("中文字很好a ，", min_size=1, max_size=25)


@given(st.lists(TEXT, min_size=1, max_size=8), st.lists(TEXT, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_every_size_equals_encoding_with_the_extended_sentencepiece_model(
    training: list[str], evaluation: list[str]
) -> None:
    """The vocabulary that is scored is the one that ships: to the token, at every size."""
    training, evaluation = [*training, "字很字很"], [*evaluation, "中文字"]
    table = read_segments(BASE, ["Han"], training, {"x": evaluation})
    for num_chars in (0, min(2, table.num_candidates)):
        texts = list(table.texts[: table.num_pieces(num_chars)])
        rules = train_rules(
            table.symbols_with(num_chars), table.segment_N, table.weights_GW, texts,
            max_rules=15, max_chars=6, min_count=2,
        )  # fmt: skip
        curve = trace_curve(table, num_chars, rules)
        rows = [PieceRow(text, "char") for text in texts[table.num_base :]]
        for k in range(len(rules) + 1):
            if k:
                left, right = texts[rules.left_K[k - 1]], texts[rules.right_K[k - 1]]
                texts.append(left + right)
                rows.append(PieceRow(left + right, "rule", left, right))
            alp, tokens = alp_by_encoding(SentencePieces(extend_model(BASE, rows)), evaluation)
            assert curve.tokens_EK[0, k] == tokens
            assert curve.alp_EK[0, k] == pytest.approx(alp, rel=1e-12, abs=1e-12)
