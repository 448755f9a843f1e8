"""Scope: bytes that only texts of the scripts can hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import BY_HAND, build

from lingraft.bases import SentencePieceBase
from lingraft.errors import UsageError
from lingraft.pieces import SentencePieces
from lingraft.tokenizer.scope import Scope, find_scope, own_scripts

HAN = Scope(["Han"])


@pytest.mark.parametrize(
    ("data", "bound"),
    [
        ("中".encode(), True),
        ("，中a".encode(), True),
        ("，".encode(), False),
        (b"abc", False),
        (b"", False),
        ("中".encode()[:2], True),  # U+4E00 to U+4E3F: Han, all of them
        ("文".encode()[:1], True),  # E6: U+6000 to U+6FFF
        (b"\xe4", False),  # U+4DC0 to U+4DFF are hexagrams
        (b"\xe3\x80", False),  # Common punctuation
        (b"\xf0\xa0", True),  # U+20000 to U+20FFF
        (b"\xf0", False),  # emoji begin so
        (b"\xb8\xad", False),  # many a character ends so
        (b"\x80\x80\x80\x80", True),  # no text holds this
        (b"\xad" + b"a", False),
        (b"\xad" + "中".encode(), True),
        (b"\xff\xe4a", True),  # no text holds this either
        (b"a\xe6", True),
    ],
)
def test_bytes_are_bound_where_only_the_scripts_complete_them(data: bytes, bound: bool) -> None:
    assert HAN.binds(data) is bound


@given(st.text(max_size=3), st.integers(0, 12), st.integers(0, 12))
def test_bytes_of_a_text_without_the_scripts_are_never_bound(text: str, a: int, b: int) -> None:
    if not HAN.holds(text):
        assert not HAN.binds(text.encode()[min(a, b) : max(a, b)])


def test_the_scripts_of_the_pieces_are_found() -> None:
    assert find_scope(["中文", "的", "a"], None).scripts == ("Han",)
    assert find_scope(["中文"], ["Thai"]).scripts == ("Thai",)


def test_pieces_without_letters_have_no_scope() -> None:
    scope = find_scope(["，", "12"], None)
    assert scope.scripts == ()
    assert not scope.holds("中")
    assert not scope.binds("中".encode())
    assert not scope.binds("中".encode()[:2])


def test_a_misspelled_script_is_refused() -> None:
    with pytest.raises(UsageError, match="no Unicode script 'Hann'"):
        find_scope([], ["Hann"])


@pytest.mark.parametrize(("num", "own"), [(96, []), (97, ["Latin"])])
def test_a_base_with_100_words_of_a_script_has_it_as_its_own(num: int, own: list[str]) -> None:
    words = [(f"c{chr(97 + n // 26)}{chr(97 + n % 26)}", -20.0 - n) for n in range(1, num + 1)]
    base = SentencePieceBase(SentencePieces(build([*BY_HAND, *words])))  # with ab, abc and bc
    assert own_scripts(base, base.size, ["Han", "Latin"]) == own
