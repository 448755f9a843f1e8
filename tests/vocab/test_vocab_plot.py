"""The plot of the curves."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from lingraft.vocab.alp import Curve
from lingraft.vocab.choose import Choice
from lingraft.vocab.plot import plot_curves

CURVES = [
    Curve(c, np.log(np.arange(1, 60 - c, dtype=float))[None].repeat(2, 0), np.zeros((2, 59 - c)))  # type: ignore[arg-type]
    for c in (0, 20)
]


def draw(knee: int | None = 30) -> str:
    return plot_curves(CURVES, ["book", "wiki"], Choice(30, 20, knee))


def texts_of(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).findall(".//{*}text")]


def test_every_text_has_a_panel_and_every_curve_an_entry() -> None:
    texts = texts_of(draw())
    assert [texts.count(word) for word in ("book", "wiki", "single characters")] == [1, 1, 1]


@pytest.mark.parametrize(("knee", "word"), [(30, "knee: 30"), (None, "given: 30")])
def test_the_choice_is_marked_with_its_reason(knee: int | None, word: str) -> None:
    assert texts_of(draw(knee)).count(word) == 2


def test_equal_curves_give_equal_files_without_a_date() -> None:
    assert draw() == draw()
    assert "date" not in draw().lower()
