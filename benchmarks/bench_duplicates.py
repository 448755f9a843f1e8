"""Near duplicates found, missed and wrongly removed, and what that costs, beside other libraries.

Texts: real documents of at least 100 tokens, and planted copies of some of them: 2, 5, 10 and 20%
of the tokens replaced; 10 and 30% of the sentences deleted, or others inserted; sentences in
another order; a header and a footer added; another layout. As many documents without a copy get
the same header and footer. The order is shuffled; half of the rows stand in each of two files.
`duplicate_texts.py` makes them.

Truth: the Jaccard similarity of the sets of 5-grams of tokens (a Han or kana character, or a word;
case folded), counted exactly, for each planted pair, and for each document that any contender
removes the largest one with any other document. The documents were not chosen to be unlike each
other: near duplicates that were there before count as what they are.

Told of each contender: *recall*, the share of planted pairs at or above a similarity of which at
least one document is removed (which of the two differs between libraries); *precision*, the share
of removed documents that are at or above it to any other; removed documents that are not even half
alike to any (*false*), and how many of those share the header only.

Protocol: a process for each contender, text set and round, bound to as many cores as it has jobs.
First a run over 200 other documents (imports, compiling, dictionaries), then the timed run over
all, from files to the decision and, where the library does that, the documents that stay, written.
Peak: resident memory of the process and its children, summed every 50 ms during the timed run;
what they share counts once for each. Rounds go through all contenders, each round beginning with
the next one. What each is called with and how they differ: `duplicate_peers.py`. What is missing is
told as skipped. Exit code 1 if ours fails.

Data:  --zh FILES and --en FILES: documents, the first --docs of each (default 20,000, 10,000).
Run:   python benchmarks/bench_duplicates.py --zh FILES --en FILES --peers-python PYTHON
           [--jobs 2] [--runs 3] [--only ours,datasketch] >> benchmarks/results.jsonl
       PYTHON: pip install datatrove spacy jieba tokenizers "xxhash<4" regex orjson datasketch
Row:   one a text set and contender: all times, medians, spread, the machine's load before
       each run (a run before it is in that), peaks, recall by similarity and by kind,
       precision, false removals, version (ours: commit); one a text set with the pairs and the
       ratios of times.
Read:  ratios within one run only; all runs are kept, slow ones too. `--quick`: few documents, one
       round; it tests the script.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from bench_vocab import commit, tell
from duplicate_peers import KINDS
from duplicate_texts import Plant, Texts, Truth, good_documents, make_texts

SEED, COPIES, QUICK_DOCS, QUICK_COPIES, WARM_DOCS = 17, 150, 1500, 20, 200
AT, HALF = 0.8, 0.5
BORDERS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)


@dataclass
class TextSet:
    """A text set, on disk and in memory."""

    language: str
    texts: Texts
    folder: Path
    warm: Path
    truth: Truth
    nearest: dict[int, float] = field(default_factory=dict)

    def nearest_of(self, number: int) -> float:
        """Give the largest similarity of a document to another."""
        if number not in self.nearest:
            self.nearest[number] = self.truth.nearest(number)
        return self.nearest[number]


@dataclass
class Cell:
    """A contender on a text set, over all rounds."""

    name: str
    facts: list[dict[str, Any]] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    why: str = ""


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zh", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--en", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--docs", nargs=2, type=int, default=(20_000, 10_000), metavar="N")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(KINDS), type=lambda text: text.split(","))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sets = [
            prepare(language, paths, num_docs, Path(name), quick=options.quick)
            for (language, paths, num_docs) in (
                ("zh", options.zh, options.docs[0]),
                ("en", options.en, options.docs[1]),
            )
            if paths
        ]
        failed = [run_set(one, options, Path(name)) for one in sets]
    sys.exit(1 if any(failed) else 0)


def prepare(
    language: str, paths: Sequence[str], num_docs: int, work: Path, *, quick: bool
) -> TextSet:
    """Make a text set and write it."""
    wanted = QUICK_DOCS if quick else num_docs
    documents = list(islice(good_documents(paths), wanted + WARM_DOCS))
    warm, documents = documents[:WARM_DOCS], documents[WARM_DOCS:]
    texts = make_texts(documents, language, QUICK_COPIES if quick else COPIES, SEED)
    truth = Truth(texts.texts)
    plants = [
        plant._replace(similarity=truth.similarity(plant.base, plant.copy))
        for plant in texts.plants
    ]
    size = sum(len(text.encode()) for text in texts.texts)
    tell(
        f"{language}: {len(texts.texts):,} texts, {size / 1e6:.1f} MB, {len(plants):,} planted, "
        f"{sum(plant.similarity >= AT for plant in plants):,} of them at {AT} or above"
    )
    folders = [
        write_rows(work / f"{language}-{n}", rows) for n, rows in enumerate((texts.texts, warm))
    ]
    return TextSet(language, texts._replace(plants=plants), folders[0], folders[1], truth)


def write_rows(folder: Path, texts: Sequence[str]) -> Path:
    """Write texts as rows in two files."""
    folder.mkdir()
    half = (len(texts) + 1) // 2
    for n, begin in enumerate((0, half)):
        rows = enumerate(texts[begin : begin + half], begin)
        lines = (json.dumps({"id": str(k), "text": text}, ensure_ascii=False) for k, text in rows)
        (folder / f"{n}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def run_set(one: TextSet, options: argparse.Namespace, work: Path) -> bool:
    """All rounds on a text set; tell and print; give whether ours failed."""
    cells = [Cell(name) for name in KINDS if name in options.only]
    for turn in range(1 if options.quick else options.runs):
        start = turn % len(cells)
        for cell in cells[start:] + cells[:start]:
            if not cell.why:
                run_once(cell, one, options, work)
    common = {
        "bench": "duplicates",
        "language": one.language,
        "num_docs": len(one.texts.texts),
        "size_bytes": sum(len(text.encode()) for text in one.texts.texts),
        "jobs": options.jobs,
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        "python": platform.python_version(),
        "commit": commit(),
        "quick": options.quick,
    }
    for cell in cells:
        figures = {"skipped": cell.why} if cell.why else figures_of(cell, one)
        print(json.dumps({**common, "contender": cell.name, **figures}), flush=True)
        tell(f"{one.language} {cell.name}: {cell.why or summary(figures)}")
    print(json.dumps({**common, "contender": "all", **overview(cells, one)}), flush=True)
    return any(cell.why and KINDS[cell.name].is_ours for cell in cells)


def run_once(cell: Cell, one: TextSet, options: argparse.Namespace, work: Path) -> None:
    """Run a contender once in a process of its own."""
    python = sys.executable if KINDS[cell.name].is_ours else options.peers_python
    script = str(Path(__file__).with_name("duplicate_peers.py"))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        given = {"rows": str(one.folder), "warm": str(one.warm), "work": folder}
        given |= {"language": one.language, "jobs": options.jobs}
        with (Path(folder) / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [python, script, cell.name, json.dumps(given)],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "RAYON_NUM_THREADS": str(options.jobs)},
            )  # fmt: skip
            last, peak = watch(process)
        if process.returncode or not last.startswith("{"):
            lines = (Path(folder) / "log").read_text(encoding="utf-8").splitlines()
            cell.why = f"failed: {(lines or ['no message'])[-1][:200]}"
            return
        facts = json.loads(last)
        cell.why = facts.get("skipped", "")
        if not cell.why:
            cell.facts.append({**facts, "peak_bytes": peak, "load": load})
            removed = set(json.loads((Path(folder) / "removed.json").read_text(encoding="utf-8")))
            assert cell.removed in (set(), removed) or cell.name.startswith("data"), "ours differ"
            cell.removed = removed
            tell(f"{one.language} {cell.name}: {facts['rows']['time_s']:.1f} s")


def watch(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Give the last line of a process, and the peak of its memory in the timed part."""
    peaks = [0]
    timed, ended = threading.Event(), threading.Event()

    def sample() -> None:
        while not ended.is_set():
            if timed.is_set():
                peaks.append(tree_bytes(process.pid))
            time.sleep(0.05)

    sampler = threading.Thread(target=sample)
    sampler.start()
    last = ""
    assert process.stdout is not None, "no output to read"
    for line in process.stdout:
        last = line.strip()
        if last == "begin rows":
            timed.set()
        elif last == "end rows":
            timed.clear()
    process.wait()
    ended.set()
    sampler.join()
    return last, max(peaks)


def tree_bytes(pid: int) -> int:
    """Sum the resident memory of a process and all its children."""
    total = 0
    try:
        status = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
        total = int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(tree_bytes, map(int, (task / "children").read_text().split())))
    except (OSError, IndexError):
        pass  # it ended while we looked
    return total


def figures_of(cell: Cell, one: TextSet) -> dict[str, Any]:
    """Everything that stands in a contender's row."""
    times = [facts["rows"]["time_s"] for facts in cell.facts]
    near = {number: one.nearest_of(number) for number in cell.removed}
    caught = [p for p in one.texts.plants if {p.base, p.copy} & cell.removed]
    templates = set(one.texts.templates)
    false = [number for number, similarity in near.items() if similarity < HALF]
    return {
        "version": cell.facts[0]["version"],
        "times_s": [round(t, 3) for t in times],
        "median_s": round(statistics.median(times), 3),
        "spread_s": round(max(times) - min(times), 3),
        "mb_per_s": round(
            sum(len(t.encode()) for t in one.texts.texts) / 1e6 / statistics.median(times), 2
        ),
        "loads_before": [round(facts["load"], 1) for facts in cell.facts],
        "warm_s": round(cell.facts[0]["warm"]["time_s"], 3),
        "peak_bytes": max(facts["peak_bytes"] for facts in cell.facts),
        "num_removed": len(cell.removed),
        "recall": share([p in set(caught) for p in one.texts.plants if p.similarity >= AT]),
        "precision": share([similarity >= AT for similarity in near.values()]),
        "precision_by_similarity": {
            f"{at:.1f}": share([similarity >= at for similarity in near.values()])
            for at in BORDERS[1:-1]
        },
        "num_false": len(false),
        "num_false_templates": len(templates & set(false)),
        "recall_by_similarity": {
            f"{low:.1f}": share(
                [p in set(caught) for p in one.texts.plants if low <= p.similarity < high]
            )
            for low, high in pairwise(BORDERS)
        },
        "recall_by_kind": by_kind(caught, one.texts.plants),
    }


def share(values: Sequence[bool]) -> float | None:
    """Give the share that is true; None of nothing."""
    return round(sum(values) / len(values), 4) if values else None


def by_kind(caught: Sequence[Plant], plants: Sequence[Plant]) -> dict[str, float | None]:
    """Give the recall of each kind and strength, of pairs at or above the similarity."""
    kinds = dict.fromkeys((p.kind, p.strength) for p in plants)
    found = set(caught)
    return {
        f"{kind} {strength:g}": share(
            [
                p in found
                for p in plants
                if (p.kind, p.strength) == (kind, strength) and p.similarity >= AT
            ]
        )
        for kind, strength in kinds
    }


def overview(cells: Sequence[Cell], one: TextSet) -> dict[str, Any]:
    """The pairs, and the times of all contenders as ratios to ours."""
    medians = {
        cell.name: statistics.median(facts["rows"]["time_s"] for facts in cell.facts)
        for cell in cells
        if cell.facts
    }
    own = medians.get("ours")
    similar = [plant.similarity for plant in one.texts.plants]
    return {
        "num_planted": len(similar),
        "num_templates": len(one.texts.templates),
        "pairs_by_similarity": {
            f"{low:.1f}": sum(low <= s < high for s in similar) for low, high in pairwise(BORDERS)
        },
        "over_ours": {name: round(median / own, 2) for name, median in medians.items()}
        if own
        else {},
    }


def summary(figures: dict[str, Any]) -> str:
    """One line of a contender."""
    return (
        f"{figures['median_s']:.1f} s (spread {figures['spread_s']:.1f}), "
        f"{figures['peak_bytes'] / 1e6:,.0f} MB, removed {figures['num_removed']:,}, "
        f"recall {figures['recall']}, precision {figures['precision']}, "
        f"false {figures['num_false']} ({figures['num_false_templates']} by template)"
    )


if __name__ == "__main__":
    main()
