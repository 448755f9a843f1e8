"""Text is cut only where no piece reaches across."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.neighbours import join_table, split_characters

Rules = dict[tuple[bytes, bytes], int]


def joins(table: tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]], a: str, b: str) -> bool:
    class_P, together_CB = table
    left, right = int(class_P[ord(a)]), int(class_P[ord(b)])
    return bool(together_CB[left, right >> 3] >> (right & 7) & 1)


def merge(symbols: list[bytes], rules: Rules) -> list[bytes]:
    """Byte pair encoding as its definition has it: the first rule, at the leftmost pair."""
    while True:
        ranked = [(rules[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in rules]
        if not ranked:
            return symbols
        _, i = min(ranked)
        symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]


def as_bytes(text: str) -> list[bytes]:
    return [bytes([byte]) for byte in text.encode()]


def test_characters_join_in_the_order_that_a_piece_has() -> None:
    table = join_table([b"abc", "中文".encode()])
    assert joins(table, "a", "b")
    assert joins(table, "b", "c")
    assert joins(table, "中", "文")
    assert not joins(table, "b", "a")
    assert not joins(table, "a", "c")
    assert not joins(table, "c", "中")
    assert table[0][ord("x")] == 0


def test_a_piece_that_ends_inside_a_character_stands_for_all_that_begin_so() -> None:
    table = join_table([b"a\xe4\xb8"])  # U+4E00 to U+4E3F
    assert joins(table, "a", "\u4e00")
    assert joins(table, "a", "\u4e3f")
    assert not joins(table, "a", "\u4e40")
    assert not joins(table, "\u4e00", "a")


def test_a_piece_that_begins_inside_a_character_stands_for_all_that_end_so() -> None:
    table = join_table([b"\xa9a"])
    assert joins(table, "é", "a")  # C3 A9
    assert joins(table, "\u0a69", "a")  # E0 A9 A9
    assert joins(table, "\U0001f469", "a")  # F0 9F 91 A9
    assert not joins(table, "è", "a")


@pytest.mark.parametrize(
    ("piece", "parts"),
    [
        (b"ab", [b"a", b"b"]),
        (b"\x80a\xe4", [b"\x80", b"a", b"\xe4"]),
        (b"\xb8\xad", [b"\xb8\xad"]),
        (b"a\xff", []),  # no UTF-8 has this byte
        (b"\x80\x80\x80\x80a", []),  # no character is so long
        (b"a\xc3b", []),  # cut inside
        (b"a\xed\xa0", []),  # half of a surrogate pair
        (b"\xf4\x90a", []),
        (b"a\x80", []),
    ],
)
def test_pieces_fall_into_characters_or_stand_in_no_text(piece: bytes, parts: list[bytes]) -> None:
    assert split_characters(piece) == parts


ALPHABET = "aé中丮丯🌈é"


@st.composite
def vocabularies(draw: st.DrawFn) -> Rules:
    symbols = [bytes([b]) for b in sorted(set(ALPHABET.encode()))]
    rules: Rules = {}
    for rank in range(draw(st.integers(1, 12))):
        pair = (draw(st.sampled_from(symbols)), draw(st.sampled_from(symbols)))
        rules.setdefault(pair, rank)
        symbols.append(pair[0] + pair[1])
    return rules


@settings(max_examples=60, deadline=None)
@given(rules=vocabularies(), text=st.text(ALPHABET, max_size=12))
def test_cutting_never_changes_what_the_rules_make_of_bytes(rules: Rules, text: str) -> None:
    table = join_table({left + right for left, right in rules})
    parts: list[str] = []
    for char in text:
        if parts and joins(table, parts[-1][-1], char):
            parts[-1] += char
        else:
            parts.append(char)
    cut = [symbol for part in parts for symbol in merge(as_bytes(part), rules)]
    assert cut == merge(as_bytes(text), rules)


@settings(max_examples=60, deadline=None)
@given(rules=vocabularies(), texts=st.lists(st.text(ALPHABET, min_size=1, max_size=6), max_size=6))
def test_what_texts_join_the_table_tells(rules: Rules, texts: list[str]) -> None:
    table = join_table({left + right for left, right in rules})
    text = "".join(texts)
    ends = {len(text[:n].encode()): n for n in range(1, len(text))}
    at = 0
    for symbol in merge(as_bytes(text), rules):
        crossed = [n for end, n in ends.items() if at < end < at + len(symbol)]
        assert all(joins(table, text[n - 1], text[n]) for n in crossed)
        at += len(symbol)
