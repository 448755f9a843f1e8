"""Do all forms of one tokenizer give the same ids, and do they give the text back?

The first form is the file's own library; the others are compared with it, text by text. Where a
text differs its lines are encoded alone, to tell the shortest text that shows it, and the base's
own forms are asked, to tell who brought the difference in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..basetypes import Int32
from .differences import Side, cut_text, first_difference, show_sides
from .outcome import Check, Figure

__all__ = ["Decoding", "Difference", "Form", "FormsAgree"]

Encode = Callable[[Sequence[str]], Sequence[Sequence[int] | Int32]]
Decode = Callable[[Sequence[Sequence[int]]], list[str]]


@dataclass(frozen=True)
class Form:
    """One form of a tokenizer.

    Attributes:
        name: What messages call it.
        encode: Texts to ids, without special pieces.
        decode: Ids to texts; None where only encoding is compared.
        most: Texts of each source to compare, the first ones; None: all. Some forms are too slow
            for a corpus.
    """

    name: str
    encode: Encode
    decode: Decode | None = None
    most: int | None = None


@dataclass(frozen=True)
class Difference:
    """A text that two forms encode differently."""

    where: str
    text: str
    left: Side
    right: Side
    base_too: bool
    """Whether the base's own forms differ on it."""

    def show(self, piece: Callable[[int], str]) -> str:
        """Show the text, and both encodings piece by piece."""
        first = first_difference(self.left.ids, self.right.ids)
        head = (
            f"{self.where}: {self.left.name} and {self.right.name} differ from token {first} of "
            f"{cut_text(self.text)}"
        )
        return "\n".join([head, *show_sides(self.left, self.right, piece)])


@dataclass
class _Counts:
    texts: int = 0
    differing: int = 0
    lines: int = 0
    differing_lines: int = 0
    base_too: int = 0
    first: Difference | None = None
    """The first text that only the extended tokenizer's forms differ on, if there is one."""


def _total(counts: Iterable[_Counts]) -> _Counts:
    total = _Counts()
    for count in counts:
        total.texts += count.texts
        total.differing += count.differing
        total.lines += count.lines
        total.differing_lines += count.differing_lines
        total.base_too += count.base_too
        if total.first is None or (total.first.base_too and count.first is not None):
            total.first = count.first or total.first
    return total


@dataclass
class FormsAgree:
    """Counts the texts on which forms differ from the first of them."""

    forms: Sequence[Form]
    base_forms: Sequence[Form] = ()
    """The same forms of the base, in the same order; fewer where it has fewer."""
    counts: dict[str, dict[str, _Counts]] = field(default_factory=dict)
    """By form and source."""

    def __post_init__(self) -> None:
        """Begin every count at zero."""
        self.counts = {form.name: {} for form in self.forms[1:]}

    def add(
        self, texts: Sequence[str], where: str, first: Sequence[Int32] | None = None
    ) -> list[Int32]:
        """Compare texts.

        Args:
            texts: Texts of one source.
            where: The source.
            first: The first form's ids, where they are known.

        Returns:
            The first form's ids.
        """
        own = [
            np.asarray(ids, np.int32)
            for ids in (self.forms[0].encode(texts) if first is None else first)
        ]
        num_lines = sum(text.count("\n") + 1 for text in texts)
        for number, form in enumerate(self.forms[1:], 1):
            sources = self.counts[form.name]
            size = len(texts)
            if form.most is not None:
                done = sources[where].texts if where in sources else 0
                size = min(size, form.most - done)
            if not size:
                continue
            count = sources.setdefault(where, _Counts())
            others = form.encode(texts[:size])
            count.texts += size
            count.lines += num_lines if size == len(texts) else _lines_of(texts[:size])
            for text, mine, theirs in zip(texts, own, others, strict=False):
                if not _are_equal(mine, theirs):
                    self._differ(count, number, text, where, mine, theirs)
        return own

    def _differ(
        self,
        count: _Counts,
        number: int,
        text: str,
        where: str,
        mine: Int32,
        theirs: Sequence[int] | Int32,
    ) -> None:
        """Count a text that differs, and its lines; keep the first."""
        form = self.forms[number]
        base_too = self._base_differs(number, text)
        count.differing += 1
        count.base_too += base_too
        lines = text.split("\n") if "\n" in text else []
        mines, others = self.forms[0].encode(lines), form.encode(lines)
        unlike = [n for n, ids in enumerate(mines) if not _are_equal(np.asarray(ids), others[n])]
        count.differing_lines += len(unlike) if lines else 1
        if count.first is None or (count.first.base_too and not base_too):
            if unlike:
                text, mine, theirs = (column[unlike[0]] for column in (lines, mines, others))  # type: ignore[assignment]
            sides = Side(self.forms[0].name, list(mine)), Side(form.name, list(theirs))
            count.first = Difference(where, text, *sides, base_too)

    def _base_differs(self, number: int, text: str) -> bool:
        own = {form.name: form for form in self.base_forms}
        first, other = own.get(self.forms[0].name), own.get(self.forms[number].name)
        if first is None or other is None:
            return False
        return not _are_equal(np.asarray(first.encode([text])[0]), other.encode([text])[0])

    @property
    def differences(self) -> list[Difference]:
        """The first difference of each form and source."""
        sources = (count for found in self.counts.values() for count in found.values())
        return [count.first for count in sources if count.first]

    def outcome(self, piece: Callable[[int], str], notes: Sequence[str]) -> Check:
        """Judge: what the base's own forms do as well is told, anything else is a failure.

        Args:
            piece: An id's piece as messages show it.
            notes: Forms that were left out and why; explanations.
        """
        name = "forms agree"
        if not self.counts:
            text = f"there is one form only: {self.forms[0].name}"
            return Check(name, "skipped", text, notes=notes)
        figures: dict[str, Figure] = {"reference": self.forms[0].name}
        told = []
        most = {form.name: form.most for form in self.forms}
        totals = {other: _total(found.values()) for other, found in self.counts.items()}
        for other, total in totals.items():
            figures[f"{other}: texts"] = total.texts
            figures[f"{other}: differing texts"] = total.differing
            for where, count in self.counts[other].items():
                if count.differing:
                    figures |= _where_figures(f"{other}, {where}", count)
            told.append(_sentence(other, total, most[other]))
        ours = any(count.differing > count.base_too for count in totals.values())
        known = any(count.base_too for count in totals.values())
        notes = [*notes, *[_base_note(o, c) for o, c in totals.items() if c.base_too]]
        notes += [
            f"{where}: {other} differs on {count.differing:,} of {count.texts:,} texts, "
            f"{count.differing_lines:,} of {count.lines:,} lines."
            for other, found in self.counts.items()
            for where, count in found.items()
            if count.differing
        ]
        return Check(
            name,
            "differs" if ours else "told" if known else "ok",
            f"{self.forms[0].name} = " + "; ".join(told),
            figures,
            [difference.show(piece) for difference in self.differences],
            notes,
        )


def _sentence(name: str, count: _Counts, most: int | None) -> str:
    limit = f" (the first {most:,} of each source)" if most is not None else ""
    if not count.differing:
        return f"{name} on all {count.texts:,} texts{limit}"
    return f"{name}, but on {count.differing:,} of {count.texts:,} texts{limit}"


def _where_figures(where: str, count: _Counts) -> dict[str, Figure]:
    return {
        f"{where}: texts": count.texts,
        f"{where}: differing texts": count.differing,
        f"{where}: lines": count.lines,
        f"{where}: differing lines": count.differing_lines,
    }


def _base_note(name: str, count: _Counts) -> str:
    return (
        f"On {count.base_too:,} of the {count.differing:,} texts where {name} differs the base's "
        "own forms differ on it too, before anything was added."
    )


def _lines_of(texts: Sequence[str]) -> int:
    return sum(text.count("\n") + 1 for text in texts)


def _are_equal(left: Int32, right: Sequence[int] | Int32) -> bool:
    return len(left) == len(right) and bool(np.array_equal(left, np.asarray(right, np.int32)))


@dataclass
class Decoding:
    """Counts the texts that the base gives back and a form of the extended tokenizer does not."""

    forms: Sequence[Form]
    base: Form
    texts: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    base_lost: int = 0
    """Texts that a form loses and the base does not give back either."""
    examples: list[str] = field(default_factory=list)

    def add(self, texts: Sequence[str], where: str, ids: Sequence[Int32]) -> None:
        """Decode the ids that the extended tokenizer gave the texts."""
        self.texts += len(texts)
        lists = [one.tolist() for one in ids]
        for form in self.forms:
            assert form.decode is not None, f"{form.name} cannot decode"
            results = form.decode(lists)
            unlike = [n for n, text in enumerate(texts) if results[n] != text]
            if not unlike:
                continue
            asked = [texts[n] for n in unlike]
            assert self.base.decode is not None, "the base cannot decode"
            given = self.base.decode([list(ids) for ids in self.base.encode(asked)])
            for n, text, back in zip(unlike, asked, given, strict=True):
                if back != text:
                    self.base_lost += form is self.forms[0]
                    continue
                if form.name not in self.lost:
                    self.examples.append(
                        f"{where}: {form.name} decodes {cut_text(text)} as {cut_text(results[n])}"
                    )
                self.lost[form.name] = self.lost.get(form.name, 0) + 1

    def outcome(self) -> Check:
        """Judge: a text that the base gives back must come back."""
        figures: dict[str, Figure] = {"texts": self.texts}
        figures |= {f"{name}: lost texts": count for name, count in self.lost.items()}
        figures["texts that the base does not give back either"] = self.base_lost
        name = "decoding gives the text back"
        if not self.lost:
            text = f"wherever the base does, of {self.texts:,} texts"
            return Check(name, "ok", text, figures)
        lost = ", ".join(f"{form}: {count:,}" for form, count in self.lost.items())
        text = f"texts that the base gives back and this one does not: {lost} of {self.texts:,}"
        return Check(name, "differs", text, figures, self.examples)
