"""Time training steps of a Mixtral-shaped model, ours and a peer's, with memory and roofline.

Model: random weights of true widths (--size mixtral) or small ones, made tensor by tensor on
       the device and packed by the real builder; 57,000 pieces. LoRA of rank 64, alpha 128 and
       dropout 0.05 on q, k, v, o, w1, w2, w3; embed_tokens and lm_head are trained.
Data:  random tokens, rows of `seq_len`, one document a row unless told. Random routers spread
       tokens nearly evenly over experts (the real load is in the row).
Step:  one micro-batch: forward, loss, backward, clip to 1.0, fused AdamW. Timed: the step, by
       the host's clock around a synchronised device, after one that does not count.
Peer:  see train_peers.py. Same sizes, tokens and trained roles; deviations are in its row.
Run:   python benchmarks/bench_train.py --plan PLAN --out bench_train.json
       On a CPU: --device cpu --size small --plan benchmarks/train_cpu_plan.json
Plan:  JSON, in a file or on the line: [{"who": "ours", "layers": 32, "tokens": [8192, 16384]}];
       also `steps`, `seq_len`, `rank`, `dropout`, `dtype`, `path` (plain, fused), `recompute`,
       `attention` and `documents` (isolated ones of equal size in a row; ours alone), and
       `profile`, the number of tokens whose step is profiled. On a CPU (--device cpu) each
       configuration has a process of its own, whose peak memory is in its rows.
Row:   each number of tokens: tokens/s median, minimum and maximum, parts of a step, peak memory,
       operations a token, TFLOP/s, share of the roofline of --tflops. Written after each one; a
       configuration that does not fit is a row too.
Read:  ratios within one run on one machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from random_model import RandomModel
from train_peers import Peer

from lingraft.losses import linear_cross_entropy
from lingraft.mixture import Batch
from lingraft.train.lora import use_path
from lingraft.train.varlen import model_inputs

SIZES: dict[str, dict[str, Any]] = {
    "mixtral": {},
    "small": {
        "hidden_size": 256,
        "intermediate_size": 896,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 8_000,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 500,
    },
}


class Contender(Protocol):
    """A model that can take a step."""

    facts: dict[str, Any]

    def parts(self, ids_BL: torch.Tensor) -> Iterator[str]:
        """Do one step, part by part; give the name of each part that is done."""


class Ours:
    """lingraft's own builder and step."""

    def __init__(self, source: RandomModel, spec: dict[str, Any], device: torch.device) -> None:
        """Build."""
        from lingraft.train.build import build
        from lingraft.train.settings import LoraSettings
        from lingraft.train.storage import bytes_per_parameter

        start = time.perf_counter()
        self._path = spec.get("path", "auto")
        self._attention = spec.get("attention", "sdpa")
        self._documents = spec.get("documents", 1)
        self._inputs: dict[str, Any] = {}
        lora = LoraSettings(rank=spec.get("rank", 64), dropout=spec.get("dropout", 0.05))
        folder: Any = source
        self.built = build(
            folder,
            lora,
            quantize="nf4",
            dtype=spec.get("dtype", "bfloat16"),
            seed=3,
            device=device,
            attention=self._attention,
        )
        if spec.get("recompute", True):
            self.built.recompute_activations()
        self.built.model.train()
        self._parameters = [*self.built.lora.values(), *self.built.embed.values()]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-5, fused=True)
        synchronize(device)
        self.facts = {
            "build_s": round(time.perf_counter() - start, 2),
            "lora_parameters": sum(p.numel() for p in self.built.lora.values()),
            "embed_parameters": sum(p.numel() for p in self.built.embed.values()),
            "frozen_parameters": self.built.frozen_parameters,
            "bits_per_frozen_parameter": round(self.built.bits_per_frozen_parameter, 4),
            "bytes_per_parameter": {
                name: round(size, 4) for name, size in bytes_per_parameter(self.built).items()
            },
        }

    def parts(self, ids_BL: torch.Tensor) -> Iterator[str]:
        """Do one step."""
        with use_path(self._path):
            yield from self._parts(ids_BL)

    def _parts(self, ids_BL: torch.Tensor) -> Iterator[str]:
        model = self.built.model
        hidden = model.model(**self._inputs, use_cache=False).last_hidden_state
        yield "forward"
        labels_BL = ids_BL.roll(-1, 1)
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, labels_BL.flatten())
        yield "loss"
        loss.backward()  # type: ignore[no-untyped-call]
        yield "backward"
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.last_loss = float(loss.detach())
        yield "optimizer"

    def take(self, ids_BL: torch.Tensor) -> None:
        """Get the tokens of the steps that follow; not timed, as a trainer's come from files."""
        rows, length = ids_BL.shape
        assert length % self._documents == 0, f"{length} tokens, {self._documents} documents"
        positions = (torch.arange(length) % (length // self._documents)).repeat(rows, 1)
        ids = ids_BL.cpu().numpy()
        batch = Batch(ids, ids, positions.numpy())
        self._inputs = model_inputs(self._attention, batch, ids_BL.device)

    def expert_load(self, ids_BL: torch.Tensor) -> dict[str, float]:
        """Rows of the fullest and the emptiest expert, over the mean; worst of all layers."""
        loads: list[torch.Tensor] = []

        def count(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            groups = module.gate_up.frozen.num_groups
            loads.append(torch.bincount(inputs[1].flatten(), minlength=groups).float())

        experts = [layer.mlp.experts for layer in self.built.model.model.layers]
        hooks = [module.register_forward_pre_hook(count) for module in experts]
        with torch.no_grad():
            self.built.model.model(input_ids=ids_BL, use_cache=False)
        for hook in hooks:
            hook.remove()
        shares = torch.stack(loads)
        shares = shares / shares.mean(1, keepdim=True)
        return {"max": round(float(shares.max()), 3), "min": round(float(shares.min()), 3)}


def operations_per_token(config: dict[str, Any], rank: int, seq_len: int) -> dict[str, float]:
    """Count what our step needs for documents of `seq_len` tokens, multiply and add apart.

    Attention runs forward twice (its layer is recomputed); gate and up twice, down once; the
    flash kernel's backward is 2.5 forwards; an adapter's narrow sides are made again.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    layers, active = config["num_hidden_layers"], config["num_experts_per_tok"]
    narrow = width * config["num_key_value_heads"] // config["num_attention_heads"]
    shapes = [(width, width), (width, narrow), (width, narrow), (width, width)]
    attention_maps = sum(6 * i * o + rank * (10 * i + 8 * o) for i, o in shapes)
    experts = active * (6 * 2 * width * inner + 4 * width * inner)
    adapters = active * rank * (2 * (8 * width + 8 * inner) + 8 * inner + 6 * width)
    flash = 4.5 * 4 * seq_len * width / 2
    counts = {
        "attention maps": layers * attention_maps,
        "attention": layers * flash,
        "experts": layers * experts,
        "experts' adapters": layers * adapters,
        "routers": layers * 8 * width * config["num_local_experts"],
        "head": 6 * config["vocab_size"] * width,
    }
    return {**counts, "all": sum(counts.values())}


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Runner:
    """Carries out a plan and writes rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Start the clock."""
        self.options, self.device = options, torch.device(options.device)
        self.start = time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        self.machine = f"{platform.machine()}, {os.cpu_count()} cores"
        if self.device.type == "cuda":
            self.machine = torch.cuda.get_device_name()

    def carry_out(self, plan: list[dict[str, Any]]) -> None:
        """Run every configuration; none stops the others."""
        for spec in plan:
            if self.device.type == "cpu" and plan[1:]:
                self._run_apart(spec)
                continue
            with tempfile.TemporaryDirectory() as folder:
                self._run(spec, Path(folder))
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _run_apart(self, spec: dict[str, Any]) -> None:
        """Run one configuration in a process of its own."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            left_s = self.options.seconds - (time.perf_counter() - self.start)
            options = ["--plan", json.dumps([spec]), "--out", str(out), "--device", "cpu"]
            options += ["--size", self.options.size, "--seconds", str(left_s)]
            options += ["--tflops", str(self.options.tflops)]
            command = [sys.executable, __file__, *options]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            rows = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
            for row in rows or [{**spec, "outcome": f"ended with code {done.returncode}"}]:
                self._put(row)

    def _run(self, spec: dict[str, Any], folder: Path) -> None:
        """Build once; then a row for each number of tokens."""
        common = {"who": spec["who"], "layers": spec["layers"], "machine": self.machine}
        if self._is_late():
            self._put({**common, **spec, "outcome": "not run: out of time"})
            return
        sizes = {**SIZES[self.options.size], "num_hidden_layers": spec["layers"]}
        source = RandomModel(folder, self.device, **sizes)
        kind: Callable[..., Contender] = Ours if spec["who"] == "ours" else Peer
        try:
            contender = kind(source, spec, self.device)
        except Exception as error:
            traceback.print_exc(limit=-4)
            self._put({**common, **spec, "outcome": f"not built: {error}"[:500]})
            return
        gc.collect()
        gc.freeze()  # a collection over all of transformers takes as long as a layer
        for tokens in spec["tokens"]:
            row = {**common, **spec, "tokens": tokens, **contender.facts}
            if self._is_late():
                self._put({**row, "outcome": "not run: out of time"})
                continue
            try:
                self._put({**row, **self._measure(contender, source.config, spec, tokens)})
            except torch.OutOfMemoryError as error:
                self._put({**row, "outcome": f"out of memory: {error}"[:300]})
            except Exception as error:
                traceback.print_exc(limit=-4)
                self._put({**row, "outcome": f"failed: {error}"[:500]})
            self._forget_gradients(contender)
        gc.unfreeze()

    def _measure(
        self, contender: Contender, config: dict[str, Any], spec: dict[str, Any], tokens: int
    ) -> dict[str, Any]:
        seq_len = min(spec.get("seq_len", 2048), tokens)
        generator = torch.Generator().manual_seed(tokens)
        shape = (tokens // seq_len, seq_len)
        ids = torch.randint(config["vocab_size"], shape, generator=generator).to(self.device)
        if isinstance(contender, Ours):
            contender.take(ids)
        self._step(contender, ids)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        steps = [self._step(contender, ids) for _ in range(spec.get("steps", 3))]
        rates = [tokens / sum(parts.values()) for parts in steps]
        rate = statistics.median(rates)
        seen = seq_len // spec.get("documents", 1)
        counts = operations_per_token(config, spec.get("rank", 64), seen)
        row: dict[str, Any] = {
            "outcome": "done",
            "seq_len": seq_len,
            "tokens_per_s": round(rate, 1),
            "tokens_per_s_all": [round(r, 1) for r in rates],
            "parts_ms": {
                name: round(1e3 * statistics.median(step[name] for step in steps), 1)
                for name in steps[0]
            },
            "gflop_per_token": round(counts["all"] / 1e9, 2),
            "tflops": round(rate * counts["all"] / 1e12, 1),
            "roofline_share": round(rate * counts["all"] / (self.options.tflops * 1e12), 3),
            "loss": getattr(contender, "last_loss", None),
        }
        if self.device.type == "cuda":
            row["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            row["peak_reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 2)
        else:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # getrusage(2)
            row["peak_process_gb"] = round(most / 1e9, 3)
        if isinstance(contender, Ours) and tokens == spec["tokens"][0]:
            row["expert_load"] = contender.expert_load(ids)
        if spec.get("profile") == tokens:
            row["profile_ms"] = self._profile(contender, ids)
        return row

    def _step(self, contender: Contender, ids: torch.Tensor) -> dict[str, float]:
        synchronize(self.device)
        times, last = {}, time.perf_counter()
        for part in contender.parts(ids):
            synchronize(self.device)
            now = time.perf_counter()
            times[part], last = now - last, now
        return times

    def _profile(self, contender: Contender, ids: torch.Tensor) -> list[tuple[str, float, int]]:
        activity = torch.profiler.ProfilerActivity
        wanted = activity.CUDA if self.device.type == "cuda" else activity.CPU
        with torch.profiler.profile(activities=[wanted]) as profile:
            for _ in contender.parts(ids):
                pass
            synchronize(self.device)
        field = "self_device_time_total" if wanted == activity.CUDA else "self_cpu_time_total"
        rows = [
            (event.key[:70], round(getattr(event, field) / 1e3, 2), event.count)
            for event in profile.key_averages()
        ]
        return sorted(rows, key=lambda row: -row[1])[:40]

    def _forget_gradients(self, contender: Contender) -> None:
        gc.collect()
        optimizer = getattr(contender, "_optimizer", None)
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _is_late(self) -> bool:
        return bool(time.perf_counter() - self.start > self.options.seconds)

    def _put(self, row: dict[str, Any]) -> None:
        row["at_s"] = round(time.perf_counter() - self.start, 1)
        self.rows.append(row)
        shown = {k: v for k, v in row.items() if k not in ("profile_ms", "bytes_per_parameter")}
        print(json.dumps(shown), flush=True)
        if self.options.out:
            Path(self.options.out).write_text(json.dumps(self.rows, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", default="", help="JSON list of configurations, or a file of it")
    parser.add_argument("--who", default="ours", help="ours, peer")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=8192, help="of a micro-batch")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="mixtral", choices=sorted(SIZES))
    parser.add_argument("--seconds", type=float, default=240, help="start nothing after them")
    parser.add_argument("--tflops", type=float, default=800, help="the roofline's rate")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    text = options.plan
    if text and not text.lstrip().startswith("["):
        text = Path(text).read_text(encoding="utf-8")
    single = [{"who": options.who, "layers": options.layers, "tokens": [options.tokens]}]
    torch.manual_seed(17)
    Runner(options).carry_out(json.loads(text) if text else single)


if __name__ == "__main__":
    main()
