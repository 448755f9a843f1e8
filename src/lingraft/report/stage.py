"""Write the report and the model card of a run."""

from __future__ import annotations

from collections.abc import Mapping

from ..settings import StageSettings
from ..sources import locate_source
from ..store import Artefact, Draft, write_text
from .benchmarks import read_suite
from .card import render_card
from .curves import read_curves
from .page import render_page
from .settings import ReportFacts, ReportSettings
from .summary import summarize

__all__ = ["run"]


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> ReportFacts:
    """Write `report.html` and `README.md` from manifests, the curve file and the ALP plot.

    Raises:
        InputError: A line of the curve file, or a file of benchmark results, cannot be read.
        UsageError: There is no such file of results.
        VerifyError: An artefact lacks a file that its stage writes.
    """
    assert isinstance(settings, ReportSettings), "report.run got another stage's settings"
    summary = summarize({name: artefact.manifest for name, artefact in inputs.items()})
    curve = inputs["train"].file("curve.jsonl")
    with curve.open(encoding="utf-8") as lines:
        curves = read_curves(lines, str(curve))
    suites = [read_suite(locate_source(name)) for name in settings.benchmarks]
    alp_svg = inputs["vocab"].file("alp.svg").read_bytes()
    page = render_page(settings, summary, curves, alp_svg, suites)
    write_text(draft.path / "report.html", page.html)
    write_text(draft.path / "README.md", render_card(settings, summary, suites))
    # Where the report will stand, once the draft is renamed.
    draft.note(f"report: {draft.final / 'report.html'}")
    return ReportFacts(
        report_size_bytes=(draft.path / "report.html").stat().st_size, num_plots=page.num_plots
    )
