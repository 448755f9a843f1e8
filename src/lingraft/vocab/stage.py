"""Search the vocabularies, choose one, write its pieces, the curves and the plot."""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..documents import read_documents
from ..errors import InputError
from ..pieces import SentencePieces
from ..progress import Progress
from ..settings import StageSettings
from ..store import Artefact, Draft, write_json, write_text
from .alp import Curve, trace_curve
from .bpe import Rules, compile_kernel, train_rules
from .choose import Choice, choose_vocabulary
from .plot import plot_curves
from .segments import SegmentTable, read_segments
from .settings import CurveFacts, VocabFacts, VocabSettings

__all__ = ["run"]

_CURVE_POINTS = 400
_TOLD_DOCS = 256


class _Found(NamedTuple):
    """One number of single characters, searched."""

    rules: Rules
    curve: Curve


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> VocabFacts:
    """Write `pieces.jsonl`, `curves.json` and `alp.svg`.

    Raises:
        InputError: The base or the corpus does not allow this search, or no knee is found.
        UsageError: No vocabulary has the size that the settings force.
    """
    assert isinstance(settings, VocabSettings), "vocab.run got another stage's settings"
    base = SentencePieces.read(inputs["base"].file("tokenizer.model"))
    table = _read_table(base, settings, inputs["corpus"], draft)
    untouched = _Found(_no_rules(table), trace_curve(table, 0, _no_rules(table)))
    if settings.size == 0:  # the control: the base as it is, scored
        found, choice = [untouched], Choice(0, 0, None)
    else:
        found = _search(table, settings, draft)
        choice = choose_vocabulary(
            [curve for _, curve in found],
            None if settings.size == "knee" else settings.size,
            None if settings.num_chars == "best" else settings.num_chars,
            settings.knee_sensitivity,
        )
    chosen = next(f for f in found if f.curve.num_chars == choice.num_chars)
    _write(draft.path, table, found, chosen, choice, untouched.curve)
    _tell(table, chosen.curve, choice, untouched.curve, draft)
    return _facts(table, found, chosen, choice)


def _read_table(
    base: SentencePieces, settings: VocabSettings, corpus: Artefact, draft: Draft
) -> SegmentTable:
    training = [(name, "train") for name in settings.sets]
    evaluation = [(name, "valid") for name in settings.evaluation]
    sizes = corpus.facts["sets"]
    total_docs = sum(sizes[name][split]["num_docs"] for name, split in training + evaluation)
    with draft.progress("read", total_docs, "docs") as progress:
        return read_segments(
            base,
            settings.scripts,
            (text for name, split in training for text in _texts(corpus, name, split, progress)),
            {name: _texts(corpus, name, split, progress) for name, split in evaluation},
        )


def _texts(corpus: Artefact, name: str, split: str, progress: Progress) -> Iterator[str]:
    number = 0
    for number, doc in enumerate(read_documents(corpus.file(f"{name}-{split}.jsonl")), 1):
        if number % _TOLD_DOCS == 0:
            progress.advance(_TOLD_DOCS, name)
        yield doc.text
    progress.advance(number % _TOLD_DOCS, name)


def _no_rules(table: SegmentTable) -> Rules:
    none = np.zeros(0, np.int32)
    return Rules(none, none, np.zeros((0, table.weights_GW.shape[1]), np.int64))


def _search(table: SegmentTable, settings: VocabSettings, draft: Draft) -> list[_Found]:
    """Learn the rules of every number of single characters, as many at once as there are cores."""
    counts = sorted(set(settings.char_counts))
    if counts[-1] > table.num_candidates:
        raise InputError(
            f"vocab.char_counts holds {counts[-1]:,}; the training text has "
            f"{table.num_candidates:,} characters ({', '.join(settings.scripts)}) that are no "
            "pieces of the base.",
            effect="There are not so many single characters to add.",
            way_out=f"Use counts up to {table.num_candidates:,}, or more text in vocab.sets.",
        )
    with draft.progress("prepare", 1, "kernel") as progress:
        compile_kernel()  # apart, or the time left of the search would be far off
        progress.advance()
    total = sum(settings.max_pieces - count for count in counts)
    reports: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    with (
        draft.progress("search", total, "rules") as progress,
        ThreadPoolExecutor(min(len(counts), _num_cores())) as pool,
    ):
        jobs = [pool.submit(_search_one, table, settings, count, reports) for count in counts]
        # Only this thread touches the progress: reports come through the queue.
        while not all(job.done() for job in jobs):
            _pass_on(reports, progress, wait_s=0.1)
        found = [job.result() for job in jobs]
        _pass_on(reports, progress, wait_s=0.0)
    return found


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))


def _pass_on(
    reports: queue.SimpleQueue[tuple[int, int]], progress: Progress, wait_s: float
) -> None:
    try:
        number, num_chars = reports.get(block=wait_s > 0, timeout=wait_s or None)
        while True:
            progress.advance(number, f"{num_chars:,} characters")
            number, num_chars = reports.get_nowait()
    except queue.Empty:
        return


def _search_one(
    table: SegmentTable,
    settings: VocabSettings,
    num_chars: int,
    reports: queue.SimpleQueue[tuple[int, int]],
) -> _Found:
    max_rules = settings.max_pieces - num_chars
    rules = train_rules(
        table.symbols_with(num_chars),
        table.segment_N,
        table.weights_GW,
        table.texts[: table.num_pieces(num_chars)],
        max_rules=max_rules,
        max_chars=settings.max_piece_chars,
        min_count=settings.min_count,
        on_rules=lambda number: reports.put((number, num_chars)),
    )
    reports.put((max_rules - len(rules), num_chars))  # those that there are no pairs for
    return _Found(rules, trace_curve(table, num_chars, rules))


def _write(
    folder: Path,
    table: SegmentTable,
    found: Sequence[_Found],
    chosen: _Found,
    choice: Choice,
    untouched: Curve,
) -> None:
    rows = _piece_rows(table, chosen.rules, choice)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(folder / "pieces.jsonl", "".join(lines))
    names = list(table.evaluation)
    curves = [f.curve for f in found]
    write_json(
        folder / "curves.json",
        {
            "evaluation": names,
            "choice": {"size": choice.size, "num_chars": choice.num_chars, "knee": choice.knee},
            "base": _describe(table, untouched, [0]),
            "curves": [_describe(table, c, c.sample(_CURVE_POINTS, choice.size)) for c in curves],
        },
    )
    write_text(folder / "alp.svg", plot_curves(curves, names, choice))


def _piece_rows(table: SegmentTable, rules: Rules, choice: Choice) -> Iterator[dict[str, Any]]:
    """Give the rows of the chosen vocabulary: its characters, then its rules."""
    texts = list(table.texts[: table.num_pieces(choice.num_chars)])
    for symbol in range(table.num_base, len(texts)):
        count = int(table.counts_SW[symbol, 0])
        yield {"piece": texts[symbol], "kind": "char", "left": "", "right": "", "count": count}
    for k in range(choice.size - choice.num_chars):
        left, right = texts[rules.left_K[k]], texts[rules.right_K[k]]
        texts.append(left + right)
        count = int(rules.joins_KW[k, 0])
        yield {"piece": texts[-1], "kind": "rule", "left": left, "right": right, "count": count}


def _describe(table: SegmentTable, curve: Curve, sizes: Sequence[int]) -> dict[str, Any]:
    """Give a curve at some of its sizes, for `curves.json`."""
    places = [size - curve.num_chars for size in sizes]
    alp, tokens_per_char = {}, {}
    for row, (name, text) in enumerate(table.evaluation.items()):
        alp[name] = [round(v, 6) for v in curve.alp_EK[row, places].tolist()]
        ratios = curve.tokens_EK[row, places] / text.num_chars
        tokens_per_char[name] = [round(v, 6) for v in ratios.tolist()]
    return {
        "num_chars": curve.num_chars,
        "num_rules": curve.end - curve.num_chars,
        "sizes": list(sizes),
        "alp": alp,
        "tokens_per_char": tokens_per_char,
    }


def _tell(
    table: SegmentTable, curve: Curve, choice: Choice, untouched: Curve, draft: Draft
) -> None:
    how = "as given" if choice.knee is None else "at the knee"
    draft.note(
        f"{choice.size:,} added pieces {how}, {choice.num_chars:,} of them single characters"
    )
    place = choice.size - choice.num_chars
    for row, (name, text) in enumerate(table.evaluation.items()):
        before, after = untouched.tokens_EK[row, 0], curve.tokens_EK[row, place]
        draft.note(
            f"{name}: ALP {untouched.alp_EK[row, 0]:.1f} -> {curve.alp_EK[row, place]:.1f}, "
            f"{before / text.num_chars:.3f} -> {after / text.num_chars:.3f} tokens per character"
        )


def _facts(
    table: SegmentTable, found: Sequence[_Found], chosen: _Found, choice: Choice
) -> VocabFacts:
    names = list(table.evaluation)
    num_rules = choice.size - choice.num_chars
    return VocabFacts(
        num_candidates=sum(len(rules) + 1 for rules, _ in found),
        num_pieces=choice.size,
        num_chars=choice.num_chars,
        num_chars_in_base=sum(len(text) == 1 for text in table.texts[: table.num_base]),
        knee=choice.knee,
        curves=[
            CurveFacts(
                num_chars=curve.num_chars,
                num_rules=len(rules),
                alp_at_choice=_alp_at(curve, names, choice.size),
            )
            for rules, curve in found
            if choice.size
        ],
        rule_count_at_cut=int(chosen.rules.joins_KW[num_rules - 1, 0]) if num_rules else 0,
    )


def _alp_at(curve: Curve, names: Sequence[str], size: int) -> dict[str, float]:
    """Give a curve's ALP at a size, by evaluation text; nothing where it has no such size."""
    if not curve.has(size):
        return {}
    alp_E = curve.alp_EK[:, size - curve.num_chars]
    return dict(zip(names, alp_E.tolist(), strict=True))
