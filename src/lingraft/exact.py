"""Encode text exactly as the tokenizer's own library does, and much faster.

Only what can be proved is done here; any other tokenizer goes through its own library, and
`reason` says why. A single text may go there, too: where it holds a token that the library reads
out of it. What was compiled is compared with the library on texts that tokenizers are known to
differ on, before it is used.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .basetypes import BaseTokenizer
from .cutting import encode_documents, encode_parts
from .errors import InputError, UsageError
from .fronts import MAX_ADDED
from .othertokenizers import OtherTokenizer, read_tokenizer
from .partcache import Cache, new_cache
from .rulesets import Machine, NotExactError, build_machine
from .slices import Slice, can_slice, slice_text

__all__ = ["Encoder"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_CACHE_PARTS = 1 << 18
_TASK_CHARS = 1 << 19
_LONG_CHARS = 1 << 20
_PROBES = (
    "", " ", "  ", "a", " a  b ", "\n\n \t\r\n x", "The 1st: it's 12,345.67% (ok)?!", "I'LL we'Ve",
    "中文 and English，混在一起。", "ｆｕｌｌ　ｗｉｄｔｈ ﬁ", "e\u0301 é 각 \u1100\u1161", "▁ ▁▁a",
    "👨\u200d👩\u200d👧 ❤\ufe0f", "<s></s><0x0A> <unk>", "\0\x01", "𠀀𪚥", "a" * 70, " " * 70 + "x",
    "哈" * 70, "हिन्दी ไทย עברית", "x\x0b\x0c y\u2003z\u3000", "2024年", "'s 'S 'ſ",
)  # fmt: skip
"""Texts on which a compiled tokenizer is compared with its library before it is trusted."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_log = logging.getLogger("lingraft")


class Encoder:
    """Text to ids, without special pieces, as `sentencepiece` or `tokenizers` gives them.

    Special pieces are never read out of text: literal "<s>" stays text.

    Attributes:
        base: The tokenizer.
        reason: Why its own library is used; "" where the compiled encoder is.
        backend: What encodes: "compiled", "sentencepiece" or "tokenizers".
    """

    def __init__(self, tokenizer: str | Path | BaseTokenizer, *, warn: bool = True) -> None:
        """Prepare a tokenizer.

        Args:
            tokenizer: A `tokenizer.model`, a `tokenizer.json`, a folder of one, a hub name, or one
                that was read.
            warn: Whether the log `lingraft` tells why its own library is used.

        Raises:
            InputError: It is none that can be read.
            UsageError: There is no such place.
        """
        self.base: BaseTokenizer = (
            tokenizer if isinstance(tokenizer, BaseTokenizer) else read_tokenizer(str(tokenizer))
        )
        self._caches: list[Cache] = []
        self._machine: Machine | None = None
        self.reason = ""
        try:
            self._machine = build_machine(self.base)
            self._check()
        except NotExactError as error:
            self._machine = None
            self.reason = str(error)
            if isinstance(self.base, OtherTokenizer):
                self.reason = self.base.why
            if warn:
                _log.warning("%s: encoded by its own library: %s", self.base.name, self.reason)
        self.backend = "compiled"
        if self.reason:
            is_fast = self.base.name.endswith(".json")
            self.backend = "tokenizers" if is_fast else "sentencepiece"

    def encode(self, text: str) -> Int32:
        """Give the ids of a text.

        Raises:
            InputError: It holds half of a surrogate pair, which is no character.
        """
        return self.encode_batch([text], num_threads=1)[0]

    def encode_batch(self, texts: Sequence[str], num_threads: int | None = None) -> list[Int32]:
        """Give the ids of many texts; None: a thread for each core.

        Raises:
            InputError: One holds half of a surrogate pair, which is no character.
            UsageError: One is no str, or the texts are one str, or there are no threads.
        """
        _refuse_strange(texts)
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"num_threads = {num_threads}: expected 1 or more, or None.")
        if not texts:
            return []
        tasks = _split(texts)
        threads = num_threads or len(os.sched_getaffinity(0))
        if self._machine is None or threads == 1 or len(tasks) == 1:
            return [ids for task in tasks for ids in self._encode(task)]
        with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
            return [ids for part in pool.map(self._encode, tasks) for ids in part]

    def encode_packed(self, texts: Sequence[str]) -> tuple[Int32, Int64]:
        """Give the ids of many texts end to end, by one thread.

        Returns:
            ids_T; and ends_D, where those of each text end.

        Raises:
            InputError: A text holds half of a surrogate pair, which is no character.
        """
        if self._machine is not None and texts:
            prepared = _prepare(self._machine, texts)
            ours = [text for text in prepared if text is not None]
            if len(ours) == len(texts):
                ids_T, ends_D = self._run(self._machine, _to_bytes(ours), sum(map(len, ours)))
                if ends_D[-1] >= 0:
                    return ids_T, ends_D
        found = self._encode(texts)
        ends_D = np.cumsum([len(ids) for ids in found], dtype=np.int64)
        return np.concatenate([*found, np.empty(0, np.int32)]), ends_D

    def slices(self, text: str) -> Iterator[Slice]:
        """Cut a text into slices that `encode_slice` encodes by themselves, in any thread.

        A long text then takes a fraction of the memory. A short one is one slice, and so is one
        that only its library can encode.

        Raises:
            InputError: It holds half of a surrogate pair, which is no character.
        """
        machine, prepared = self._machine, None
        if machine is not None and len(text) > _LONG_CHARS and can_slice(machine):
            _refuse_surrogates([text])  # here, not when half of it is encoded
            prepared = _prepare(machine, [text])[0]
        if machine is None or not prepared:  # its library encodes it, or nothing is left of it
            yield Slice(text)
        else:
            yield from slice_text(machine, prepared, _LONG_CHARS)

    def encode_slice(self, part: Slice) -> Int32:
        """Give the ids of a slice, by one thread.

        Raises:
            InputError: It holds half of a surrogate pair, which is no character.
        """
        machine = self._machine
        if machine is None or not part.is_prepared:
            return self.encode_packed([part.text])[0]
        if len(part.bounds):
            with self._cache() as cache:
                return encode_parts(
                    machine.rules_H2, machine.cuts, cache, part.points_P, part.bounds
                )
        if part.goes_on:  # no space is put before what is no beginning
            machine = machine._replace(cuts=machine.cuts._replace(prefix=0))
        return self._run(machine, _to_bytes([part.text]), len(part.text))[0]

    def encode_words(self, texts: Sequence[str]) -> list[Int32]:
        """Give the ids of many texts with BORDER between pre-tokens, where there are any.

        Raises:
            InputError: One holds half of a surrogate pair, which is no character.
        """
        return [ids for task in _split(texts) for ids in self._encode(task, has_borders=True)]

    def _encode(self, texts: Sequence[str], *, has_borders: bool = False) -> list[Int32]:
        if self._machine is None:
            _refuse_surrogates(texts)
            return self._by_library(texts, has_borders=has_borders)
        prepared = _prepare(self._machine, texts)
        left = [n for n, text in enumerate(prepared) if text is None]
        has_borders = has_borders and len(self._machine.program.ends_L) > 0
        ours = [(text, n) for n, text in enumerate(prepared) if text is not None]
        ids = self._compiled(
            self._machine,
            [text for text, _ in ours],
            [texts[n] for _, n in ours],
            has_borders=has_borders,
        )
        if left:
            rest = iter(ids)
            for_library = [texts[n] for n in left]
            _refuse_surrogates(for_library)
            theirs = self._by_library(for_library, has_borders=has_borders)
            found = dict(zip(left, theirs, strict=True))
            return [found[n] if n in found else next(rest) for n in range(len(texts))]
        return ids

    def _compiled(
        self,
        machine: Machine,
        prepared: Sequence[str],
        texts: Sequence[str],
        *,
        has_borders: bool,
    ) -> list[Int32]:
        """Encode texts as they were prepared; the library would prepare them once more."""
        if not texts:
            return []
        num_points = sum(map(len, prepared))
        ids_T, id_ends_D = self._run(
            machine, _to_bytes(prepared), num_points, has_borders=has_borders
        )
        if id_ends_D[-1] < 0:  # the library would drop part of a text
            return self._by_library(texts, has_borders=has_borders)
        begins, ends = [0, *id_ends_D[:-1].tolist()], id_ends_D.tolist()
        if has_borders:  # none after the last pre-token
            ends = [max(begin, end - 1) for begin, end in zip(begins, ends, strict=True)]
        return [ids_T[begin:end] for begin, end in zip(begins, ends, strict=True)]

    def _run(
        self,
        machine: Machine,
        documents: Sequence[bytes],
        num_points: int,
        *,
        has_borders: bool = False,
    ) -> tuple[Int32, Int64]:
        """Give the ids of documents, and their ends; ends of -1 are for the library to do."""
        content_N = np.frombuffer(b"".join(documents), np.uint8)
        ends_D = np.cumsum([len(document) for document in documents], dtype=np.int64)
        id_ends_D = np.zeros(len(documents), np.int64)
        rules, cuts, program = machine.rules_H2, machine.cuts, machine.program
        with self._cache() as cache:
            ids_T = encode_documents(
                rules, cuts, program, cache, content_N, ends_D, num_points, has_borders, id_ends_D
            )
        return ids_T, id_ends_D

    def _by_library(self, texts: Sequence[str], *, has_borders: bool = False) -> list[Int32]:
        if has_borders:
            return self.base.encode_words(texts)
        return [np.array(ids, np.int32) for ids in self.base.encode_batch(texts)]

    @contextmanager
    def _cache(self) -> Iterator[Cache]:
        """Lend a cache that no other thread uses; it stays warm for the next one."""
        try:
            cache = self._caches.pop()
        except IndexError:
            cache = new_cache(_CACHE_PARTS)
        yield cache
        self._caches.append(cache)

    def _check(self) -> None:
        """Compare with the library on texts that tokenizers differ on.

        Raises:
            NotExactError: They differ, or there are too many tokens to look for in every text.
        """
        assert self._machine is not None
        if self._machine.front.num_added > MAX_ADDED:
            raise NotExactError(
                f"it reads {self._machine.front.num_added:,} added tokens out of texts"
            )
        specials = [self.base.piece(id) for id in range(min(self.base.size, 8))]
        probes = [*_PROBES, *(f"a{piece} {piece}b" for piece in specials)]
        for text, mine, theirs in zip(
            probes, self._encode(probes), self._by_library(probes), strict=True
        ):
            if mine.tolist() != theirs.tolist():
                raise NotExactError(f"compiled, it differs from its library on {text!r}")


def _prepare(machine: Machine, texts: Sequence[str]) -> list[str | None]:
    try:
        return [machine.front.prepare(text) for text in texts]
    except (UnicodeEncodeError, TypeError, RuntimeError):  # as the library says it
        _refuse_surrogates(texts)
        raise


def _to_bytes(texts: Sequence[str]) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError:
        _refuse_surrogates(texts)
        raise


def _refuse_strange(texts: Sequence[str]) -> None:
    """Refuse what is no list of texts; one text alone would be taken for its characters.

    Raises:
        UsageError: It is one text, or one of them is none.
    """
    if isinstance(texts, str | bytes):
        raise UsageError(
            f"one text, {texts[:40]!r}, where a list of texts was expected.",
            way_out="Use encode for one text, or put it in a list.",
        )
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"text {n} is {type(text).__name__}; expected str.")


def _refuse_surrogates(texts: Sequence[str]) -> None:
    """Refuse texts that hold half of a surrogate pair.

    Raises:
        InputError: One does; it is named.
    """
    for text in texts:
        found = _SURROGATE.search(text)
        if found:
            around = text[max(0, found.start() - 20) : found.end() + 20]
            raise InputError(
                f"a text holds U+{ord(found[0]):04X}, half of a surrogate pair, at character "
                f"{found.start()}: {around!r}.",
                effect="It is no character, and has no UTF-8.",
                way_out="Read the text with the right encoding, or leave such characters out.",
            )


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
