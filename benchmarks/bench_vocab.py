"""Time and memory of the whole vocabulary search against one training by others.

Protocol: every contender runs in a fresh process of its own, watched from outside: wall time from
start to end (interpreter and imports included), VmHWM (peak of resident memory) and the largest
RssAnon seen (memory without mapped files), both from /proc/PID/status every 20 ms. Rounds of all
contenders, one after the other, each round beginning with the next one. Not timed: `prepare`,
which writes the documents as lines for sentencepiece and tokenizers, and as parts for (e).

    a  ours: `lingraft.vocab.command.search`, files to curves, choice and plots, all counts of
       characters. Before the rounds once with an empty numba cache: what compiling costs; the
       rounds share that cache, and files that appear in it are counted.
    b  sentencepiece BPE, one training at 45,000: with its limit of 4,192 bytes a line (sp), and
       with none (sp_all). Flags: --model_type=bpe --vocab_size=45000 --num_threads=N
       --byte_fallback=true --normalization_rule_name=identity --input_sentence_size=0 (all
       lines), the others at their defaults (train_extremely_large_corpus is ignored by 0.2.3);
       --character_coverage such that as many characters are kept as the largest count and the
       base's own (1,456 Han characters in Mixtral's) make. What was used: its log, and the
       bytes of the lines that it did not skip.
    c  tokenizers' BpeTrainer at 45,000, units by script, number and whitespace, the same alphabet.
    d  the reference's way: 16 sizes x 4 counts by sentencepiece. Time of a training is fitted as
       a + b * size on the measured ones (sp_low, sp_middle, sp_few, sp); encoding the evaluation
       texts and computing ALP is measured with each of these models.
    e  ours on 25, 50 and 100% of the distinct documents (every 4th, every 2nd, all), with the
       first three counts, for a quarter has not so many characters to add: peak and symbols of
       the table, exponent by least squares on logarithms; and ours with 1 GB: equal
       files.

Data:  any corpus; the project's figures are of 7 files of Chinese, 179 MB. `--quick` takes every
       20th document and a quarter of all sizes: it tests the script and says nothing else.
Run:   python benchmarks/bench_vocab.py --corpus FILES --eval book=FILE --eval wiki=FILE
           --base tokenizer.model [--runs 3] [--only a,b] [--jobs N] >> benchmarks/results.jsonl
Row:   one a contender: bench, contender, all wall_s and peaks (bytes), their medians, facts; one
       for the ratios, each by round too; one for the prepared text.
Read:  ratios within one run only. All runs are kept, slow ones too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vocab_figures import (
    LINE_LIMIT,
    PEAKS,
    SCALES,
    Contender,
    Sample,
    contender_row,
    limited,
    ratios,
    read_log,
    reference_way,
    scaling,
)

CHARS = (4451, 5435, 6414, 7434)
MAX_SIZE = 45_000
BASE_CHARS = 1_456
QUICK_DOCS, QUICK_SIZES = 20, 4
_STATUS = re.compile(rb"^(VmHWM|RssAnon):\s+(\d+) kB$", re.M)


def watch(kind: str, arguments: Mapping[str, Any], env: Mapping[str, str]) -> Sample:
    """Run one contender to its end."""
    script = Path(__file__).with_name("vocab_contenders.py")
    command = [sys.executable, str(script), kind, json.dumps(arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=log, env=dict(env))
        peaks = {b"VmHWM": 0, b"RssAnon": 0}
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for name, amount in _STATUS.findall(status.read_bytes()):
                peaks[name] = max(peaks[name], int(amount) << 10)
            time.sleep(0.02)
        wall_s = time.monotonic() - begin
        out.seek(0), log.seek(0)
        said, told = out.read().decode(), log.read().decode(errors="replace")
    if process.returncode:
        sys.exit(f"{kind} ended with {process.returncode}:\n{told[-4000:]}")
    facts = json.loads(said.splitlines()[-1])
    if "curves_at" in facts:
        facts["curves_s"] = facts.pop("curves_at") - begin
    return Sample(wall_s, peaks[b"VmHWM"], peaks[b"RssAnon"], facts, told)


class Bench:
    """All contenders over one prepared text."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        shrink = QUICK_SIZES if options.quick else 1
        self.counts = [count // shrink for count in CHARS]
        self.max_size = MAX_SIZE // shrink
        self.alphabets = {count: count + BASE_CHARS // shrink for count in self.counts}
        self.env = {
            **os.environ,
            "NUMBA_CACHE_DIR": str(work / "numba"),
            "RAYON_NUM_THREADS": str(options.jobs),
            "TOKENIZERS_PARALLELISM": "true",
        }
        self.evals = dict(pair.split("=", 1) for pair in options.eval)
        self.rows: list[dict[str, Any]] = []
        self.compiling: Sample | None = None
        self.cache_files: list[int] = []

    def prepare(self) -> None:
        """Write the texts; nothing of it is timed."""
        tell("prepare: lines and parts")
        facts = watch(
            "prepare",
            {
                "corpus": self.options.corpus,
                "out": str(self.work),
                "every": QUICK_DOCS if self.options.quick else 1,
                "alphabets": list(self.alphabets.values()),
                "limit": LINE_LIMIT,
            },
            self.env,
        ).facts
        self.text = facts
        corpus = str(self.work / "whole.jsonl.zst") if self.options.quick else self.options.corpus
        few = self.counts[:-1]  # a quarter of the text has not so many characters to add
        self.contenders = [
            contender
            for part, contender in (
                ("a", self.ours("ours", corpus)),
                ("b", self.sp("sp", self.max_size, self.counts[-1], LINE_LIMIT)),
                ("b", self.sp("sp_all", self.max_size, self.counts[-1], 0)),
                ("c", self.hf()),
                ("d", self.sp("sp_low", self.grid[0], self.counts[0], LINE_LIMIT)),
                ("d", self.sp("sp_middle", self.grid[8], self.counts[2], LINE_LIMIT)),
                ("d", self.sp("sp_few", self.max_size, self.counts[0], LINE_LIMIT)),
                *(("e", self.ours(f"ours_{s}", self.part(s), chars=few)) for s in SCALES),
                ("e", self.ours("ours_1gb", corpus, memory="1GB")),
            )
            if part in self.options.only
        ]

    @property
    def grid(self) -> list[int]:
        """The 16 sizes of the reference's way; the smallest has room for all characters."""
        return [self.max_size * n // 60 for n in range(15, 61, 3)]

    def part(self, share: int) -> str:
        """Give the file of a share of the documents."""
        return str(self.work / f"scale-{share}.jsonl.zst")

    def ours(self, name: str, corpus: str, **more: Any) -> Contender:
        """The whole search over a corpus."""
        arguments = {
            "base": self.options.base,
            "corpus": corpus,
            "evals": self.evals,
            "chars": self.counts,
            "max_size": self.max_size,
            "jobs": self.options.jobs,
            "out": str(self.work / name),
        }
        return Contender(name, "ours", {**arguments, **more})

    def sp(self, name: str, size: int, count: int, limit: int) -> Contender:
        """One training by sentencepiece; `limit` 0: no line is too long."""
        coverage = self.text["coverage"][str(self.alphabets[count])]
        flags = {
            "model_type": "bpe",
            "vocab_size": size,
            "character_coverage": max(0.98, coverage),  # it takes no less; matters in --quick
            "num_threads": self.options.jobs,
            "input_sentence_size": 0,
            "max_sentence_length": limit or self.text["longest_line"] + 1,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
        }
        lines, model = str(self.work / "lines.txt"), str(self.work / name)
        return Contender(name, "sentencepiece", {"text": lines, "model": model, "flags": flags})

    def hf(self) -> Contender:
        """One training by tokenizers."""
        return Contender(
            "tokenizers",
            "tokenizers",
            {
                "text": str(self.work / "lines.txt"),
                "out": str(self.work / "tokenizers.json"),
                "vocab_size": self.max_size,
                "alphabet": self.alphabets[self.counts[-1]],
            },
        )

    def run(self) -> None:
        """Compile, then all rounds."""
        first = next((c for c in self.contenders if c.kind == "ours"), None)
        if first is not None:
            self.compiling = self.once(first, "empty cache")
        for turn in range(self.options.runs):
            start = turn % max(1, len(self.contenders))
            for contender in self.contenders[start:] + self.contenders[:start]:
                contender.samples.append(self.once(contender, f"round {turn + 1}"))
                is_point = contender.kind == "sentencepiece" and contender.name != "sp_all"
                if is_point and "d" in self.options.only:
                    contender.encodings.append(self.encode(contender))

    def once(self, contender: Contender, label: str) -> Sample:
        """Run a contender once, and look at what it left."""
        if contender.kind == "ours":
            shutil.rmtree(contender.arguments["out"], ignore_errors=True)
        before = self.cache_size()
        sample = watch(contender.kind, contender.arguments, self.env)
        if contender.kind == "ours":
            sample.facts["compiled_files"] = self.cache_size() - before
            sample.facts["bytes_used"] = sample.facts["training"]["num_bytes"]
            for name in ("curves", "rules"):
                data = Path(contender.arguments["out"], f"{name}.parquet").read_bytes()
                sample.facts[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
        elif contender.kind == "sentencepiece":
            sample.facts.update(read_log(sample.log, self.text, contender.arguments["flags"]))
        else:
            sample.facts["bytes_used"] = self.text["line_bytes"]
        tell(
            f"{label}: {contender.name}: {sample.wall_s:.1f} s, "
            f"peak {sample.peak_bytes / 1e6:,.0f} MB"
        )
        return sample

    def cache_size(self) -> int:
        """Count the files of compiled code."""
        return sum(1 for path in (self.work / "numba").rglob("*") if path.is_file())

    def encode(self, contender: Contender) -> Sample:
        """Encode the evaluation texts with the model that was just trained."""
        model = contender.arguments["model"] + ".model"
        threads = self.options.jobs
        return watch("encode", {"model": model, "evals": self.evals, "threads": threads}, self.env)


def report(bench: Bench) -> None:
    """Print the table to standard error and the rows to standard output."""
    tell(
        f"\n{'':<12} {'wall s: median (all)':<34} {'peak MB':>9} {'anonymous MB':>13}"
        f"{'MB of text':>12} {'curves s':>9}"
    )
    for c in bench.contenders:
        walls = ", ".join(f"{s.wall_s:.1f}" for s in c.samples)
        peaks = [f"{c.median(what) / 1e6:,.0f}" for what in PEAKS]
        used = c.samples[-1].facts["bytes_used"] / 1e6
        drawn_s = [s.facts["curves_s"] for s in c.samples if "curves_s" in s.facts]
        curves = f"{statistics.median(drawn_s):.1f}" if drawn_s else ""
        times = f"{c.median('wall_s'):.1f} ({walls})"
        tell(f"{c.name:<12} {times:<34} {peaks[0]:>9} {peaks[1]:>13}{used:>12.2f}{curves:>10}")
    summary: dict[str, Any] = {"ratios": ratios(bench.contenders)}
    summary["reference_way"] = reference_way(bench.contenders, bench.grid, len(bench.counts))
    summary |= {
        "scaling": scaling(bench.contenders, bench.text),
        "limited": limited(bench.contenders),
    }
    if bench.compiling is not None:
        warm_s = next(c for c in bench.contenders if c.kind == "ours").median("wall_s")
        cold_s = bench.compiling.wall_s
        summary["compiling"] = {"cold_s": cold_s, "warm_s": warm_s, "apart_s": cold_s - warm_s}
        summary["compiling"]["files"] = bench.compiling.facts["compiled_files"]
    tell_figures(summary)
    about = {
        "jobs": bench.options.jobs,
        "quick": bench.options.quick,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "versions": {n: version(n) for n in ("sentencepiece", "tokenizers", "numba", "numpy")},
    }
    body = [contender_row(c) for c in bench.contenders]
    for row in [{"contender": "text", "facts": bench.text}, *body, {"contender": "", **summary}]:
        print(json.dumps({"bench": "vocab", **row, **about}))


def tell_figures(summary: Mapping[str, Any]) -> None:
    """Print ratios, fits and exponents, a line each."""
    for name, by in summary["ratios"].items():
        spans = [(what, r["of_medians"], *r["rounds"]) for what, r in by.items()]
        tell(f"{name}: " + "; ".join(f"{w} {m:.3f} ({a:.3f} to {b:.3f})" for w, m, a, b in spans))
    if way := summary["reference_way"]:
        tell(
            f"{way['num_trainings']} trainings by sentencepiece: {way['train_total_s']:,.0f} s "
            f"({way['fit_s']['start']:.1f} s + {way['fit_s']['per_1000']:.3f} s per 1,000 pieces, "
            f"off by {way['largest_residual_s']:.1f} s at most), with {way['encode_s']:.1f} s of "
            f"encoding each: {way['total_s']:,.0f} s, {way.get('over_ours', math.nan):.0f} of ours"
        )
    for name in ("scaling", "limited", "compiling"):
        if summary.get(name):
            tell(f"{name}: {json.dumps(summary[name])}")


def commit() -> str:
    """The commit that is measured; with + where files differ from it."""
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="text files: a file, folder or pattern")
    parser.add_argument("--eval", required=True, action="append", metavar="NAME=FILE")
    parser.add_argument("--base", required=True, help="tokenizer.model to extend")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="a,b,c,d,e", type=lambda text: text.split(","))
    parser.add_argument("--quick", action="store_true", help="a small part: tests the script")
    options = parser.parse_args()
    if options.runs < 1 or not all("=" in pair for pair in options.eval):
        parser.error("--runs is 1 or more, and --eval is NAME=FILE")
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options, Path(work))
        bench.prepare()
        bench.run()
        report(bench)


if __name__ == "__main__":
    main()
