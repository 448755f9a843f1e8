"""The statistics page: whole, offline, escaped, and without what is not known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from html_reader import Reader
from hypothesis import given
from hypothesis import strategies as st

from lingraft.corpus.histogram import _ticks, draw_lengths, short_number
from lingraft.corpus.page import render_page, write_page
from lingraft.corpus.tallies import Histogram, read_tally
from lingraft.errors import InputError

STATS: dict[str, Any] = {
    "sets": {
        "zh": {
            "language": "zh",
            "num_docs_read": 1234,
            "dropped": {"too_short": 100, "near_<duplicate>": 130, "never": 0},
            "splits": {
                "train": {
                    "num_docs": 1000,
                    "num_chars": 2_500_000,
                    "size_bytes": 7_000_000,
                    "tokens": [
                        {"tokenizer": "mixtral", "total_tokens": 3_000_000, "how": "encoded"},
                        {"tokenizer": "", "total_tokens": 1_500_000, "how": "counted"},
                    ],
                },
                "valid": {
                    "num_docs": 4,
                    "num_chars": 500,
                    "size_bytes": 1400,
                    "tokens": [{"tokenizer": "mixtral", "total_tokens": 600, "how": "encoded"}],
                },
            },
            "chars_histogram": {"edges": [1, 2, 4, 8, 16], "counts": [0, 900, 104, 0]},
            "sources": [{"name": "a&b.jsonl", "num_docs": 1004, "size_bytes": 7_001_400}],
            "masked": {"email": 77},
            "overlaps": {"ceval": 9},
            "examples": {
                "kept": [{"where": "a:1", "text": "kept <script>alert(1)</script>"}],
                "dropped": {"too_short": [{"where": "a:2", "text": "x\x00y"}]},
            },
        },
        "en": {"splits": {"train": {}}},
    }
}


def page_of(stats: dict[str, Any]) -> str:
    return render_page(read_tally(stats, "here"))


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(STATS)


@pytest.mark.parametrize(
    "text",
    ["1,004", "2,500,500", "7,001,400", "3,000,600", "1.2000", "0.4286", "encoded", "not told",
     "230, 18.6%", "10.5%", "a&b.jsonl", "masked: email", "77", "overlap ceval", "1 of 100 shown",
     "all sets", "100%"],
)  # fmt: skip
def test_a_figure_is_printed(page: str, text: str) -> None:
    assert text in Reader(page).text


def test_what_is_not_known_is_a_dash(page: str) -> None:
    row = re.search(r'<th scope="row">en</th>.*?</tr>', page, re.DOTALL)
    assert row is not None
    assert row[0].count("–") == 4


def test_totals_of_all_sets_are_not_told_where_one_is_not_known(page: str) -> None:
    cards = re.search(r'<ul class="cards".*?</ul>', page, re.DOTALL)
    assert cards is not None
    assert cards[0].count("–") == 3
    assert "Dropped" not in cards[0]


def test_text_from_data_is_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "near_&lt;duplicate&gt;" in page
    assert "x␀y" in page


def test_reasons_come_by_their_number_and_those_of_none_not_at_all(page: str) -> None:
    assert page.index("near_&lt;") < page.index("too_short")
    assert "never" not in page
    assert 'style="width:100.0%"' in page
    assert 'style="width:76.9%"' in page


def test_nothing_is_fetched_from_outside(page: str) -> None:
    targets = [
        value or ""
        for _, attrs in Reader(page).tags
        for key, value in attrs.items()
        if key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
    ]
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert not re.search(r"@import|url\(", page)
    assert Reader(page).all("script") == []


def test_links_inside_the_page_lead_somewhere(page: str) -> None:
    reader = Reader(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in reader.all("a")} <= set(ids)


def test_every_table_header_says_what_it_heads(page: str) -> None:
    scopes = {attrs.get("scope") for attrs in Reader(page).all("th")}
    assert scopes == {"col", "row"}


def test_every_picture_is_described(page: str) -> None:
    (label,) = (attrs["aria-label"] for attrs in Reader(page).all("svg"))
    assert label == (
        "Lengths of the documents of zh, from 2 to 7 characters; most, 900, have 2 to 3."
    )


def test_the_same_statistics_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page(STATS, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_page_can_be_made_of_next_to_nothing() -> None:
    nothing: list[dict[str, Any]] = [
        {"sets": {}},
        {"sets": {"a": {"splits": {}, "num_docs_read": 0}}},
    ]
    for stats in nothing:
        assert "Corpus statistics" in Reader(page_of(stats)).text


def test_a_corpus_that_lost_everything_has_a_page() -> None:
    empty = {"num_docs": 0, "num_chars": 0, "size_bytes": 0}
    found = {"num_docs_read": 3, "dropped": {"x": 3}, "splits": {"train": empty}}
    assert "3, 100%" in Reader(page_of({"sets": {"a": found}})).text


def test_what_is_no_statistics_makes_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the statistics of a corpus"):
        write_page({"sets": 1}, tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


# --- lengths


def test_the_highest_bar_reaches_the_lowest_tick_above_it() -> None:
    drawing = draw_lengths(Histogram(edges=[1, 2, 4], counts=[10, 5]), "zh")
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', drawing)]
    assert heights == [214.0, 107.0]
    assert "<title>2 to 3 characters: 5 documents</title>" in drawing


def test_empty_bars_at_the_ends_are_left_out() -> None:
    drawing = draw_lengths(Histogram(edges=[1, 2, 4, 8, 16], counts=[0, 3, 0, 0]), "zh")
    assert drawing.count("<rect") == 1
    assert draw_lengths(Histogram(edges=[1, 2], counts=[0]), "zh") == ""


def test_names_in_drawings_are_escaped() -> None:
    assert "of &lt;b&gt;&quot;" in draw_lengths(Histogram(edges=[1, 2], counts=[1]), '<b>"')


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (1, [0, 1]),
        (5, [0, 1, 2, 3, 4, 5]),
        (6, [0, 2, 4, 6]),
        (51, [0, 20, 40, 60]),
        (6_300, [0, 2_000, 4_000, 6_000, 8_000]),
    ],
)
def test_ticks_are_round(most: int, ticks: list[int]) -> None:
    assert _ticks(most) == ticks


@given(st.integers(1, 10**12))
def test_ticks_reach_the_highest_bar_in_few_steps(most: int) -> None:
    ticks = _ticks(most)
    assert ticks[-1] >= most > ticks[-2]
    assert len(ticks) <= 6


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (512, "512"), (2048, "2K"), (1 << 20, "1M"), (1 << 31, "2G")]
)
def test_edges_have_short_names(value: int, text: str) -> None:
    assert short_number(value) == text


def test_counts_on_the_axis_have_units() -> None:
    for count, text in ((30_000, ">30K<"), (3_000_000, ">3M<"), (3_000_000_000, ">3B<")):
        assert text in draw_lengths(Histogram(edges=[1, 2], counts=[count]), "zh")
