"""The whole grid: every size, for every number of single characters, on every evaluation text.

This is the search without its files: texts come in, curves and rules come out. The stage and the
command line both call it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import InputError, UsageError
from ..pieces import SPACE
from ..progress import Progress
from ..texts import RawDocument, read_texts
from .alp import Curve, EvalFacts, Int64
from .alphabet import Alphabet
from .bpe import Rules, compile_kernel
from .engine import MOST_READERS, Limits, Search, SearchFacts
from .evaluation import Evaluation, describe_evaluation, read_evaluation, trace_curve
from .settings import Trainer
from .spool import Spool, make_scan, read_part
from .symbols import Symbols, order_symbols

__all__ = ["Grid", "GridOptions", "Teller", "default_char_counts", "search_grid"]

_AHEAD = 2  # batches that wait for each thread
_LEFT_OUT = (1e-2, 1e-3, 1e-4, 1e-5)


class Teller(Protocol):
    """Where the search tells how far it is; a `store.Draft` is one."""

    def progress(
        self, label: str, total: int, unit: str, done: int = 0
    ) -> AbstractContextManager[Progress]:
        """Open a task."""

    def note(self, text: str) -> None:
        """Tell one line."""


@dataclass(frozen=True)
class GridOptions:
    """What is searched, and with what; see `VocabSettings` for the meaning of each."""

    char_counts: tuple[int, ...] | None
    """None: `default_char_counts`."""
    max_size: int
    trainer: Trainer = field(default_factory=Trainer)
    text_key: str = "text"
    threshold: int | None = None
    jobs: int = 1
    memory_bytes: int | None = None


class Kept(NamedTuple):
    """A text of another language: what new pieces do to it, which should be nothing or little."""

    facts: EvalFacts
    tokens: Mapping[int, Int64]
    """Number of single characters -> tokens after 0, 1, ... rules."""


class Grid(NamedTuple):
    """Everything that the search found."""

    symbols: Symbols
    rules: Mapping[int, Rules]
    """Of each number of single characters; empty where nothing was to be added."""
    curves: tuple[Curve, ...]
    evals: tuple[EvalFacts, ...]
    kept: Mapping[str, Kept]
    """What each number of single characters does to texts of other languages, at every size."""
    num_docs: int
    num_bytes: int
    """UTF-8 bytes of the training text that was used: all of it."""
    num_surrogates: int
    """Halves of surrogate pairs in it, each of which stands as U+FFFD."""
    facts: SearchFacts


def search_grid(
    alphabet: Alphabet,
    corpus: Sequence[Path],
    evaluation: Mapping[str, Callable[[], Iterable[RawDocument]]],
    options: GridOptions,
    folder: Path,
    teller: Teller,
    keep: Mapping[str, Callable[[], Iterable[RawDocument]]] | None = None,
) -> Grid:
    """Search.

    Args:
        alphabet: The base, seen through the target scripts.
        corpus: Files that rules are learned on.
        evaluation: Texts that ALP is measured on, by name.
        options: What is searched.
        folder: Where the codes of the corpus, and what does not fit into memory, are kept.
        teller: Where progress goes.
        keep: Texts of other languages, to measure what changes in them, by name.

    Raises:
        InputError: The corpus or an evaluation text holds nothing to learn from or to measure.
        UsageError: The sizes cannot be.
    """
    spool = _read_corpus(alphabet, corpus, options, folder, teller)
    texts = _read_evaluation(alphabet, evaluation, teller)
    others = _read_evaluation(alphabet, keep or {}, teller, required=False)
    symbols = order_symbols(alphabet, spool.counts_C, options.trainer.ban)
    counts = options.char_counts or default_char_counts(symbols, options.max_size)
    max_rules = _max_rules(symbols, counts, options.max_size)
    limits = _limits(max_rules, options)
    codes = [text.codes for text in (*texts, *others)]
    search = Search(
        spool,
        codes,
        symbols,
        limits,
        folder=folder,
        jobs=options.jobs,
        memory_bytes=options.memory_bytes,
    )
    rules = _learn(search, spool, max_rules, options.jobs, teller)
    return _gather(spool, texts, others, symbols, rules, search.facts, options.jobs)


def _limits(max_rules: Mapping[int, int], options: GridOptions) -> Limits:
    trainer = options.trainer
    return Limits(
        max_rules,
        trainer.max_piece_chars,
        trainer.min_count,
        tuple(_as_piece(text) for text in trainer.ban),
        options.threshold,
    )


def _as_piece(text: str) -> str:
    """A space at the head of a banned piece is the mark that stands for it."""
    return SPACE + text[1:] if text.startswith(" ") else text


def _gather(
    spool: Spool,
    texts: Sequence[Evaluation],
    others: Sequence[Evaluation],
    symbols: Symbols,
    rules: Mapping[int, Rules],
    facts: SearchFacts,
    jobs: int,
) -> Grid:
    """Follow every text along the rules of every count."""
    every = [*texts, *others]
    with ThreadPoolExecutor(jobs) as pool:
        curves = list(pool.map(lambda c: trace_curve(every, symbols, c, rules[c]), rules))
    told = [describe_evaluation(text, symbols) for text in every]
    return Grid(
        symbols=symbols,
        rules=rules,
        curves=tuple(curve.first_texts(len(texts)) for curve in curves),
        evals=tuple(told[: len(texts)]),
        kept={
            text.name: Kept(told[row], {c.num_chars: c.tokens_EK[row] for c in curves})
            for row, text in enumerate(others, len(texts))
        },
        num_docs=sum(part.num_docs for _, part in spool.parts),
        num_bytes=sum(part.num_bytes for _, part in spool.parts),
        num_surrogates=sum(part.num_surrogates for _, part in spool.parts),
        facts=facts,
    )


def default_char_counts(symbols: Symbols, max_size: int) -> tuple[int, ...]:
    """Give the counts that leave out 1%, 0.1%, ... of the corpus, counted in target symbols."""
    counts_S = symbols.counts_S
    total, added = int(counts_S.sum()), counts_S[symbols.num_base :]
    left = added.sum() - np.concatenate([[0], np.cumsum(added)])  # after c characters
    found = {int(np.argmax(left <= share * total)) for share in _LEFT_OUT}
    fits = [c for c in found if symbols.chars.num_added(c) <= max_size]
    return tuple(sorted(fits)) or (symbols.chars.num_chars_within(max_size),)


def _read_corpus(
    alphabet: Alphabet, corpus: Sequence[Path], options: GridOptions, folder: Path, teller: Teller
) -> Spool:
    spool = Spool(folder, len(alphabet.flags_C))
    total = sum(path.stat().st_size for path in corpus)
    scan = make_scan(alphabet)
    with (
        _locked(teller.progress("read", total, "bytes")) as progress,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        for path in corpus:
            part = read_part(
                spool, path, options.text_key, alphabet, scan, pool, _AHEAD * options.jobs, progress
            )
            spool.add(*part)
    names = ", ".join(map(str, corpus[:3])) + (", ..." if len(corpus) > 3 else "")
    if not any(part.num_docs for _, part in spool.parts):
        raise InputError(
            f"{names}: no document in {len(corpus)} file(s).",
            effect="There is nothing to learn from.",
            way_out="Give files with text, one document a row or line.",
        )
    if not spool.counts_C.any():
        raise InputError(
            f"{names}: no character of the scripts ({', '.join(alphabet.scripts)}) in "
            f"{sum(part.num_docs for _, part in spool.parts):,} documents.",
            effect="There is nothing to learn from.",
            way_out="Give text of the new language, or name its scripts.",
        )
    return spool


def _read_evaluation(
    alphabet: Alphabet,
    evaluation: Mapping[str, Callable[[], Iterable[RawDocument]]],
    teller: Teller,
    *,
    required: bool = True,
) -> list[Evaluation]:
    texts: list[Evaluation] = []
    if not evaluation:
        return texts
    label = "evaluation texts" if required else "texts to keep"
    with teller.progress(label, len(evaluation), "texts") as progress:
        for name, read in evaluation.items():
            texts.append(read_evaluation(name, read(), alphabet, required=required))
            progress.advance(1, name)
    return texts


def _max_rules(symbols: Symbols, counts: Sequence[int], max_size: int) -> dict[int, int]:
    if max(counts) > symbols.num_candidates:
        scripts = ", ".join(symbols.alphabet.scripts)
        raise InputError(
            f"{max(counts):,} single characters to add; the training text has "
            f"{symbols.num_candidates:,} characters ({scripts}) that are no pieces of the base.",
            effect="There are not so many single characters to add.",
            way_out=f"Use counts up to {symbols.num_candidates:,}, or more text.",
        )
    for count in counts:
        if (added := symbols.chars.num_added(count)) > max_size:
            raise UsageError(
                f"the largest size, {max_size:,}, is below the {added:,} pieces that "
                f"{count:,} single characters need.",
                effect="The curve of this count would have no size at all.",
                way_out="Raise the maximum size, or take smaller counts.",
            )
    return {count: max_size - symbols.chars.num_added(count) for count in counts}


def _learn(
    search: Search, spool: Spool, max_rules: Mapping[int, int], jobs: int, teller: Teller
) -> dict[int, Rules]:
    with teller.progress("prepare", 1, "kernel") as ready:
        compile_kernel()  # apart, or the time left of the search would be far off
        ready.advance()
    num_codes = spool.num_codes
    passes = min(jobs, MOST_READERS) * num_codes
    with _locked(teller.progress("count neighbours", passes, "symbols")) as told:
        search.sketch(told)
    threshold = search.guess_threshold()
    with (
        _locked(teller.progress("collect segments", num_codes, "symbols")) as on_codes,
        _locked(teller.progress("learn", sum(max_rules.values()), "rules")) as on_rules,
    ):
        rules = search.learn(threshold, on_codes, on_rules)
    for tried in search.facts.retries:
        teller.note(f"cut at {tried:,} was too high for the largest size; done again lower")
    if search.facts.spilled_bytes:
        teller.note(f"{search.facts.spilled_bytes / 1e6:,.0f} MB of arrays were kept on disk")
    return {count: rules[count] for count in sorted(rules)}


@contextmanager
def _locked(task: AbstractContextManager[Progress]) -> Iterator[Callable[[int], None]]:
    """Let several threads advance one task."""
    lock = threading.Lock()
    with task as progress:

        def advance(amount: int) -> None:
            with lock:
                progress.advance(amount)

        yield advance


def read_files(paths: Iterable[Path], text_key: str) -> Iterator[RawDocument]:
    """Give the documents of files, one file after the other."""
    for path in paths:
        yield from read_texts(path, text_key)
