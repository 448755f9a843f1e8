"""The HTML page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from html_reader import Reader

from lingraft.pages import visible
from lingraft.report.page import pair_samples

Texts = Callable[[], tuple[str, str]]


@pytest.fixture
def page(render_texts: Texts) -> str:
    return render_texts()[0]


@pytest.mark.parametrize(
    "number",
    ["32,000", "35,210", "3.800", "2.281", "−40.0%", "+2.5%", "7.16 M", "7,155,264", "4.13",
     "112 of 112", "26,004", "−801.25", "6,060", "2.88", "−53.3%", "0.700", "747 KiB"],
)  # fmt: skip
def test_a_fact_is_printed(page: str, number: str) -> None:
    assert number in Reader(page).text


def test_the_mixture_is_told_in_tokens_and_epochs(render_texts: Texts) -> None:
    page, card = render_texts()
    assert "one pass of 1:zh-news" in Reader(page).text
    assert "65,432 tokens, 1.000 epochs" in Reader(page).text
    assert "| one pass of 0.05:en-docs | 3,210 tokens, 0.050 epochs |" in card
    assert "| documents of a sequence | isolated |" in card


def test_a_run_of_before_mixtures_were_told_joined_its_documents(
    fake_run: Any, render_texts: Texts
) -> None:
    del fake_run.facts["train"]["mixture"]
    del fake_run.settings["train"]["documents"]
    page, card = render_texts()
    assert "one pass of" not in page + card
    assert "| documents of a sequence | joined |" in card


def test_a_step_is_told_whole_and_by_its_split_in_an_older_run(
    fake_run: Any, render_texts: Texts
) -> None:
    page, card = render_texts()
    assert "<dt>sequences in a step</dt><dd>8</dd>" in page
    assert "| step | 8 sequences |" in card
    del fake_run.settings["train"]["sequences_per_step"]
    fake_run.settings["train"] |= {"micro_batch_size": 4, "accumulation": 2}
    page, card = render_texts()
    assert "4 × 2" in Reader(page).text
    assert "| batch of one process | 4 sequences × 2 |" in card


def test_tags_are_closed_in_order(page: str) -> None:
    assert Reader(page).all("html") == [{"lang": "en"}]


def test_text_from_data_is_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<title>Chinese on a &lt;pico&gt; Mixtral</title>" in page
    assert "a test &amp; nowhere else" in page
    assert "The &lt;b&gt;function&lt;/b&gt; returns␀" in page


def test_nothing_is_fetched_from_outside(page: str) -> None:
    targets = [
        value or ""
        for _, attrs in Reader(page).tags
        for key, value in attrs.items()
        if key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
    ]
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert not re.search(r"@import|url\(", page)
    assert "http://" not in page
    assert "https://" not in page


def test_links_inside_the_page_lead_somewhere(page: str) -> None:
    reader = Reader(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in reader.all("a")} <= set(ids)


def test_the_page_works_without_scripts(page: str) -> None:
    assert Reader(page).all("script") == []


def test_every_table_header_says_what_it_heads(page: str) -> None:
    scopes = [attrs.get("scope") for attrs in Reader(page).all("th")]
    assert scopes
    assert set(scopes) <= {"col", "row", "colgroup"}


def test_every_picture_is_described(page: str) -> None:
    reader = Reader(page)
    assert all(attrs.get("aria-label") for attrs in reader.all("svg"))
    assert all(attrs.get("alt") for attrs in reader.all("img"))


def test_a_curve_set_that_was_not_validated_every_time_shows_a_dash(
    fake_run: Any, render_texts: Texts
) -> None:
    fake_run.curve += '{"step": 5, "tokens": 9000, "valid": {"fresh": 1.5, "zh-news": 2.3}}\n'
    text = Reader(render_texts()[0]).text
    assert "fresh" in text
    assert "–" in text


def test_a_run_without_prompts_has_no_continuations(fake_run: Any, render_texts: Texts) -> None:
    fake_run.facts["evals"]["samples"] = []
    assert 'id="samples"' not in render_texts()[0]


def test_a_run_without_steps_has_no_curves(fake_run: Any) -> None:
    fake_run.curve = ""
    facts, _ = fake_run.render()
    assert facts.num_plots == 2


def test_nothing_forgotten_is_said_so(fake_run: Any, render_texts: Texts) -> None:
    fake_run.facts["evals"]["languages"]["trained"]["en"]["bpb"] = 1.9
    page = render_texts()[0]
    assert "nothing forgotten" in page
    assert "what the base model forgot" not in page


def test_continuations_are_paired_by_prompt_in_the_order_of_models() -> None:
    samples = [
        {"prompt": "b", "model": "trained", "text": "2"},
        {"prompt": "b", "model": "base", "text": "1"},
        {"prompt": "a", "model": "base", "text": "3"},
    ]
    assert pair_samples(samples, ("base", "trained")) == [
        ("b", [("base", "1"), ("trained", "2")]),
        ("a", [("base", "3"), ("trained", "–")]),
    ]


def test_control_characters_become_pictures_but_lines_stay() -> None:
    assert visible("a\x00\x1b\n\tb") == "a␀␛\n\tb"
