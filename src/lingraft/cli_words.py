"""What commands on plain files share: options that take many words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

if TYPE_CHECKING:
    from .progress import Reporter

__all__ = ["many_values", "reporter_for"]


def many_values(*options: str) -> type[TyperCommand]:
    """Make a command class whose `options` take all words up to the next option.

    A shell's patterns give many words after one option; typer takes one word an option.
    """

    class ManyValues(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            spread: list[str] = []
            current, values = "", 0
            for word in args:
                if word.startswith("-") and word != "-":
                    current, values = word, 0
                elif current in options:
                    values += 1
                    if values > 1:
                        spread.append(current)
                spread.append(word)
            return super().parse_args(ctx, spread)

    return ManyValues


def reporter_for(*, quiet: bool) -> Reporter:
    """Give the command line's reporter: bars or lines; with --json on standard error."""
    from .cli import make_reporter

    return make_reporter(quiet=quiet)
