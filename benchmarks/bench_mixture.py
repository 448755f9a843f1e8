"""Time the rows of Mixture and TokenDataset, and what it costs to begin at a late step.

Part rows: rows of L = 2,048 tokens a second, from files in the page cache.
    slice       the floor: one slice of the mapped ids, widened to int64, at places drawn before
    stored      a mixture as before: the order of a pass as an array, joined documents, labels
    joined, isolated        Mixture.batch of 16 rows, three sets, 0.5 and 1 and 2.5 passes
    stream, best-fit        TokenDataset, isolated documents
Part late: seconds from opened files to the first batch, at step 0 and at step 1,000,000, for
    30 billion tokens (Mixture at both, `stored` at step 0). The files are sparse: no ids are on
    disk. One more row tells how long best-fit packing takes for a million documents.

Timed: the calls alone. Not timed: imports, writing and opening files, and in the part rows the
planning. Contenders take turns within a round; a round's first is the next one's second.
Data:  ids at random below 50,000, documents of lognormal length (median 450), seed 17.
Run:   python benchmarks/bench_mixture.py [--million-tokens 100] [--runs 5] [--folder DIR] \
           >> benchmarks/results.jsonl
Row:   bench, part, contender, L, B, runs, all samples and their median, machine, commit, versions.
Read:  ratios within one run only; all runs are kept, slow ones too.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_vocab import commit, tell

from lingraft.encode import Mixture, TokenDataset
from lingraft.encode.bestfit import pack_best_fit
from lingraft.manifest import file_sha256
from lingraft.shards import (
    INDEX_NAME,
    IndexedFile,
    IndexedTokenizer,
    TokenFile,
    TokenIndex,
    open_folder,
)
from lingraft.store import write_json

SEQ_LEN, BATCH, ROWS = 2_048, 16, 4_000
PARTS = ("0.5:a", "1:b", "2.5:c")
LATE_STEP, LATE_TOKENS = 1_000_000, 30_000_000_000
Row = Callable[[int], object]


class Stored:
    """The mixture of before: windows of all parts in one stored order, documents joined."""

    def __init__(self, files: list[TokenFile]) -> None:
        self.files = files
        self.starts = np.cumsum([0] + [len(file.ids) // SEQ_LEN for file in files])
        generator = np.random.Generator(np.random.PCG64([17, 0]))
        self.order = generator.permutation(int(self.starts[-1]))

    def row(self, place: int) -> npt.NDArray[np.int64]:
        """Inputs and labels of one row."""
        window = int(self.order[place % len(self.order)])
        which = int(np.searchsorted(self.starts, window, side="right")) - 1
        start = (window - int(self.starts[which])) * SEQ_LEN
        ids = self.files[which].ids[start : start + SEQ_LEN + 1]
        row = np.full(SEQ_LEN + 1, -100, np.int64)
        row[: len(ids)] = ids
        return row

    def batch(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Inputs and labels of a step."""
        block = np.stack([self.row(step * BATCH + n) for n in range(BATCH)])
        inputs = block[:, :-1].copy()
        inputs[inputs == -100] = 0
        return inputs, block[:, 1:].copy()


def write_folder(folder: Path, total_tokens: int) -> Path:
    """Write three sets of equal size, and their index."""
    rng = np.random.default_rng(17)
    entries = []
    for name in "abc":
        ids = rng.integers(0, 50_000, total_tokens // 3).astype(np.uint16)
        sizes = rng.lognormal(6.1, 1.1, len(ids) // 300).astype(np.int64) + 2
        ends = np.cumsum(sizes)
        ends = np.append(ends[ends < len(ids)], len(ids)).astype(np.uint64)
        np.save(folder / f"{name}.npy", ids)
        np.save(folder / f"{name}.ends.npy", ends)
        entries.append(
            IndexedFile(
                name=name,
                source=f"{name}.jsonl",
                num_docs=len(ends),
                total_tokens=len(ids),
                size_bytes=0,
                sha256={f"{name}.npy": file_sha256(folder / f"{name}.npy")},
            )
        )
    tokenizer = IndexedTokenizer(
        name="random", digest="0" * 64, vocab_size=50_000, bos_id=None, eos_id=None
    )
    index = TokenIndex.build(tokenizer, entries)
    write_json(folder / INDEX_NAME, index.model_dump(mode="json"))
    return folder


def sparse_file(folder: Path) -> TokenFile:
    """Give a token file of the size of a real run; its ids are a hole in the file."""
    ids: Any = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        folder / "large.npy", mode="w+", dtype=np.uint16, shape=(LATE_TOKENS,)
    )
    return TokenFile(ids, np.arange(1, 1_000_001, dtype=np.uint64) * (LATE_TOKENS // 1_000_000))


def time_rows(contenders: dict[str, Row], runs: int) -> dict[str, list[float]]:
    """Give rows a second of each contender in each round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(runs + 1):  # the first round warms the page cache and is not counted
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            give = contenders[name]
            begin_s = time.perf_counter()
            for n in range(ROWS):
                give(n)
            if turn:
                found[name].append(round(ROWS / (time.perf_counter() - begin_s)))
    return found


def by_steps(batch: Callable[[int], object]) -> Row:
    """Count rows of batches: every 16th call makes one."""
    return lambda n: batch(n // BATCH) if n % BATCH == 0 else None


def item(rows: TokenDataset, n: int) -> object:
    """Give a row away from the one before."""
    return rows[n * 7 % len(rows)]


def time_late(file: TokenFile, runs: int) -> dict[str, list[float]]:
    """Give seconds to the first batch."""

    def ours(step: int) -> object:
        return Mixture({"a": file}, ["1:a"], SEQ_LEN, seed=17).batch(step, BATCH)

    cases: dict[str, Callable[[], object]] = {
        "ours, step 0": lambda: ours(0),
        "ours, step 1,000,000": lambda: ours(LATE_STEP),
        "stored, step 0": lambda: Stored([file]).batch(0),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(runs):
        for name, begin in cases.items():
            begin_s = time.perf_counter()
            begin()
            found[name].append(round(time.perf_counter() - begin_s, 6))
    return found


def time_packing(runs: int) -> list[float]:
    """Give seconds that best fit takes for a million documents."""
    sizes = np.random.default_rng(17).lognormal(5.5, 1.2, 1_000_000).astype(np.int64) + 1
    sizes = np.minimum(sizes, SEQ_LEN)
    times_s = []
    for _ in range(runs):
        begin_s = time.perf_counter()
        bins = pack_best_fit(sizes, SEQ_LEN)
        times_s.append(round(time.perf_counter() - begin_s, 4))
    tell(f"best fit fills {int(sizes.sum()) / (len(bins.ends_B) * SEQ_LEN):.4%} of its rows")
    return times_s


def contenders_of(folder: Path) -> dict[str, Row]:
    """Give what makes a row of each contender."""
    opened = open_folder(folder)
    files = [opened.files[name] for name in "abc"]
    places = np.random.default_rng(18).integers(0, len(files[0].ids) - SEQ_LEN, ROWS).tolist()
    stored = Stored(files)
    contenders: dict[str, Row] = {
        "slice": lambda n: files[0].ids[places[n] : places[n] + SEQ_LEN].astype(np.int64),
        "stored": by_steps(stored.batch),
    }
    for documents in ("joined", "isolated"):
        mixture = Mixture(folder, PARTS, SEQ_LEN, seed=17, documents=documents)
        contenders[documents] = by_steps(partial(mixture.batch, batch_size=BATCH))
    for pack in ("stream", "best-fit"):
        rows = TokenDataset(folder, SEQ_LEN, pack=pack)
        contenders[pack] = partial(item, rows)
    return contenders


def main() -> None:
    """Print one row for each contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--million-tokens", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", help="where files are written for a while")
    options = parser.parse_args()
    about = {
        "L": SEQ_LEN,
        "B": BATCH,
        "million_tokens": options.million_tokens,
        "machine": f"{platform.machine()}, {platform.processor() or 'cpu'}",
        "commit": commit(),
        "versions": {"numpy": np.__version__, "python": platform.python_version()},
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as work:
        folder = write_folder(Path(work), options.million_tokens * 1_000_000)
        parts = {
            "rows": (time_rows(contenders_of(folder), options.runs), "rows_per_s"),
            "late": (time_late(sparse_file(folder), options.runs), "time_s"),
            "packing": ({"best-fit, 1M documents": time_packing(options.runs)}, "time_s"),
        }
    for part, (found, unit) in parts.items():
        for name, samples in found.items():
            median = statistics.median(samples)
            tell(f"{part:<8} {name:<24} {unit} {median:,} ({min(samples):,} to {max(samples):,})")
            row = {"bench": "mixture", "part": part, "contender": name, "runs": len(samples)}
            print(json.dumps({**row, unit: samples, f"median_{unit}": median, **about}))


if __name__ == "__main__":
    main()
