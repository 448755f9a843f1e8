"""Lists of pieces: pieces.txt, pieces.jsonl, or the folder that a vocabulary search wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bases import BaseTokenizer, ByteLevelBase
from ..errors import InputError, UsageError
from ..fastbases import BYTE_OF
from ..lines import read_lines
from ..manifest import file_sha256
from ..pieces import SPACE
from .byterules import byte_row
from .configs import load_json
from .piecerules import PieceRow, parse_rows

__all__ = ["PieceList", "has_digits", "read_pieces", "readable", "splits_digits"]

_FILES = ("pieces.jsonl", "pieces.txt")
_HEX = re.compile("(?:<0x[0-9A-F]{2}>)+")
_DIGITS = re.compile(r"\d\d")
_YEAR = "2018"


@dataclass(frozen=True)
class PieceList:
    """Pieces to add, in order.

    Attributes:
        path: The file.
        sha256: Of the file.
        rows: As this base spells them.
        places: `file:line` of each.
        scripts: Those that the search was for; none where the list does not say.
        base_sha256: The tokenizer that the search was for; "" where the list does not say.
    """

    path: Path
    sha256: str
    rows: Sequence[PieceRow]
    places: Sequence[str]
    scripts: Sequence[str] = ()
    base_sha256: str = ""


def read_pieces(path: Path, base: BaseTokenizer) -> PieceList:
    """Read a list of pieces for a base.

    A `.jsonl` holds rows as `lingraft vocab search` writes them, in the base's own spelling. Any
    other file holds a piece a line: a JSON string, or the bare text where the line does not begin
    with a double quote. There ▁ at the head stands for a space, <0xE5> for a byte of a half
    character; an empty line is no piece.

    Raises:
        UsageError: There is no such list.
        InputError: A line is not a piece, or the list was made for another kind of base.
    """
    found, choice = _find(path, base)
    lines = [(line.number, line.text) for line in read_lines(found) if line.text.strip("\r")]
    places = [f"{found}:{number}" for number, _ in lines]
    if found.suffix == ".jsonl" or found.name.endswith((".jsonl.gz", ".jsonl.zst")):
        rows = parse_rows((text for _, text in lines), str(found))
    else:
        texts = [_read_line(text, place) for (_, text), place in zip(lines, places, strict=True)]
        _refuse_byte_spelling([t for t in texts if isinstance(t, str)], found)
        rows = [_row(text, base) for text in texts]
    if base.family == "sentencepiece":
        _refuse_byte_spelling([row.piece for row in rows], found)
    if not rows:
        raise InputError(f"{found}: holds no pieces.", way_out="Name a list with pieces.")
    return PieceList(
        found,
        file_sha256(found),
        rows,
        places,
        tuple(map(str, choice["scripts"])),
        str(choice["base"].get("sha256", "")),
    )


def _find(path: Path, base: BaseTokenizer) -> tuple[Path, dict[str, Any]]:
    """Give the list itself, and what the search beside it says of itself."""
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise UsageError(
                f"{path}: holds neither {' nor '.join(_FILES)}.",
                way_out="Make a list: lingraft vocab search ... --out DIR.",
            )
        path = found
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; expected a list of pieces.",
            way_out="Make one: lingraft vocab search ... --out DIR.",
        )
    record = path.with_name("choice.json")
    choice = load_json(record) if path.name in _FILES and record.is_file() else {}
    made_for, scripts = choice.setdefault("base", {}), choice.setdefault("scripts", [])
    if not isinstance(made_for, dict) or not isinstance(scripts, list):
        raise InputError(
            f"{record}: not the record of a search.",
            way_out="Fetch it again, or give the list from a folder without it.",
        )
    family = made_for.get("family", base.family)
    if path.suffix == ".jsonl" and family != base.family:
        raise InputError(
            f"{path}: its pieces are spelled for a {family} tokenizer; the base is {base.family}.",
            effect="They would be added as other text than they stand for.",
            way_out="Search with this base, or give pieces.txt, which holds them as text.",
        )
    return path, choice


def _read_line(line: str, place: str) -> str | bytes:
    """Give the text of a piece, ▁ at its head turned into a space; bytes of half a character."""
    text = line.removesuffix("\r")
    if text.startswith('"'):
        try:
            text = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{place}: begins with a double quote, but is no JSON string: {error}.",
                way_out='Write a piece that begins with a double quote as JSON: "\\"quoted".',
            ) from None
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.replace("<0x", "").replace(">", ""))
    return " " + text[1:] if text.startswith(SPACE) else text


def _row(text: str | bytes, base: BaseTokenizer) -> PieceRow:
    data = text.encode() if isinstance(text, str) else text
    if isinstance(base, ByteLevelBase):
        return byte_row(base, data)
    if isinstance(text, bytes):
        return PieceRow("".join(f"<0x{byte:02X}>" for byte in text), "partial")
    return PieceRow(text.replace(" ", SPACE), "char" if len(text) == 1 else "rule")


def _refuse_byte_spelling(texts: Sequence[str], path: Path) -> None:
    """Refuse text that is a byte alphabet's spelling of other text: such pieces never fire."""
    foreign = [text for text in texts if not text.isascii()]
    spelled = [text for text in foreign if _reads_as_bytes(text)]
    if foreign and len(spelled) == len(foreign):
        shown = bytes(BYTE_OF[char] for char in spelled[0]).decode()
        raise InputError(
            f"{path}: its pieces are spelled in a byte alphabet: {spelled[0]!r} for {shown!r}.",
            effect="Taken as text they would fire on no text at all.",
            way_out="List the text itself, or give pieces.jsonl to the byte-level base it is for.",
        )


def _reads_as_bytes(text: str) -> bool:
    if not all(char in BYTE_OF for char in text):
        return False
    try:
        return len(bytes(BYTE_OF[char] for char in text).decode()) < len(text)
    except UnicodeDecodeError:
        return False


def readable(base: BaseTokenizer, piece: str) -> str:
    """Give the text that a piece stands for: ▁ for a leading space, <0xE5> for bytes of no text."""
    try:
        data = base.read_piece(piece)
    except KeyError:
        return piece
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)
    return SPACE + text[1:] if text.startswith(" ") else text


def splits_digits(base: BaseTokenizer) -> bool:
    """Tell whether a base keeps every digit to itself, so that it can count in them."""
    pieces = [base.piece_bytes(id) for id in base.encode_batch([_YEAR])[0]]
    single = [piece for piece in pieces if piece.strip()] == [c.encode() for c in _YEAR]
    return single and not any(_many_digit_pieces(base))


def has_digits(text: str) -> bool:
    """Tell whether two digits stand side by side."""
    return _DIGITS.search(text) is not None


def _many_digit_pieces(base: BaseTokenizer) -> Iterator[bool]:
    for id in range(base.size):
        if base.is_normal(id):
            yield has_digits(base.piece_bytes(id).decode(errors="ignore"))
