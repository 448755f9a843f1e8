"""The plot of the curves."""

from __future__ import annotations

import logging
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from matplotlib import font_manager

from lingraft.vocab import plot
from lingraft.vocab.alp import Curve, EvalFacts
from lingraft.vocab.choose import Choice, choose_vocabulary
from lingraft.vocab.plot import plot_curves

CURVES = [
    Curve(
        c,
        c,
        np.log(np.arange(1, 60 - c, dtype=float))[None].repeat(2, 0) - 9,
        np.ones((2, 59 - c), np.int64),
        np.zeros(2, np.int64),
    )
    for c in (0, 20)
]
EVALS = [EvalFacts(name, 1, 3, 9, 0, 3, 0, -9.0) for name in ("book", "wiki")]
CHOICE = Choice(30, 20, "gain", 24, ())


def draw(choice: Choice = CHOICE) -> str:
    return plot_curves(CURVES, EVALS, choice).decode()


def texts_of(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).findall(".//{*}text")]


def test_every_text_has_a_panel_and_every_curve_an_entry() -> None:
    texts = texts_of(draw())
    words = ("book", "wiki", "single characters", "0", "20 (chosen)")
    assert [texts.count(word) > 0 for word in words] == [True] * 5
    assert texts.count("nats per byte") == 1


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (CHOICE, ["choice: 30", "knee: 24"]),
        (replace(CHOICE, rule="knee", knee=30), ["choice, at the knee: 30"]),
        (replace(CHOICE, rule="given", knee=None), ["given: 30"]),
    ],
)
def test_the_choice_and_the_knee_are_marked_in_every_panel(
    choice: Choice, words: list[str]
) -> None:
    marks = [t for t in texts_of(draw(choice)) if t.startswith(("choice", "knee", "given"))]
    assert sorted(marks) == sorted(words * 2)


def test_equal_curves_give_equal_files_without_a_date() -> None:
    assert draw() == draw()
    assert "date" not in draw().lower()


def test_a_png_has_150_dots_an_inch_and_names_no_version() -> None:
    """Two panels of 6.4 inches, 5.2 inches high."""
    content = plot_curves(CURVES, EVALS, CHOICE, "png")
    assert content == plot_curves(CURVES, EVALS, CHOICE, "png")
    assert struct.unpack(">II", content[16:24]) == (1920, 780)
    assert b"Matplotlib" not in content


@pytest.mark.parametrize("name", ["$\\frac$", "a_b^c", "书"])
def test_any_name_of_a_text_can_be_drawn(name: str) -> None:
    curve = Curve(
        0, 0, np.array([[-3.0, -2.0, -1.0]]), np.ones((1, 3), np.int64), np.zeros(1, np.int64)
    )
    evals = [EvalFacts(name, 1, 10, 10, 0, 10, 0, -3.0)]
    choice = choose_vocabulary([curve], evals, size=1)
    assert plot_curves([curve], evals, choice, "png").startswith(b"\x89PNG")


def test_many_texts_stand_in_rows() -> None:
    alp_EK = np.tile([[-3.0, -2.0, -1.0]], (7, 1))
    curve = Curve(0, 0, alp_EK, np.ones((7, 3), np.int64), np.zeros(7, np.int64))
    evals = [EvalFacts(f"t{i}", 1, 10, 10, 0, 10, 0, -3.0) for i in range(7)]
    choice = choose_vocabulary([curve], evals, size=1)
    picture = plot_curves([curve], evals, choice, "png")
    width, height = (int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    assert width < 4000
    assert height > 2000


def draw_named(names: list[str], format: Literal["svg", "png"] = "svg") -> bytes:
    """One panel for each name, all with the same curves."""
    rows = [0] * len(names)
    curves = [
        replace(c, alp_EK=c.alp_EK[rows], tokens_EK=c.tokens_EK[rows], byte_tokens_E=np.array(rows))
        for c in CURVES
    ]
    return plot_curves(curves, [replace(EVALS[0], name=name) for name in names], CHOICE, format)


@pytest.mark.parametrize("name", ["$x_1$", r"$\frac{$", "US$ and A$", "a_b^c"])
def test_a_name_is_no_formula(name: str) -> None:
    assert name in texts_of(draw_named([name]).decode())
    assert draw_named([name], "png")


@pytest.mark.parametrize("name", ["\u7ef4\u57fa", "\ud55c\uad6d", "\U00020000"])
def test_a_name_in_any_script_is_drawn_without_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings are errors here; of a font that is missing matplotlib would write to its log."""
    with caplog.at_level(logging.WARNING, "matplotlib"):
        assert name in texts_of(draw_named([name]).decode())
        assert draw_named([name], "png")
    assert caplog.messages == []


def test_fonts_for_other_scripts_are_named_only_where_they_are_here_and_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is here is played: real machines differ."""
    here = [SimpleNamespace(name=name) for name in ("SimHei", "Other", "Noto Sans CJK SC")]
    monkeypatch.setattr(font_manager, "fontManager", SimpleNamespace(ttflist=here))
    assert plot._fonts(["book", "\u7ef4"]) == ["sans-serif", "Noto Sans CJK SC", "SimHei"]
    assert plot._fonts(["book", "wiki"]) == ["sans-serif"]


@pytest.mark.parametrize(
    ("num_texts", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (5, 3, 2), (8, 3, 3), (14, 3, 5)]
)
def test_panels_go_on_in_further_rows(num_texts: int, columns: int, rows: int) -> None:
    """A panel is 960 x 780 pixels; every row has its axis titles, also one that is not full."""
    names = [f"text {i}" for i in range(num_texts)]
    size = struct.unpack(">II", draw_named(names, "png")[16:24])
    assert size == (960 * columns, 780 * rows)
    texts = texts_of(draw_named(names).decode())
    assert set(names) <= set(texts)
    assert texts.count("nats per byte") == rows
    assert sum(text.startswith("ALP:") for text in texts) == rows
