"""Tokens and their hashes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus.grams import (
    HAS_LETTER,
    IS_SPACED,
    find_tokens,
    ngram_hashes,
    table_digest,
)

TEXTS = st.lists(st.text(max_size=30), max_size=6)


def hashes_of(text: str) -> list[int]:
    hashes: list[int] = find_tokens([text]).tokens_T.tolist()
    return hashes


def sizes_of(text: str) -> list[int]:
    sizes: list[int] = find_tokens([text]).sizes_T.tolist()
    return sizes


def grams_of(text: str, n: int, *, whole_if_short: bool = False) -> list[int]:
    hashes: list[int] = ngram_hashes(
        find_tokens([text]), n, whole_if_short=whole_if_short
    ).hashes_G.tolist()
    return hashes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("Hello, world!", [5, 5]),
        ("don't 3rd", [3, 1, 3]),
        ("中文和English混排", [1, 1, 1, 7, 1, 1]),
        ("カラー ｶﾗｰ", [1] * 6),
        ("안녕 하세요", [2, 3]),
        ("नमस्ते", [6]),
        ("บ้าน", [2, 1, 1]),
        ("2024年3月", [4, 1, 1, 1]),
        ("e\u0301te\u0301", [5]),
        ("… —— 。#", []),
        ("", []),
    ],
)
def test_a_token_is_a_word_or_a_character_of_a_script_without_spaces(
    text: str, sizes: list[int]
) -> None:
    assert sizes_of(text) == sizes


def test_a_mark_belongs_to_the_token_before_it_and_begins_one_where_there_is_none() -> None:
    assert sizes_of("中\u0301文") == [2, 1]
    assert sizes_of("\u0301a") == [2]


def test_kinds_tell_words_from_single_characters_and_numbers_from_letters() -> None:
    assert find_tokens(["abc 12 中 x1"]).kinds_T.tolist() == [
        IS_SPACED | HAS_LETTER,
        IS_SPACED,
        HAS_LETTER,
        IS_SPACED | HAS_LETTER,
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße ÉTÉ", "sTRAßE été"),
        ("a b", "«A»,\n\n  b!"),
        ("soft\u00adhyphen", "softhyphen"),
        ("中\ufe00文", "中文"),
    ],
)
def test_texts_that_differ_in_case_and_layout_only_have_the_same_tokens(
    one: str, other: str
) -> None:
    assert hashes_of(one) == hashes_of(other)


def hash_by_hand(word: str) -> int:
    """What the docstring of `grams` says, in Python's numbers."""
    factor, below = 0x9E3779B97F4A7C15, (1 << 64) - 1
    value = factor
    for char in word:
        value = (value ^ ord(char)) * factor & below
        value ^= value >> 32
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & below
    value = (value ^ value >> 27) * 0x94D049BB133111EB & below
    return value ^ value >> 31


def test_hashes_are_the_same_everywhere() -> None:
    assert hashes_of("The 中") == [17526556304699411393, 4564569926686194144]
    assert hashes_of("The 中") == [hash_by_hand("the"), hash_by_hand("中")]


def test_every_text_keeps_its_own_tokens() -> None:
    tokens = find_tokens(["ab", "", "cd ef", "。", "中文"])
    assert tokens.ends_D.tolist() == [1, 1, 3, 3, 5]
    assert find_tokens([]).ends_D.tolist() == []


@settings(deadline=None)
@given(TEXTS)
def test_a_text_has_the_same_tokens_alone_and_among_others(texts: list[str]) -> None:
    together = find_tokens(texts)
    parts = np.split(together.tokens_T, together.ends_D[:-1]) if texts else []
    assert [part.tolist() for part in parts] == [hashes_of(text) for text in texts]


@settings(deadline=None)
@given(st.text(alphabet="ab 中文.", max_size=40))
def test_tokens_are_those_of_a_plain_reading(text: str) -> None:
    words: list[str] = []
    before = ""
    for char in text:
        if char in "ab" and before and before in "ab":
            words[-1] += char
        elif char in "ab中文":
            words.append(char)
        before = char
    expected = [hashes_of(word)[0] for word in words]
    assert hashes_of(text) == expected


@settings(deadline=None)
@given(st.sets(st.text(alphabet="abcdefgh", min_size=1, max_size=6), min_size=2, max_size=50))
def test_other_words_have_other_hashes(words: set[str]) -> None:
    assert len({hashes_of(word)[0] for word in words}) == len(words)


def test_a_lone_surrogate_is_no_token() -> None:
    assert sizes_of("a\ud800b") == [1, 1]


# N-grams


def test_ngrams_are_equal_where_their_tokens_are() -> None:
    one, other = grams_of("a b c a b", 2), grams_of("x a b", 2)
    assert len(one) == 4
    assert one[0] == one[3] == other[1]
    assert len({*one, *other}) == 4


def test_the_order_of_tokens_matters() -> None:
    assert grams_of("a b", 2) != grams_of("b a", 2)
    assert grams_of("a a", 2) != grams_of("b b", 2)


def test_a_text_shorter_than_an_ngram_has_none_or_is_one() -> None:
    tokens = find_tokens(["a b", "", "a b c d"])
    assert ngram_hashes(tokens, 3).ends_D.tolist() == [0, 0, 2]
    whole = ngram_hashes(tokens, 3, whole_if_short=True)
    assert whole.ends_D.tolist() == [1, 1, 3]
    assert whole.hashes_G[0] == grams_of("A B", 2)[0]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 9))
def test_a_rolling_hash_is_the_hash_of_the_tokens_alone(words: list[str], n: int) -> None:
    expected = [grams_of(" ".join(words[k : k + n]), n)[0] for k in range(len(words) - n + 1)]
    assert grams_of(" ".join(words), n) == expected


def test_an_ngram_of_no_tokens_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="no n-gram"):
        grams_of("a", 0)


def test_the_table_of_characters_has_a_digest() -> None:
    assert len(table_digest()) == 16
    assert table_digest() == table_digest()
