"""The table of tokens for the terminal, as Markdown, as CSV and ready for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import regex

from ..texts import tell_surrogates
from .efficiency import Efficiency, EfficiencyRow, TextFacts

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "efficiency_csv",
    "efficiency_markdown",
    "efficiency_notes",
    "efficiency_record",
    "efficiency_views",
]

_NONE = "\u2013"
_PER_WORD = "tokens/word"
_HEADS = (
    "tokenizer", "vocabulary", "tokens", "bytes/token", "chars/token", "byte tokens",
    _PER_WORD, "to first", "saved", "encoder",
)  # fmt: skip


def efficiency_record(table: Efficiency) -> dict[str, Any]:
    """Give the table ready for JSON."""
    return {
        "tokenizers": [asdict(facts) for facts in table.tokenizers],
        "texts": [asdict(text) for text in table.texts],
        "rows": [asdict(row) for row in table.rows],
    }


def efficiency_csv(table: Efficiency) -> str:
    """Give the rows as CSV, with the fields of `EfficiencyRow`; no value where there is none."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(EfficiencyRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in table.rows)
    return out.getvalue()


def efficiency_markdown(table: Efficiency) -> str:
    """Give a heading and a table for each text, and how each tokenizer was encoded."""
    blocks = ["# Tokenizer efficiency"]
    rule = "|---|" + "---:|" * (len(_HEADS) - 2) + "---|"
    for text in table.texts:
        lines = [_markdown_line(_HEADS), rule]
        lines += [_markdown_line(_cells(row)) for row in table.rows_of(text.name)]
        blocks += [f"## {_plain(text.name)}", f"{_describe(text)}.", "\n".join(lines)]
    blocks.append("\n".join(f"- {_plain(note)}" for note in efficiency_notes(table)))
    return "\n\n".join(blocks) + "\n"


def efficiency_notes(table: Efficiency) -> list[str]:
    """Tell what the columns mean, what was lost, and how each tokenizer was encoded."""
    meaning = (
        "byte tokens: share of tokens that are no whole characters; to first: tokens over those "
        f"of {table.tokenizers[0].name}; {_NONE}: not a text of words, or no figure."
    )
    lost = [
        f"{row.tokenizer}: {_plural(row.unknown_tokens, 'unknown piece')}: the text there is lost."
        for row in table.rows_of(table.texts[-1].name)
        if row.unknown_tokens
    ]
    others = [
        f"{f.name}: encoded by {f.encoder}: {f.reason}." for f in table.tokenizers if f.reason
    ]
    rest = "the others" if others else "all tokenizers"
    compiled = (
        []
        if len(others) == len(table.tokenizers)
        else [f"{rest}: encoded by the compiled encoder, which is exact."]
    )
    num_surrogates = table.texts[-1].num_surrogates
    halves = [f"{tell_surrogates(num_surrogates)}."] if num_surrogates else []
    return [meaning, *lost, *halves, *others, *compiled]


def efficiency_views(table: Efficiency) -> list[Table]:
    """Give a table for the terminal for each text.

    It has to go into 80 columns: how each tokenizer was encoded stands in the notes, and figures
    by word stand only where a text has words.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    has_words = any(text.num_words is not None for text in table.texts)
    shown = [n for n, head in enumerate(_HEADS[:-1]) if has_words or head != _PER_WORD]
    views = []
    for text in table.texts:
        title = escape(f"{text.name}: {_describe(text)}")
        view = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
        )
        view.add_column(_HEADS[0], overflow="fold", min_width=12)
        for n in shown[1:]:
            head = (
                _HEADS[n]
                .replace("/", "/\n")
                .replace(" ", "\n")
                .replace("vocabulary", "vocab-\nulary")
            )
            view.add_column(head, justify="right", no_wrap=True)
        for row in table.rows_of(text.name):
            cells = _cells(row)
            view.add_row(*(Text(cells[n]) for n in shown))
        views.append(view)
    return views


def _cells(row: EfficiencyRow) -> list[str]:
    return [
        row.tokenizer,
        f"{row.vocab_size:,}",
        f"{row.tokens:,}",
        _show(row.bytes_per_token, ".3f"),
        _show(row.chars_per_token, ".3f"),
        _show(row.byte_token_frac, ".2%"),
        _show(row.tokens_per_word, ".3f"),
        _show(row.tokens_frac, ".4f"),
        _show(row.saved_frac, ".1%"),
        row.encoder,
    ]


def _show(value: float | None, form: str) -> str:
    return _NONE if value is None else f"{value:{form}}"


def _describe(text: TextFacts) -> str:
    counts = {
        "document": text.num_docs,
        "byte": text.num_bytes,
        "character": text.num_chars,
        "word": text.num_words,
    }
    return ", ".join(_plural(num, noun) for noun, num in counts.items() if num is not None)


def _plural(num: int, noun: str) -> str:
    return f"{num:,} {noun}{'s' * (num != 1)}"


def _plain(text: str) -> str:
    """Keep a name from being read as Markdown."""
    return str(regex.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split())))


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"
