"""`README.md`: a model card that the Hugging Face Hub reads, metadata first.

The metadata goes through huggingface_hub's own classes, so quoting and layout are theirs. The
scores in `model-index` are the trained model's; base and expanded stand beside it in the text.
Source: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..formats import FILTERS
from .benchmarks import Suite
from .settings import ReportSettings
from .summary import Summary, language_name, model_name

__all__ = ["card_metadata", "escape_markdown", "render_card"]

_TASK = "text-generation"
_MARKS = re.compile(r"([\\`*_\[\]<>|#~&])")


def render_card(settings: ReportSettings, summary: Summary, suites: Sequence[Suite] = ()) -> str:
    """Render the model card, front matter included.

    Args:
        settings: Names, licence and notes.
        summary: Tables and facts of the run.
        suites: Results of benchmarks.
    """
    environment = Environment(
        loader=PackageLoader("lingraft", "report"),
        autoescape=False,  # the card is Markdown; names from data go through `md`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        FILTERS, language=language_name, md=escape_markdown, model=model_name
    )
    body = environment.get_template("card.md").render(
        report=settings,
        run=summary,
        facts=summary.facts,
        settings=summary.settings,
        suites=suites,
    )
    return f"---\n{card_metadata(settings, summary).to_yaml()}\n---\n\n{body}"


def card_metadata(settings: ReportSettings, summary: Summary) -> ModelCardData:
    """Metadata of the card: what the Hub filters, links and tabulates by."""
    moe = (summary.settings["base"].get("shape") or {}).get("num_local_experts", 1) > 1
    return ModelCardData(
        language=list(summary.languages),
        license=settings.license,
        base_model=settings.base_model or None,
        library_name="transformers",
        pipeline_tag=_TASK,
        tags=[
            "lingraft",
            "vocabulary-extension",
            "continued-pretraining",
            "qlora" if summary.settings["train"]["quantize"] == "nf4" else "lora",
            *(["moe"] if moe else []),
        ],
        model_name=settings.model_name,
        eval_results=_results(summary),
    )


def escape_markdown(text: str) -> str:
    """Make text show as it is written, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _results(summary: Summary) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=row.name,
            dataset_name=f"{row.name} (held-out split, {language_name(row.language)})",
            dataset_split="validation",
            metric_type="bits_per_byte",
            metric_name="bits per byte",
            metric_value=round(row.cell("trained").bpb, 4),
        )
        for row in summary.scores
        if not row.whole_language
    ]
