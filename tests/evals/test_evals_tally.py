"""Sums and the figures made of them."""

import math

import pytest

from lingraft.evals.tally import Tally, pool

NEWS = Tally(nats=8 * math.log(2), num_docs=1, num_chars=4, size_bytes=8, total_tokens=3)
REVIEWS = Tally(nats=16 * math.log(2), num_docs=2, num_chars=2, size_bytes=4, total_tokens=6)


def test_eos_counts_in_bits_per_byte_but_not_in_tokens_per_character() -> None:
    score = NEWS.score()
    assert score.bpb == pytest.approx(1.0)  # 8 bits over 8 bytes
    assert score.tokens_per_char == 0.5  # (3 - 1 EOS) over 4


def test_pooled_sets_count_as_one() -> None:
    score = pool([NEWS, REVIEWS]).score()
    assert score.bpb == pytest.approx(2.0)  # 24 bits over 12 bytes, not the mean of 1 and 4
    assert score.tokens_per_char == 1.0  # (9 - 3 EOS) over 6
    assert (score.num_docs, score.total_tokens, score.size_bytes) == (3, 9, 12)
