from __future__ import annotations

import numpy as np
import pytest
from token_files import token_file

from lingraft.embed.auxiliary import MIN_COUNT, train_auxiliary
from lingraft.errors import InputError
from lingraft.shards import TokenFile


def text(num_docs: int = 400, seed: int = 3) -> TokenFile:
    """Ids 2 and 3 stand only among 10 to 19, ids 4 and 5 only among 20 to 29."""
    generator = np.random.default_rng(seed)
    docs = []
    for number in range(num_docs):
        names, first = ((2, 3), 10) if number % 2 else ((4, 5), 20)
        around = generator.integers(first, first + 10, 8).tolist()
        docs.append([1, *around[:4], names[number // 2 % 2], *around[4:]])
    return token_file(*docs)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_ids_in_like_contexts_have_like_vectors() -> None:
    vectors = train_auxiliary([text()], 30, 17, width=8, skip=[1]).vectors_VA
    assert cosine(vectors[2], vectors[3]) > 0.9
    assert cosine(vectors[4], vectors[5]) > 0.9
    assert cosine(vectors[2], vectors[4]) < 0.3


def test_pairs_are_not_counted_across_documents() -> None:
    apart = token_file(*[[2, 3], [4, 5]] * 50)
    vectors = train_auxiliary([apart], 6, 17, width=4).vectors_VA
    assert abs(cosine(vectors[2], vectors[4])) < 1e-5


def test_one_seed_gives_one_result() -> None:
    once, again = (train_auxiliary([text()], 30, 17, width=8).vectors_VA for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_ids_seen_too_rarely_have_no_vector_and_are_told() -> None:
    rare = token_file(*[[2, 3, 2, 3]] * 10, *[[2, 7, 3]] * (MIN_COUNT - 1))
    result = train_auxiliary([rare], 9, 17, width=2)
    assert result.seen().tolist() == [False, False, True, True] + [False] * 5
    assert not result.vectors_VA[7].any()
    assert result.counts_V[7] == MIN_COUNT - 1


def test_skipped_ids_are_no_text() -> None:
    result = train_auxiliary([text()], 30, 17, width=8, skip=[1])
    assert not result.vectors_VA[1].any()
    assert not result.seen()[1]


def test_reading_stops_at_max_tokens() -> None:
    assert train_auxiliary([text()], 30, 17, width=8, max_tokens=1_000).total_tokens == 1_000


def test_the_table_of_pairs_is_bounded_and_says_what_it_left_out() -> None:
    bounded = train_auxiliary([text()], 30, 17, width=8, max_pairs=60)
    assert bounded.dropped_pairs > 0
    assert train_auxiliary([text()], 30, 17, width=8).dropped_pairs == 0


def test_ids_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="holds the id 29; expected less than 20"):
        train_auxiliary([text()], 20, 17)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(InputError, match="3 tokens, and 0 ids that stand 5 times"):
        train_auxiliary([token_file([1, 2, 3])], 30, 17)
