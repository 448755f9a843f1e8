"""Scripts of characters, and runs of them."""

import pytest
from samples import ARABIC, CHINESE, HINDI, KAZAKH, THAI, VIETNAMESE

from lingraft.errors import InputError, UsageError
from lingraft.text import check_scripts, find_scripts, in_scripts, script_runs


def test_punctuation_and_digits_are_of_no_script_of_a_language() -> None:
    assert list(script_runs("房间 OK，很干净。２时々〇", ["Han"])) == ["房间", "很干净", "时々〇"]


def test_runs_may_mix_the_scripts_asked_for() -> None:
    text = "これは日本語 and 한국어"
    assert list(script_runs(text, ["Han", "Hiragana"])) == ["これは日本語"]
    assert list(script_runs(text, ["Hangul"])) == ["한국어"]


def test_characters_outside_the_basic_plane_have_a_script_too() -> None:
    assert list(script_runs("a𠮷野家b", ["Han"])) == ["𠮷野家"]


@pytest.mark.parametrize(("text", "found"), [("abc中", True), ("abc", False), ("", False)])
def test_one_character_of_the_scripts_is_enough(text: str, found: bool) -> None:
    assert in_scripts(text, ["Han", "Thai"]) is found


@pytest.mark.parametrize(
    ("name", "near"), [("Hen", "'Han'"), ("hangull", "'Hangul'"), ("Q", "a name such as")]
)
def test_an_unknown_script_is_refused_with_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"no Unicode script '{name}'") as caught:
        in_scripts("a", ["Han", name])
    assert near in str(caught.value)


@pytest.mark.parametrize("name", ["Han}", "Han}|\\p{Thai", "", "Han Thai", "1"])
def test_a_name_is_never_read_as_a_pattern(name: str) -> None:
    with pytest.raises(UsageError, match="no Unicode script"):
        check_scripts([name])


def test_every_script_of_unicode_is_accepted_by_any_of_its_names() -> None:
    check_scripts(["Han", "hani", "Old_Italic", "Nko", "Cyrl"])


@pytest.mark.parametrize("name", ["Common", "Zyyy", "Inherited", "qaai", "Unknown"])
def test_a_script_of_no_language_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="belongs to no language"):
        check_scripts([name])


def test_marks_shared_by_several_scripts_belong_to_each_of_them() -> None:
    word = "كَتَبَ"  # U+064E: Inherited, used with Arabic and Syriac
    assert list(script_runs(word, ["Arabic"])) == [word]
    assert list(script_runs(word, ["Syriac"])) == ["\u064e"] * 3
    assert not in_scripts(word, ["Han"])


def test_a_mark_that_no_script_claims_belongs_to_none() -> None:
    assert list(script_runs("a\u200db", ["Latin"])) == ["a", "b"]  # zero width joiner


@pytest.mark.parametrize(
    ("texts", "scripts"),
    [
        (THAI, ["Thai"]),
        (ARABIC, ["Arabic"]),
        (HINDI, ["Devanagari"]),
        (VIETNAMESE, ["Latin"]),
        (KAZAKH, ["Cyrillic"]),
        (CHINESE, ["Han"]),
    ],
)
def test_the_script_of_a_language_is_found(texts: list[str], scripts: list[str]) -> None:
    assert find_scripts(texts) == scripts


def test_a_script_with_a_tenth_of_the_letters_comes_along() -> None:
    assert find_scripts(["한" * 10 + "漢"]) == ["Hangul", "Han"]
    assert find_scripts(["한" * 11 + "漢"]) == ["Hangul"]


def test_latin_beside_another_script_is_foreign_words() -> None:
    assert find_scripts(["中文中文 LATIN"[:8]]) == ["Han"]
    assert find_scripts(["Latin и кириллица"]) == ["Cyrillic"]
    assert find_scripts(["Latin letters и"]) == ["Latin"]


def test_a_little_kana_makes_han_japanese() -> None:
    assert find_scripts(["漢" * 98 + "のア"]) == ["Han", "Hiragana", "Katakana"]
    assert find_scripts(["漢" * 199 + "の"]) == ["Han"]
    assert find_scripts(["ひらがなだけ"]) == ["Hiragana", "Han", "Katakana"]


def test_only_letters_count() -> None:
    assert find_scripts(["๑๒๓๔๕๖ а"]) == ["Cyrillic"]  # Thai digits


@pytest.mark.parametrize("texts", [[], [""], ["1, 2 -- 3"]])
def test_texts_without_letters_have_no_script(texts: list[str]) -> None:
    with pytest.raises(InputError, match="no letter"):
        find_scripts(texts)


def test_the_prolonged_sound_mark_is_kana_as_sentencepiece_has_it() -> None:
    assert list(script_runs("コーヒー、と", ["Hiragana", "Katakana"])) == ["コーヒー", "と"]
    assert list(script_runs("丸ー", ["Han"])) == ["丸"]
