"""Facts about all characters at once."""

import numpy as np
import pytest

from lingraft.errors import UsageError
from lingraft.vocab.points import assigned_points, decode_points, has_words, script_classes


def test_han_and_kana_are_one_class_and_shared_marks_are_of_none() -> None:
    classes = script_classes(["Latin", "Han", "Hiragana", "Katakana"])
    assert [int(classes[ord(char)]) for char in "aé中のア、я"] == [1, 1, 2, 2, 2, -1, -1]
    assert classes[0x301] == 0  # combining acute
    assert classes[0x64E] == -1  # an Arabic vowel


def test_a_script_without_characters_has_a_class_all_the_same() -> None:
    assert (script_classes(["Katakana_Or_Hiragana"]) == -1).all()


def test_more_scripts_than_classes_are_refused() -> None:
    # fmt: off
    names = [
        "Adlam", "Arabic", "Armenian", "Balinese", "Bengali", "Bopomofo", "Buginese", "Chakma",
        "Cham", "Cherokee", "Coptic", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek",
        "Gujarati", "Gurmukhi", "Hangul", "Hebrew", "Javanese", "Kannada", "Khmer", "Lao", "Latin",
        "Limbu", "Lisu", "Malayalam", "Mongolian", "Myanmar", "Han", "Nko",
    ]
    # fmt: on
    script_classes(names[:31])
    with pytest.raises(UsageError, match="32 scripts in one search; expected at most 31"):
        script_classes(names)


@pytest.mark.parametrize(
    ("scripts", "words"),
    [(["Han"], False), (["Thai"], False), (["Han", "Latin"], True), (["Arabic"], True)],
)
def test_scripts_without_spaces_are_known(scripts: list[str], words: bool) -> None:
    assert has_words(script_classes(scripts) >= 0) is words


def test_characters_of_every_length_are_decoded() -> None:
    text = "é中𠮷"
    data = np.frombuffer(text.encode(), np.uint8)
    points, lengths = decode_points(data, np.array([0, 2, 5]))
    assert points.tolist() == [ord(char) for char in text]
    assert lengths.tolist() == [2, 3, 4]


@pytest.mark.parametrize("data", [b"\xe4\xb8", b"\xe4\xb8a", b"\xf0\xa0\xae\xe4", b"\xc3"])
def test_a_character_cut_short_is_none(data: bytes) -> None:
    points, _ = decode_points(np.frombuffer(data, np.uint8), np.array([0]))
    assert points.tolist() == [0x110000]


def test_what_may_stand_in_a_text_is_assigned() -> None:
    assigned = assigned_points()
    assert assigned[[ord("a"), ord("中"), 0xE000]].all()
    assert not assigned[[0x0378, 0xD800, 0x40000]].any()
