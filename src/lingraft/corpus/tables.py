"""Tables of a corpus for the terminal: its sets, their sizes, their tokens, what was dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .registering import ListedSplit
from .tallies import CorpusTally, SplitTally, TokenTally, sum_splits

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["dropped_view", "list_view", "sizes_view", "tokens_view"]

_NONE = "–"
_ALL = "all"
"""What the splits of a set together, and all sets together, are called."""


def list_view(splits: Sequence[ListedSplit]) -> Table:
    """Tell where the sets of a registry are."""
    view = _table("set", "split", right=("size",), rest=("documents", "token files"))
    for one in splits:
        files = f"{one.files[0]}" if one.files else f"{one.doc} (not there)"
        if len(one.files) > 1:
            files = f"{one.files[0].parent} ({len(one.files):,} files)"
        tokens = str(one.encoded) if one.has_tokens else f"{one.encoded} (not there)"
        size = f"{one.size_bytes / 1e6:,.1f} MB" if one.files else _NONE
        _add(view, one.name, one.split, size, files, tokens)
    return view


def sizes_view(tally: CorpusTally) -> Table:
    """Tell documents, characters and bytes of every split."""
    view = _table("set", "split", right=("documents", "characters", "bytes", "chars/document"))
    for name, split, found in _rows(tally):
        chars, docs = found.num_chars, found.num_docs
        mean = f"{chars / docs:,.0f}" if chars is not None and docs else _NONE
        _add(view, name, split, _show(docs), _show(chars), _show(found.size_bytes), mean)
    return view


def tokens_view(tally: CorpusTally) -> Table | None:
    """Tell the tokens of every split by tokenizer; None where none are known."""
    view = _table(
        "set",
        "split",
        "tokenizer",
        right=("tokens", "tokens/\nchar", "tokens/\nbyte"),
        rest=("how",),
    )
    for name, split, found in _rows(tally):
        for tokens in found.tokens:
            _add(
                view,
                name,
                split,
                tokens.tokenizer or "(not told)",
                f"{tokens.total_tokens:,}",
                *_rates(tokens, found),
                tokens.how,
            )
    return view if view.row_count else None


def dropped_view(tally: CorpusTally) -> Table | None:
    """Tell what was dropped of every set, by reason; None where nothing is known of it."""
    view = _table("set", "reason", right=("documents", "of those read"))
    for name, found in tally.sets.items():
        for reason, count in sorted(found.dropped.items(), key=lambda item: (-item[1], item[0])):
            read = found.num_docs_read
            _add(view, name, reason, f"{count:,}", f"{count / read:.2%}" if read else _NONE)
    return view if view.row_count else None


def _rows(tally: CorpusTally) -> Iterator[tuple[str, str, SplitTally]]:
    """Give every split, what the splits of a set hold together, and all sets."""
    for name, found in tally.sets.items():
        for split, values in found.splits.items():
            yield name, split, values
        if len(found.splits) > 1:
            yield name, _ALL, sum_splits(found.splits.values())
    if len(tally.sets) > 1:
        every = (split for found in tally.sets.values() for split in found.splits.values())
        yield _ALL, "", sum_splits(every)


def _rates(tokens: TokenTally, split: SplitTally) -> Iterator[str]:
    for size in (split.num_chars, split.size_bytes):
        yield f"{tokens.total_tokens / size:.4f}" if size else _NONE


def _show(value: int | None) -> str:
    return _NONE if value is None else f"{value:,}"


def _table(*left: str, right: Sequence[str] = (), rest: Sequence[str] = ()) -> Table:
    from rich import box
    from rich.table import Table

    view = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in left:
        view.add_column(head, overflow="fold")
    for head in right:
        view.add_column(head, justify="right", no_wrap=True)
    for head in rest:
        view.add_column(head, overflow="fold")
    return view


def _add(view: Table, *cells: str) -> None:
    from rich.text import Text

    view.add_row(*map(Text, cells))
