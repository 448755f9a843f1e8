"""Pieces taken from another tokenizer.

By default only what leaves the base's own languages alone: pieces with a character of the new
scripts, each by one merge rule below all of the base's. So the donor must cut text by merge rules,
too, and must not rewrite it: a unigram model's pieces, or those of a model behind NFKC (which turns
`，` into `,`), are no text that the base would meet in that form. Applied to Mistral 7B, the union
that is widely copied changes 15% of English lines; restricted like this, none.

That union is here as well, for those who need the published tokenizers again: every donor piece
that the base has not, in the donor's order, at score 0.

Source of the union: ymcui/Chinese-LLaMA-Alpaca, scripts/merge_tokenizer/merge_tokenizers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import regex

from ..bases import BaseTokenizer, ByteLevelBase, SentencePieceBase, locate_tokenizer, read_base
from ..errors import InputError
from ..pieces import SPACE
from ..text import find_scripts, in_scripts
from .byterules import ByteRules, byte_row
from .configs import load_json
from .listing import has_digits, readable, splits_digits
from .piecerules import NOT_TWO, Misfit, PieceRow, PieceRules

__all__ = ["Candidates", "LeftOut", "find_candidates", "read_donor", "take", "union_pieces"]

_BPE = 2  # TrainerSpec.ModelType
_LATIN = regex.compile(r"[\p{Script=Latin}\p{Nd}]")
_HARMLESS = {"NFC", "Prepend"}
"""Normalisers that leave what is read as it is; so does one that replaces spaces."""
_UNION = "Take pieces from a BPE tokenizer, or repeat the published union with --as-published."


class LeftOut(NamedTuple):
    """A donor piece that was not taken."""

    id: int
    """In the donor."""
    piece: str
    """As text."""
    reason: str
    what: str


@dataclass(frozen=True)
class Candidates:
    """Donor pieces that may be tried.

    Attributes:
        rows: In donor order, as the base spells them.
        ids: Their ids in the donor.
        scripts: What was looked for.
        num_known: Donor pieces that the base has.
        left_out: Those that are out of scope.
    """

    rows: Sequence[PieceRow]
    ids: Sequence[int]
    scripts: Sequence[str]
    num_known: int
    left_out: Sequence[LeftOut]


def read_donor(name: str) -> BaseTokenizer:
    """Read a tokenizer whose pieces grow by merge rules from unchanged text.

    Raises:
        InputError: It is a unigram model, or rewrites text before it cuts it.
    """
    path = _model_file(name)
    model = _parse(path) if path else None
    if model is not None and model.trainer_spec.model_type != _BPE:
        kind = model.trainer_spec.ModelType.Name(model.trainer_spec.model_type).lower()
        raise InputError(
            f"{name}: a {kind} model; expected BPE.",
            effect="Its pieces were chosen whole, by probability; merge rules that reach them all "
            "do not exist, and some would never be produced.",
            way_out=_UNION,
        )
    donor = read_base(name)
    if not _keeps_text(name, model):
        raise InputError(
            f"{name}: rewrites text before it cuts it"
            + (f" ('{model.normalizer_spec.name}')." if model is not None else "."),
            effect="Its pieces are text that the base may never meet: full-width commas are gone.",
            way_out=_UNION,
        )
    return donor


def find_candidates(
    base: BaseTokenizer, donor: BaseTokenizer, scripts: Sequence[str] | None
) -> Candidates:
    """Find the donor's ordinary pieces that are in scope and that the base has not.

    Args:
        base: The base.
        donor: What `read_donor` gave.
        scripts: Those of the new language; None: found from the pieces, Latin left aside.

    Raises:
        InputError: The base has all of the donor's pieces, or there is no letter in the others
            beside Latin ones.
    """
    pieces = [(id, donor.piece_bytes(id)) for id in range(donor.size) if donor.is_normal(id)]
    fresh = [(id, data) for id, data in pieces if data and _spelled_in(base, data) is None]
    if not fresh:
        raise InputError(
            f"{donor.name}: the donor has nothing that the base lacks.",
            way_out="Name another donor.",
        )
    texts = (_LATIN.sub("", data.decode(errors="ignore")) for _, data in fresh)
    scripts = list(scripts) if scripts else find_scripts(texts)
    keeps_digits_apart = splits_digits(base)
    rows, ids, left_out = [], [], []
    for id, data in fresh:
        misfit = _out_of_scope(data, scripts, keeps_digits_apart)
        if misfit:
            piece = readable(donor, donor.piece(id))
            left_out.append(LeftOut(id, piece, misfit, ""))
        else:
            rows.append(_row(base, data))
            ids.append(id)
    return Candidates(rows, ids, scripts, len(pieces) - len(fresh), left_out)


def take(
    base: BaseTokenizer, found: Candidates, rules: PieceRules | ByteRules
) -> tuple[list[PieceRow], list[LeftOut]]:
    """Add what one rule makes; pieces that wait for others are tried again behind them.

    A character that a byte-level base spells in three tokens or more needs half characters first;
    those that begin no character outside the scripts are added.

    Returns:
        The rows that were added, and the pieces that no rule makes.
    """
    # Characters first: SentencePiece makes them one symbol before any rule is tried.
    waiting = sorted(zip(found.rows, found.ids, strict=True), key=lambda pair: pair[0].kind)
    taken: list[PieceRow] = []
    misfits: dict[int, tuple[PieceRow, Misfit]] = {}
    while waiting:
        misfits = {}
        for row, id in waiting:
            misfit = rules.add(row)
            if misfit and misfit.reason == NOT_TWO and row.kind == "char":
                halves = _add_halves(base, rules, row, found.scripts)
                taken.extend(halves)
                misfit = rules.add(row) if halves else misfit
            if misfit:
                misfits[id] = (row, misfit)
            else:
                taken.append(row)
        if len(misfits) == len(waiting):
            break
        waiting = [(row, id) for id, (row, _) in misfits.items()]
    left_out = [
        LeftOut(id, readable(base, row.piece), misfit.reason, misfit.what)
        for id, (row, misfit) in sorted(misfits.items())
    ]
    return taken, left_out


def union_pieces(base: SentencePieceBase, name: str) -> list[str]:
    """Give what the published recipe adds: every donor piece the base has not, of any kind.

    Raises:
        InputError: The donor is no SentencePiece model.
    """
    path = _model_file(name)
    if path is None:
        raise InputError(
            f"{name}: no SentencePiece model; the published union is one of such models.",
            way_out="Name a tokenizer.model, or leave --as-published out.",
        )
    pieces = dict.fromkeys(piece.piece for piece in _parse(path).pieces)
    return [piece for piece in pieces if piece not in base.pieces.ids]


def _add_halves(
    base: BaseTokenizer, rules: PieceRules | ByteRules, row: PieceRow, scripts: Sequence[str]
) -> list[PieceRow]:
    """Add the half characters that a character needs, if all of them are safe."""
    assert isinstance(base, ByteLevelBase), "only bytes have half characters"
    assert isinstance(rules, ByteRules), "byte rules are those of bytes"
    symbols = rules.spell(row.piece)
    halves = ["".join(symbols[:n]) for n in range(2, len(symbols))]
    data = [base.read_piece(half) for half in halves]
    if not all(_begins_only(start, scripts) for start in data):
        return []
    rows = [byte_row(base, start) for start in data]
    return [half for half in rows if rules.add(half) is None]


def _begins_only(start: bytes, scripts: Sequence[str]) -> bool:
    """Whether all code points that begin with these 2 or 3 bytes belong to the scripts.

    Unassigned ones count, too: texts with them must encode as before.
    """
    width = 2 if start[0] < 0xE0 else 3 if start[0] < 0xF0 else 4
    missing = width - len(start)
    first = ord((start + b"\x80" * missing).decode())
    span = range(first, first + (1 << 6 * missing))
    return all(in_scripts(chr(point), scripts) for point in span)


def _out_of_scope(data: bytes, scripts: Sequence[str], keeps_digits_apart: bool) -> str:
    """Tell why a piece is not for this extension; "" if it is."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "half a character"
    if not in_scripts(text, scripts):
        if _LATIN.search(text):
            return "Latin letters or digits only"
        return "no character of the scripts"
    if keeps_digits_apart and has_digits(text):
        return "many digits, and the base keeps each to itself"
    return ""


def _spelled_in(base: BaseTokenizer, data: bytes) -> int | None:
    """Find a donor's piece in the base."""
    try:
        return base.find_piece(base.spell_bytes(data))
    except UnicodeDecodeError:  # half a character; SentencePiece has no such pieces
        return None


def _row(base: BaseTokenizer, data: bytes) -> PieceRow:
    if isinstance(base, ByteLevelBase):
        return byte_row(base, data)
    piece = data.decode().replace(" ", SPACE)
    return PieceRow(piece, "char" if len(piece) == 1 else "rule")


def _model_file(name: str) -> Path | None:
    """Give the SentencePiece model of a name; None where it is a `tokenizer.json`."""
    path = locate_tokenizer(name)
    path = path / "tokenizer.model" if path.is_dir() else path
    return path if path.is_file() and path.suffix != ".json" else None


def _parse(path: Path) -> Any:
    """Parse a SentencePiece model of any type."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise InputError(f"{path}: not a SentencePiece model.", way_out="Fetch it again.") from None
    return model


def _keeps_text(name: str, model: Any) -> bool:
    """Whether text stays as it is but for spaces and the order of combining marks."""
    if model is not None:
        return not model.normalizer_spec.precompiled_charsmap
    path = locate_tokenizer(name)
    spec = load_json(path / "tokenizer.json" if path.is_dir() else path)
    return _is_harmless(spec.get("normalizer"))


def _is_harmless(part: Any) -> bool:
    if part is None or part["type"] in _HARMLESS:
        return True
    if part["type"] == "Sequence":
        return all(map(_is_harmless, part["normalizers"]))
    return bool(part["type"] == "Replace" and part["pattern"] == {"String": " "})
