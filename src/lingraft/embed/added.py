"""What is known about the new pieces of an extended tokenizer: all that a method may build on.

New pieces are the ids of the extended tokenizer from the base's size on. Each has a *spelling*:
the base ids that its bytes become, alone, without BOS, prefix or other special pieces. Each made
by a merge rule has *parents*: the two pieces that the rule joins, which may be new ones too. So
`上海` is spelled <E4><B8><8A><E6><B5><B7> by a base that has neither character, and its parents
are the new pieces `上` and `海`.

Shapes: N new pieces; ids of the base are in [0, num_base), new ones in [num_base, num_base + N).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..bases import SentencePieceBase
from ..basetypes import BaseTokenizer
from ..errors import InputError
from ..fastbases import ByteLevelBase, FastSentencePieceBase

__all__ = ["Added", "PieceKind", "Spelling", "read_added"]

Spelling = tuple[int, ...]
PieceKind = Literal["spelled", "copied", "byte", "special", "unspellable"]
"""`spelled`: two or more base ids stand for its bytes. `copied`: one base id does, whose row it
takes. `byte`: a byte that a byte-level base lacks; it gets the mean of the rows of the base's
bytes. `special`: it stands for no text. `unspellable`: it has bytes, and the base no ids for them.
The latter two get the mean of all base rows. The latter three have an empty spelling, and their
rows are the same by every method."""


@dataclass(frozen=True)
class Added:
    """The new pieces, in the order of their ids; every list is as long as the others, N.

    Attributes:
        num_base: V, ids of the base tokenizer; the n-th new piece has the id V + n.
        texts: Pieces as spelled in the extended vocabulary.
        pieces: The bytes that each stands for; none for a special piece.
        kinds: What each is to the base.
        spellings: Base ids in reading order, no specials; empty if not spelled or copied.
        text_spellings: As the reference spells: the text path, with BOS and the prefix ▁.
        parents: Extended ids of the pair that the last merge rule joined; None for a piece that
            no rule made (a single character, a special piece, one read as it stands).
        base_pieces: The bytes of each base id; none for special pieces.
        counts: How often each extended id occurs in a corpus, int64 of shape (V + N,), or None.
    """

    num_base: int
    texts: list[str]
    pieces: list[bytes]
    kinds: list[PieceKind]
    spellings: list[Spelling]
    text_spellings: list[Spelling]
    parents: list[tuple[int, int] | None]
    base_pieces: list[bytes]
    counts: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """N, the number of new pieces."""
        return len(self.texts)

    @property
    def num_extended(self) -> int:
        """V + N."""
        return self.num_base + len(self)

    @property
    def byte_ids(self) -> list[int]:
        """Base ids that stand for one byte each."""
        return [id for id, data in enumerate(self.base_pieces) if len(data) == 1]

    def shown(self, n: int) -> str:
        """Give the text of the n-th new piece for people; its piece where it is no text."""
        try:
            return self.pieces[n].decode() or self.texts[n]
        except UnicodeDecodeError:
            return self.texts[n]

    def with_counts(self, counts: npt.NDArray[np.int64]) -> Added:
        """Give the same pieces with the corpus counts of all extended ids.

        Raises:
            InputError: There are not V + N of them.
        """
        if counts.shape != (self.num_extended,):
            raise InputError(
                f"counts of {counts.shape} ids; expected {self.num_extended}.",
                effect="They would be the counts of other pieces.",
                way_out="Count token files that the extended tokenizer encoded.",
            )
        return replace(self, counts=counts.astype(np.int64))


def read_added(
    base: BaseTokenizer,
    extended: BaseTokenizer,
    *,
    num_extra: int = 0,
    counts: npt.NDArray[np.int64] | None = None,
    bos_id: int | None = None,
) -> Added:
    """Compare an extended tokenizer with its base.

    Args:
        base: Of either family.
        extended: Of the same family; its first ids are the base's.
        num_extra: Special tokens that the base's configs add behind its own ids, and that the
            base model has rows for: they are the base's, too.
        counts: How often each extended id occurs in a corpus.
        bos_id: What the text path puts before a text; None where it puts nothing.

    Raises:
        InputError: `extended` is no extension of `base`.
    """
    _check_extends(base, extended)
    num_base = base.size + num_extra
    ids = range(num_base, extended.size)
    texts = [extended.piece(id) for id in ids]
    pieces = [extended.piece_bytes(id) for id in ids]
    spellings = [_spell(base, text, data) for text, data in zip(texts, pieces, strict=True)]
    rules = _Rules(extended)
    added = Added(
        num_base=num_base,
        texts=texts,
        pieces=pieces,
        kinds=[_kind(base, *both) for both in zip(pieces, spellings, strict=True)],
        spellings=spellings,
        text_spellings=_spell_texts(base, texts, pieces, spellings, bos_id),
        parents=[
            rules.parents(id, data) if extended.is_normal(id) else None
            for id, data in zip(ids, pieces, strict=True)
        ],
        base_pieces=[base.piece_bytes(id) for id in range(base.size)] + [b""] * num_extra,
    )
    return added if counts is None else added.with_counts(counts)


def _check_extends(base: BaseTokenizer, extended: BaseTokenizer) -> None:
    way_out = "Extend the tokenizer that belongs to the model: lingraft tokenizer extend."
    if base.family != extended.family or base.family == "other":
        raise InputError(
            f"{extended.name}: a {extended.family} tokenizer; its base {base.name} is {base.family}"
            "; expected two sentencepiece or two byte-level ones.",
            effect="New pieces could not be spelled with the base's.",
            way_out=way_out,
        )
    if extended.size < base.size:
        raise InputError(
            f"{extended.name}: {extended.size} ids, fewer than its base's {base.size}.",
            effect="Rows of the base would be without a piece.",
            way_out=way_out,
        )
    for id in range(base.size):
        if base.piece(id) != extended.piece(id):
            raise InputError(
                f"{extended.name}: id {id} is {extended.piece(id)!r}; "
                f"in the base {base.name} it is {base.piece(id)!r}.",
                effect="The base's rows would stand for other pieces.",
                way_out=way_out,
            )


def _kind(base: BaseTokenizer, data: bytes, spelling: Spelling) -> PieceKind:
    if not data:
        return "special"
    if not spelling:
        return "byte" if len(data) == 1 and data in base.missing_bytes else "unspellable"
    return "copied" if len(spelling) == 1 else "spelled"


def _spell(base: BaseTokenizer, text: str, data: bytes) -> Spelling:
    """Spell a piece with base ids; nothing where it has no bytes or the base no ids for them."""
    if not data:
        return ()
    try:
        ids = _spell_piece(base, text, data)
    except InputError:  # a character is unknown, and there are no bytes to fall back to
        return ()
    covered = b"".join(base.piece_bytes(id) for id in ids)
    return ids if covered == data else ()


def _spell_piece(base: BaseTokenizer, text: str, data: bytes) -> Spelling:
    if isinstance(base, SentencePieceBase):
        return tuple(base.pieces.spell(text))
    if isinstance(base, FastSentencePieceBase):
        return tuple(base.spell_piece(text))
    return tuple(base.spell(data))


def _spell_texts(
    base: BaseTokenizer,
    texts: Sequence[str],
    pieces: Sequence[bytes],
    spellings: Sequence[Spelling],
    bos_id: int | None,
) -> list[Spelling]:
    """Spell pieces as texts; what is no text is spelled as it was."""
    begin = () if bos_id is None else (bos_id,)
    plain = {n: text for n, text in enumerate(texts) if spellings[n]}
    if isinstance(base, ByteLevelBase):
        plain = {n: pieces[n].decode() for n in plain if _is_text(pieces[n])}
    encoded = dict(zip(plain, base.encode_batch(list(plain.values())), strict=True))
    return [
        (*begin, *encoded.get(n, spelling)) if spelling else ()
        for n, spelling in enumerate(spellings)
    ]


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Rules:
    """The merge rules of an extended tokenizer, applied to one piece at a time."""

    def __init__(self, extended: BaseTokenizer) -> None:
        self._extended = extended
        rules = extended.rule_arrays()
        self._rule_of: dict[tuple[int, int], tuple[int, int]] = {}
        columns = (rules.left_R, rules.right_R, rules.merged_R, rules.rank_R)
        for left, right, merged, rank in zip(*(c.tolist() for c in columns), strict=True):
            self._rule_of.setdefault((left, right), (rank, merged))

    def parents(self, id: int, data: bytes) -> tuple[int, int] | None:
        """Give the pair that the last rule joins when the piece's bytes are encoded alone.

        Gives None where the rules do not end at this piece.
        """
        ids = list(self._symbols(data))
        while len(ids) > 1:
            found = [
                (*rule, place)
                for place, pair in enumerate(pairwise(ids))
                if (rule := self._rule_of.get(pair)) is not None
            ]
            if not found:
                return None
            _, merged, place = min(found, key=lambda rule: (rule[0], rule[2]))
            if len(ids) == 2 and merged == id:
                return ids[0], ids[1]
            ids[place : place + 2] = [merged]
        return None

    def _symbols(self, data: bytes) -> Iterator[int]:
        """Give what merging begins with: characters, or bytes; -1 for what has no id."""
        if isinstance(self._extended, ByteLevelBase):
            ids = self._extended.byte_ids
            yield from (ids[byte] for byte in data)
            return
        for char in self._extended.spell_bytes(data):
            id = self._extended.find_piece(char)
            yield -1 if id is None else id
