"""A real model learns Chinese: SmolLM2-135M, extended and not, at equal text and equal compute.

Everything goes through `training.fit`: AdamW, warm-up and cosine, gradients clipped to 1, the
body in bfloat16 with float32 masters, embed_tokens (tied to the head) in float32. A run reads the
same documents in the same order whatever its tokenizer is (`real_model_text`), and is scored on
held-out Chinese (book, wiki) and English (WikiText-2) in bits per byte before step 0 and along
the way, in windows of as many tokens as it is trained on.

A plan (`--plan FILE`, JSON) lists runs; see `DEFAULTS` for what a run may say. `text_mb` are MB
of the language's text; `compute_of` takes the steps that cost as many operations as another
run's; `best_of` takes the fields of the run among those named that ended with the fewest bits
per byte of Chinese. With `--seconds`, steps are timed first and every `text_mb` of a run that has
`scale` is multiplied so that all runs fit; a run that would not fit is left out, and says so.

Data:  folders as `real_model_pack.py unpack` writes them: model, tokens-base, tokens-ext, rows.
Run:   python benchmarks/real_model.py --data DIR --plan FILE --out DIR --device cuda --seconds 300
Out:   OUT/real_model.json, written anew at every evaluation.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_model_net import Net, as_batch, describe, read_model, time_steps
from real_model_rows import first_rows
from real_model_text import Stream, held_out, make_stream, order_documents

from lingraft.manifest import Identity
from lingraft.progress import SilentReporter
from lingraft.shards import open_folder
from lingraft.store import Draft
from lingraft.training import LoopPlan, StepLog, fit

SETS = ("book", "wiki", "en")
CHINESE = ("book", "wiki")


@dataclass
class Run:
    """One training run of a plan."""

    name: str
    model: str
    """`base` or `ext`."""
    init: str = "mean"
    """First rows of the added pieces (`ext` only)."""
    text_mb: float = 4.0
    scale: bool = True
    extra: bool = False
    """Not reckoned with when texts are scaled: done only if time is left."""
    compute_of: str = ""
    best_of: dict[str, list[str]] = field(default_factory=dict)
    """Field -> runs; the field is that of the best of them."""
    lr: float = 1e-3
    added_lr: float = 2.0
    """Peak rate of added rows, in times of `lr`."""
    rows_frac: float = 0.05
    """Share of the steps in which only the added rows are trained."""
    evals: int = 6
    seed: int = 0
    samples: int = 0
    """Tokens of continuation to write at the end; 0: none."""


@dataclass
class Plan:
    """What all runs share."""

    seq_len: int
    rows: dict[str, int]
    """Sequences of a step, by model; so chosen that steps read about equal text."""
    micro_rows: int
    replay: float
    """Bytes of English for one byte of Chinese."""
    runs: list[Run]
    warmup_frac: float = 0.05
    weight_decay: float = 0.1
    score_batch_tokens: int = 65_536


class _OutOfTimeError(Exception):
    pass


class Bench:
    """Data on the device, and the results so far."""

    def __init__(self, args: argparse.Namespace, plan: Plan) -> None:
        """Read model and tokens."""
        self.args, self.plan = args, plan
        self.start = time.perf_counter()
        self.device = torch.device(args.device)
        self.dtype = getattr(torch, args.dtype)
        self.config, self.tensors = read_model(args.data / "model", self.device)
        self.folders = {m: open_folder(args.data / f"tokens-{m}") for m in ("base", "ext")}
        self.sets = {m: held_out(f, SETS, args.eval_docs) for m, f in self.folders.items()}
        self.prompts = json.loads((args.data / "prompts.json").read_text())
        self.compiled = False
        self.step_s: dict[str, float] = {}
        self.eval_s: dict[str, float] = {}
        self.results: dict[str, Any] = {
            "bench": "real_model", "device": describe(self.device), "dtype": args.dtype,
            "plan": asdict(plan), "runs": {}, "init_s": {}, "skipped": [],
        }  # fmt: skip
        self.say(f"ready on {describe(self.device)}")

    def say(self, text: str) -> None:
        """Print a line with the time."""
        print(f"[{self.elapsed():6.1f} s] {text}", flush=True)

    def elapsed(self) -> float:
        """Seconds since the begin."""
        return time.perf_counter() - self.start

    def left(self) -> float:
        """Seconds that are left."""
        return float(self.args.seconds) - self.elapsed()

    def write(self) -> None:
        """Write what is known so far."""
        self.results["elapsed_s"] = self.elapsed()
        path = self.args.out / "real_model.json"
        path.with_suffix(".part").write_text(json.dumps(self.results, indent=1))
        path.with_suffix(".part").replace(path)

    def net(self, model: str, init: str) -> Net:
        """Make a model, with first rows of a method."""
        rows = None
        if model == "ext":
            base_VD = self.tensors["model.embed_tokens.weight"]
            rows, seconds = first_rows(init, self.args.data, base_VD, self.args.init_seconds)
            self.results["init_s"].setdefault(init, seconds)
        return Net(self.config, self.tensors, rows, self.dtype, self.compiled)

    def stream(self, model: str, text_mb: float, seed: int) -> Stream:
        """Lay the training documents of a run end to end."""
        names = ["zh-train", "en-train"][: 2 if self.plan.replay else 1]
        files = [self.folders[model].file(name) for name in names]
        sizes = [np.asarray(f.sizes_bytes) for f in files]
        order = order_documents(sizes, [1.0, self.plan.replay][: len(files)], text_mb * 1e6, seed)
        index = self.folders[model].index.tokenizer
        return make_stream(files, order, index.bos_id == index.eos_id)

    def measure(self) -> None:
        """Time a step of each model and an evaluation; try compiled layers if asked for."""
        self._time_models("eager")
        if self.args.compile:
            eager = dict(self.step_s)
            start = self.elapsed()
            try:
                self.compiled = True
                self._time_models("compiled")
                self.compiled = sum(self.step_s.values()) < sum(eager.values())
            except Exception as error:
                self.compiled = False
                self.say(f"compiling failed, going on without: {error!r:.500}")
            if not self.compiled:
                self.step_s = eager
            self.say(f"compiled layers: {self.compiled}; {self.elapsed() - start:.0f} s to try")
        self.results["compiled"] = self.compiled
        self.results["step_s"], self.results["eval_s"] = self.step_s, self.eval_s

    def _time_models(self, label: str) -> None:
        plan = self.plan
        for model in ("base", "ext"):
            net = self.net(model, "mean")
            stream = self.stream(model, 1.0, 0)
            batch = as_batch(stream.ids, plan.rows[model], plan.seq_len, 0)
            seconds = time_steps(net, batch, plan.micro_rows, self.args.timed_steps)
            self.step_s[model] = seconds * 1.03  # the optimizer's part; a guess, see step_s of runs
            rate = plan.rows[model] * plan.seq_len / seconds
            if label == "eager":
                net.score(self.sets[model], plan.seq_len, plan.score_batch_tokens)  # warm
                start = time.perf_counter()
                net.score(self.sets[model], plan.seq_len, plan.score_batch_tokens)
                self.eval_s[model] = time.perf_counter() - start
            self.say(f"{label} {model}: {seconds:.4f} s a step, {rate:,.0f} tokens/s")
            del net

    def steps_of(self, run: Run) -> int:
        """Steps of a run: from its text, or from the operations of another run."""
        tokens = self.plan.rows[run.model] * self.plan.seq_len
        if run.compute_of:
            other = self.results["runs"].get(run.compute_of)
            if other is None:
                raise _OutOfTimeError(f"run {run.compute_of} was not done")
            per_token = self.net(run.model, "mean").flops_per_token(self.plan.seq_len)
            return max(int(other["total_flops"] / per_token / tokens), 1)
        return max(len(self.stream(run.model, run.text_mb, run.seed).ids) // tokens, 1)

    def scale_texts(self) -> None:
        """Multiply the text of runs that have `scale`, so that the plan fits the time."""
        fixed = scalable = 0.0
        for run in (run for run in self.plan.runs if not run.extra):
            text = run.text_mb
            if run.compute_of:  # about the text that the other model's time reads
                other = next(r for r in self.plan.runs if r.name == run.compute_of)
                text = other.text_mb * self._cost_mb(other.model) / self._cost_mb(run.model)
            seconds = text * self._cost_mb(run.model)
            fixed += (run.evals + 1) * self.eval_s[run.model] + 0.5
            if run.scale:
                scalable += seconds
            else:
                fixed += seconds
        factor = max((self.left() * 0.95 - fixed) / max(scalable, 1e-9), 0.02)
        factor = min(factor, self.args.most_scale)
        self.say(f"plan: {fixed:.0f} s fixed, {scalable:.0f} s of text; times {factor:.3f}")
        self.results["scale"] = factor
        for run in self.plan.runs:
            run.text_mb *= factor if run.scale else 1.0

    def _cost_mb(self, model: str) -> float:
        """Seconds to train on a MB of the language's text."""
        stream = self.stream(model, 1.0, 0)
        return len(stream.ids) / (self.plan.rows[model] * self.plan.seq_len) * self.step_s[model]

    def carry_out(self, run: Run) -> None:
        """Do a run, if the time allows."""
        for key, names in run.best_of.items():
            done = {n: r for n in names if (r := self.results["runs"].get(n)) and r["whole"]}
            if not done:
                raise _OutOfTimeError(f"none of {names} was done")
            best = min(done, key=lambda n: done[n]["chinese_bpb"])
            setattr(run, key, done[best]["run"][key])
        steps = self.steps_of(run)
        if self.args.seconds < 1e8:
            needed = steps * self.step_s[run.model] + (run.evals + 1) * self.eval_s[run.model]
            if needed > self.left() * 1.05:
                raise _OutOfTimeError(f"needs {needed:.0f} s, {self.left():.0f} s are left")
        _Training(self, run, steps).carry_out()


class _Training:
    """One run while it runs."""

    def __init__(self, bench: Bench, run: Run, steps: int) -> None:
        self.bench, self.run, self.steps = bench, run, steps
        plan = bench.plan
        self.rows, self.seq_len = plan.rows[run.model], plan.seq_len
        self.step_tokens = self.rows * self.seq_len
        text_mb = run.text_mb
        stream = bench.stream(run.model, text_mb, run.seed)
        while len(stream.ids) < steps * self.step_tokens + 1 and not text_mb > 1e4:
            text_mb *= 1.1
            stream = bench.stream(run.model, text_mb, run.seed)
        self.stream = stream
        self.net = bench.net(run.model, run.init)
        self.only_rows = round(run.rows_frac * steps) if run.model == "ext" else 0
        self.due = {round(steps * (n + 1) / run.evals) for n in range(run.evals)}
        self.train_s, self.mark = 0.0, 0.0
        self.losses: list[float] = []
        self.record: dict[str, Any] = {
            "run": asdict(run), "steps": steps, "whole": False, "curve": [],
            "step_tokens": self.step_tokens, "rows_only_steps": self.only_rows,
        }  # fmt: skip

    def carry_out(self) -> None:
        bench, run = self.bench, self.run
        bench.results["runs"][run.name] = self.record
        self.evaluate(0)
        loop = LoopPlan(
            steps=self.steps, warmup_frac=bench.plan.warmup_frac, checkpoint_every=0,
            beta2=0.98, tokens_per_step=self.step_tokens, label=run.name,
        )  # fmt: skip
        identity = Identity(stage="bench", stage_version=1, settings={}, seed=run.seed, inputs={})
        draft = Draft(bench.args.out, bench.args.out, identity, SilentReporter())
        groups = self.net.groups(run.lr, run.lr * run.added_lr, bench.plan.weight_decay)
        self.mark = time.perf_counter()
        fit(groups, loop, self.backward, draft, self.on_step)
        self.record["whole"] = True
        self.record["at_equal_text_context"] = self.equal_context()
        if run.samples and bench.prompts:
            prompts = bench.prompts[run.model]
            self.record["samples"] = self.net.continue_greedily(prompts, run.samples)
        bench.write()

    def backward(self, step: int) -> float:
        batch = as_batch(self.stream.ids, self.rows, self.seq_len, step)
        return self.net.backward(batch, self.bench.plan.micro_rows, step < self.only_rows)

    def on_step(self, step: int, log: StepLog) -> None:
        self.losses.append(log.loss)
        if self.bench.left() < -20:
            raise _OutOfTimeError("stopped in the middle: the time is up")
        if step + 1 in self.due:
            self.evaluate(step + 1)

    def evaluate(self, step: int) -> None:
        if self.bench.device.type == "cuda":
            torch.cuda.synchronize()
        if step:
            self.train_s += time.perf_counter() - self.mark
        start = time.perf_counter()
        plan, tokens = self.bench.plan, step * self.step_tokens
        scores = self.net.score(
            self.bench.sets[self.run.model], self.seq_len, plan.score_batch_tokens
        )
        per_token = self.net.flops_per_token(self.seq_len)
        row = {
            "step": step, "tokens": tokens, "text_mb": self.stream.bytes_at(tokens) / 1e6,
            "train_s": self.train_s, "flops": per_token * tokens,
            "loss": float(np.mean(self.losses)) if self.losses else None,
            "scores": scores, "eval_s": time.perf_counter() - start,
        }  # fmt: skip
        self.losses = []
        chinese = float(np.mean([scores[name]["bpb"] for name in CHINESE]))
        self.record["curve"].append(row)
        self.record |= {
            "chinese_bpb": chinese, "total_flops": row["flops"], "train_s": self.train_s,
            "tokens_per_s": tokens / self.train_s if step else None,
        }  # fmt: skip
        shown = " ".join(f"{name} {scores[name]['bpb']:.4f}" for name in SETS)
        self.bench.say(f"{self.run.name} step {step}/{self.steps} {row['text_mb']:.1f} MB: {shown}")
        self.bench.write()
        self.mark = time.perf_counter()

    def equal_context(self) -> dict[str, Any]:
        """Scores with windows of as many bytes of Chinese as the base's windows hold."""
        sets = self.bench.sets
        tokens = {m: sum(len(d) for n in CHINESE for d in sets[m][n][0]) for m in sets}
        seq_len = round(self.seq_len * tokens[self.run.model] / tokens["base"])
        plan = self.bench.plan
        scores = self.net.score(sets[self.run.model], seq_len, plan.score_batch_tokens)
        return {"window_tokens": seq_len, "scores": scores}


def read_plan(path: Path) -> Plan:
    """Read a plan."""
    raw = json.loads(path.read_text())
    raw["runs"] = [Run(**run) for run in raw["runs"]]
    return Plan(**raw)


def main() -> None:
    """Read the command line and carry the plan out."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "plan", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--most-scale", type=float, default=1.0)
    parser.add_argument("--timed-steps", type=int, default=8)
    parser.add_argument("--init-seconds", type=float, default=45)
    parser.add_argument("--eval-docs", type=int, default=10_000)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    bench = Bench(args, read_plan(args.plan))
    if args.seconds < 1e8 or args.compile:
        bench.measure()
    if args.seconds < 1e8:
        bench.scale_texts()
    for run in bench.plan.runs:
        try:
            bench.carry_out(run)
        except _OutOfTimeError as error:
            bench.say(f"{run.name}: {error}")
            bench.results["skipped"].append({"run": run.name, "why": str(error)})
        except Exception as error:
            bench.say(f"{run.name} FAILED: {error!r:.1500}")
            bench.results["skipped"].append({"run": run.name, "why": repr(error)})
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
        bench.write()
    bench.say("done")


if __name__ == "__main__":
    main()
