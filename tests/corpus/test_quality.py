"""Filters on repetition and shape, beside datatrove's own functions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.corpus.grams import find_tokens
from lingraft.corpus.methods import QualitySettings, RepetitionLimits
from lingraft.corpus.quality import REASONS, QualityFilter

ORDINARY = (
    "The committee met on Monday to discuss the plans for a second bridge across the river.\n"
    "Most members agreed that traffic has grown faster than anyone had expected, while two of "
    "them asked for another study before any money is spent.\n\n"
    "A decision is likely next spring, when the council has heard what residents think."
)
ONE_LINE = ORDINARY.replace("\n", " ")
CHINESE = (
    "委员会周一开会讨论在河上修建第二座桥的计划。\n多数委员同意交通增长比预期要快，"
    "也有两位要求在花钱之前再做一次研究。\n\n预计明年春天听取居民意见之后才会作出决定。"
)
OFF = RepetitionLimits(
    duplicate_line_frac=1,
    duplicate_line_char_frac=1,
    duplicate_paragraph_frac=1,
    duplicate_paragraph_char_frac=1,
    top_gram_char_frac=[1, 1, 1],
    duplicate_gram_char_frac=[1] * 6,
)
NO_REPETITION = QualitySettings(spaced=OFF, unspaced=OFF)


def reason_of(text: str, settings: QualitySettings | None = None) -> str:
    tokens = find_tokens([text])
    return QualityFilter(settings or QualitySettings()).reasons([text], tokens)[0]


def figures_of(text: str) -> dict[str, float]:
    row = QualityFilter(QualitySettings()).figures([text], find_tokens([text]))[0]
    return dict(zip(REASONS, row.tolist(), strict=True))


@pytest.mark.parametrize("text", [ORDINARY, CHINESE, "", "好"])
def test_an_ordinary_text_is_kept(text: str) -> None:
    assert reason_of(text) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n\n".join(["para one"] * 2 + ["two"]), "duplicate_paragraphs"),
        ("\n\n".join(["a long paragraph"] * 2 + ["b", "c", "d", "e"]), "duplicate_paragraph_chars"),
        ("\n".join(["x"] * 3 + ["y", "z"]), "duplicate_lines"),
        ("\n".join(["a long line here"] * 2 + ["b", "c", "d", "e"]), "duplicate_line_chars"),
        (f"{ONE_LINE} {'red door ' * 20}", "top_2_gram"),
        (f"{ONE_LINE} {ONE_LINE}", "duplicate_5_grams"),
        ("a of at it or by ox", "short_words"),
        ("internationalization incomprehensibility", "long_words"),
        ("#one #two three four", "many_symbols"),
        ("one two … three four", "many_symbols"),
        ("one... two three four", "many_symbols"),
        ("- one thing\n- another one\n  • a third", "bullet_lines"),
        ("first of all…\nthen", "many_symbols"),
        ("头一件事…\n第二件", "ellipsis_lines"),
        ("头一件事...\n第二件", "ellipsis_lines"),
        ("items 1111 2222 3333", "few_letters"),
    ],
)
def test_each_fault_has_its_reason(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_the_first_reason_in_order_is_told() -> None:
    assert reason_of("#a\n\n#a\n\n#a") == "duplicate_paragraphs"


@pytest.mark.parametrize("text", ["#### 一", "对…… 不对…… 好", "一 二 三 四", "的的的的 a"])
def test_rules_on_words_hold_only_where_words_are_spaced(text: str) -> None:
    assert reason_of(text, NO_REPETITION) == ""


def test_limits_at_one_are_off() -> None:
    assert reason_of("\n\n".join(["the same words again"] * 9), NO_REPETITION) == ""


def test_a_limit_itself_is_within_the_limit() -> None:
    ten = [f"line {chr(97 + n) * 5}" for n in range(7)]
    text = "\n".join([*ten, *ten[:3]])  # 3 of 10 lines stood before
    limits = OFF.model_copy(update={"duplicate_line_frac": 0.3})
    assert reason_of(text, QualitySettings(spaced=limits)) == ""
    limits = OFF.model_copy(update={"duplicate_line_frac": 0.29})
    assert reason_of(text, QualitySettings(spaced=limits)) == "duplicate_lines"


def test_an_ngram_that_stands_once_is_no_repetition_however_short_the_text() -> None:
    assert reason_of("red green blue") == ""
    assert figures_of("red green blue")["top_2_gram"] == 0


def test_without_spaces_ngrams_are_longer_and_have_no_spaces_between() -> None:
    figures = figures_of("甲乙丙丁甲乙丙")  # the commonest of three characters stands twice
    assert figures["top_2_gram"] == pytest.approx(2 * 3 / 7)
    assert figures["top_3_gram"] == 0


@pytest.mark.parametrize(("unit", "least"), [("red door ", 50), ("重复", 85)])
def test_ngrams_judge_from_50_words_on(unit: str, least: int) -> None:
    size = len(find_tokens([unit]).tokens_T)
    fewer, enough = (unit * ((least + more) // size) for more in (-1, 1))
    assert reason_of(fewer) == ""
    assert reason_of(enough).startswith("top_")
    assert reason_of(fewer, QualitySettings(min_words_of_grams=0)).startswith("top_")


def test_limits_without_spaces_are_their_own() -> None:
    text = "\n".join(["中文"] * 2 + ["一", "二", "三", "四", "五"])  # 1 of 7 lines, 2 of 16 chars
    strict = OFF.model_copy(update={"duplicate_line_frac": 0.1})
    assert reason_of(text, QualitySettings(spaced=strict, unspaced=OFF)) == ""
    assert reason_of(text, QualitySettings(spaced=OFF, unspaced=strict)) == "duplicate_lines"


@pytest.mark.parametrize(
    ("text", "share"),
    [("中文ab", 0.5), ("中文 12，！", 1.0), ("abcд", 0.0), ("123", 0.0), ("中aーカ", 0.25)],
)
def test_the_share_of_a_script_is_that_of_its_letters(text: str, share: float) -> None:
    quality = QualityFilter(QualitySettings(scripts=["Han"], min_script_frac=0.6))
    tokens = find_tokens([text])
    assert quality.figures([text], tokens)[0, 0] == share
    assert quality.reasons([text], tokens)[0] == ("" if share >= 0.6 else "other_script")


def test_scripts_are_counted_together() -> None:
    settings = QualitySettings(scripts=["Han", "Katakana", "Hiragana"], min_script_frac=1.0)
    assert reason_of("漢字カナーかな", settings) == ""


def test_an_unknown_script_is_refused() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'Han'"):
        QualitySettings(scripts=["Hann"])


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab 中。\n", max_size=60), max_size=8))
def test_a_text_is_judged_the_same_alone_and_among_others(texts: list[str]) -> None:
    together = QualityFilter(QualitySettings()).reasons(texts, find_tokens(texts))
    assert together == [reason_of(text) for text in texts]


# Beside datatrove

WORDS = st.sampled_from(["red", "green", "blue", "white", "amber", "violet"])
SENTENCES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
DOCUMENTS = st.lists(SENTENCES, min_size=1, max_size=12).flatmap(
    lambda lines: st.lists(
        st.sampled_from(["\n", "\n\n"]), min_size=len(lines), max_size=len(lines)
    ).map(lambda ends: "".join(map("".join, zip(lines, ends, strict=True))).strip())
)


@settings(deadline=None)  # the first example imports datatrove
@given(DOCUMENTS)
def test_shares_of_repetition_are_those_of_datatrove(text: str) -> None:
    theirs = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    ours, words, size = figures_of(text), text.split(), len(text)
    for name, blocks in (
        ("line", text.replace("\n\n", "\n").split("\n")),
        ("paragraph", text.split("\n\n")),
    ):
        num, chars = theirs.find_duplicates(blocks)
        assert ours[f"duplicate_{name}s"] == num / len(blocks)
        assert ours[f"duplicate_{name}_chars"] == chars / size
    for n in (2, 3, 4):
        grams = theirs.get_n_grams(words, n)
        repeats = len(set(grams)) < len(grams)
        expected = theirs.find_top_duplicate(grams) / size if repeats else 0
        assert ours[f"top_{n}_gram"] == expected
    for n in range(5, 11):
        assert ours[f"duplicate_{n}_grams"] == theirs.find_all_duplicate(words, n) / size


def test_documents_that_datatrove_drops_for_repetition_are_dropped_for_the_same_reason() -> None:
    theirs = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter")
    words = ORDINARY.lower().replace(".", "").replace(",", "").split()
    for repeats in range(1, 4):
        text = " ".join(words * repeats)
        shares = {n: theirs.find_all_duplicate(text.split(), n) / len(text) for n in range(5, 11)}
        limits = dict(zip(range(5, 11), RepetitionLimits().duplicate_gram_char_frac, strict=True))
        first = next((f"duplicate_{n}_grams" for n in shares if shares[n] > limits[n]), "")
        assert reason_of(text) == first
        assert (first != "") == (repeats > 1)
