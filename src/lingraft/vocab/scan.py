"""Text to codes, compiled: runs of target characters, encoded by the base's own rules.

Where no piece of the base holds a target character beside another one, and nothing is normalised,
a run of target characters is encoded by itself, whatever stands around it. So everything else in
the text is passed over. Inside a run, two characters that stand together in no piece of the base
never join; what lies between two such places is a *part*, mostly one character, and parts are
encoded as SentencePiece does: the best score first, the leftmost of equals.

Source of the merge order: sentencepiece, src/bpe_model.cc. The rest is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..jit import jit
from ..merging import NO_RULE, find_rule, rule_table
from .alphabet import Alphabet

__all__ = ["RunScanner"]

Int32 = npt.NDArray[np.int32]
Uint64 = npt.NDArray[np.uint64]

_BARRIER = -1
_MOST_CHARS = 256
"""Longer parts are left to the base tokenizer: looking for the best rule is quadratic here."""


class RunScanner:
    """Reads texts for one alphabet that does not need the general path."""

    def __init__(self, alphabet: Alphabet) -> None:
        assert not alphabet.needs_general_path, "runs do not encode by themselves"
        self._alphabet = alphabet
        rules = alphabet.base.rule_arrays(lambda piece: _is_target(alphabet, piece))
        together = {
            pair
            for id in np.unique(rules.merged_R).tolist()
            for pair in pairwise(map(ord, alphabet.text_of(id)))
        }
        self._code_of_point = alphabet.code_of_point
        self._starts, self._follows = np.zeros(0x110000, np.bool_), np.zeros(0x110000, np.bool_)
        for left, right in together:
            self._starts[left] = self._follows[right] = True
        self._together = rule_table([(left, right, 0, 0) for left, right in sorted(together)])
        self._rules = rule_table(
            list(zip(*(rows.tolist() for rows in rules), strict=True))  # left, right, joined, rank
        )

    def scan(self, texts: Sequence[str]) -> Int32:
        """Give the codes of some documents, BARRIER where nothing joins; ends with one.

        Any number of characters that are not of the scripts gives one BARRIER.
        """
        content = np.frombuffer(("\n".join(texts) + "\n").encode(), np.uint8)
        codes = np.empty(len(content) + 1, np.int32)
        num = _scan(
            content,
            self._code_of_point,
            self._starts,
            self._follows,
            self._together,
            self._rules,
            codes,
        )
        if num < 0:
            return self._alphabet.read(texts)[0]
        return codes[:num]


def _is_target(alphabet: Alphabet, piece: str) -> bool:
    return all(alphabet.code_of_point[ord(char)] >= 0 for char in piece)


@jit
def _encode_part(codes: Int32, begin: int, end: int, rules_H2: Uint64) -> int:
    """Join the codes of one part in place, best rule first; give its new end."""
    while True:
        best, where = NO_RULE, -1
        for i in range(begin, end - 1):
            rule = find_rule(rules_H2, codes[i], codes[i + 1])
            if rule >> 32 < best >> 32:
                best, where = rule, i
        if where < 0:
            return end
        codes[where] = best & 0xFFFFFFFF
        for i in range(where + 1, end - 1):
            codes[i] = codes[i + 1]
        end -= 1


@jit
def _scan(
    content: npt.NDArray[np.uint8],
    code_of_point: Int32,
    starts: npt.NDArray[np.bool_],
    follows: npt.NDArray[np.bool_],
    together_H2: Uint64,
    rules_H2: Uint64,
    codes: Int32,
) -> int:
    """Write the codes of UTF-8 text; give their number, or -1 where a part is too long."""
    num, part, i = 0, 0, 0  # `part` is where the current part begins
    before = -1
    while i < len(content):
        byte = np.int64(content[i])
        if byte < 0x80:
            point = byte
            i += 1
        elif byte < 0xE0:
            point = (byte & 0x1F) << 6 | (content[i + 1] & 0x3F)
            i += 2
        elif byte < 0xF0:
            point = (byte & 0x0F) << 12 | (content[i + 1] & 0x3F) << 6 | (content[i + 2] & 0x3F)
            i += 3
        else:
            point = (byte & 0x07) << 18 | (content[i + 1] & 0x3F) << 12
            point |= (content[i + 2] & 0x3F) << 6 | (content[i + 3] & 0x3F)
            i += 4
        code = code_of_point[point]
        joins = (
            before >= 0
            and code >= 0
            and starts[before]
            and follows[point]
            and find_rule(together_H2, before, int(point)) != NO_RULE
        )
        if not joins:
            if num - part > 1:
                if num - part > _MOST_CHARS:
                    return -1
                num = _encode_part(codes, part, num, rules_H2)
            part = num
        if code >= 0:
            codes[num] = code
            num += 1
            before = int(point)
        else:
            if num == 0 or codes[num - 1] != _BARRIER:
                codes[num] = _BARRIER
                num += 1
            part = num
            before = -1
    return num
