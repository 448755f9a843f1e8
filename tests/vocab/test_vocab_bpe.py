"""Merge rules: hand-made cases, and equality with a trainer that recounts everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ARABIC, CHINESE, HINDI, KAZAKH, THAI, VIETNAMESE

from lingraft.vocab import bpe
from lingraft.vocab.bpe import BARRIER, CutText, Rules, compile_kernel, train_rules
from lingraft.vocab.scratch import Scratch

Learned = list[tuple[str, str, tuple[int, ...]]]
Column = Sequence[tuple[Sequence[str], int]]
"""Segments of one text, each with its count."""


def cut_text(
    columns: Sequence[Column], texts: Sequence[str], needs: Mapping[str, int] | None = None
) -> CutText:
    """Lay segments out; "|" is a barrier inside one."""
    number = {text: s for s, text in enumerate(texts)} | {"|": BARRIER}
    cells, bounds = [(BARRIER, 0)], []
    for column in columns:
        for segment, count in column:
            cells += [*((number[text], count) for text in segment), (BARRIER, 0)]
        bounds.append(len(cells))
    need_S = np.array([(needs or {}).get(text, 0) for text in texts], np.int32)
    return CutText(np.array(cells, np.int32), np.array(bounds), texts, need_S)


def spelled(rules: Rules, texts: Sequence[str]) -> Learned:
    known, learned = list(texts), []
    assert rules.num_symbols == len(known)
    for left, right, joins in zip(rules.left_K, rules.right_K, rules.joins_KW, strict=True):
        learned.append((known[left], known[right], tuple(joins.tolist())))
        known.append(known[left] + known[right])
    return learned


def learn(*columns: Column, texts: Sequence[str], max_rules: int = 10, **limits: Any) -> Learned:
    """Learn the rules of the first column, with all characters."""
    limits = {"max_chars": 16, "min_count": 2} | limits
    return spelled(train_rules(cut_text(columns, texts), {0: max_rules}, **limits)[0], texts)


def learn_naively(
    columns: Sequence[Column],
    texts: Sequence[str],
    needs: Mapping[str, int],
    num_chars: int,
    max_rules: int,
    max_chars: int,
    min_count: int,
    banned: Sequence[str] = (),
) -> Learned:
    """Learn the same rules by counting every pair again before every rule."""
    work = [(w, list(s), count) for w, column in enumerate(columns) for s, count in column]
    known = {*texts, *banned}
    missing = {text for text in texts if needs.get(text, 0) > num_chars}
    learned: Learned = []
    while len(learned) < max_rules:
        joins_of: Counter[tuple[str, str]] = Counter()
        for w, segment, count in work:
            for pair in pairs_to_join(segment):
                joins_of[pair] += count if w == 0 else 0
        options = []
        for pair, joins in joins_of.items():
            piece = "".join(pair)
            fits = len(piece) <= max_chars and piece not in known and not missing & {*pair}
            if fits and "|" not in piece and joins >= min_count:
                options.append((-joins, piece, len(pair[0]), pair))
        if not options:
            break
        *_, pair = min(options)
        totals = [0] * len(columns)
        for w, segment, count in work:
            segment[:], number = join(segment, *pair)
            totals[w] += number * count
        known.add("".join(pair))
        learned.append((*pair, tuple(totals)))
    return learned


def pairs_to_join(segment: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give each pair as often as it would be joined: (a, a) once in "aaa"."""
    taken = -1
    for i, (left, right) in enumerate(pairwise(segment)):
        if left != right or i != taken:
            yield left, right
            taken = i + 1 if left == right else -1


def join(segment: Sequence[str], left: str, right: str) -> tuple[list[str], int]:
    """Join a pair from left to right; give the segment and the number of joins."""
    out: list[str] = []
    i = number = 0
    while i < len(segment):
        found = list(segment[i : i + 2]) == [left, right]
        out.append(left + right if found else segment[i])
        number += found
        i += 1 + found
    return out, number


def test_the_pair_with_most_joins_goes_first() -> None:
    rules = learn([("abc", 2), ("bc", 3)], texts="abc")
    assert rules == [("b", "c", (5,)), ("a", "bc", (2,))]


def test_aaa_holds_one_join_and_aaaa_two() -> None:
    assert learn([("aaa", 5)], texts="a", max_rules=1) == [("a", "a", (5,))]
    assert learn([("aaaa", 5)], texts="a") == [("a", "a", (10,)), ("aa", "aa", (5,))]


def test_overlapping_places_do_not_count_as_joins() -> None:
    """(a, a) stands in 4 places but joins 2 times only: (b, c), with 3, goes first."""
    rules = learn([("aaaaa", 1), ("bc", 3)], texts="abc", max_rules=2)
    assert rules == [("b", "c", (3,)), ("a", "a", (2,))]


def test_ties_go_to_the_piece_that_sorts_first_by_code_point() -> None:
    rules = learn([("丙丁", 4), ("甲乙", 4), ("乙甲", 4)], texts="丁丙乙甲", max_rules=3)
    assert [left + right for left, right, _ in rules] == ["丙丁", "乙甲", "甲乙"]


def test_ties_beyond_the_third_character_go_by_text_too() -> None:
    segments = [(["abc", "z"], 2), (["abc", "de"], 2), (["abc", "d"], 2)]
    rules = learn(segments, texts=["z", "de", "d", "abc"])
    assert [left + right for left, right, _ in rules] == ["abcd", "abcde", "abcz"]


def test_equal_pieces_of_other_parts_tie_by_the_shorter_left_part() -> None:
    segments = [(["ab", "c"], 3), (["a", "bc"], 3)]
    assert learn(segments, texts=["ab", "c", "a", "bc"]) == [("a", "bc", (3,))]


def test_nothing_joins_across_a_barrier() -> None:
    assert learn([("a|b", 9), ("b", 9)], texts="ab") == []


def test_a_piece_is_never_longer_than_allowed() -> None:
    rules = learn([("abcd", 5)], texts="abcd", max_chars=2)
    assert [left + right for left, right, _ in rules] == ["ab", "cd"]


def test_a_piece_that_exists_already_is_not_made_again() -> None:
    rules = learn([("ab", 9), ("cd", 2)], texts=["a", "b", "c", "d", "ab"])
    assert rules == [("c", "d", (2,))]


def test_training_goes_on_without_a_banned_piece() -> None:
    """Banned 'ab' leaves b for 'bc'."""
    rules = learn([("abc", 5), ("ab", 9)], texts="abc", banned=["ab", "longer than any piece"])
    assert rules == [("b", "c", (5,)), ("a", "bc", (5,))]


def test_a_rule_needs_the_fewest_joins_allowed() -> None:
    assert learn([("ab", 3), ("cd", 2)], texts="abcd", min_count=3) == [("a", "b", (3,))]


def test_evaluation_texts_choose_nothing_and_are_counted() -> None:
    rules = learn([("ab", 2)], [("cd", 9), ("abab", 4)], [("b", 1), ("ab", 1)], texts="abcd")
    assert rules == [("a", "b", (2, 8, 1))]


def test_no_rules_asked_for_are_no_rules() -> None:
    assert learn([("ab", 5)], texts="ab", max_rules=0) == []


def test_no_symbols_are_no_rules() -> None:
    assert learn([], texts=[]) == []


def test_the_numbers_of_symbols_decide_nothing() -> None:
    segments = [("abcabc", 1), ("bca", 2), ("cab", 2)]
    assert len({str(learn(segments, texts=order)) for order in ("abc", "cba", "bca")}) == 1


def test_counts_are_added_beyond_32_bits() -> None:
    most = 2**31 - 1
    assert learn([("ab", most)] * 3, texts="ab") == [("a", "b", (3 * most,))]


def test_a_character_that_is_not_added_joins_with_nothing() -> None:
    """c is the second character added: with fewer, 'bc' is passed over and 'ab' goes first."""
    text = cut_text([[("abc", 2), ("bc", 3)]], "abc", {"c": 2})
    found = train_rules(text, {0: 5, 1: 5, 2: 5}, max_chars=16, min_count=2)
    assert spelled(found[2], "abc") == [("b", "c", (5,)), ("a", "bc", (2,))]
    assert spelled(found[1], "abc") == spelled(found[0], "abc") == [("a", "b", (2,))]


def test_a_count_that_has_its_rules_does_not_fork() -> None:
    text = cut_text([[("ab", 9), ("bc", 3)]], "abc", {"c": 1})
    found = train_rules(text, {0: 1, 1: 2}, max_chars=16, min_count=2)
    assert {count: len(rules) for count, rules in found.items()} == {0: 1, 1: 2}


def test_progress_tells_the_rules_of_all_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "_CHUNK_RULES", 2)
    told: list[int] = []
    found = train_rules(
        cut_text([[("abcd", 7)]], "abcd"), {0: 9, 1: 2}, max_chars=9, min_count=2,
        on_rules=told.append,
    )  # fmt: skip
    assert {count: len(rules) for count, rules in found.items()} == {0: 3, 1: 2}
    assert [number for number in told if number] == [4, 1]


def test_the_first_rules_are_the_smaller_vocabulary() -> None:
    rules = train_rules(cut_text([[("abcd", 7)]], "abcd"), {0: 9}, max_chars=9, min_count=2)[0]
    assert spelled(rules.first(2), "abcd") == spelled(rules, "abcd")[:2]


def test_the_kernel_can_be_compiled_ahead() -> None:
    compile_kernel()


def test_what_fails_in_a_thread_reaches_the_caller() -> None:
    def fail(number: int) -> None:
        raise MemoryError("no room")

    text = cut_text([[("ab", 7)]], "ab")
    with pytest.raises(MemoryError, match="no room"):
        train_rules(text, {0: 1}, max_chars=9, min_count=2, jobs=2, on_rules=fail)


TEXTS = ["a", "b", "c", "d", "ab", "bca"]
NEEDS = {"c": 1, "d": 2}
COUNTS = (0, 1, 2)


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[Column], dict[int, int], dict[str, Any]]:
    """Draw texts of pieces, some that overlap others, and what the trainer is held to."""
    symbol = st.sampled_from([*TEXTS[: draw(st.integers(1, len(TEXTS)))], "|"])
    segment = st.tuples(st.lists(symbol, min_size=1, max_size=14), st.integers(1, 4))
    columns: list[Column] = draw(
        st.lists(st.lists(segment, min_size=1, max_size=6), min_size=1, max_size=3)
    )
    counts = draw(st.sets(st.sampled_from(COUNTS), min_size=1))
    limits: dict[str, Any] = {
        "max_chars": draw(st.integers(2, 9)),
        "min_count": draw(st.integers(1, 4)),
        "banned": draw(st.lists(st.sampled_from(["aa", "ba", "abc", "cab"]), max_size=2)),
    }
    return columns, {count: draw(st.integers(0, 12)) for count in counts}, limits


@given(searches(), st.sampled_from([1, 2]), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_rules_and_joins_equal_those_of_a_trainer_that_recounts(
    tmp_path_factory: pytest.TempPathFactory,
    search: tuple[list[Column], dict[int, int], dict[str, Any]],
    jobs: int,
    crowded: bool,
    on_disk: bool,
) -> None:
    columns, max_rules, limits = search
    scratch = Scratch(tmp_path_factory.getbasetemp(), 64) if on_disk else None
    with pytest.MonkeyPatch.context() as patch:
        if crowded:  # room for pairs runs out at once, and again
            patch.setattr(bpe, "_ROOM_PAIRS", 1)
        found = train_rules(
            cut_text(columns, TEXTS, NEEDS), max_rules, jobs=jobs, scratch=scratch, **limits
        )
    assert found.keys() == max_rules.keys()
    for count, most in max_rules.items():
        naive = learn_naively(columns, TEXTS, NEEDS, count, most, **limits)
        assert spelled(found[count], TEXTS) == naive
    assert scratch is None or scratch.spilled_bytes > 0


@pytest.mark.parametrize(
    "sentences",
    [THAI, ARABIC, HINDI, VIETNAMESE, KAZAKH, CHINESE],
    ids=["th", "ar", "hi", "vi", "kk", "zh"],
)
def test_rules_of_real_texts_equal_those_of_a_trainer_that_recounts(sentences: list[str]) -> None:
    texts = sorted(set("".join(sentences)))
    needs = {text: place for place, text in enumerate(texts[len(texts) // 2 :], 1)}
    columns = [[(line, 1) for line in sentences[:18]], [(line, 1) for line in sentences[18:]]]
    max_rules = {len(needs) // 2: 50, len(needs): 50}
    found = train_rules(cut_text(columns, texts, needs), max_rules, max_chars=16, min_count=2)
    for count in max_rules:
        naive = learn_naively(columns, texts, needs, count, 50, 16, 2)
        assert spelled(found[count], texts) == naive


def test_what_a_fork_copies_is_kept_on_disk_too(tmp_path: Path) -> None:
    columns = [[("abc", 2), ("bc", 3), ("ba", 4), ("dd", 4)]]
    scratch = Scratch(tmp_path, 0)
    found = train_rules(
        cut_text(columns, "abcd", NEEDS), {0: 9, 1: 9, 2: 9}, max_chars=9, min_count=1,
        scratch=scratch,
    )  # fmt: skip
    assert scratch.peak_bytes == 0
    for count in COUNTS:
        assert spelled(found[count], "abcd") == learn_naively(
            columns, "abcd", NEEDS, count, 9, 9, 1
        )
