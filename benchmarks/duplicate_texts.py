"""Texts with planted near-duplicates, and how alike they really are.

Every planted text is a real document with one kind of edit; how alike the two are is counted on
the sets of their 5-grams, exactly. Some documents that have no copy get the same header and footer
as others: they share text and are no duplicates.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

GRAM = 5
MIN_TOKENS, MAX_CHARS = 100, 20_000
_SENTENCE = re.compile(r"[^。！？.!?\n]*[。！？.!?\n]+|[^。！？.!?\n]+$")
_HAN = "\u3400-\u9fff"
_TOKEN = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")
_HEADERS = {
    "zh": (
        "首页 > 新闻 > 正文　来源：本站编辑部　责任编辑：张三　字号：大 中 小\n",
        "\n上一篇：没有了　下一篇：没有了　免责声明：本文仅代表作者个人观点，与本网无关，"
        "请读者仅作参考。版权所有，未经许可不得转载。",
    ),
    "en": (
        "Home > News > Article. Sign in or register to save this page. Share on social media.\n",
        "\nRelated articles. Terms of use, privacy policy and cookie settings. All rights "
        "reserved. No part of this page may be reproduced without written permission.",
    ),
}


class Plant(NamedTuple):
    """A copy and what was done to it."""

    kind: str
    strength: float
    base: int
    copy: int
    """Numbers of the two texts."""
    similarity: float = 0.0
    """Jaccard similarity of their sets of 5-grams."""


class Texts(NamedTuple):
    """All texts in their order, and the pairs among them."""

    texts: list[str]
    plants: list[Plant]
    templates: list[int]
    """Texts with the header and footer of others, and no copy."""


def make_texts(documents: Sequence[str], language: str, copies: int, seed: int) -> Texts:
    """Plant copies among documents.

    Args:
        documents: Texts as `clean` leaves them.
        language: `zh` or `en`.
        copies: How many of each kind and strength.
        seed: Of all that is drawn.
    """
    rng = random.Random(seed)
    pool = [
        match.group()
        for text in rng.sample(list(documents), 300)
        for match in _TOKEN.finditer(text)
    ]
    sentences = [s for text in rng.sample(list(documents), 300) for s in _SENTENCE.findall(text)]
    edits = _edits(rng, pool, sentences, language)
    chosen = rng.sample(range(len(documents)), copies * (len(edits) + 2))
    texts = list(documents)
    made: list[tuple[str, float, int, str]] = []
    for kind, strength, edit in edits:
        for _ in range(copies):
            base = chosen.pop()
            made.append((kind, strength, base, edit(texts[base])))
    header, footer = _HEADERS[language]
    for base in chosen:
        texts[base] = f"{header}{texts[base]}{footer}"
    order = list(range(len(texts) + len(made)))
    rng.shuffle(order)
    place = {number: n for n, number in enumerate(order)}
    every = [*texts, *(text for *_, text in made)]
    plants = [
        Plant(kind, strength, place[base], place[len(texts) + n])
        for n, (kind, strength, base, _) in enumerate(made)
    ]
    return Texts(
        [every[number] for number in order], plants, sorted(place[base] for base in chosen)
    )


def _edits(
    rng: random.Random, pool: Sequence[str], sentences: Sequence[str], language: str
) -> list[tuple[str, float, Callable[[str], str]]]:
    header, footer = _HEADERS[language]

    def substitute(frac: float) -> Callable[[str], str]:
        def edit(text: str) -> str:
            spans = [match.span() for match in _TOKEN.finditer(text)]
            for begin, end in sorted(
                rng.sample(spans, max(1, round(frac * len(spans)))), reverse=True
            ):
                text = f"{text[:begin]}{rng.choice(pool)}{text[end:]}"
            return text

        return edit

    def delete(frac: float) -> Callable[[str], str]:
        def edit(text: str) -> str:
            parts = _SENTENCE.findall(text)
            gone = set(rng.sample(range(len(parts)), max(1, round(frac * len(parts)))))
            return "".join(part for n, part in enumerate(parts) if n not in gone).strip() or text

        return edit

    def insert(frac: float) -> Callable[[str], str]:
        def edit(text: str) -> str:
            parts = _SENTENCE.findall(text)
            for _ in range(max(1, round(frac * len(parts)))):
                parts.insert(rng.randrange(len(parts) + 1), rng.choice(sentences))
            return "".join(parts).strip()

        return edit

    def reorder(text: str) -> str:
        parts = _SENTENCE.findall(text)
        rng.shuffle(parts)
        return "".join(parts).strip()

    def layout(text: str) -> str:
        return "\n\n".join(part.strip() for part in _SENTENCE.findall(text) if part.strip())

    return [
        *(("substitute", frac, substitute(frac)) for frac in (0.02, 0.05, 0.10, 0.20)),
        *(("delete", frac, delete(frac)) for frac in (0.1, 0.3)),
        *(("insert", frac, insert(frac)) for frac in (0.1, 0.3)),
        ("reorder", 1.0, reorder),
        ("boilerplate", 1.0, lambda text: f"{header}{text}{footer}"),
        ("layout", 1.0, layout),
    ]


class Truth:
    """How alike any two texts are, from the sets of their 5-grams."""

    def __init__(self, texts: Sequence[str]) -> None:
        from lingraft.corpus.grams import find_tokens, ngram_hashes

        self.sets: list[npt.NDArray[np.uint64]] = []
        for begin in range(0, len(texts), 1000):
            grams = ngram_hashes(
                find_tokens(texts[begin : begin + 1000]), GRAM, whole_if_short=True
            )
            self.sets += map(np.unique, np.split(grams.hashes_G, grams.ends_D[:-1]))
        hashes = np.concatenate(self.sets)
        self._owners = np.repeat(np.arange(len(texts), dtype=np.int32), [len(s) for s in self.sets])
        order = np.argsort(hashes)
        self._hashes, self._owners = hashes[order], self._owners[order]

    def similarity(self, one: int, other: int) -> float:
        """Give the Jaccard similarity of two texts."""
        shared = len(np.intersect1d(self.sets[one], self.sets[other], assume_unique=True))
        return shared / max(1, len(self.sets[one]) + len(self.sets[other]) - shared)

    def nearest(self, one: int) -> float:
        """Give the similarity of a text to the one that is most like it."""
        first = np.searchsorted(self._hashes, self.sets[one], "left")
        last = np.searchsorted(self._hashes, self.sets[one], "right")
        shared = np.bincount(
            np.concatenate([self._owners[a:b] for a, b in zip(first, last, strict=True)])
        )
        shared[one] = 0
        best = 0.0
        for other in np.flatnonzero(shared):
            both = int(shared[other])
            best = max(best, both / (len(self.sets[one]) + len(self.sets[other]) - both))
        return best


def good_documents(paths: Sequence[str]) -> Iterator[str]:
    """Give the cleaned documents that are long enough to be near duplicates of each other."""
    from lingraft.corpus.clean import clean
    from lingraft.texts import find_texts, read_texts

    seen: set[int] = set()
    for path in find_texts(paths):
        for doc in read_texts(path):
            text = clean(doc.text)
            if len(text) <= MAX_CHARS and hash(text) not in seen:
                seen.add(hash(text))
                if sum(1 for _ in _TOKEN.finditer(text)) >= MIN_TOKENS:
                    yield text
