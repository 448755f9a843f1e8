"""Compare the methods that give new pieces their first rows, by what the model reads after.

Measured: bits per byte of held-out text, in the new language and in the base's, with untouched
       rows (step 0), after a fixed number of steps in which new rows alone move, and after as
       many in which everything does. Not timed: making tokenizer, token files and base model.
Data:  a base model folder, the extended tokenizer's folder, and a token folder of it whose sets
       are NAME-train and NAME-valid; `--zh` and `--en` name the sets of the two languages. All
       candidates see the same sequences in the same order; a seed decides the order, the draws
       of methods that draw, and snippets.
Run:   python benchmarks/bench_embed.py --model runs/demo/15-base --tokenizer runs/demo/30-tokenizer
       --data runs/demo/35-encode --zh zh-news,zh-reviews --en en-docs --out FOLDER
Row:   bench, model, method, head_method, seed, rows_s, points (step, bpb of each set, loss,
       time_s of the training alone), steps, tokens a step, device, versions. A line each in
       FOLDER/rows.jsonl, written as soon as it is known; a run that is called again with the same
       FOLDER goes on behind them.
Read:  compare bpb at equal step; the row "base" reads the same documents in its own ids. Seeds
       differ in text and order: compare methods within a seed, or means over the same seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embed_figures import write_figures
from safetensors.torch import load_file, save_file

from lingraft.embed.auxiliary import train_auxiliary
from lingraft.embed.filling import fill_rows
from lingraft.embed.learned import Spelled, input_rows, load_teacher, output_rows
from lingraft.embed.methods import METHODS, Role, find_method
from lingraft.embed.probe import Candidate, HeldOut, Point, ProbePlan, Rows, grow, run_candidate
from lingraft.embed.sources import Source, read_source
from lingraft.mixture import Mixture
from lingraft.progress import LineReporter
from lingraft.scoring import score_docs
from lingraft.shards import TokenFolder, open_folder

SKIPPED = {"probe", "omp-donor"}
EVAL_BYTES = 120_000
"""Text of each held-out set that is scored."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="token folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--zh", default="zh", help="sets of the new language, comma between")
    parser.add_argument("--en", default="en", help="sets of the base's language")
    parser.add_argument("--en-share", type=float, default=0.1, help="of the training tokens")
    parser.add_argument(
        "--methods",
        default="",
        help="METHOD or METHOD/HEAD_METHOD, comma between, options behind a colon as in "
        "distil:share=0.5; default: all",
    )
    parser.add_argument("--seeds", default="17")
    parser.add_argument("--tokens", type=int, default=0, help="instead of steps; half for rows")
    parser.add_argument("--row-steps", type=int, default=100)
    parser.add_argument("--all-steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--row-lr", type=float, default=0.01)
    parser.add_argument("--body-lr", type=float, default=2e-3)
    parser.add_argument("--eval-every", type=int, default=0)
    parser.add_argument("--eval-bytes", type=int, default=EVAL_BYTES)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=0, help="stop in time; 0: never")
    parser.add_argument("--rows", type=Path, help="folder of rows: read if there, else written")
    parser.add_argument("--rows-only", action="store_true", help="make rows, train nothing")
    return parser.parse_args()


class Bench:
    """What all candidates share."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Read model, tokenizer and text."""
        self.args, self.begin_s = args, time.perf_counter()
        args.out.mkdir(parents=True, exist_ok=True)
        self.log = args.out / "rows.jsonl"
        self.reporter = LineReporter(lambda line: print(line, file=sys.stderr, flush=True))
        self.source: Source = read_source(args.model, args.tokenizer, tokens=args.data)
        self.folder: TokenFolder = open_folder(args.data)
        self.base: Any = load_teacher(args.model, args.device)
        self.tied = input_rows(self.base) is output_rows(self.base)
        sets = {"zh": args.zh.split(","), "en": args.en.split(",")}
        self.held_out = {name: self._held_out(names) for name, names in sets.items()}
        share = {"zh": (1 - args.en_share) / len(sets["zh"]), "en": args.en_share / len(sets["en"])}
        self.parts = [f"{100 * share[n]:.4f}%:{s}" for n, names in sets.items() for s in names]
        self._auxiliary: dict[int, Any] = {}

    def _held_out(self, sets: list[str]) -> HeldOut:
        """Documents of the held-out files, the same amount of text from each set."""
        docs: list[np.ndarray[Any, Any]] = []
        sizes: list[int] = []
        for name in sets:
            file, taken = self.folder.file(f"{name}-valid"), 0
            assert file.sizes_bytes is not None, f"{name}-valid: bytes of documents were not kept"
            for doc in range(file.num_docs):
                if taken >= self.args.eval_bytes / len(sets):
                    break
                docs.append(file.doc(doc))
                sizes.append(int(file.sizes_bytes[doc]))
                taken += sizes[-1]
        return HeldOut(docs, np.array(sizes))

    def plan(self) -> ProbePlan:
        """Steps and rates."""
        a = self.args
        row_steps, all_steps = a.row_steps, a.all_steps
        if a.tokens:
            row_steps = all_steps = max(a.tokens // (2 * a.batch_size * a.seq_len), 1)
        return ProbePlan(
            row_steps=row_steps,
            all_steps=all_steps,
            batch_size=a.batch_size,
            seq_len=a.seq_len,
            row_lr=a.row_lr,
            body_lr=a.body_lr,
            eval_every=a.eval_every,
            max_tokens=a.max_tokens,
        )

    def mixture(self, seed: int, plan: ProbePlan) -> Mixture:
        """The text of a seed."""
        total = max((plan.steps + 1) * plan.batch_size * (plan.seq_len + 1), 1)
        return Mixture(self.args.data, self.parts, plan.seq_len, seed, total_tokens=total)

    def out_of_time(self) -> bool:
        """Whether the budget of `--seconds` is used up."""
        passed_s = time.perf_counter() - self.begin_s
        return bool(self.args.seconds) and passed_s > self.args.seconds

    def rows(self, text: str, role: Role, seed: int) -> tuple[torch.Tensor, Counter[str]]:
        """Make, or read, the rows of a method in one matrix."""
        kept = (
            self.args.rows
            and self.args.rows / f"{text.replace(':', '-')}-{role}-{seed}.safetensors"
        )
        if kept and kept.is_file():
            return load_file(kept)["rows"], Counter()
        name, options = split_method(text)
        method = find_method(name, role)
        weight = input_rows(self.base) if role == "input" else output_rows(self.base)
        base_VD = weight[: self.source.added.num_base].detach().cpu()
        filled = fill_rows(
            base_VD,
            self.source.added,
            role,
            seed,
            method,
            given=self._given(method.needs, name, seed),
            options=options,
        )
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            save_file({"rows": filled.rows_ND}, kept)
        return filled.rows_ND, Counter(filled.notes)

    def _given(self, needs: tuple[str, ...], name: str, seed: int) -> Mapping[str, Any]:
        given: dict[str, Any] = {}
        if "auxiliary" in needs:
            if seed not in self._auxiliary:
                files = [f for n, f in self.folder.files.items() if not n.endswith("-valid")]
                size = self.source.added.num_extended
                index = self.folder.index.tokenizer
                skip = [i for i in (index.bos_id, index.eos_id) if i is not None]
                self._auxiliary[seed] = train_auxiliary(files, size, seed, skip=skip).vectors_VA
            given["auxiliary_VA"] = self._auxiliary[seed]
        if "tokens" in needs:
            given["tokens"] = self.args.data
        if "model" in needs:
            given["model"] = self.args.model
            given["device"] = self.args.device
            given["reporter"] = self.reporter
        return given

    def candidates(self) -> list[Candidate]:
        """What is compared: those asked for, or every method."""
        if self.args.methods:
            asked = [part.partition("/") for part in self.args.methods.split(",")]
            return [Candidate(m, None if self.tied else h or m) for m, _, h in asked]
        inputs = [m.name for m in METHODS.values() if "input" in m.roles and m.name not in SKIPPED]
        if self.tied:
            return [Candidate(name) for name in inputs]
        heads = [m.name for m in METHODS.values() if "output" in m.roles and m.name not in SKIPPED]
        both = [Candidate(n, n if n in heads else "mean") for n in inputs]
        return both + [Candidate("mean", n) for n in heads if n not in inputs]


def split_method(text: str) -> tuple[str, dict[str, Any]]:
    """Read METHOD:OPTION=VALUE:OPTION=VALUE."""
    name, *pairs = text.split(":")
    options: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return name, options


def make_rows(bench: Bench, candidate: Candidate, seed: int) -> tuple[Rows, dict[str, int]]:
    """Rows of both matrices and what the methods noted."""
    inputs, notes = bench.rows(candidate.method, "input", seed)
    if candidate.head_method is None:
        return (inputs, None), dict(notes)
    outputs, head_notes = bench.rows(candidate.head_method, "output", seed)
    return (inputs, outputs), {**notes, **{f"head_{k}": v for k, v in head_notes.items()}}


def base_row(bench: Bench) -> dict[str, Any]:
    """Score the base itself on the same documents, in its own ids."""
    added = bench.source.added
    spelled = Spelled(added.spellings, added.num_base)
    bpb = {}
    for name, docs in bench.held_out.items():
        own = [spelled.write_out(ids)[0] for ids in docs.docs_ids]
        bpb[name] = score_docs(bench.base, own, docs.sizes_bytes, bench.args.max_tokens).bpb
    return {"method": "base", "seed": 0, "points": [{"step": 0, "bpb": bpb}]}


def measure(bench: Bench, candidate: Candidate, seed: int) -> dict[str, Any] | None:
    """Rows, training and scores of a candidate; None where time ran out before its end."""
    plan = bench.plan()
    begin_s = time.perf_counter()
    rows, notes = make_rows(bench, candidate, seed)
    rows_s = time.perf_counter() - begin_s
    bench.reporter.note(f"{candidate}, seed {seed}: rows in {rows_s:.1f} s {notes or ''}")
    if bench.args.rows_only:
        return None

    def tell(point: Point) -> None:
        shown = ", ".join(f"{name} {bpb:.4f}" for name, bpb in point.bpb.items())
        bench.reporter.note(
            f"{candidate}, seed {seed}, step {point.step}: {shown}, {point.time_s:.1f} s"
        )

    model = grow(bench.base, bench.source.added.num_base, rows).to(bench.args.device)
    mixture = bench.mixture(seed, plan)
    points = run_candidate(
        model,
        bench.source.added.num_base,
        mixture,
        bench.held_out,
        plan,
        tell=tell,
        out_of_time=bench.out_of_time,
    )
    return {
        "method": candidate.method,
        "head_method": candidate.head_method,
        "seed": seed,
        "rows_s": round(rows_s, 2),
        "notes": notes,
        "complete": points[-1].step == plan.steps,
        "points": [point._asdict() for point in points],
    }


def todo(bench: Bench) -> Iterator[tuple[Candidate | None, int]]:
    """What is not in the log yet; None is the base itself."""
    done = set()
    if bench.log.is_file():
        rows = [json.loads(line) for line in bench.log.read_text("utf-8").splitlines()]
        done = {(r["method"], r.get("head_method"), r["seed"]) for r in rows if r.get("complete")}
        done |= {("base", None, 0)} if any(r["method"] == "base" for r in rows) else set()
    if ("base", None, 0) not in done and not bench.args.rows_only:
        yield None, 0
    for seed in map(int, bench.args.seeds.split(",")):
        for candidate in bench.candidates():
            if (candidate.method, candidate.head_method, seed) not in done:
                yield candidate, seed


def common(bench: Bench) -> dict[str, Any]:
    """What every row says."""
    plan = bench.plan()
    device = bench.args.device
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    return {
        "bench": "embed",
        "model": bench.args.model.name,
        "num_base": bench.source.added.num_base,
        "num_added": len(bench.source.added),
        "tied": bench.tied,
        "row_steps": plan.row_steps,
        "all_steps": plan.all_steps,
        "tokens_per_step": plan.batch_size * plan.seq_len,
        "row_lr": plan.row_lr,
        "body_lr": plan.body_lr,
        "device": name,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def main() -> None:
    """Measure what is not measured yet, then draw and tell."""
    bench = Bench(parse_arguments())
    head = common(bench)
    for candidate, seed in todo(bench):
        if bench.out_of_time():
            bench.reporter.note(
                f"out of time: {candidate}, seed {seed} and those behind it left out"
            )
            break
        row = base_row(bench) if candidate is None else measure(bench, candidate, seed)
        if row is not None:
            with bench.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**head, **row}) + "\n")
    if bench.log.is_file():
        print(write_figures(bench.log, bench.args.out))


if __name__ == "__main__":
    main()
