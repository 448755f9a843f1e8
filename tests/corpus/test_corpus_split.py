from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from lingraft.corpus.split import document_id, is_valid, text_digest

IDS = [f"{n:016x}" for n in range(10_000)]


def test_the_id_is_the_head_of_the_sha256_of_the_text() -> None:
    assert document_id(text_digest("中文")) == hashlib.sha256("中文".encode()).hexdigest()[:16]


def test_about_the_asked_share_is_held_out() -> None:
    # 10,000 draws at 0.1: five standard deviations are 150.
    assert abs(sum(is_valid(i, 17, 0.1) for i in IDS) - 1000) < 150


def test_the_split_does_not_follow_the_order_of_ids() -> None:
    held_out = [n for n, i in enumerate(IDS) if is_valid(i, 17, 0.1)]
    assert abs(sum(n < 5000 for n in held_out) / len(held_out) - 0.5) < 0.1


def test_another_seed_holds_out_other_documents() -> None:
    one, two = ({i for i in IDS if is_valid(i, seed, 0.1)} for seed in (1, 2))
    assert len(one & two) < 0.5 * len(one)


@given(st.text("0123456789abcdef", min_size=16, max_size=16), st.floats(1e-6, 0.5))
def test_a_larger_share_keeps_what_was_held_out(doc_id: str, valid_frac: float) -> None:
    if is_valid(doc_id, 17, valid_frac):
        assert is_valid(doc_id, 17, 2 * valid_frac)
