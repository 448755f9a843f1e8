"""Bars of tokens."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from lingraft.tokenizer.chart import draw_bars
from lingraft.tokenizer.efficiency import (
    Efficiency,
    TokenCount,
    TokenizerFacts,
    measure_texts,
    tabulate,
)


def table(num_texts: int = 1, name: str = "ours") -> Efficiency:
    facts = [TokenizerFacts(n, n, 9, "byte-level", "compiled", "") for n in ("base", name, "same")]
    names = [f"text {number}" for number in range(num_texts)]
    counts = [TokenCount(2000), TokenCount(1500), TokenCount(2000)]
    sizes = {n: measure_texts(["a b"]) for n in names}
    return tabulate(facts, sizes, dict.fromkeys(names, counts))


def texts_of(svg: bytes) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", svg.decode())


def test_bars_tell_tokens_and_what_is_saved() -> None:
    svg = draw_bars(table())
    ET.fromstring(svg.decode())
    words = texts_of(svg)
    assert {"2,000", "1,500  (25.0% fewer)", "2,000  (the same)"} <= set(words)
    assert {"base", "ours", "text 0"} <= set(words)


def test_each_text_and_the_total_have_a_panel() -> None:
    words = texts_of(draw_bars(table(4)))
    assert [w for w in words if w.startswith("text ")] == [f"text {n}" for n in range(4)]
    assert words.count("total") == 1


def test_equal_tables_give_equal_bytes() -> None:
    assert draw_bars(table(2)) == draw_bars(table(2))
    png = draw_bars(table(), "png")
    assert png == draw_bars(table(), "png")
    assert png.startswith(b"\x89PNG")


def test_a_name_is_neither_mathematics_nor_a_warning() -> None:
    assert "$a_b$ 中" in texts_of(draw_bars(table(name="$a_b$ 中")))
