"""Which special tokens does plain text become?

A special token must come from a template alone, never from what somebody wrote. `tokenizers` keeps
its text plain where it is asked to, but then the text takes the way of all others: a merge rule
that makes the token's entry in the vocabulary makes the token, a lone character is looked up there,
and with `ignore_merges` a whole pre-token is. Rules are read off the file; what is looked up is
tried, alone and in surroundings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..basetypes import BaseTokenizer
from ..fastbases import ByteLevelBase, FastSentencePieceBase

__all__ = ["SURROUNDINGS", "read_specials"]

SURROUNDINGS = (
    "{}", " {}", "{} ", "a{}", "{}a", "a {}", "\n{}", "{}\n", ".{}", "{}.", "1{}", "{}1",
    "\u4e2d{}", "{}\u4e2d", "\u0628{}", "\u0e01{}",
)  # fmt: skip
"""In which a piece is tried: other kinds of characters cut at other places."""


def read_specials(tokenizer: BaseTokenizer, ids: Iterable[int]) -> dict[int, bytes]:
    """Find the special tokens that plain text becomes, and the bytes of that text.

    Args:
        tokenizer: Any; sentencepiece itself never reads a control piece.
        ids: Of the special tokens to try.
    """
    if not isinstance(tokenizer, ByteLevelBase | FastSentencePieceBase):
        return {}
    wanted = set(ids)
    keys = {id: key for key, id in tokenizer.vocabulary.items() if id in wanted}
    texts = {id: data for id, key in keys.items() if (data := _bytes_of(tokenizer, key))}
    made = wanted & {int(id) for id in tokenizer.rule_arrays().merged_R}
    tried = {id: text for id in texts.keys() - made if (text := _decode(texts[id]))}
    made |= _looked_up(tokenizer, tried)
    return {id: texts.get(id) or keys[id].encode() for id in sorted(made)}


def _looked_up(tokenizer: BaseTokenizer, texts: dict[int, str]) -> set[int]:
    found: set[int] = set()
    for around in SURROUNDINGS:
        left: Sequence[int] = [id for id in texts if id not in found]
        encoded = tokenizer.encode_batch([around.format(texts[id]) for id in left])
        found |= {id for id, ids in zip(left, encoded, strict=True) if id in ids}
    return found


def _bytes_of(tokenizer: BaseTokenizer, key: str) -> bytes:
    """Give the bytes that an entry of the vocabulary stands for; none where it spells none."""
    try:
        return tokenizer.read_piece(key)
    except KeyError:  # outside the alphabet of bytes: no text is spelled so
        return b""


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:  # part of a character: no whole text
        return ""
