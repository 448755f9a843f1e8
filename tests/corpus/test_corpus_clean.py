from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus.clean import clean, why_dropped

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
ROUGH_TEXT = st.text(st.sampled_from("a \n\r\t\x00\u2028\ufeff\u3000e\u0301\ud800\x85")).map(str)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("e\u0301", "é"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00\x07b\x7f", "ab"),
        ("a\tb", "a\tb"),
        ("\ufeffa", "a"),
        ("a  \nb\u3000\n", "a\nb"),
        ("a\n\nb", "a\n\nb"),
        ("a\n\n\n\nb\n \n \nc", "a\n\nb\n\nc"),
        ("  \n a \n ", "a"),
        ("a\ud800b", "a\ufffdb"),
        ("１９９８年，", "１９９８年，"),
    ],
)
def test_cleaning_keeps_the_words_and_mends_the_rest(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(ANY_TEXT | ROUGH_TEXT)
@settings(max_examples=300, deadline=None)
def test_a_cleaned_text_is_clean_and_fits_utf8(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a" * 15, "too_short"),
        ("a" * 16, ""),
        ("a" * 3000, ""),
        ("a" * 3001, "too_long"),
        ("a" * 999 + "\ufffd", ""),
        ("a" * 998 + "\ufffd", "replacement_characters"),
    ],
)
def test_each_bound_drops_what_lies_beyond_it(text: str, reason: str) -> None:
    assert why_dropped(text, min_chars=16, max_chars=3000) == reason
