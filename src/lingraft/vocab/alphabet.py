"""The alphabet of the search: what a base's tokens are to new pieces of the target scripts.

Every document is encoded by the base. Its tokens become *codes*:

    [0, V)    a base token that may take part in new pieces (a symbol)
    V + cp    the target character of code point cp that the base spells in two or more tokens;
              it may become a piece of its own
    BARRIER   anything else: no new piece reaches across it

A token is a symbol if it consists of whole target characters, where words are written apart also
after one leading space; and so is the space mark alone before a target character. So the right
part of every rule holds a target character, and texts without target characters cannot change.

On bytes, tokens may straddle characters. A character is V + cp only where exactly the tokens
that spell it alone cover it; else they are fixed, as tokens of other scripts are. With one
exception: where only the end of a character is straddled ([E7] [88] [B6 E6] ...), the tokens
before it are what partial pieces of other characters (see `chars`) join too. Such a beginning has
a code of its own, V + a code point of private use: it never joins and never becomes a piece.

Where a byte-level base lacks bytes, V counts them, too: the search sees it as `tokenizer extend`
will, with a piece for each. By the base itself such a byte is dropped, and what stands beside it
meets; here it is a token like any other, a BARRIER unless a target character is spelled with it.

Shapes: V base ids, C = V + 0x110000 codes, T tokens, N bytes, L characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..bases import BaseTokenizer
from ..errors import UsageError
from ..pieces import SPACE
from ..text import check_scripts, in_scripts, script_runs
from .points import NUM_POINTS, assigned_points, decode_points, has_words, script_classes

__all__ = ["ALONE", "BARRIER", "CLASS_SHIFT", "IS_SYMBOL", "STARTS_WORD", "Alphabet"]

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

BARRIER = -1
"""The code that joins with nothing; one stands at every document's end."""
IS_SYMBOL, STARTS_WORD, ALONE, CLASS_SHIFT = 1, 2, 4, 3
"""Bits of a flag. STARTS_WORD: begins with the space mark, so joins only as a left part. ALONE:
holds a digit, or scripts that do not mix, so never joins. From CLASS_SHIFT on: the script class;
different ones, 0 apart, do not join."""

_FIRST_PREFIX = 0xF0000
"""From this code point on (private use, of no script) codes stand for beginnings of characters."""


class Alphabet:
    """A base tokenizer seen through the target scripts.

    Attributes:
        base: The base tokenizer, with a piece for every byte.
        missing_bytes: Those that the base itself has no piece for.
        scripts: The target scripts.
        word_start: Whether pieces may begin with the space mark.
        num_base: V.
        code_of_point: Code of each target character, BARRIER for all others, (0x110000).
        flags_C: Flags of every code.
        needs_general_path: False only where a run of target characters surely encodes by itself,
            whatever stands beside it.
    """

    def __init__(
        self, base: BaseTokenizer, scripts: Sequence[str], word_start: bool | None = None
    ) -> None:
        """Look at every token of the base and every character of the scripts.

        Args:
            base: The base tokenizer.
            scripts: Unicode scripts of the target language.
            word_start: Whether pieces may begin with the space mark; None: unless all scripts
                are written without spaces between words.

        Raises:
            UsageError: There is no script, too many, or a name that is none.
        """
        if not scripts:
            raise UsageError("no scripts given.", way_out="Name at least one, such as 'Han'.")
        check_scripts(scripts)
        self.missing_bytes, self.scripts = base.missing_bytes, tuple(scripts)
        self.base = base = base.completed()
        self.num_base = base.size
        class_of_point = script_classes(self.scripts)
        self._is_target = class_of_point >= 0
        self.word_start = has_words(self._is_target) if word_start is None else word_start
        self._class_of_point = np.maximum(class_of_point, 0).astype(np.uint8)
        self._bytes = [base.piece_bytes(id) for id in range(self.num_base)]
        self._texts = [_decode(data) for data in self._bytes]
        self.flags_C = np.zeros(self.num_base + NUM_POINTS, np.uint8)
        for id in range(self.num_base):
            self.flags_C[id] = self._flag_of_token(id)
        self.code_of_point = np.full(NUM_POINTS, BARRIER, np.int32)
        self._spellings: dict[int, tuple[int, ...]] = {}
        self._give_codes()
        self._prefix_codes = self._give_prefix_codes()
        self._add_tables()

    def text_of(self, code: int) -> str:
        """Give the text of a code, with ▁ for a leading space.

        A token that is no symbol may be no text: bytes that are no UTF-8 become U+FFFD.
        """
        if code >= self.num_base:
            return chr(code - self.num_base)
        text = self._bytes[code].decode(errors="replace")
        return SPACE + text[1:] if text.startswith(" ") else text

    def spelling(self, code: int) -> tuple[int, ...]:
        """Give the base ids that spell a code alone."""
        if code < self.num_base:
            return (code,)
        found = self._spellings.get(code)
        if found is None:
            found = self._spellings[code] = self.base.spell(chr(code - self.num_base).encode())
        return found

    def read(self, texts: Sequence[str]) -> tuple[Int32, Int64]:
        """Encode documents and give their codes; as `read_ids`."""
        return self.read_ids(self.base.encode_words(texts))

    def read_ids(self, batch: Sequence[Sequence[int] | Int32]) -> tuple[Int32, Int64]:
        """Turn encoded documents into codes: exact for every base.

        Args:
            batch: What `base.encode_words` gave; with a base of the sentencepiece family also
                what `encode_batch` gave. BORDER ids part pre-tokens.

        Returns:
            Codes, one BARRIER for any number of tokens that join with nothing, and one at the end
            of every document; and the counts (V) of those tokens.
        """
        ids_T = _flatten(batch)
        codes_T = np.where(ids_T >= 0, self._code_V[ids_T], np.int32(BARRIER))
        inner_T = np.zeros(len(ids_T), np.bool_)
        self._find_chars(ids_T, codes_T, inner_T)
        self._drop_lone_marks(codes_T)
        fixed_T = (codes_T == BARRIER) & ~inner_T & (ids_T >= 0)
        fixed_V = np.bincount(ids_T[fixed_T], minlength=self.num_base)
        codes_T = codes_T[~inner_T]
        again = np.zeros(len(codes_T), np.bool_)
        again[1:] = (codes_T[1:] == BARRIER) & (codes_T[:-1] == BARRIER)
        return codes_T[~again], fixed_V

    def count_others(self, first: int, stop: int) -> int:
        """Count the characters from one code point to before another that are no target."""
        return int(self._num_others[stop] - self._num_others[first])

    @cached_property
    def _num_others(self) -> Int64:
        return np.append(0, np.cumsum(assigned_points() & ~self._is_target))

    @cached_property
    def needs_general_path(self) -> bool:
        """Whether runs of target characters must be encoded with what stands beside them."""
        if self.base.family != "sentencepiece" or self.base.has_normalizer or self.word_start:
            return True
        return any(map(self._ties_run_to_others, range(self.num_base)))

    def _ties_run_to_others(self, id: int) -> bool:
        text = self._texts[id]
        if not in_scripts(text, self.scripts):
            return False
        if next(script_runs(text, self.scripts)) != text or not self.base.is_normal(id):
            return True
        # A piece that holds an unknown character would join what has no id to be looked up by.
        return any(self.base.find_piece(char) is None for char in text)

    def _flag_of_token(self, id: int) -> int:
        text = self._texts[id]
        if not text or not self.base.is_normal(id):
            return 0
        marked = self.word_start and text[0] == " "
        body = text[1:] if marked else text
        points = [ord(char) for char in body]
        if not all(self._is_target[points]) or not (body or marked):
            return 0
        classes = {int(self._class_of_point[point]) for point in points} - {0}
        flag = IS_SYMBOL | (STARTS_WORD if marked else 0)
        if len(classes) > 1 or any(map(str.isdecimal, body)):
            return flag | ALONE
        return flag | sum(classes) << CLASS_SHIFT

    def _give_codes(self) -> None:
        """Fill `code_of_point`, and the flags of characters that the base spells in tokens."""
        for point in np.flatnonzero(self._is_target).tolist():
            char = chr(point)
            id = self.base.find_piece(self.base.spell_bytes(char.encode()))
            if id is not None and self.base.spell(char.encode()) == (id,):
                self.code_of_point[point] = id if self.flags_C[id] else BARRIER
                continue
            code = self.num_base + point
            self.code_of_point[point] = code
            script = int(self._class_of_point[point])
            alone = ALONE if char.isdecimal() else script << CLASS_SHIFT
            self.flags_C[code] = IS_SYMBOL | alone

    def _add_tables(self) -> None:
        """Make the tables that `read_ids` looks things up in; one place more, for BORDER."""
        ids = np.arange(self.num_base, dtype=np.int32)
        symbol_V = self.flags_C[: self.num_base] & IS_SYMBOL > 0
        self._code_V = np.append(np.where(symbol_V, ids, BARRIER), BARRIER).astype(np.int32)
        self._size_V = np.array([*map(len, self._bytes), 0], np.int64)
        self._start_V = np.cumsum(self._size_V) - self._size_V
        beyond_ascii = [not data.isascii() for data in self._bytes]
        self._beyond_ascii_V = np.array([*beyond_ascii, False], np.bool_)
        self._all_bytes = np.frombuffer(b"".join(self._bytes), np.uint8)

    def _give_prefix_codes(self) -> dict[tuple[int, ...], int]:
        """Give a code to each spelling of two or more tokens that can end in a straddled character.

        It is the spelling of the bytes that a straddling token leaves, as no rule reached across.
        """
        heads = {data[: _num_tail(data)] for data in self._bytes if 0 < _num_tail(data) < len(data)}
        left: set[bytes] = set()
        for point in np.flatnonzero(self._is_target).tolist() if heads else ():
            data = chr(point).encode()
            left.update(data[:cut] for cut in range(1, len(data)) if data[cut:] in heads)
        spelled = [ids for ids in map(self.base.spell, sorted(left)) if len(ids) > 1]
        codes = range(self.num_base + _FIRST_PREFIX, len(self.flags_C))
        assert len(spelled) <= len(codes), "more beginnings of characters than codes for them"
        self._spellings.update(zip(codes, spelled, strict=False))
        self.flags_C[codes[: len(spelled)]] = IS_SYMBOL | ALONE
        return dict(zip(spelled, codes, strict=False))

    def _find_chars(self, ids_T: Int64, codes_T: Int32, inner_T: Bool) -> None:
        """Write V + cp where exactly its spelling covers a character; mark its other tokens."""
        # Only tokens that may hold part of a character are looked at in bytes.
        tokens = np.flatnonzero((codes_T == BARRIER) & self._beyond_ascii_V[ids_T])
        sizes = self._size_V[ids_T[tokens]]
        ends = np.cumsum(sizes)
        offset_N = np.repeat(self._start_V[ids_T[tokens]] - (ends - sizes), sizes)
        data_N = self._all_bytes[offset_N + np.arange(len(offset_N))]
        token_N = np.repeat(tokens, sizes)
        starts_N = np.zeros(len(data_N) + 4, np.bool_)
        starts_N[np.append(ends - sizes, len(data_N))] = True
        leads = np.flatnonzero((data_N >= 0xC0) & starts_N[: len(data_N)])
        points, lengths = decode_points(data_N, leads)
        target = np.append(self._is_target, False)[points]
        leads, points, lengths = leads[target], points[target], lengths[target]
        straddled = ~starts_N[leads + lengths]
        whole, last = leads[~straddled], (leads + lengths - 1)[straddled]
        self._write_chars(
            token_N[whole], self.code_of_point[points[~straddled]], ids_T, codes_T, inner_T
        )
        self._write_prefixes(token_N[leads[straddled]], token_N[last], ids_T, codes_T, inner_T)

    def _write_chars(
        self, first_L: Int64, codes_L: Int32, ids_T: Int64, codes_T: Int32, inner_T: Bool
    ) -> None:
        values, inverse = np.unique(codes_L, return_inverse=True)
        spelled = [self.spelling(code) if code >= 0 else () for code in values.tolist()]
        width = max(map(len, spelled), default=0)
        table = np.full((len(values), width), BARRIER, np.int64)
        for row, ids in zip(table, spelled, strict=True):
            row[: len(ids)] = ids
        wanted_LK = table[inverse]
        seen_LK = _window(ids_T, first_L, width)
        exact_L = np.all((wanted_LK == seen_LK) | (wanted_LK == BARRIER), axis=1)
        exact_L &= codes_L >= self.num_base
        codes_T[first_L[exact_L]] = codes_L[exact_L]
        _mark_inner(inner_T, first_L[exact_L], np.sum(wanted_LK[exact_L] >= 0, axis=1))

    def _write_prefixes(
        self, first_L: Int64, last_L: Int64, ids_T: Int64, codes_T: Int32, inner_T: Bool
    ) -> None:
        """Write the codes of beginnings that stand before a straddling token, `last_L`."""
        long = last_L - first_L > 1
        first_L, sizes_L = first_L[long], (last_L - first_L)[long]
        seen_LK = _window(ids_T, first_L, 3)
        seen_LK[np.arange(3) >= sizes_L[:, None]] = BARRIER
        rows, inverse = np.unique(seen_LK, axis=0, return_inverse=True)
        found = [self._prefix_codes.get(tuple(i for i in r if i >= 0)) for r in rows.tolist()]
        assert None not in found, "a straddled character has an unforeseen spelling"
        codes_T[first_L] = np.array(found, np.int32)[inverse.reshape(-1)]
        _mark_inner(inner_T, first_L, sizes_L)

    def _drop_lone_marks(self, codes_T: Int32) -> None:
        """Make the space mark alone a BARRIER, unless a target character follows at once."""
        if self._mark is None:
            return
        places = np.flatnonzero(codes_T == self._mark)
        after = codes_T[places + 1]  # there is one: a BARRIER closes every document
        follows = (after >= 0) & (self.flags_C[after] & STARTS_WORD == 0)
        codes_T[places[~follows]] = BARRIER

    @cached_property
    def _mark(self) -> int | None:
        """The id of the space mark alone, where it is a symbol."""
        id = self.base.find_piece(self.base.spell_bytes(b" "))
        return id if id is not None and self.flags_C[id] else None


def _decode(data: bytes) -> str:
    """Give the text of bytes; "" where they are none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _flatten(batch: Sequence[Sequence[int] | Int32]) -> Int64:
    """Put documents one after the other, an id of no piece behind each."""
    parts: list[npt.NDArray[np.int64]] = []
    wall = np.array([BARRIER], np.int64)
    for ids in batch:
        parts += [np.asarray(ids, np.int64), wall]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _num_tail(data: bytes) -> int:
    """Count the continuation bytes that bytes begin with: the tail of a character."""
    return next((n for n, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))


def _window(ids_T: Int64, first_L: Int64, width: int) -> Int64:
    """Give `width` ids from each place on, BARRIER beyond the end: (L, width)."""
    padded_T = np.append(ids_T, np.full(width, BARRIER))
    seen_LK: Int64 = padded_T[first_L[:, None] + np.arange(width)]
    return seen_LK


def _mark_inner(inner_T: Bool, first_L: Int64, sizes_L: Int64) -> None:
    """Mark all tokens but the first of each code."""
    for step in range(1, int(sizes_L.max(initial=0))):
        inner_T[first_L[sizes_L > step] + step] = True
