"""The model card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData

from lingraft.report.card import escape_markdown
from lingraft.report.settings import ReportSettings

Texts = Callable[[], tuple[str, str]]


def metadata(card: str) -> ModelCardData:
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_front_matter_is_read_by_the_hub_library(render_texts: Texts) -> None:
    data = metadata(render_texts()[1])
    assert data.language == ["zh", "en"]
    assert data.license == "apache-2.0"
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation"
    assert data.tags == [
        "lingraft",
        "vocabulary-extension",
        "continued-pretraining",
        "qlora",
        "moe",
    ]


def test_results_are_the_trained_model_s_on_each_set(render_texts: Texts) -> None:
    data = metadata(render_texts()[1])
    assert data.model_name == "pico-zh"
    found = [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results or []]
    assert found == [
        ("zh-news", "bits_per_byte", 2.4),
        ("zh-reviews", "bits_per_byte", 2.2),
        ("en-docs", "bits_per_byte", 2.05),
    ]
    assert {r.task_type for r in data.eval_results or []} == {"text-generation"}


def test_no_base_model_is_named_where_none_is_given(render_texts: Texts) -> None:
    assert metadata(render_texts()[1]).base_model is None


def test_the_base_model_is_named_where_it_is_given(fake_run: Any, render_texts: Texts) -> None:
    fake_run.report = ReportSettings(base_model="owner/name")
    card = render_texts()[1]
    assert metadata(card).base_model == "owner/name"
    assert "`owner/name`" in card


def test_a_dense_unquantised_run_is_not_tagged_otherwise(
    fake_run: Any, render_texts: Texts
) -> None:
    fake_run.settings["base"]["shape"] = None
    fake_run.settings["train"]["quantize"] = "none"
    tags = metadata(render_texts()[1]).tags
    assert tags == ["lingraft", "vocabulary-extension", "continued-pretraining", "lora"]


def test_awkward_names_survive_the_metadata(fake_run: Any, render_texts: Texts) -> None:
    fake_run.report = ReportSettings(model_name='a: "b" # c\n---', title="*x* | <y>")
    card = render_texts()[1]
    assert metadata(card).model_name == 'a: "b" # c\n---'
    assert "# \\*x\\* \\| \\<y\\>" in card


@pytest.mark.parametrize(
    "row",
    [
        "| **Chinese** | 40 | 3.800 | 4.375 | **2.281** | −40.0% |",
        "| zh-news | 3,000 | 1,400 | −53.3% | 1.500 | 0.700 |",
        "| zh-reviews | Chinese | 1,007 | 980 | 20 | 92,000 | too short 7 |",
        "| en-docs | English | 1,000 | 980 | 20 | 92,000 | none |",
        "| frozen parameters | 2,247,776 at 4.13 bits |",
    ],
)
def test_a_row_of_the_run_is_in_its_table(render_texts: Texts, row: str) -> None:
    assert row in render_texts()[1].splitlines()


def test_every_row_of_a_table_has_as_many_cells_as_its_head(render_texts: Texts) -> None:
    width = 0
    for line in render_texts()[1].splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line


def test_the_card_says_how_to_load_the_model(render_texts: Texts) -> None:
    assert 'name = "pico-zh"' in render_texts()[1]


def test_the_card_names_where_the_data_come_from(render_texts: Texts) -> None:
    assert "Text from a test & nowhere else." in render_texts()[1]


def test_a_base_trained_by_the_run_is_called_a_demonstration(
    fake_run: Any, render_texts: Texts
) -> None:
    assert "demonstration" in render_texts()[1]
    fake_run.facts["base"]["train_tokens"] = 0
    assert "demonstration" not in render_texts()[1]


def test_the_missing_control_is_a_limit(render_texts: Texts) -> None:
    assert "not trained on the same text without the extension" in render_texts()[1]


def test_text_that_was_not_deduplicated_is_a_limit(fake_run: Any, render_texts: Texts) -> None:
    fake_run.settings["corpus"]["deduplicate"] = False
    assert "Duplicates were not removed" in render_texts()[1]


def test_near_duplicates_that_were_removed_are_told(fake_run: Any, render_texts: Texts) -> None:
    assert "only where the cleaned texts are equal; held-out" in render_texts()[1]
    fake_run.settings["corpus"]["near_duplicates"] = {"similarity": 0.7}
    assert "are equal or, by MinHash, nearly so; held-out" in render_texts()[1]


def test_the_page_names_the_methods_of_the_first_rows(fake_run: Any, render_texts: Texts) -> None:
    fake_run.facts["embed"] |= {"method": "focus", "head_method": "probe"}
    assert "focus, output rows: probe" in render_texts()[0]
    fake_run.facts["embed"] |= {"head_method": None}
    assert "output rows:" not in render_texts()[0]


def test_markdown_marks_are_escaped_and_lines_joined() -> None:
    assert escape_markdown("a_b\n*c* | <d> & [e]") == "a\\_b \\*c\\* \\| \\<d\\> \\& \\[e\\]"
