"""Patterns are read into trees; what programs cannot say is refused by name."""

from __future__ import annotations

import pytest

from lingraft.patterns import (
    Ahead,
    Chain,
    Char,
    Choice,
    PatternError,
    Repeat,
    may_be_empty,
    read_pattern,
)

A, B = Char("a"), Char("b")


def test_a_pattern_becomes_a_tree() -> None:
    assert read_pattern(r"ab|[^\s\]]+(?!\S)") == Choice(
        (Chain((A, B)), Chain((Repeat(Char(r"[^\s\]]"), 1, None, False), Ahead(r"\S", False))))
    )
    assert read_pattern("a?+b{2,3}") == Chain((Repeat(A, 0, 1, True), Repeat(B, 2, 3, False)))
    assert read_pattern("a{2}b{2,}") == Chain((Repeat(A, 2, 2, False), Repeat(B, 2, None, False)))
    assert read_pattern("(?:ab)?(a|b)(?=b)") == Chain(
        (Repeat(Chain((A, B)), 0, 1, False), Choice((A, B)), Ahead("b", True))
    )


def test_case_is_ignored_inside_its_group_only() -> None:
    assert read_pattern("(?i:a|[bc])d") == Chain(
        (
            Choice((Char("(?i:a)"), Char("(?i:[bc])"))),
            Char("d"),
        )
    )
    assert read_pattern("(?i:'s)d") == Chain((Chain((Char("(?i:')"), Char("(?i:s)"))), Char("d")))


@pytest.mark.parametrize(
    ("pattern", "source"),
    [("-", r"\-"), ("#", r"\#"), (".", "."), (r"\p{Lu}", r"\p{Lu}"), ("]", "]"), ("中", "中"),
     (r"[a&&[^b]]", r"[a&&[^b]]"), (r"\x{4e2d}", r"\x{4e2d}"), (r"\u4e2d", r"\u4e2d"),
     (r"[[:alpha:]]", r"[[:alpha:]]"), (r"\P{^L}", r"\P{^L}"), (r"\.", r"\.")],
)  # fmt: skip
def test_one_character_keeps_its_source(pattern: str, source: str) -> None:
    assert read_pattern(pattern) == Char(source)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a)", r"'\)' at 1"),
        ("(a", "a group without end"),
        ("^a", r"'\^' at 0"),
        ("a$", r"'\$' at 1"),
        ("*a", r"'\*' at 0"),
        ("a{,3}", "'{' at 1"),
        ("a{2}{3}", "'{' at 4"),
        ("a+?", r"'\+\?'"),
        ("a**", r"'\*\*'"),
        ("a{1,3}+", r"'\{1,3\}\+'"),
        ("(ab)+", "repetition of a group"),
        ("(ab)?+", "repetition of a group"),
        ("(a?)?", "an optional group that may be empty"),
        ("a{65}", "more than 64 repetitions"),
        ("a{3,2}", "ends before it begins"),
        ("(?<=a)b", r"'\(\?<='"),
        ("(?>a)", r"'\(\?>a'"),
        ("(?i)a", r"'\(\?i\)'"),
        ("(?m:a)", r"'\(\?m:'"),
        ("(?!ab)", "more than one character"),
        ("[a", r"'\[' without end"),
        ("[]a]", r"'\]' first in a class"),
        (r"\b", r"'\\b'"),
        (r"\1", r"'\\1'"),
        (r"\R", r"'\\R'"),
        ("\\", r"'\\'"),
        (r"[\b]", r"'\\b'"),
        ("(?i:ss)", "have a ligature"),
        ("(?i:s[st])", "a sequence of classes"),
        ("(?i:s+t)", "a sequence of classes"),
        ("(?i:ß)", "'ß' with case ignored"),
        ("(?i:[ß])", r"'\[ß\]' with case ignored"),
        (r"(?i:\x{DF})", "with case ignored"),
        (r"(?i:[^a])", "with case ignored"),
        (r"(?i:\p{L})", "with case ignored"),
    ],
)
def test_what_programs_cannot_say_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError, match=problem):
        read_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "is_empty"),
    [("a", False), ("a*", True), ("a?b", False), ("(?=a)", True), ("a|", True), ("a*b?", True),
     ("a{0}", True), ("a+", False), ("(a|b)", False)],
)  # fmt: skip
def test_what_may_match_nothing_is_known(pattern: str, is_empty: bool) -> None:
    assert may_be_empty(read_pattern(pattern)) is is_empty


def test_what_is_no_tree_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="no node"):
        may_be_empty("a")
