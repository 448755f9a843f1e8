"""Tables put together from manifests."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.report.summary import EfficiencyRow, Summary, language_name, model_name, summarize


def summary_of(fake_run: Any) -> Summary:
    return summarize({name: a.manifest for name, a in fake_run.artefacts().items()})


def test_languages_of_the_vocabulary_sets_are_the_added_ones(fake_run: Any) -> None:
    summary = summary_of(fake_run)
    assert (summary.added_languages, summary.kept_languages) == (("zh",), ("en",))
    assert summary.languages == ("zh", "en")


def test_rows_of_a_language_come_before_its_sets(fake_run: Any) -> None:
    rows = [(row.name, row.whole_language) for row in summary_of(fake_run).scores]
    assert rows == [
        ("Chinese", True),
        ("zh-news", False),
        ("zh-reviews", False),
        ("English", True),
        ("en-docs", False),
    ]


def test_the_lowest_of_a_row_is_the_best_and_ties_share_it(fake_run: Any) -> None:
    chinese, *_, english, _ = summary_of(fake_run).scores
    assert [cell.best for cell in chinese.cells] == [False, False, True]
    assert [cell.best for cell in english.cells] == [True, True, False]


def test_change_is_relative_to_the_base(fake_run: Any) -> None:
    news = summary_of(fake_run).scores[1]
    assert news.cell("base").change_frac is None
    assert news.cell("trained").change_frac == pytest.approx(2.4 / 4.0 - 1)


def test_a_model_beside_the_three_gets_a_column_after_them(fake_run: Any) -> None:
    scores, languages = (fake_run.facts["evals"][key] for key in ("scores", "languages"))
    scores["control"], languages["control"] = scores["base"], languages["base"]
    summary = summary_of(fake_run)
    assert summary.models == ("base", "expanded", "trained", "control")


def test_tokens_of_a_language_are_the_sum_of_its_sets(fake_run: Any) -> None:
    chinese = summary_of(fake_run).efficiency[0]
    assert chinese == EfficiencyRow("Chinese", "zh", True, 6_000, 3_000, 4_000, 12_000)
    assert chinese.change_frac == -0.5


def test_a_set_without_validation_text_has_no_efficiency_row(fake_run: Any) -> None:
    fake_run.facts["tokenizer"]["efficiency"]["en-docs"].update(base_tokens=0, extended_tokens=0)
    assert "en" not in {row.language for row in summary_of(fake_run).efficiency}


def test_a_language_that_was_not_scored_has_no_row(fake_run: Any) -> None:
    for key, name in (("scores", "en-docs"), ("languages", "en")):
        for by_name in fake_run.facts["evals"][key].values():
            del by_name[name]
    assert {row.language for row in summary_of(fake_run).scores} == {"zh"}


def test_headlines_are_tokens_then_gain_then_what_was_kept(fake_run: Any) -> None:
    found = [(h.kind, h.language, h.before, h.after) for h in summary_of(fake_run).headlines]
    assert found == [
        ("tokens", "zh", 1.5, 0.75),
        ("gain", "zh", 3.8, 2.28125),
        ("kept", "en", 2.0, 2.05),
    ]


def test_the_last_corpus_row_is_the_sum(fake_run: Any) -> None:
    total = summary_of(fake_run).corpus[-1]
    assert (total.num_docs_read, total.train_docs, total.num_chars) == (3_107, 2_940, 276_000)
    assert total.dropped == {"duplicate": 40, "too short": 67}


def test_the_chain_names_each_stage_with_its_digest(fake_run: Any) -> None:
    made = fake_run.artefacts()
    chain = summarize({name: a.manifest for name, a in made.items()}).stages
    assert [row.folder for row in chain] == [a.path.name for a in made.values()]
    assert [row.digest for row in chain] == [a.manifest.digest for a in made.values()]


@pytest.mark.parametrize(
    ("code", "name"), [("zh", "Chinese"), ("zh-Hant", "Chinese"), ("xx", "xx")]
)
def test_common_languages_have_names(code: str, name: str) -> None:
    assert language_name(code) == name


def test_models_have_names_and_unknown_ones_keep_theirs() -> None:
    assert [model_name(m) for m in ("expanded", "control")] == ["expanded, untrained", "control"]
