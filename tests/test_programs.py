"""Compiled patterns split texts as the library's regular expressions do."""

from __future__ import annotations

import unicodedata
from bisect import bisect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pre_tokenizers_in_use import (
    CL100K,
    CL100K_OWNING,
    DEEPSEEK,
    O200K,
    QWEN2,
    alphabet,
    contexts,
    texts,
)
from tokenizers import Regex, pre_tokenizers

from lingraft import programs
from lingraft.patterns import PatternError
from lingraft.programs import GPT2, Digits, compile_patterns, points_in_class
from lingraft.splitting import Program, split_points

CHAINS: dict[str, tuple[str | Digits, ...]] = {
    "gpt2": (GPT2,),
    "cl100k": (CL100K,),
    "cl100k, owning": (CL100K_OWNING,),
    "qwen2": (QWEN2,),
    "o200k": (O200K,),
    "deepseek": DEEPSEEK,
    "digits": (Digits(True), GPT2),
    "runs of digits": (Digits(False), GPT2),
    "classes": (r"[\x{61}-c&&[^b]]\h{2,3}|\x42?[[:upper:]]|\u4e2d(?=\u6587)|.\.|[^\s\d]*+(?!\d)1",),
}


def ends(program: Program, text: str) -> list[int]:
    points = np.array([ord(char) for char in text], np.int32)
    bounds = np.zeros(len(text) + 1, np.int32)
    bounds[0] = len(text)
    found: list[int] = bounds[: split_points(program, points, bounds, 1)].tolist()
    return found


def library(chain: Sequence[str | Digits]) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=part.individual)
            if isinstance(part, Digits)
            else pre_tokenizers.Split(Regex(part), "isolated")
            for part in chain
        ]
    )


def library_ends(chain: Sequence[str | Digits], text: str) -> list[int]:
    return [end for _, (_, end) in library(chain).pre_tokenize_str(text)]


@pytest.mark.parametrize("name", CHAINS)
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_texts_are_split_as_the_library_does(name: str, text: str) -> None:
    assert ends(compiled(name), text) == library_ends(CHAINS[name], text)


@pytest.mark.parametrize("name", CHAINS)
def test_hard_characters_are_split_alike_in_every_context(name: str) -> None:
    program, split = compiled(name), library(CHAINS[name])
    for text in contexts(alphabet):
        wanted = [end for _, (_, end) in split.pre_tokenize_str(text)]
        assert ends(program, text) == wanted, text


def every_kind_of_character() -> list[str]:
    """All assigned characters; of Han, Hangul and other endless rows every 61st."""
    chars = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    endless = [0x3400, 0xA000, 0xAC00, 0xD800, 0x17000, 0x18D00, 0x20000, 0x110000]
    return [
        char
        for char in chars
        if ord(char) % 61 == 0
        or (unicodedata.category(char) not in ("Cn", "Co") and bisect(endless, ord(char)) % 2 == 0)
    ]


@pytest.mark.parametrize("name", CHAINS)
def test_every_character_is_split_alike_among_others(name: str) -> None:
    program, split, chars = compiled(name), library(CHAINS[name]), every_kind_of_character()
    for start in range(0, len(chars), 500):
        text = "".join(f"{char}x {char}\n" for char in chars[start : start + 500])
        wanted = [end for _, (_, end) in split.pre_tokenize_str(text)]
        assert ends(program, text) == wanted, hex(start)


_COMPILED: dict[str, Program] = {}


def compiled(name: str) -> Program:
    if name not in _COMPILED:
        _COMPILED[name] = compile_patterns(CHAINS[name])
    return _COMPILED[name]


ATOMS = st.sampled_from(["a", "b", "[ab]", r"\s", "[^a]", "c"])
REPEATED = st.builds(
    "{}{}".format, ATOMS, st.sampled_from(["", "", "?", "*", "+", "{1,2}", "{2}", "?+", "++"])
)
AHEADS = st.sampled_from(["", "", "", "(?!a)", r"(?=\S)", "(?!c)"])
SEQUENCES = st.builds(
    "{}{}{}".format, st.lists(REPEATED, min_size=1, max_size=4).map("".join), AHEADS, REPEATED
)
GROUPS = st.builds("{}(?:{}|{}){}{}".format, REPEATED, SEQUENCES, ATOMS, st.sampled_from(["", "?"]),
                   SEQUENCES)  # fmt: skip
PATTERNS = st.lists(st.one_of(SEQUENCES, GROUPS), min_size=1, max_size=3).map("|".join)


@settings(max_examples=200, deadline=None)
@given(pattern=PATTERNS, text=st.text("abc ", max_size=14))
def test_random_patterns_split_alike_or_are_refused(pattern: str, text: str) -> None:
    try:
        program = compile_patterns([pattern])
    except PatternError:
        return
    assert ends(program, text) == library_ends([pattern], text)


def test_no_pattern_leaves_texts_whole() -> None:
    assert len(compile_patterns([]).ends_L) == 0


def test_an_empty_text_has_no_pieces() -> None:
    assert ends(compiled("gpt2"), "") == []


def test_a_class_is_what_the_library_says() -> None:
    held_P = points_in_class(r"[\s&&[^\n]]")
    assert held_P[ord(" ")]
    assert held_P[0x85]
    assert not held_P[ord("\n")]
    assert points_in_class("a").nonzero()[0].tolist() == [0x61]
    assert points_in_class("(?i:s)").nonzero()[0].tolist() == [0x53, 0x73, 0x17F]


def test_what_the_library_calls_a_number_is_asked_of_it() -> None:
    held_P = points_in_class("")
    assert [bool(held_P[ord(char)]) for char in "0٣½Ⅷ一a"] == [True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (r"\p{Nonsense}", "Nonsense"),
        (r"a*|b", "may be empty"),
        (r"(?=a)", "may be empty"),
        ("|".join(f"[{chr(0x4E00 + n)}a]" for n in range(33)), "more than 32 classes"),
        ("|".join(["a{64}"] * 64), "a pattern of that size"),
        ("[ab]{0,64}" * 5 + "c", "more than 256 choices"),
    ],
)
def test_what_a_program_cannot_say_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError, match=problem):
        compile_patterns([pattern])


def test_as_many_choices_as_there_is_room_for_work() -> None:
    pattern = "[ab]{0,64}" * 3 + "c"
    assert ends(compile_patterns([pattern]), "a" * 300) == library_ends([pattern], "a" * 300)


def test_answers_of_the_library_are_kept_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "cache_folder", lambda: str(tmp_path))
    asked = points_in_class.__wrapped__(r"[\d&&[0-4]]")
    monkeypatch.setattr(programs, "_ask", None)  # would fail
    assert np.array_equal(points_in_class.__wrapped__(r"[\d&&[0-4]]"), asked)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:200])
    monkeypatch.undo()
    monkeypatch.setattr(programs, "cache_folder", lambda: str(tmp_path))
    assert np.array_equal(points_in_class.__wrapped__(r"[\d&&[0-4]]"), asked)


def test_answers_that_cannot_be_kept_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "cache_folder", lambda: "/nowhere/at/all")
    assert points_in_class.__wrapped__(r"[\d&&[0-4]]").sum() == 5
