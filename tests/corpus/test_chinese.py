"""Traditional to simplified Chinese."""

from __future__ import annotations

import sys

import pytest

from lingraft.corpus.chinese import Simplifier
from lingraft.errors import MissingPackageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("漢字與English混排", "汉字与English混排"),
        ("頭髮和發財", "头发和发财"),
        ("乾隆年間，乾燥的一目瞭然", "乾隆年间，干燥的一目了然"),
        ("简体不变。", "简体不变。"),
        ("", ""),
        ("a\0b\n", "a\0b\n"),
    ],
)
def test_traditional_characters_become_simplified(text: str, expected: str) -> None:
    pytest.importorskip("opencc")
    assert Simplifier()(text) == expected


def test_without_the_package_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(MissingPackageError, match=r"lingraft\[zh\]"):
        Simplifier()
