"""The certificate: what is proved of every text, and what is only measured on some.

Two statements, each from the files alone. *Invariance*: the base is kept and every added piece
stands only in texts that hold a character of the new scripts, so any other text is encoded as
before. *Coarsening*: the base is kept and every added rule ranks below the base's, so the encoding
of any text is the base's with neighbours joined. Both are then tried on every code point and on
the texts given; where a statement cannot be proved, what changes is measured there.

A base that lacks bytes loses them; completed by them, the extended tokenizer does not. Then the
base of the statements is the base with these bytes, and texts that hold one are counted apart: they
are neither unchanged nor changed, but kept where the base loses part of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..basetypes import BaseTokenizer, Int32
from .added import Added, show_piece
from .completing import holds_bytes
from .differences import Side, cut_text, show_sides
from .outcome import Check, Figure, cut_examples
from .priority import Priority
from .replay import Compared, Sizes, compare_encodings, piece_sizes
from .scope import Scope, own_note

__all__ = ["Proofs", "Replay", "certify", "check_order", "check_scope"]


@dataclass(frozen=True)
class Proofs:
    """What the files alone prove.

    Attributes:
        kept: Whether the base is in the extended tokenizer as it was.
        coarsening: Whether every text's encoding is the base's with neighbours joined.
        free: Added pieces that texts without the new scripts can hold.
    """

    kept: bool
    coarsening: bool
    free: Sequence[str] = ()
    only: str = ""
    """The one form that this is proved of; "" where all forms are one tokenizer."""

    @property
    def invariance(self) -> bool:
        """Whether texts without the new scripts are encoded as before, without exception."""
        return self.kept and not self.free


def check_scope(added: Sequence[Added], scope: Scope, own: Sequence[str] = ()) -> Check:
    """Judge: every added piece must hold what only texts of the new scripts hold.

    Args:
        added: The added pieces.
        scope: The new scripts.
        own: Those of them that the base has words of and that nobody named: to be told.
    """
    free = [a.shown for a in added if not scope.binds(a.data)]
    names = ", ".join(scope.scripts) or "no script"
    figures: dict[str, Figure] = {"scripts": names, "added": len(added), "out of scope": len(free)}
    if not free:
        text = f"only texts with a character of {names} can hold an added piece"
        if not own:
            return Check("scope", "ok", text, figures)
        text += f"; the base has its own pieces of {', '.join(own)}"
        return Check("scope", "told", text, figures, notes=[own_note(own)])
    note = (
        "Texts of other languages hold these pieces and change by them: pieces without a character "
        "of the new scripts (Latin, digits, punctuation, spaces, parts of characters). Name the "
        "scripts with --scripts if these are not the ones."
    )
    text = f"{len(free):,} of {len(added):,} added pieces hold no character of {names}"
    return Check("scope", "differs", text, figures, [cut_examples(free, 20)], [note])


def check_order(priority: Priority, num_added: int) -> Check:
    """Judge: added rules rank below the base's, apart from each other, and make one piece each."""
    figures: dict[str, Figure] = {
        "last rule of the base": priority.lowest,
        "not below it": len(priority.above),
        "sharing a rank": len(priority.tied),
        "not made of two pieces": len(priority.underived),
        "read before any rule": len(priority.stands),
    }
    if priority.coarsens and priority.is_one_tokenizer:
        text = f"{num_added:,} added pieces, each made by one rule below {priority.lowest}"
        return Check("priority", "ok", text, figures)
    spelled = [
        f"{piece!r} is spelled {' | '.join(parts)}"
        for piece, parts in list(priority.underived.items())[:8]
    ]
    lists = (
        ("not below the base's last rule", priority.above),
        ("share their rank", priority.tied),
        ("read before any rule", priority.stands),
    )
    examples = [f"{name}: {cut_examples(found)}" for name, found in lists if found]
    found = ", ".join(f"{v:,} {k}" for k, v in figures.items() if isinstance(v, int) and v)
    return Check("priority", "differs", found, figures, [*examples, *spelled], _why(priority))


def _why(priority: Priority) -> list[str]:
    notes = []
    if priority.above or priority.stands:
        notes.append(
            "An added rule that goes before rules of the base takes characters that the base would "
            "join otherwise: the base's own encoding of a text is broken up."
        )
    if priority.tied or priority.underived:
        notes.append(
            "SentencePiece goes by scores and places, the fast form by a list of pairs. They are "
            "sure to agree only where each piece has a score of its own and is made of two pieces."
        )
    return notes


@dataclass
class _Counts:
    texts: int = 0
    unchanged: int = 0
    coarser: int = 0


@dataclass
class Replay:
    """Encodes texts by base and extended tokenizer, and counts what changes."""

    base: BaseTokenizer
    extended: BaseTokenizer
    scope: Scope
    completed: bytes = b""
    """Bytes that the base itself loses; `base` is completed by them."""
    outside: _Counts = field(default_factory=_Counts)
    """Texts without a character of the new scripts."""
    inside: _Counts = field(default_factory=_Counts)
    restored: _Counts = field(default_factory=_Counts)
    """Texts with a byte that the base loses; none of them is among the others."""
    base_tokens: int = 0
    extended_tokens: int = 0
    inside_tokens: int = 0
    """Of the extended tokenizer, in texts with a character of the new scripts."""
    num_chars: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    sizes: tuple[Sizes, Sizes] | None = None
    """Bytes of the pieces of both; None: they are measured here."""

    def __post_init__(self) -> None:
        """Measure the pieces."""
        self._sizes = self.sizes or (piece_sizes(self.base), piece_sizes(self.extended))

    def again(self) -> Replay:
        """Give another one for the same tokenizers, which has counted nothing."""
        return Replay(self.base, self.extended, self.scope, self.completed, sizes=self._sizes)

    def add(
        self, texts: Sequence[str], where: str, base: Sequence[Int32], extended: Sequence[Int32]
    ) -> None:
        """Count texts, given both encodings of them."""
        found = compare_encodings(base, extended, *self._sizes)
        holds_D = np.fromiter(map(self.scope.holds, texts), np.bool_, len(texts))
        lost_D = np.zeros(len(texts), np.bool_)
        if self.completed:
            lost_D[:] = [holds_bytes(text, self.completed) for text in texts]
        groups = (
            (self.outside, ~holds_D & ~lost_D),
            (self.inside, holds_D & ~lost_D),
            (self.restored, lost_D),
        )
        for counts, chosen_D in groups:
            counts.texts += int(chosen_D.sum())
            counts.unchanged += int((chosen_D & found.same_D).sum())
            counts.coarser += int((chosen_D & found.coarser_D).sum())
        self.base_tokens += sum(map(len, base))
        self.extended_tokens += sum(map(len, extended))
        self.inside_tokens += sum(len(extended[n]) for n in np.flatnonzero(holds_D))
        self.num_chars += sum(map(len, texts))
        self._keep_examples(texts, where, base, extended, found, holds_D | lost_D)

    def _keep_examples(
        self,
        texts: Sequence[str],
        where: str,
        base: Sequence[Int32],
        extended: Sequence[Int32],
        found: Compared,
        may_change_D: Any,
    ) -> None:
        """Keep the first text that breaks each statement."""
        wrong = {
            "changed": ~may_change_D & ~found.same_D,
            "broken up": ~found.coarser_D,
        }
        for name, wrong_D in wrong.items():
            if name not in self.examples and wrong_D.any():
                n = int(np.flatnonzero(wrong_D)[0])
                sides = Side("base", base[n].tolist()), Side("extended", extended[n].tolist())
                lines = show_sides(
                    *sides,
                    lambda id: show_piece(self.base, id),
                    lambda id: show_piece(self.extended, id),
                )
                head = f"{where}: {name}: {cut_text(texts[n])}"
                self.examples[name] = "\n".join([head, *lines])

    @property
    def figures(self) -> dict[str, Figure]:
        """Counts by name; tokens a character before and after."""
        found: dict[str, Figure] = {}
        sides = (("without the new scripts", self.outside), ("with them", self.inside))
        for name, counts in sides:
            found[f"texts {name}"] = counts.texts
            found[f"texts {name}, unchanged"] = counts.unchanged
            found[f"texts {name}, changed"] = counts.texts - counts.unchanged
            found[f"texts {name}, broken up"] = counts.texts - counts.coarser
        if self.completed:
            name = "texts with bytes that the base loses"
            found[name] = self.restored.texts
            found[f"{name}, broken up"] = self.restored.texts - self.restored.coarser
        found["base tokens"] = self.base_tokens
        found["extended tokens"] = self.extended_tokens
        found["base tokens a character"] = _ratio(self.base_tokens, self.num_chars)
        found["extended tokens a character"] = _ratio(self.extended_tokens, self.num_chars)
        return found

    @property
    def num_broken(self) -> int:
        """Texts whose encoding is not the base's with neighbours joined."""
        return sum(c.texts - c.coarser for c in self._counts)

    @property
    def num_texts(self) -> int:
        """All of them."""
        return sum(c.texts for c in self._counts)

    @property
    def _counts(self) -> tuple[_Counts, ...]:
        return self.outside, self.inside, self.restored

    def outcome(self, name: str) -> Check:
        """Judge: without the new scripts unchanged, else a coarsening."""
        changed = self.outside.texts - self.outside.unchanged
        total = self.num_texts
        if not changed and not self.num_broken:
            text = (
                f"{self.outside.texts:,} texts without the new scripts unchanged; "
                f"{self.inside.texts:,} with them: the base's tokens, "
                f"{self.inside.texts - self.inside.unchanged:,} with some joined"
            )
            if self.completed:
                text += f"; {self.restored.texts:,} with bytes that the base loses, now kept"
            return Check(name, "ok", text, self.figures)
        text = (
            f"{changed:,} of {self.outside.texts:,} texts without the new scripts changed; the "
            f"base's tokens are broken up in {self.num_broken:,} of {total:,} texts"
        )
        examples = [self.examples[k] for k in sorted(self.examples)]
        return Check(name, "differs", text, self.figures, examples)


def _ratio(tokens: int, num_chars: int) -> float:
    return round(tokens / num_chars, 6) if num_chars else 0.0


def certify(
    proofs: Proofs, scope: Scope, has_normalizer: bool, points: Replay, texts: Replay | None
) -> dict[str, Any]:
    """Write the certificate.

    Args:
        proofs: What the files alone prove.
        scope: The new scripts.
        has_normalizer: Whether text may change before it is cut.
        points: Every code point, alone.
        texts: The corpora; None: there were none.

    Returns:
        `proved` and `measured`, sentences each; `figures`.
    """
    proved = _proved(proofs, scope, has_normalizer, points)
    measured = []
    measured.append(_measure("Every code point, alone", points))
    if texts is not None:
        measured.append(_measure("The corpora", texts))
    if not proofs.invariance:
        measured.append(
            "Not proved: that all texts without the new scripts are encoded as before; the counts "
            "above tell of the texts tried, of no others."
        )
    elif "Latin" in scope.scripts or not scope.scripts:
        measured.append(
            "A language that is written in a script of the base's own language shares its texts: "
            "what changes in them is measured, not proved away."
        )
    if proofs.only and proved:
        measured.append(
            f"Not proved: anything of the forms that do not give the ids of {proofs.only} on every "
            "text; see the checks 'forms', 'forms agree' and 'priority'."
        )
    lost = points.extended.missing_bytes
    if lost:
        measured.append(
            f"Not kept: the {len(lost)} bytes {_shown(lost)}, which have no piece; texts with them "
            "lose them."
        )
    if not proofs.coarsening:
        measured.append("Not proved: that the base's tokens are only joined, never broken up.")
    return {
        "scripts": list(scope.scripts),
        "invariance_proved": proofs.invariance,
        "coarsening_proved": proofs.coarsening,
        "proved_only_of": proofs.only or None,
        "completed_bytes": list(points.completed),
        "out_of_scope": list(proofs.free),
        "proved": proved,
        "measured": measured,
        "code_points": points.figures,
        "corpora": texts.figures if texts is not None else None,
    }


def _shown(data: bytes) -> str:
    return data.hex(" ").upper()


def _proved(proofs: Proofs, scope: Scope, has_normalizer: bool, points: Replay) -> list[str]:
    names = ", ".join(scope.scripts) or "none"
    proved = []
    after = " (after the tokenizer's own normaliser)" if has_normalizer else ""
    after += f", as {proofs.only} reads it," if proofs.only else ""
    lost = points.completed
    without = f" and without the {len(lost)} bytes {_shown(lost)}" if lost else ""
    whole = " (with a piece for each byte that it loses)" if lost else ""
    if proofs.invariance:
        proved.append(
            f"Any text{after} without a character of the scripts {names}{without} is encoded "
            "exactly as by the base."
        )
    elif proofs.kept:
        proved.append(
            f"Any text{after} that holds neither a character of the scripts {names} nor one of the "
            f"{len(proofs.free):,} added pieces out of scope{without} is encoded exactly as by the "
            "base."
        )
    if proofs.coarsening:
        proved.append(
            f"The encoding of any text{after} is the base's{whole} with some neighbours joined, so "
            "it is never longer, and taking it apart gives the base's back."
        )
    if proofs.kept and lost:
        proved.append(
            f"No text{after} loses a byte: the {len(lost)} that the base has no pieces for, and "
            "loses, were added first; texts with them are not encoded as by the base."
        )
    return proved


def _measure(what: str, replay: Replay) -> str:
    outside, restored = replay.outside, replay.restored.texts
    before, after = (
        _ratio(tokens, replay.num_chars) for tokens in (replay.base_tokens, replay.extended_tokens)
    )
    return (
        f"{what}: {outside.unchanged:,} of {outside.texts:,} texts without the new scripts "
        f"unchanged; base's tokens broken up in {replay.num_broken:,} of "
        f"{replay.num_texts:,}; {before:.4f} -> {after:.4f} tokens a character."
        + (f" {restored:,} hold bytes that the base loses: now kept." if replay.completed else "")
    )
