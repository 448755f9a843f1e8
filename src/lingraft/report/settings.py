"""What the report stage takes and gives."""

from __future__ import annotations

from pathlib import Path

from ..manifest import Facts
from ..settings import StageSettings
from ..sources import locate_source

__all__ = ["ReportFacts", "ReportSettings"]


class ReportSettings(StageSettings):
    """What the report and the model card say beside the facts."""

    title: str = "A grafted model"
    """Heading of the report and the card."""
    model_name: str = "grafted-model"
    """Name of the model in the card's metadata."""
    license: str = "apache-2.0"
    """Licence identifier for the card's metadata."""
    base_model: str = ""
    """Hub name of the base model, for the card's metadata; empty where there is none."""
    data_note: str = ""
    """Where the data come from and under which terms; printed in both."""
    benchmarks: list[str] = []
    """Files `results.json` of `lingraft eval`, a suite each; shown in both."""

    def outside(self) -> dict[str, Path | str]:
        """The files of results."""
        return {name: locate_source(name) for name in self.benchmarks}


class ReportFacts(Facts):
    """What the report stage wrote."""

    report_size_bytes: int
    num_plots: int
