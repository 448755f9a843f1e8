"""`stats.html`: the statistics of a corpus as one page that opens from disk.

The same statistics give the same bytes. Texts of documents are data: they are escaped, their
control characters are shown as pictures, and each keeps its own direction of writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ..pages import page_environment
from ..store import write_text
from .histogram import draw_lengths
from .tallies import CorpusTally, SetTally, SplitTally, TokenTally, read_tally, sum_splits

__all__ = ["render_page", "write_page"]

_ALL = "all"


class _Reason(NamedTuple):
    """Why documents were dropped."""

    name: str
    num_docs: int
    width: float
    """Of the bar, as a share of the longest one."""


class _Fate(NamedTuple):
    """What became of documents that were read."""

    num_read: int
    num_kept: int
    num_dropped: int
    reasons: Sequence[_Reason]
    """The commonest first."""


class _SizeRow(NamedTuple):
    name: str
    split: str
    size: SplitTally
    is_sum: bool


class _TokenRow(NamedTuple):
    name: str
    split: str
    size: SplitTally
    tokens: TokenTally
    is_sum: bool


class _SetView(NamedTuple):
    """One set, as the page shows it."""

    name: str
    anchor: str
    tally: SetTally
    size: SplitTally
    fate: _Fate | None
    """None: not known."""
    lengths: Markup


def write_page(stats: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        stats: As in `stats.json`; tokens, and anything that is not known, may be missing.
        path: The file.

    Raises:
        InputError: `stats` are no statistics of a corpus.
    """
    write_text(path, render_page(read_tally(stats, str(path))))


def render_page(tally: CorpusTally) -> str:
    """Give the page as text."""
    views = [_view(n, name, found) for n, (name, found) in enumerate(tally.sets.items())]
    rows = _size_rows(tally)
    every = sum_splits(row.size for row in rows if not row.is_sum)
    read = [found.num_docs_read for found in tally.sets.values()]
    num_read = None if not read or None in read else sum(n for n in read if n is not None)
    return (
        page_environment("corpus")
        .get_template("stats.html")
        .render(
            sets=views,
            rows=rows,
            token_rows=_token_rows(rows),
            every=every,
            num_read=num_read,
            num_dropped=sum(sum(found.dropped.values()) for found in tally.sets.values()),
        )
    )


def _view(number: int, name: str, tally: SetTally) -> _SetView:
    size = sum_splits(tally.splits.values())
    lengths = draw_lengths(tally.chars_histogram, name) if tally.chars_histogram else ""
    return _SetView(
        name, f"set-{number + 1}", tally, size, _fate(tally, size.num_docs), Markup(lengths)
    )


def _fate(tally: SetTally, num_kept: int | None) -> _Fate | None:
    if num_kept is None or tally.num_docs_read is None:
        return None
    ranked = sorted(tally.dropped.items(), key=lambda item: (-item[1], item[0]))
    most = max((count for _, count in ranked), default=0) or 1
    reasons = [_Reason(name, count, count / most) for name, count in ranked if count]
    return _Fate(tally.num_docs_read, num_kept, sum(tally.dropped.values()), reasons)


def _size_rows(tally: CorpusTally) -> list[_SizeRow]:
    """Give every split, what the splits of a set hold together, and all sets."""
    rows = []
    for name, found in tally.sets.items():
        rows += [_SizeRow(name, split, size, False) for split, size in found.splits.items()]
        if len(found.splits) > 1:
            rows.append(_SizeRow(name, _ALL, sum_splits(found.splits.values()), True))
    if len(tally.sets) > 1:
        whole = sum_splits(row.size for row in rows if not row.is_sum)
        rows.append(_SizeRow("all sets", "", whole, True))
    return rows


def _token_rows(rows: Sequence[_SizeRow]) -> list[_TokenRow]:
    return [
        _TokenRow(row.name, row.split, row.size, tokens, row.is_sum)
        for row in rows
        for tokens in row.size.tokens
    ]
