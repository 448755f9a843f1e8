"""Scripts of characters, and runs of them."""

import pytest

from lingraft.errors import UsageError
from lingraft.text import check_scripts, in_scripts, script_runs


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
