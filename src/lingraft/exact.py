"""Encode text exactly as the tokenizer's own library does, and much faster.

Only what can be proved is done here: SentencePiece BPE with byte fallback that changes nothing of
the text but spaces. Everything else goes through its own library, and `reason` says why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .bases import SentencePieceBase, read_base
from .basetypes import BaseTokenizer
from .merging import Cache, Rules, encode_documents, new_cache, pair_table
from .pieces import SPACE, Kind, parse_model

__all__ = ["Encoder"]

Int32 = npt.NDArray[np.int32]

_NUM_POINTS = 0x110000
_CACHE_PARTS = 1 << 18
_TASK_CHARS = 1 << 19


class Encoder:
    """Text to ids, without special pieces, as `sentencepiece` or `tokenizers` gives them.

    Attributes:
        base: The tokenizer.
        reason: Why its own library is used; "" where the compiled encoder is.
    """

    def __init__(self, tokenizer: str | Path | BaseTokenizer) -> None:
        """Prepare a tokenizer.

        Args:
            tokenizer: A `tokenizer.model`, a `tokenizer.json`, a folder of one, a hub name, or one
                that was read.

        Raises:
            InputError: It is none that can be read.
            UsageError: There is no such place.
        """
        self.base: BaseTokenizer = (
            tokenizer if isinstance(tokenizer, BaseTokenizer) else read_base(str(tokenizer))
        )
        self.reason = _why_not(self.base)
        self._rules = None if self.reason else _compile(self.base)
        self._local = threading.local()

    def encode(self, text: str) -> Int32:
        """Give the ids of a text."""
        return self.encode_batch([text], num_threads=1)[0]

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> list[Int32]:
        """Give the ids of many texts; None: a thread for each core."""
        if self._rules is None:
            return [np.array(ids, np.int32) for ids in self.base.encode_batch(texts)]
        if not texts:
            return []
        tasks = _split(texts)
        threads = num_threads or len(os.sched_getaffinity(0))
        if threads == 1 or len(tasks) == 1:
            return [ids for task in tasks for ids in self._encode(task)]
        with ThreadPoolExecutor(threads) as pool:
            return [ids for part in pool.map(self._encode, tasks) for ids in part]

    def _encode(self, texts: Sequence[str]) -> list[Int32]:
        assert self._rules is not None
        documents = [text.encode() for text in texts]
        content_N = np.frombuffer(b"".join(documents), np.uint8)
        ends_D = np.cumsum([len(document) for document in documents], dtype=np.int64)
        longest = max(map(len, texts))
        ids_T = np.empty(len(content_N) + len(texts), np.int32)
        id_ends_D = np.zeros(len(texts), np.int64)
        room = np.empty(longest + 1, np.int32)
        num = encode_documents(
            self._rules, self._cache(), content_N, ends_D, room, ids_T, id_ends_D
        )
        return np.split(ids_T[:num].copy(), id_ends_D[:-1])

    def _cache(self) -> Cache:
        """The cache of this thread."""
        if not hasattr(self._local, "cache"):
            self._local.cache = new_cache(_CACHE_PARTS)
        cache: Cache = self._local.cache
        return cache


def _why_not(base: BaseTokenizer) -> str:
    """Tell what keeps the compiled encoder from being exact; "" if nothing does."""
    if base.family != "sentencepiece":
        return "a byte-level tokenizer"
    if not isinstance(base, SentencePieceBase):
        return "a tokenizer.json of SentencePiece kind; its tokenizer.model would do"
    spec = parse_model(base.pieces.proto, base.name).normalizer_spec
    if base.has_normalizer or spec.remove_extra_whitespaces:
        return "it normalises text before it is cut"
    if Kind.USER_DEFINED in base.pieces.kinds:
        return "it has user-defined pieces"
    if base.find_piece(SPACE) is None:
        return "it has no piece for a space"
    return ""


def _compile(base: BaseTokenizer) -> Rules:
    assert isinstance(base, SentencePieceBase)
    normal = [id for id in range(base.size) if base.is_normal(id)]
    ids = {base.piece(id): id for id in normal}
    longer = {piece: id for piece, id in ids.items() if len(piece) > 1}
    chars = sorted({char for piece in longer for char in piece})
    number_of_point = np.zeros(_NUM_POINTS, np.int32)
    number_of_point[[ord(char) for char in chars]] = np.arange(1, len(chars) + 1)
    together = np.zeros((len(chars) + 1, len(chars) // 8 + 1), np.uint8)
    for piece in longer:
        for a, b in pairwise(number_of_point[[ord(char) for char in piece]].tolist()):
            together[a, b >> 3] |= 1 << (b & 7)
    id_of_point = np.full(_NUM_POINTS, -1, np.int32)
    for piece, id in ids.items():
        if len(piece) == 1:
            id_of_point[ord(piece)] = id
    keys_H, joined_H2 = _rule_table(base, ids, longer)
    byte_ids = np.array(base.byte_ids, np.int32)
    spec = parse_model(base.pieces.proto, base.name).normalizer_spec
    return Rules(
        number_of_point,
        together,
        id_of_point,
        byte_ids,
        keys_H,
        joined_H2,
        base.size,
        bool(spec.add_dummy_prefix),
    )


def _rule_table(
    base: SentencePieceBase, ids: dict[str, int], longer: dict[str, int]
) -> tuple[npt.NDArray[np.uint64], Int32]:
    scores = base.pieces.scores
    order = sorted({scores[id] for id in longer.values()}, reverse=True)
    ranks = {score: rank for rank, score in enumerate(order)}

    def symbol(text: str) -> int:
        return ids.get(text, base.size + ord(text) if len(text) == 1 else -1)

    rows = [
        (symbol(piece[:cut]), symbol(piece[cut:]), id, ranks[scores[id]])
        for piece, id in longer.items()
        for cut in range(1, len(piece))
    ]
    return pair_table([row for row in rows if row[0] >= 0 and row[1] >= 0])


def _split(texts: Sequence[str]) -> list[Sequence[str]]:
    """Cut a batch into tasks of about half a million characters."""
    tasks: list[Sequence[str]] = []
    begin = size = 0
    for i, text in enumerate(texts):
        size += len(text)
        if size >= _TASK_CHARS:
            tasks.append(texts[begin : i + 1])
            begin, size = i + 1, 0
    if begin < len(texts):
        tasks.append(texts[begin:])
    return tasks
