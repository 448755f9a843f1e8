"""Results of benchmarks on page and card."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from html_reader import Reader

from lingraft.errors import InputError, UsageError
from lingraft.report.benchmarks import read_suite

RESULTS: dict[str, Any] = {
    "format": "lingraft.eval/1",
    "suite": "zh",
    "harness": "0.4.13",
    "limit": 4,
    "data": {"kind": "local"},
    "models": [{"name": "base"}, {"name": "grafted <b>"}],
    "average": {"base": 0.25, "grafted <b>": 0.3125},
    "rows": [
        {
            "benchmark": "ceval-valid",
            "title": "C-Eval (val)",
            "num_fewshot": 5,
            "metric": "acc",
            "num_items": 1346,
            "scores": {
                "base": {"value": 0.25, "stderr": 0.0125, "num_too_long": 0},
                "grafted <b>": {"value": 0.375, "stderr": None, "num_too_long": 3},
            },
            "differences": {
                "grafted <b>": {
                    "value": 0.125, "low": 0.03125, "high": 0.25, "num_better": 5, "num_worse": 2,
                }
            },
            "notes": ["3 items were cut"],
        },
        {
            "benchmark": "cmmlu",
            "title": "CMMLU",
            "num_fewshot": 5,
            "metric": "acc",
            "num_items": 11_582,
            "scores": {
                "base": {"value": 0.25, "stderr": 0.01, "num_too_long": 0},
                "grafted <b>": {"value": None, "stderr": None, "num_too_long": 0},
            },
            "differences": {},
            "notes": [],
        },
    ],
    "samples": [
        {
            "benchmark": "ceval-valid",
            "prompt": "1 + 1 = <2>?",
            "target": "C",
            "answers": {
                "base": {"text": "A", "right": False},
                "grafted <b>": {"text": "C", "right": True},
            },
        }
    ],
    "published": {
        "source": "Others, 2024",
        "rows": [
            {"model": "A/13B", "values": {"ceval-valid@5": 59.29}},
            {"model": "B/13B", "values": {"ceval-valid@0": 1.0}},
        ],
    },
}  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS), encoding="utf-8")
    return path


def page_and_card(fake_run: Any, *results: Path) -> tuple[str, str]:
    names = [str(path) for path in results]
    fake_run.report = fake_run.report.model_copy(update={"benchmarks": names})
    facts, artefact = fake_run.render()
    assert facts.num_plots == 4 + len(results)
    page, card = (artefact.file(name).read_text("utf-8") for name in ("report.html", "README.md"))
    return page, card


@pytest.mark.parametrize(
    "told",
    ["C-Eval (val)", "37.50", "25.00 ± 1.25", "+12.50 (+3.12 to +25.00)", "3 items were cut",
     "at most 4 items of each task", "local files", "31.25", "59.29", "Others, 2024",
     "grafted <b>", "1 + 1 = <2>?", "✓ right C", "✗ wrong A", "Benchmarks"],
)  # fmt: skip
def test_a_result_is_shown(fake_run: Any, results: Path, told: str) -> None:
    assert told in Reader(page_and_card(fake_run, results)[0]).text


def test_a_row_without_a_figure_for_these_shots_is_not_shown(fake_run: Any, results: Path) -> None:
    assert "B/13B" not in page_and_card(fake_run, results)[0]


def test_the_card_has_the_same_figures(fake_run: Any, results: Path) -> None:
    card = page_and_card(fake_run, results)[1]
    assert "| C-Eval (val) | 5 | 1,346 | 25.00 ± 1.25 |" in card
    assert "37.50 (+12.50: +3.12 to +25.00) |" in card
    assert "| CMMLU | 5 | 11,582 | 25.00 ± 1.00 | – |" in card
    assert "no benchmark of knowledge" not in card


def test_without_results_nothing_is_said(fake_run: Any) -> None:
    page, card = page_and_card(fake_run)
    assert 'id="benchmarks"' not in page
    assert "no benchmark of knowledge or reasoning is part of this report" in card


def test_a_clear_difference_is_marked_and_an_unclear_one_is_not(results: Path) -> None:
    cells = read_suite(results).rows[0].cells
    assert [cell.is_clear for cell in cells] == [False, True]
    unclear = copy.deepcopy(RESULTS)
    unclear["rows"][0]["differences"]["grafted <b>"]["low"] = -0.01
    results.write_text(json.dumps(unclear), encoding="utf-8")
    assert read_suite(results).rows[0].cells[1].is_clear is False


def test_samples_are_of_all_benchmarks_alike(results: Path) -> None:
    several = copy.deepcopy(RESULTS)
    row, sample = several["rows"][0], several["samples"][0]
    several["rows"] = [row | {"benchmark": f"b{n}", "title": f"B{n}"} for n in range(5)]
    several["samples"] = [
        sample | {"benchmark": f"b{n}", "prompt": f"{n}.{item}"}
        for n, size in enumerate((4, 4, 1, 4, 4))
        for item in range(size)
    ]
    results.write_text(json.dumps(several), encoding="utf-8")
    shown = [one.prompt for one in read_suite(results).samples]
    assert shown == [
        *("0.0", "0.1", "0.2"),
        *("1.0", "1.1", "1.2"),
        "2.0",
        *("3.0", "3.1", "3.2"),
        *("4.0", "4.1"),
    ]


def test_results_are_part_of_what_the_report_was_made_of(fake_run: Any, results: Path) -> None:
    report = fake_run.report.model_copy(update={"benchmarks": [str(results)]})
    assert report.outside() == {str(results): results}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the results of an evaluation"),
        ('{"format": "lingraft.eval/9"}', "expected 'lingraft.eval/1'"),
        ('{"format": "lingraft.eval/1"}', "not the results of an evaluation: KeyError"),
    ],
)
def test_a_file_that_is_none_is_refused(results: Path, content: str, message: str) -> None:
    results.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_suite(results)


def test_scores_that_are_no_percentages_are_refused(tmp_path: Path) -> None:
    changed = copy.deepcopy(RESULTS)
    changed["rows"][1] |= {"percent": False, "metric": "word_perplexity"}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InputError, match="CMMLU is scored by word_perplexity; expected percent"):
        read_suite(path)


def test_a_file_that_is_not_there_is_refused(fake_run: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing at"):
        page_and_card(fake_run, tmp_path / "none.json")


def test_intervals_of_bits_per_byte_stand_below_the_difference(fake_run: Any) -> None:
    text = Reader(page_and_card(fake_run)[0]).text
    assert "−1.625 to −1.375" in text
    assert "paired bootstrap over documents" in text
    for kind in ("differences", "language_differences"):
        del fake_run.facts["evals"][kind]  # as in runs of before
    assert "paired bootstrap" not in page_and_card(fake_run)[0]


def test_a_model_alone_has_no_difference(fake_run: Any, results: Path) -> None:
    alone = copy.deepcopy(RESULTS)
    alone["models"] = alone["models"][:1]
    results.write_text(json.dumps(alone), encoding="utf-8")
    card = page_and_card(fake_run, results)[1]
    assert "| C-Eval (val) | 5 | 1,346 | 25.00 ± 1.25 |\n" in card
    assert "In brackets" not in card
