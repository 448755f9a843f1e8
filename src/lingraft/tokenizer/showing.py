r"""`lingraft tokenizer show`: the pieces of one text, tokenizer below tokenizer.

A space is shown as ▁, bytes that are no whole characters as <0xE5>, and what a terminal would obey
or hide (control and format characters, other spaces, variation selectors) as \n, \x1b or \u200d;
a backslash is \\, a literal ▁ is \u2581: what is shown can be read back.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..basetypes import BaseTokenizer
from ..errors import UsageError
from ..pieces import SPACE
from .naming import name_tokenizers, problem_error, read_encoders

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "ShowResult",
    "ShownPiece",
    "ShownTokenizer",
    "escape_text",
    "show",
    "show_colours",
    "show_lines",
]

_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_STYLES = ("black on #9ecae9", "black on #ffd58a")
_BYTE_STYLES = ("bold white on #8c2d19", "bold white on #b5482f")
_ID_STYLE = "italic"


@dataclass(frozen=True)
class ShownPiece:
    """One token."""

    id: int
    piece: str
    """As spelled in the vocabulary."""
    bytes: str
    """What it stands for, as hexadecimal digits; "" for an unknown or special piece."""
    text: str
    """What is shown."""
    is_text: bool
    """Whether it stands for whole characters: no byte, and not unknown."""


@dataclass(frozen=True)
class ShownTokenizer:
    """A text as one tokenizer cuts it."""

    name: str
    source: str
    encoder: str
    """What encoded: "compiled", "sentencepiece" or "tokenizers"."""
    reason: str
    """Why it is not the compiled one, or ""."""
    num_tokens: int
    pieces: tuple[ShownPiece, ...]


@dataclass(frozen=True)
class ShowResult:
    """A text as each tokenizer cuts it; the first is what the others are compared with."""

    text: str
    tokenizers: tuple[ShownTokenizer, ...]

    @property
    def record(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


def show(
    text: str, tokenizers: str | Path | Sequence[str | Path] | Mapping[str, str | Path]
) -> ShowResult:
    """Cut a text with each tokenizer.

    Args:
        text: The text.
        tokenizers: Files, folders or hub names, each maybe as "NAME=SOURCE", or by name.

    Raises:
        UsageError: There is no tokenizer, some cannot be read (all are told at once), two have
            the same name, or the text is none that UTF-8 can hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the text is not UTF-8: {error.reason} at character {error.start + 1}.",
            way_out="Give it as UTF-8.",
        ) from None
    problems: list[str] = []
    encoders = read_encoders(name_tokenizers(tokenizers), problems)
    if problems:
        raise problem_error(problems)
    shown = []
    for name, source, encoder in encoders:
        ids = encoder.encode(text).tolist()
        pieces = tuple(_show_piece(encoder.base, id) for id in ids)
        shown.append(
            ShownTokenizer(name, source, encoder.backend, encoder.reason, len(ids), pieces)
        )
    return ShowResult(text, tuple(shown))


def escape_text(text: str) -> str:
    r"""Spell out what a terminal would obey or hide; spaces are ▁.

    >>> escape_text("a b\x1b[0m")
    'a▁b\\x1b[0m'
    """
    return "".join(map(_escape_char, text))


def show_lines(result: ShowResult, *, ids: bool = False) -> list[str]:
    r"""Give plain lines: name, `piece|piece` (a `|` of the text is `\|`), count of tokens."""
    lines = []
    for shown in result.tokenizers:
        pieces = (piece.text.replace("|", r"\|") for piece in shown.pieces)
        numbers = (f":{piece.id}" if ids else "" for piece in shown.pieces)
        joined = "|".join(a + b for a, b in zip(pieces, numbers, strict=True))
        lines += [*_heads(shown), joined, _count(shown, result.tokenizers[0]), ""]
    return lines[:-1]


def show_colours(result: ShowResult, *, ids: bool = False) -> Text:
    """Give the same for a terminal: backgrounds that alternate, bytes in colours of their own."""
    from rich.text import Text

    view = Text()
    for number, shown in enumerate(result.tokenizers):
        head, *notes = _heads(shown)
        view.append("\n" * bool(number)).append(f"{head}\n", "bold")
        for note in notes:
            view.append(f"{note}\n", "dim")
        for place, piece in enumerate(shown.pieces):
            styles = _STYLES if piece.is_text else _BYTE_STYLES
            view.append(piece.text, styles[place % 2])
            if ids:
                view.append(f":{piece.id}", f"{styles[place % 2]} {_ID_STYLE}")
        view.append(f"\n{_count(shown, result.tokenizers[0])}\n", "dim")
    view.right_crop(1)  # the console ends the last line
    return view


def _show_piece(base: BaseTokenizer, id: int) -> ShownPiece:
    piece, data = base.piece(id), base.piece_bytes(id)
    is_byte = len(data) == 1 and piece == f"<0x{data[0]:02X}>"
    is_text = bool(data) and not is_byte
    try:
        text = escape_text(data.decode() if data else piece)
    except UnicodeDecodeError:
        is_text = False
    if data and not is_text:
        text = "".join(f"<0x{byte:02X}>" for byte in data)
    return ShownPiece(id, piece, data.hex(), text, is_text)


def _escape_char(char: str) -> str:
    if char == " ":
        return SPACE
    if char in _NAMED:
        return _NAMED[char]
    point = ord(char)
    hidden = unicodedata.category(char) in _HIDDEN or any(point in kind for kind in _SELECTORS)
    if not hidden and char != SPACE:
        return char
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _heads(shown: ShownTokenizer) -> Iterator[str]:
    yield escape_text(shown.name).replace(SPACE, " ")
    if shown.reason:
        yield f"(encoded by {shown.encoder}: {shown.reason})"


def _count(shown: ShownTokenizer, first: ShownTokenizer) -> str:
    noun = "token" if shown.num_tokens == 1 else "tokens"
    count = f"{shown.num_tokens:,} {noun}"
    if shown is first or not first.num_tokens:
        return count
    change = shown.num_tokens / first.num_tokens - 1
    other = escape_text(first.name)
    if not change:
        return f"{count}, as many as {other}"
    return f"{count}, {abs(change):.1%} {'fewer' if change < 0 else 'more'} than {other}"
