"""Continuations of several models as one table: JSON, Markdown, or a page."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from ..formats import show_share
from ..pages import page_environment

__all__ = ["Sample", "SideBySide", "WrittenBy", "render_html", "render_json", "render_markdown"]

_MARKS = re.compile(r"([\\`*_\[\]<>|#~&])")


@dataclass(frozen=True)
class Sample:
    """What one model wrote after one prompt.

    Attributes:
        text: Without the prompt.
        num_tokens: Tokens written, EOS left out.
        num_added: Those of them that the first model's vocabulary lacks.
        ended: Whether the model ended it itself.
    """

    text: str
    num_tokens: int
    num_added: int
    ended: bool


@dataclass(frozen=True)
class WrittenBy:
    """One model's texts, in the order of the prompts."""

    model: str
    loaded: dict[str, Any]
    is_grafted: bool
    """Whether its vocabulary is the first model's and more."""
    samples: list[Sample]

    @property
    def added_share(self) -> str:
        """Share of new pieces in what it wrote; "" where it has none."""
        if not self.is_grafted:
            return ""
        tokens = sum(sample.num_tokens for sample in self.samples)
        return show_share(sum(sample.num_added for sample in self.samples), tokens)


@dataclass(frozen=True)
class SideBySide:
    """The table: a row a prompt, a column a model."""

    prompts: list[str]
    sampling: dict[str, Any]
    seed: int
    models: list[WrittenBy]

    @property
    def how(self) -> str:
        """Tell how tokens were chosen."""
        most = f"at most {self.sampling['max_new_tokens']} tokens"
        if self.sampling["greedy"]:
            return f"greedy, {most}"
        return (
            f"temperature {self.sampling['temperature']:g}, top-p {self.sampling['top_p']:g}, "
            f"{most}, seed {self.seed}"
        )


def render_json(table: SideBySide) -> str:
    """Give the table as JSON: settings, and a row for each prompt and model."""
    rows = [
        {"prompt": prompt, "model": by.model, **asdict(by.samples[n])}
        for n, prompt in enumerate(table.prompts)
        for by in table.models
    ]
    models = [
        {
            "name": by.model,
            "loaded": by.loaded,
            "new_pieces": {
                "tokens": sum(sample.num_tokens for sample in by.samples),
                "added": sum(sample.num_added for sample in by.samples),
            }
            if by.is_grafted
            else None,
        }
        for by in table.models
    ]
    about = {"format": "lingraft.generate/1", "sampling": table.sampling, "seed": table.seed}
    return (
        json.dumps(about | {"models": models, "samples": rows}, indent=1, ensure_ascii=False) + "\n"
    )


def render_markdown(table: SideBySide) -> str:
    """Give the table as Markdown."""
    names = [by.model for by in table.models]
    lines = [
        f"Continuations, {table.how}. One draw each, none picked by hand.",
        "",
        f"| prompt | {' | '.join(map(_cell, names))} |",
        "|" + "---|" * (1 + len(names)),
    ]
    for n, prompt in enumerate(table.prompts):
        cells = [_cell(by.samples[n].text) for by in table.models]
        lines.append(f"| {_cell(prompt)} | {' | '.join(cells)} |")
    if any(by.is_grafted for by in table.models):
        shares = [by.added_share or "–" for by in table.models]
        lines.append(f"| *new pieces among the tokens written* | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def render_html(table: SideBySide) -> str:
    """Give the table as a page that opens from disk."""
    return page_environment("evals").get_template("continuations.html").render(table=table)


def _cell(text: str) -> str:
    """Make text show as it is written, in a cell."""
    return _MARKS.sub(r"\\\1", text.strip("\n")).replace("\r", "").replace("\n", "<br>")
