"""Signatures of documents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus.grams import find_tokens
from lingraft.corpus.matching import min_equal
from lingraft.corpus.methods import NearDuplicateSettings
from lingraft.corpus.minhash import NO_BAND, algorithm, signatures

DEFAULT = NearDuplicateSettings()


def words(*numbers: int) -> str:
    return " ".join(f"word{n}" for n in numbers)


def sign(*texts: str, settings: NearDuplicateSettings = DEFAULT) -> tuple[list[list[int]], ...]:
    return tuple(array.tolist() for array in signatures(find_tokens(texts), settings))


def test_a_signature_has_a_hash_a_band_and_a_byte_a_row() -> None:
    bands, lows = signatures(find_tokens(["a b c d e f", "好"]), DEFAULT)
    assert bands.shape == (2, 14)
    assert lows.shape == (2, 112)
    assert [str(array.dtype) for array in (bands, lows)] == ["uint64", "uint8"]


def test_no_documents_have_no_signatures() -> None:
    bands, lows = signatures(find_tokens([]), DEFAULT)
    assert (bands.shape, lows.shape) == ((0, 14), (0, 112))


def test_signatures_are_the_same_everywhere() -> None:
    bands, lows = sign("The quick brown fox jumps over the lazy dog")
    assert algorithm() == "rensa 2"
    assert bands[0][:2] == [2965712627408804373, 13190891353078078769]
    assert lows[0][:4] == [202, 154, 31, 48]


def test_texts_with_the_same_ngrams_have_the_same_signature() -> None:
    bands, lows = sign("A b, c d e! F g", "a B c d e f g", "a b c d e f g a b c d e f g"[:13])
    assert bands[0] == bands[1] == bands[2]
    assert lows[0] == lows[1] == lows[2]


def test_a_document_is_signed_the_same_alone_and_among_others() -> None:
    texts = [words(*range(n, n + 30)) for n in range(40)]
    together = sign(*texts)
    assert together == tuple(
        [row for text in texts for row in sign(text)[which]] for which in (0, 1)
    )


def test_another_seed_and_another_size_of_ngrams_give_other_signatures() -> None:
    text = words(*range(20))
    first = sign(text)
    for change in ({"seed": 2}, {"gram_tokens": 4}):
        assert sign(text, settings=DEFAULT.model_copy(update=change)) != first


def test_bands_are_equal_where_their_rows_are() -> None:
    small = NearDuplicateSettings(num_bands=112, rows_per_band=1)
    bands, lows = signatures(find_tokens([words(*range(30)), words(*range(1, 31))]), small)
    equal_bands, equal_lows = bands[0] == bands[1], lows[0] == lows[1]
    assert 0 < equal_bands.sum() < 112
    assert (equal_lows[equal_bands]).all()


def test_a_short_text_is_one_ngram() -> None:
    bands, _ = sign("a b", "A, b!", "a c", "b a")
    assert bands[0] == bands[1]
    assert len({tuple(row) for row in bands}) == 3


def test_texts_without_tokens_have_no_bands() -> None:
    bands, _ = sign("…", "", "a")
    assert bands[0] == bands[1] == [NO_BAND] * 14
    assert NO_BAND not in bands[2]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100), st.integers(0, 1000))
def test_low_bytes_tell_the_jaccard_similarity(shared: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).permutation(10_000)
    one = [words(*numbers[k : k + 5].tolist()) for k in range(0, 1000, 5)]
    own = [words(*numbers[k : k + 5].tolist()) for k in range(2000, 3000, 5)]
    # No n-gram goes over a line's end here: every line is a text of one n-gram.
    num_shared = 2 * shared
    other = one[:num_shared] + own[num_shared:]
    similarity = num_shared / (400 - num_shared)
    lows = [signatures_of_set(lines) for lines in (one, other)]
    estimate = (np.mean(lows[0] == lows[1]) - 1 / 256) / (1 - 1 / 256)
    # Four standard errors of 112 draws.
    assert abs(estimate - similarity) <= 4 * (similarity * (1 - similarity) / 112) ** 0.5 + 0.04


def signatures_of_set(lines: list[str]) -> np.ndarray:
    """Sign a set of n-grams: the minimum over texts that have one n-gram each."""
    import rensa

    from lingraft.corpus.grams import ngram_hashes

    grams = ngram_hashes(find_tokens(lines), 5)
    rows = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        grams.hashes_G, np.array([0, len(lines)], np.uint64), 112, 1
    ).to_rows()
    return np.array(rows[0], np.uint32).astype(np.uint8)


@pytest.mark.parametrize(
    ("num_hashes", "similarity", "expected"),
    [(112, 1.0, 112), (112, 0.0, 1), (256, 0.5, 129), (112, 0.72, 81)],
)
def test_what_must_agree_for_a_similarity(
    num_hashes: int, similarity: float, expected: int
) -> None:
    assert min_equal(num_hashes, similarity) == expected
