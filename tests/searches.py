"""Small searches: corpora as files, a grid or a whole folder from them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from samples import CHINESE
from small_tokenizers import build

import lingraft.vocab
from lingraft.bases import SentencePieceBase
from lingraft.pieces import SentencePieces
from lingraft.progress import Progress, SilentReporter
from lingraft.texts import RawDocument
from lingraft.vocab.alphabet import Alphabet
from lingraft.vocab.command import SearchResult
from lingraft.vocab.grid import Grid, GridOptions, search_grid
from lingraft.vocab.results import rules_parquet
from lingraft.vocab.tables import curves_table, write_curves

SMALL = SentencePieceBase(SentencePieces(build()))


class Teller:
    """Keeps the notes of a search."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def progress(
        self, label: str, total: int, unit: str, done: int = 0
    ) -> AbstractContextManager[Progress]:
        return SilentReporter().task(label, total, unit, done)

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_rows(path: Path, texts: Iterable[str], key: str = "text") -> Path:
    """Write texts as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({key: text}, ensure_ascii=False) + "\n" for text in texts)
    path.write_text("".join(rows), encoding="utf-8")
    return path


def made_up_chinese(num_docs: int, seed: int = 17) -> list[str]:
    """Make documents of words that are frequent as words are: the n-th with weight 1 / n."""
    rng = random.Random(seed)
    text = "".join(CHINESE)
    chars = [char for char in dict.fromkeys(text) if "\u4e00" <= char <= "\u9fff"]
    random.Random(1).shuffle(chars)
    words = ["".join(chars[n % len(chars) :][: 1 + n % 3]) for n in range(300)]
    weights = [1 / (n + 1) for n in range(len(words))]
    return [
        "".join(rng.choices(words, weights, k=rng.randint(5, 25))) + "。" for _ in range(num_docs)
    ]


def as_documents(texts: Iterable[str]) -> list[RawDocument]:
    """Give texts as a file's reader would."""
    return [RawDocument(text, line, 0) for line, text in enumerate(texts, 1)]


def small_grid(
    folder: Path,
    train: Sequence[str],
    evals: Mapping[str, Sequence[str]],
    *,
    alphabet: Alphabet | None = None,
    num_files: int = 1,
    teller: Teller | None = None,
    **options: Any,
) -> Grid:
    """Search with a small base; `options` are those of `GridOptions`."""
    files = [write_rows(folder / f"{n}.jsonl", train[n::num_files]) for n in range(num_files)]
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return search_grid(
        alphabet or Alphabet(SMALL, ["Han"]),
        files,
        {name: partial(as_documents, texts) for name, texts in evals.items()},
        GridOptions(**{"char_counts": None, "max_size": 100} | options),
        work,
        teller or Teller(),
    )


def content_of(grid: Grid) -> tuple[bytes, bytes]:
    """Give the bytes of what a search finds: rules and curves."""
    return rules_parquet(grid), write_curves(curves_table(grid.curves, grid.evals))


def alp_of(ids: Sequence[Sequence[int]]) -> float:
    """Follow the definition of ALP on encoded documents."""
    counts: npt.NDArray[np.float64] = np.array(
        list(Counter(id for doc in ids for id in doc).values()), np.float64
    )
    return float((counts * np.log(counts / counts.sum())).sum() / len(ids))


def search_words(**changes: str | None) -> list[str]:
    """Give the words of a search that works, with some of them changed or (None) left out."""
    options: dict[str, str | None] = {
        "base": "base.model",
        "corpus": "zh.jsonl",
        "eval": "a=eval.jsonl",
        "chars": "30,60",
        "max_size": "120",
        "out": "out",
    }
    options |= changes
    given = {f"--{k.replace('_', '-')}": v for k, v in options.items() if v is not None}
    return ["search", *(word for key, value in given.items() for word in [key, *value.split(" ")])]


def search_files(**changes: Any) -> SearchResult:
    common: dict[str, Any] = {
        "base": "base.model",
        "corpus": "zh.jsonl",
        "eval": {"a": "eval.jsonl"},
        "chars": [30, 60],
        "max_size": 120,
        "out": "out",
        "jobs": 1,
    }
    return lingraft.vocab.search(**(common | changes))
