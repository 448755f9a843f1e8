"""The stage as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.errors import InputError, VerifyError
from lingraft.report.page import render_page
from lingraft.report.stage import run
from lingraft.settings import StageSettings


def test_facts_tell_size_and_plots(fake_run: Any) -> None:
    facts, artefact = fake_run.render()
    assert facts.report_size_bytes == artefact.file("report.html").stat().st_size
    assert facts.num_plots == 4


def test_the_artefact_is_page_and_card_alone(fake_run: Any) -> None:
    _, artefact = fake_run.render()
    assert [entry.path for entry in artefact.manifest.files] == ["README.md", "report.html"]


def test_times_and_machines_do_not_reach_the_bytes(fake_run: Any) -> None:
    _, first = fake_run.render(time_s=1.25)
    _, second = fake_run.render(time_s=9.75)
    assert first.manifest.digest == second.manifest.digest
    assert "abacus" not in second.file("report.html").read_text(encoding="utf-8")


def test_a_changed_fact_changes_the_digest(fake_run: Any) -> None:
    _, first = fake_run.render()
    fake_run.facts["train"]["steps"] = 5
    _, second = fake_run.render()
    assert first.manifest.digest != second.manifest.digest


def test_a_broken_curve_file_is_named(fake_run: Any) -> None:
    fake_run.curve = '{"step": 1}\n'
    with pytest.raises(InputError, match=r"curve\.jsonl:1"):
        fake_run.render()


def test_a_missing_plot_is_a_verification_error(fake_run: Any) -> None:
    made = fake_run.artefacts()
    made["vocab"].manifest.files.clear()
    with pytest.raises(VerifyError, match=r"alp\.svg"):
        run(fake_run.report, made, None)  # type: ignore[arg-type]  # fails before the draft


def test_settings_of_another_stage_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="another stage"):
        run(StageSettings(), {}, None)  # type: ignore[arg-type]  # fails before the draft


def test_rendering_twice_gives_the_same_text(fake_run: Any) -> None:
    from lingraft.report.curves import read_curves
    from lingraft.report.summary import summarize

    summary = summarize({name: a.manifest for name, a in fake_run.artefacts().items()})
    curves = read_curves(fake_run.curve.splitlines(), "curve.jsonl")
    pages = [render_page(fake_run.report, summary, curves, b"<svg/>").html for _ in range(2)]
    assert pages[0] == pages[1]
