"""Show that the vocabulary search is exact, on a whole corpus.

Protocol: the search runs as it comes, then with one thing changed at a time: never cut, one
thread, two threads, 1 GB of memory. Compared: the bytes of `rules.parquet` and `curves.parquet`.
(Times are told for orientation; the first may hold compiling.)

Then, at 12 sizes and 2 counts of characters, ALP and the number of tokens of every evaluation
text in `curves.parquet` are compared with those of texts that are really encoded:

    sentencepiece  the base's model with the rows of `rules.parquet` added by
                   `lingraft.tokenizer.extend`; it goes by scores and knows no parts
    plain          this file: ids of the base, then the rules of `rules.parquet` in their order,
                   leftmost first; it goes by parts and knows no scores

ALP by brute force: math.fsum over the counts of tokens.

Data:  any corpus; `--quick` takes every 20th document of all texts and a quarter of all sizes.
Run:   python benchmarks/check_vocab.py --corpus FILES --eval book=FILE --eval wiki=FILE
           --base tokenizer.model [--jobs N] [--quick] >> benchmarks/results.jsonl
Row:   bench, one entry a variant (equal files, time), one a point (relative difference of ALP,
       difference of tokens) and the largest of all.
Exit:  0 where files are equal and no difference is above 1e-9, 3 otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from lingraft.pieces import Kind, SentencePieces
from lingraft.texts import find_texts, read_texts
from lingraft.tokenizer.piecerules import PieceRow, extend_model
from lingraft.vocab.command import search

CHARS = (4451, 5435, 6414, 7434)
MAX_SIZE = 45_000
NUM_SIZES = 12
QUICK_DOCS, QUICK_SIZES = 20, 4
LARGEST = 1e-9
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"cut": 0},
    {"jobs": 1},
    {"jobs": 2},
    {"memory": "1GB"},
)
Run = tuple[str, ...]
"""Neighbouring symbols that rules may join."""


@dataclass(frozen=True)
class Based:
    """An evaluation text as the base encodes it, for one list of rules and characters.

    Attributes:
        num_docs: Documents.
        runs: How often each run of symbols occurs.
        fixed: Counts of tokens that are in no rule.
    """

    num_docs: int
    runs: Mapping[Run, int]
    fixed: Mapping[str, int]


def read_docs(path: str, every: int = 1) -> list[str]:
    """Read every n-th document of some files."""
    docs = (doc.text for file in find_texts([path]) for doc in read_texts(file))
    return list(islice(docs, 0, None, every))


def alp_of(counts: Iterable[int], num_docs: int) -> float:
    """ALP from counts of tokens; Zheng et al. 2021, arXiv 2109.07306, equation 1."""
    counts = list(counts)
    total = sum(counts)
    return math.fsum(c * math.log(c / total) for c in counts if c) / num_docs


def base_symbols(base: SentencePieces, text: str, chars: frozenset[str]) -> Iterator[str]:
    """Spell a document with the base: pieces, and the added characters in place of their bytes."""
    ids = base.encode(text)
    place = 0
    while place < len(ids):
        width = 1
        if base.kinds[ids[place]] is Kind.BYTE:
            lead = base.piece_bytes(ids[place])[0]
            width = 1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0)
            spelled = ids[place : place + width]
            char = b"".join(map(base.piece_bytes, spelled)).decode(errors="replace")
            if char in chars:
                yield char
            else:
                yield from (base.pieces[id] for id in spelled)
        else:
            yield base.pieces[ids[place]]
        place += width


def cut_runs(symbols: Iterable[str], parts: frozenset[str]) -> Iterator[Run]:
    """Split where a symbol is part of no rule; such a symbol is a run of its own."""
    run: list[str] = []
    for symbol in symbols:
        if symbol in parts:
            run.append(symbol)
            continue
        if run:
            yield tuple(run)
        yield (symbol,)
        run = []
    if run:
        yield tuple(run)


def base_text(
    base: SentencePieces, docs: Sequence[str], chars: frozenset[str], parts: frozenset[str]
) -> Based:
    """Encode a text with the base and count equal runs, which every rule treats alike."""
    runs: Counter[Run] = Counter()
    for doc in docs:
        runs.update(cut_runs(base_symbols(base, doc, chars), parts))
    fixed = {run[0]: num for run, num in runs.items() if len(run) == 1}
    return Based(len(docs), {r: num for r, num in runs.items() if len(r) > 1}, fixed)


def apply_rules(run: Run, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Apply the rule of the lowest rank, leftmost first, until none applies."""
    symbols = list(run)
    while True:
        ready = [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not ready:
            return symbols
        _, i = min(ready)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def encode_plain(text: Based, ranks: Mapping[tuple[str, str], int]) -> tuple[float, int]:
    """ALP and tokens of a text by the rules of these ranks."""
    counts = Counter(text.fixed)
    for run, num in text.runs.items():
        for piece in apply_rules(run, ranks):
            counts[piece] += num
    return alp_of(counts.values(), text.num_docs), counts.total()


def encode_model(proto: bytes, docs: Sequence[str], threads: int) -> tuple[float, int]:
    """ALP and tokens of a text by sentencepiece."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    counts: Counter[int] = Counter()
    for ids in processor.encode(list(docs), num_threads=threads):
        counts.update(ids)
    return alp_of(counts.values(), len(docs)), counts.total()


def check_size(
    size: int,
    base: SentencePieces,
    rows: Sequence[PieceRow],
    docs: Mapping[str, Sequence[str]],
    based: Mapping[str, Based],
) -> dict[str, dict[str, tuple[float, int]]]:
    """Encode all texts in both ways with the first `size` pieces."""
    added = rows[:size]
    ranks = {(row.left, row.right): rank for rank, row in enumerate(added) if row.kind == "rule"}
    proto = extend_model(base, added)
    return {
        name: {
            "sentencepiece": encode_model(proto, docs[name], 1),
            "plain": encode_plain(based[name], ranks),
        }
        for name in docs
    }


def compare_points(
    options: argparse.Namespace, folder: Path, docs: Mapping[str, Sequence[str]], max_size: int
) -> list[dict[str, Any]]:
    """Compare the curves of a search with encoded texts."""
    import pyarrow.parquet as pq

    base = SentencePieces.read(Path(options.base))
    wanted = {
        (row["num_chars"], row["size"], row["eval"]): row
        for row in pq.read_table(folder / "curves.parquet").to_pylist()
    }
    table = pq.read_table(folder / "rules.parquet").to_pylist()
    counts = sorted({row["num_chars"] for row in table})
    points = []
    for count in (counts[0], counts[-1]):
        rows = [
            PieceRow(row["piece"], row["kind"], row["left"], row["right"])
            for row in table
            if row["num_chars"] == count
        ]
        chars = frozenset(row.piece for row in rows if row.kind == "char")
        parts = frozenset(part for row in rows for part in (row.left, row.right) if part)
        based = {name: base_text(base, texts, chars, parts) for name, texts in docs.items()}
        last = min(max_size, len(rows))
        sizes = [count + (last - count) * n // (NUM_SIZES - 1) for n in range(NUM_SIZES)]
        check = partial(check_size, base=base, rows=rows, docs=docs, based=based)
        with ProcessPoolExecutor(options.jobs) as pool:
            for size, found in zip(sizes, pool.map(check, sizes), strict=True):
                points += [
                    compare(wanted[count, size, name], by, alp, tokens)
                    for name, ways in found.items()
                    for by, (alp, tokens) in ways.items()
                ]
    return points


def compare(row: Mapping[str, Any], by: str, alp: float, tokens: int) -> dict[str, Any]:
    """Compare one point of a curve with a text that was encoded, and tell it."""
    off = abs(alp - row["alp"]) / abs(alp)
    where = {name: row[name] for name in ("num_chars", "size", "eval")}
    tell(
        f"{row['num_chars']:>6} {row['size']:>6} {row['eval']:<8} {by:<14} "
        f"ALP {row['alp']:.9f}, off by {off:.1e}; tokens off by {tokens - row['tokens']}"
    )
    return {**where, "by": by, "alp_off": off, "tokens_off": tokens - row["tokens"]}


def search_variants(
    options: argparse.Namespace, corpus: str, evals: Mapping[str, str], work: Path, shrink: int
) -> list[dict[str, Any]]:
    """Search once as it comes and once for each change; compare the files."""
    told: list[dict[str, Any]] = []
    files: list[dict[str, bytes]] = []
    for number, variant in enumerate(VARIANTS):
        begin = time.monotonic()
        result = search(
            base=options.base,
            corpus=corpus,
            eval=evals,
            chars=[count // shrink for count in CHARS],
            max_size=MAX_SIZE // shrink,
            out=work / str(number),
            **{"jobs": options.jobs, **variant},
        )
        spent_s = time.monotonic() - begin
        names = ("rules.parquet", "curves.parquet")
        files.append({name: (result.folder / name).read_bytes() for name in names})
        equal = {name: files[-1][name] == files[0][name] for name in names}
        training = result.choice["training"]
        told.append({"variant": variant, "equal": equal, "time_s": spent_s, "training": training})
        tell(
            f"{variant or 'as it comes'}: {spent_s:.1f} s, cut at {training['cut_threshold']}, "
            f"{training['num_symbols']:,} symbols in the table; same files: {equal}"
        )
    return told


def write_docs(path: Path, docs: Iterable[str]) -> str:
    """Write documents as rows of JSON."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": doc}) + "\n" for doc in docs)
    return str(path)


def tell(text: str) -> None:
    """Print beside the rows."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the protocol and print one JSON row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="text files: a file, folder or pattern")
    parser.add_argument("--eval", required=True, action="append", metavar="NAME=FILE")
    parser.add_argument("--base", required=True, help="tokenizer.model to extend")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="a small part: tests the script")
    options = parser.parse_args()
    if not all("=" in pair for pair in options.eval):
        parser.error("--eval is NAME=FILE")
    corpus, evals = options.corpus, dict(pair.split("=", 1) for pair in options.eval)
    every, shrink = (QUICK_DOCS, QUICK_SIZES) if options.quick else (1, 1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        docs = {name: read_docs(path, every) for name, path in evals.items()}
        if options.quick:
            corpus = write_docs(work / "corpus.jsonl", read_docs(corpus, every))
            evals = {name: write_docs(work / f"{name}.jsonl", docs[name]) for name in docs}
        variants = search_variants(options, corpus, evals, work, shrink)
        points = compare_points(options, work / "0", docs, MAX_SIZE // shrink)
    largest = {
        by: max(p["alp_off"] for p in points if p["by"] == by) for by in ("sentencepiece", "plain")
    }
    tokens = sum(point["tokens_off"] != 0 for point in points)
    equal = all(all(row["equal"].values()) for row in variants)
    tell(
        f"all files equal: {equal}; largest relative difference of ALP over {len(points)} "
        f"comparisons: {largest}; numbers of tokens that differ: {tokens}"
    )
    row = {"bench": "check_vocab", "quick": options.quick, "variants": variants, "points": points}
    print(json.dumps({**row, "largest": largest, "tokens_differ": tokens}))
    sys.exit(0 if equal and not tokens and max(largest.values()) <= LARGEST else 3)


if __name__ == "__main__":
    main()
