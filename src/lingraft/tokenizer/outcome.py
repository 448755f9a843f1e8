"""What a check of `verify` found: a name, a state, figures, examples, explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Check", "Figure", "State", "cut_examples"]

Figure = int | float | str
State = Literal["ok", "told", "differs", "skipped"]
_SHOWN = 8


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Attributes:
        name: What was checked.
        state: "ok"; "told": worth knowing, no failure; "differs": failed; "skipped".
        text: One line: what was found, or why the check was skipped.
        figures: Numbers by name.
        examples: What was found, some of it, word for word.
        notes: Explanations, a paragraph each.
    """

    name: str
    state: State
    text: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    examples: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The check as JSON holds it; `ok` is null where nothing was judged."""
        judged = {"ok": True, "differs": False}
        return {
            "name": self.name,
            "ok": judged.get(self.state),
            "state": self.state,
            "text": self.text,
            "figures": dict(self.figures),
            "examples": list(self.examples),
            "notes": list(self.notes),
        }


def cut_examples(pieces: Sequence[str], most: int = _SHOWN) -> str:
    """Give some of the pieces in one line, and how many more there are."""
    more = f" and {len(pieces) - most:,} more" if len(pieces) > most else ""
    return ", ".join(map(repr, pieces[:most])) + more
