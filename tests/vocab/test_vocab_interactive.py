"""The page of the curves: what it holds, and that it asks nothing of a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lingraft.vocab.alp import Curve, EvalFacts
from lingraft.vocab.choose import Choice
from lingraft.vocab.interactive import curves_page, gain_per_1000

EVALS = [EvalFacts("</script><b>book", 1, 3, 10, 0, 3, 1, -9.0)]


def curve(num_chars: int, num_sizes: int) -> Curve:
    """Rise by 1 nat a document, 0.1 a byte, with every piece."""
    alp_EK = np.array([range(-num_sizes, 0)], np.float64)
    tokens_EK = np.arange(2 * num_sizes, num_sizes, -1)[None]
    return Curve(num_chars, num_chars, alp_EK, tokens_EK, np.array([1]))


CURVES = [curve(5, 3_000), curve(7, 2)]
CHOICE = Choice(1_234, 5, "gain", None, ("because <it> pays",))


class Elements(HTMLParser):
    """Collects tags with their attributes, and the text of the data element."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.in_data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.in_data = dict(attrs).get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        self.in_data = False

    def handle_data(self, data: str) -> None:
        if self.in_data:
            self.data += data


@pytest.fixture(scope="module")
def page() -> str:
    return curves_page(CURVES, EVALS, CHOICE)


@pytest.fixture(scope="module")
def data(page: str) -> Any:
    elements = Elements()
    elements.feed(page)
    return json.loads(elements.data)


def test_a_name_cannot_end_the_element_that_holds_the_data(data: Any) -> None:
    assert data["evals"][0]["name"] == "</script><b>book"
    assert data["choice"]["reasons"] == ["because <it> pays"]


def test_the_page_loads_nothing(page: str) -> None:
    elements = Elements()
    elements.feed(page)
    assert not [a for _, a in elements.tags if "src" in a or "href" in a]
    own = re.sub(r"<script>.*?</script>", "", page, count=1, flags=re.S)  # without plotly's
    assert "http" not in own


def test_equal_curves_give_equal_pages_below_5_mb(page: str) -> None:
    assert page == curves_page(CURVES, EVALS, CHOICE)
    assert len(page.encode()) < 5_000_000


def test_a_line_has_at_most_600_points_the_choice_among_them(data: Any) -> None:
    first, second = data["curves"]
    assert len(first["sizes"]) <= 600
    assert first["sizes"][0] == 5
    assert first["sizes"][-1] == 3_004
    assert second["sizes"] == [7, 8]
    place = first["sizes"].index(1_234)
    assert first["alp"][0][place] == CURVES[0].alp_EK[0, 1_229]
    assert first["tokens"][0][place] == CURVES[0].tokens_EK[0, 1_229]


def test_the_gain_is_that_of_the_thousand_pieces_around_a_size() -> None:
    """0.1 nats a byte and piece; the ends have no pieces on either side."""
    gains = gain_per_1000(CURVES[0], EVALS)[0]
    assert np.isnan(gains[[0, -1]]).all()
    assert gains[1:-1] == pytest.approx(100.0)
    bent = replace(CURVES[0], alp_EK=np.maximum(CURVES[0].alp_EK, -1_000.0))
    assert gain_per_1000(bent, EVALS)[0, 2_000] == pytest.approx(50.0)


def test_the_ends_have_no_gain_in_the_data(data: Any) -> None:
    assert data["curves"][1]["gain"] == [[None, None]]
