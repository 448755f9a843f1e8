"""Plots drawn as SVG."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.report.figures import (
    Bar,
    BarGroup,
    Series,
    bar_chart,
    line_chart,
    nice_ticks,
    thin,
)

LINES = [
    Series("zh", ((0.0, 4.0), (100.0, 3.0), (200.0, 2.0))),
    Series("en", ((0.0, 2.0), (100.0, 2.0), (200.0, 2.01))),
]


def draw(lines: list[Series], *, markers: bool = True) -> ET.Element:
    svg = line_chart(lines, label="a plot", x_label="tokens", y_label="bpb", markers=markers)
    return ET.fromstring(svg)


def texts(root: ET.Element, kind: str) -> list[str]:
    return [t.text or "" for t in root.iter("text") if kind in (t.get("class") or "").split()]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (2.1, 4.4, [2.0, 2.5, 3.0, 3.5, 4.0, 4.5]),
        (3.0, 3.0, [2.6, 2.8, 3.0, 3.2, 3.4]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_cover_the_range_in_a_handful_of_steps(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    slack = 1e-6 * width + 1e-9
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert 2 <= len(ticks) <= 9


def test_few_points_are_kept_as_they_are() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    assert thin(points, 2) == (tuple(points), 1)


def test_many_points_become_means_of_neighbours() -> None:
    points = [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]
    assert thin(points, 2) == (((0.5, 2.0), (2.0, 5.0)), 2)


@given(st.integers(1, 300), st.integers(1, 50))
def test_thinning_never_leaves_more_points_than_asked_for(count: int, limit: int) -> None:
    points, size = thin([(float(i), 0.0) for i in range(count)], limit)
    assert len(points) <= limit
    assert size * len(points) >= count


def test_a_line_chart_has_a_line_and_a_name_for_each_series() -> None:
    root = draw(LINES)
    lines = [p for p in root.iter("path") if "line" in (p.get("class") or "").split()]
    assert len(lines) == 2
    assert sorted(texts(root, "tag")) == ["en", "zh"]


def test_a_line_goes_down_the_page_where_values_fall() -> None:
    places = [
        (float(c.get("cx") or 0), float(c.get("cy") or 0)) for c in draw(LINES).iter("circle")
    ]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.11)
    assert y0 < y1


def test_names_at_line_ends_do_not_overlap() -> None:
    lines = [Series(f"set-{i}", ((0.0, 1.0), (1.0, 2.0 + i * 1e-4))) for i in range(6)]
    tags = [t for t in draw(lines).iter("text") if "tag" in (t.get("class") or "")]
    heights = sorted(float(t.get("y") or 0) for t in tags)
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 16


def test_a_long_name_is_shortened() -> None:
    assert texts(draw([Series("a-name-of-twenty-chars", ((0.0, 1.0),))]), "tag") == [
        "a-name-of-twen…"
    ]


def test_every_marked_point_tells_its_value() -> None:
    titles = [t.text for t in draw(LINES).iter("title")]
    assert "zh: 3.000 at 100" in titles
    assert len(titles) == 6


def test_four_series_have_four_shapes_of_marker() -> None:
    lines = [Series(str(i), ((0.0, float(i)),)) for i in range(4)]
    shapes = {
        (m.tag, (m.get("d") or "").count("l"), (m.get("d") or "").count("h"))
        for m in draw(lines).iter()
        if "mark" in (m.get("class") or "").split()
    }
    assert len(shapes) == 4


@pytest.mark.parametrize(
    ("most", "tick"), [(600.0, "600"), (60_000.0, "60K"), (6e6, "6M"), (6e9, "6B")]
)
def test_large_token_counts_get_a_unit(most: float, tick: str) -> None:
    assert tick in texts(draw([Series("a", ((0.0, 1.0), (most, 2.0)))]), "middle")


def test_a_single_point_can_be_drawn() -> None:
    assert texts(draw([Series("a", ((0.0, 1.0),))]), "tag") == ["a"]


def test_bars_start_at_zero_and_share_one_scale() -> None:
    groups = [
        BarGroup("zh", (Bar("base", 4.0, "4.000"), Bar("trained", 2.0, "2.000"))),
        BarGroup("en", (Bar("base", 1.0, "1.000"),)),
    ]
    root = ET.fromstring(bar_chart(groups, label="bars"))
    widths = [float(r.get("width") or 0) for r in root.iter("rect")]
    assert widths[1] == pytest.approx(widths[0] / 2, abs=0.06)
    assert widths[2] == pytest.approx(widths[0] / 4, abs=0.06)


def test_names_from_data_are_escaped() -> None:
    svg = line_chart(
        [Series('<b>"', ((0.0, 1.0),))], label='"<&', x_label="<x>", y_label="&", markers=True
    )
    assert ET.fromstring(svg).get("aria-label") == '"<&'
    assert "<b>" not in svg


def test_a_spread_is_drawn_around_the_end_of_its_bar() -> None:
    bars = (Bar("a", 20.0, "20", (10.0, 30.0)), Bar("b", 10.0, "10"))
    root = ET.fromstring(bar_chart([BarGroup("g", bars)], label="bars"))
    rects = [float(r.get("width") or 0) for r in root.iter("rect")]
    whiskers = [p.get("d") or "" for p in root.iter("path")]
    assert rects[0] == pytest.approx(2 * rects[1], abs=0.1)
    assert len(whiskers) == 1
    begin, end = re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", whiskers[0])[0]
    left = 172
    assert float(begin) - left == pytest.approx(rects[0] / 2, abs=0.1)
    assert float(end) - left == pytest.approx(1.5 * rects[0], abs=0.1)
