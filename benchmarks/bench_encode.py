"""Speed of the exact encoder against other libraries, and how often each of them is wrong.

Protocol: one process for each contender, tokenizer, corpus and round, so that nothing is cached
from one to the other; bound to as many cores as there are threads. It reads the texts into memory,
loads the tokenizer (load_s), encodes 1 MB of other, Chinese documents (warm_s: imports, compiling,
starting threads), and then encodes the whole corpus twice by one call each. The *first* pass is the
main figure: what a cache knows it has from those 1 MB or learns while the clock runs. The *second*
pass over the same text shows what caches give at best, Python's of the UTF-8 of each str among
them; no corpus is encoded twice in life. Ids stay in memory, as each library gives them:
`encode_peers.py` tells what each is called with and returns. Python's garbage collector is left on,
as in use. MB are 10^6 bytes of UTF-8. CPU time over wall time tells how many threads really worked.
Peaks are VmHWM: with the texts, with the tokenizer loaded and warm, and after each pass. Rounds go
through all contenders, each round beginning with the next one.

The numba cache is empty before the first round, so its load_s and warm_s hold the compiling.

Right or wrong: after each pass, outside the clock, the ids of each document are digested and
compared with those of the tokenizer's *own library*: sentencepiece if there is a tokenizer.model,
else `tokenizers`, no special tokens, literal ones as text. The number of documents that differ
stands beside the speed; a contender with none is *exact* on this text.

A library that reads no tokenizer.model gets the tokenizer.json beside it, or one that
`lingraft.fast` makes (before the clock; `made_fast` in the row). What cannot be loaded is told as
skipped, with the reason; what ends badly as failed. Exit code 1 if ours failed or was not exact.

Data:  --zh FILES: documents from all files in equal shares of bytes, in their order, 1 MB to warm
       up and then --zh-mb to measure; --en FILES: all documents. Empty ones are left out.
       `--quick`: 2 MB and 1 MB, one round; it tests the script and says nothing else.
Run:   python benchmarks/bench_encode.py --tokenizer mixtral=tokenizer.model,tokenizer.json
           --tokenizer ours=FOLDER --tokenizer qwen3=tokenizer.json --zh FILES --en FILES
           [--zh-mb 60] [--threads 2] [--runs 3] [--peers-python PYTHON] [--only ours,tokie]
           >> benchmarks/results.jsonl
Row:   one a tokenizer, corpus and contender: all times, medians, MB/s, peaks, documents that
       differ, whether the second pass gave other ids, the contender's version (ours: commit);
       one a tokenizer and corpus with the ratios of ours to each, of medians and by round.
Read:  ratios within one run only. All runs are kept, slow ones too.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from bench_vocab import commit, tell
from encode_figures import (
    Cell,
    Corpus,
    Tokenizer,
    cell_row,
    compare,
    digests_path,
    ratio_row,
    tell_table,
)
from encode_peers import KINDS

WARM_MB, QUICK_ZH_MB, QUICK_EN_MB = 1.0, 2.0, 1.0


class Bench:
    """All contenders over all texts."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.tokenizers = [self.read_forms(pair) for pair in options.tokenizer]
        self.corpora = self.prepare()
        self.cells = [
            Cell(tokenizer, corpus, name)
            for tokenizer in self.tokenizers
            for corpus in self.corpora
            for name in KINDS
            if name in options.only or name == tokenizer.own
        ]
        self.env = {
            **os.environ,
            "NUMBA_CACHE_DIR": str(work / "numba"),
            "RAYON_NUM_THREADS": str(options.threads),
            "TOKENIZERS_PARALLELISM": "true" if options.threads > 1 else "false",
        }

    def read_forms(self, pair: str) -> Tokenizer:
        """Find a tokenizer's files; make the tokenizer.json that is missing."""
        from lingraft.errors import InputError
        from lingraft.fast import write_tokenizer

        name, _, paths = pair.partition("=")
        found = Tokenizer(name)
        for path in map(Path, paths.split(",")):
            inner = (path / "tokenizer.model", path / "tokenizer.json")
            for file in filter(Path.is_file, inner if path.is_dir() else (path,)):
                if file.suffix == ".json":
                    found.fast = str(file.absolute())
                else:
                    found.model = str(file.absolute())
        if not (found.model or found.fast):
            sys.exit(f"--tokenizer {pair}: no tokenizer there")
        if not found.fast:
            folder = self.work / f"fast-{name}"
            folder.mkdir()
            try:
                write_tokenizer(Path(found.model).read_bytes(), folder, found.model)
                found.fast, found.made_fast = str(folder / "tokenizer.json"), True
            except InputError as error:
                tell(f"{name}: no tokenizer.json can be made: {error.what}")
        return found

    def prepare(self) -> list[Corpus]:
        """Write the documents as each process reads them."""
        quick = self.options.quick
        chinese = by_share(self.options.zh)
        self.warm = self.write("warm", take(chinese, WARM_MB))
        corpora = []
        if self.options.zh_mb > 0:
            zh_mb = QUICK_ZH_MB if quick else self.options.zh_mb
            corpora.append(self.write("zh", take(chinese, zh_mb)))
        if self.options.en:
            english = in_order(self.options.en)
            corpora.append(self.write("en", take(english, QUICK_EN_MB) if quick else english))
        for corpus in corpora:
            tell(f"{corpus.name}: {corpus.num_docs:,} documents, {corpus.num_bytes / 1e6:,.1f} MB")
        return corpora

    def write(self, name: str, texts: Iterator[str]) -> Corpus:
        """Write documents as a JSON list."""
        documents = list(texts)
        if not documents:
            sys.exit(f"{name}: no documents")
        joined = "\0".join(documents).encode()
        path = self.work / f"{name}.json"
        path.write_text(json.dumps(documents, ensure_ascii=False), encoding="utf-8")
        num_bytes = len(joined) - len(documents) + 1
        return Corpus(name, path, len(documents), num_bytes, hashlib.sha256(joined).hexdigest())

    def run(self) -> None:
        """All rounds: every tokenizer and corpus, its contenders one after the other."""
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault((cell.tokenizer.name, cell.corpus.name), []).append(cell)
        for turn in range(self.options.runs):
            for group in groups.values():
                start = turn % len(group)
                for cell in group[start:] + group[:start]:
                    if not cell.why:
                        self.once(cell, turn)
                compare(group, self.work)

    def once(self, cell: Cell, turn: int) -> None:
        """Run a contender once."""
        arguments = {
            "forms": [cell.tokenizer.model, cell.tokenizer.fast],
            "threads": self.options.threads,
            "texts": str(cell.corpus.path),
            "warm": str(self.warm.path),
            "out": str(digests_path(cell, self.work)),
        }
        python = sys.executable if KINDS[cell.contender].is_ours else self.options.peers_python
        script = str(Path(__file__).with_name("encode_peers.py"))
        label = f"round {turn + 1}: {cell.tokenizer.name} {cell.corpus.name} {cell.contender}"
        with tempfile.TemporaryDirectory(dir=self.options.scratch) as folder:
            command = [python, script, cell.contender, json.dumps({**arguments, "folder": folder})]
            try:
                done = subprocess.run(
                    command,
                    env=self.env,
                    capture_output=True,
                    timeout=self.options.limit,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                cell.why["failed"] = f"not done after {self.options.limit} s"
                tell(f"{label}: {cell.why}")
                return
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            cell.why["failed"] = f"ended with {done.returncode}: {''.join(told)[:300]}"
        else:
            facts = json.loads(done.stdout.splitlines()[-1])
            if "skipped" in facts:
                cell.why["skipped"] = facts["skipped"]
            else:
                cell.samples.append(facts)
        shown = cell.why or f"{cell.speeds('first')[-1]:.1f} MB/s"
        tell(f"{label}: {shown}")


def in_order(names: Sequence[str]) -> Iterator[str]:
    """Give all documents but empty ones."""
    from lingraft.texts import find_texts, read_texts

    documents = chain.from_iterable(map(read_texts, find_texts(names)))
    return (document.text for document in documents if document.text)


def by_share(names: Sequence[str]) -> Iterator[str]:
    """Give the documents of all files, always from the one that gave the fewest bytes so far."""
    from lingraft.texts import find_texts

    files = [in_order([str(path)]) for path in find_texts(names)]
    given = [(0, number) for number in range(len(files))]
    while given:
        size, number = heapq.heappop(given)
        text = next(files[number], None)
        if text is not None:
            heapq.heappush(given, (size + len(text.encode()), number))
            yield text


def take(texts: Iterator[str], mb: float) -> Iterator[str]:
    """Give documents until they make so many megabytes."""
    size = 0
    while size < mb * 1e6 and (text := next(texts, None)) is not None:
        size += len(text.encode())
        yield text


def report(bench: Bench) -> None:
    """Print the table to standard error and the rows to standard output."""
    tell_table(bench.cells)
    about = {
        "threads": bench.options.threads,
        "quick": bench.options.quick,
        "warm_bytes": bench.warm.num_bytes,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {n: version(n) for n in ("sentencepiece", "tokenizers", "numba", "numpy")},
    }
    rows = [cell_row(cell) for cell in bench.cells]
    for tokenizer in bench.tokenizers:
        for corpus in bench.corpora:
            group = [c for c in bench.cells if c.tokenizer is tokenizer and c.corpus is corpus]
            rows.append(ratio_row(group))
            for name, by in rows[-1]["ratios"].items():
                a, (low, high) = by["first"]["of_medians"], by["first"]["rounds"]
                tell(f"{tokenizer.name} {corpus.name} {name}: {a:.2f} ({low:.2f} to {high:.2f})")
    for row in rows:
        print(json.dumps({"bench": "encode", **row, **about}, ensure_ascii=False))
    if any(cell.contender == "ours" and (cell.why or cell.differing) for cell in bench.cells):
        sys.exit("ours failed, or differs from the tokenizer's own library")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", required=True, action="append", metavar="NAME=PATH[,PATH]")
    parser.add_argument("--zh", required=True, nargs="+", help="Chinese text files")
    parser.add_argument("--en", nargs="+", default=[], help="English text files: all of them")
    parser.add_argument("--zh-mb", type=float, default=60.0, help="megabytes of Chinese; 0: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(KINDS), type=lambda text: text.split(","))
    parser.add_argument("--peers-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds a process may take")
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()
    parser.add_argument("--scratch", default=memory, help="folder in memory, for what reads files")
    parser.add_argument("--quick", action="store_true", help="a small part: tests the script")
    options = parser.parse_args()
    if options.quick:
        options.runs = 1
    if options.runs < 1 or options.threads < 1 or not all("=" in t for t in options.tokenizer):
        parser.error("--runs and --threads are 1 or more, and --tokenizer is NAME=PATH")
    names = [pair.partition("=")[0] for pair in options.tokenizer]
    if len({*names}) < len(names) or any("/" in name or not name for name in names):
        parser.error("--tokenizer NAME=PATH: each name once, and without /")
    if unknown := [name for name in options.only if name not in KINDS]:
        parser.error(f"--only {','.join(unknown)}: there are {','.join(KINDS)}")
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options, Path(work))
        bench.run()
        report(bench)


if __name__ == "__main__":
    main()
