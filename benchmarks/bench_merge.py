"""Expand and merge a checkpoint that is larger than memory, against `cp` and the usual ways.

Contenders, each in a process of its own, whose memory is sampled every 20 ms:
    cp              `cp` of the files that the task rewrites; `cp+sync` with the disk waited for
    expand          lingraft.embed.expand: embed_tokens and lm_head grow, other files are linked
    merge           lingraft.merge.merge, without and with the comparison of logits
    hf-resize       transformers: load, resize_token_embeddings to 57,000 rows, save_pretrained;
                    without the draw from mean and covariance, its default, which alone takes
                    minutes and gigabytes
    peft-merge      transformers and PEFT: load, merge_and_unload, save_pretrained, bfloat16
The usual ways are run at 1, 2, 3 ... layers until one is killed, above --limit-gb of memory
("limit") or where the machine has less than 1.5 GiB left ("machine").
Timed: the work in the child, without imports; all files are synced before, the page cache is
dropped before each run where the system allows it. Ours syncs what it writes; cp does not.
Peaks: RssAnon is memory that only this process holds; VmRSS counts mapped and shared pages too;
the floor is what the child holds after its imports.
Data:  a Mixtral with true widths (4,096 and 14,336, 8 experts, 32,000 rows), --layers layers, in
    bfloat16 shards of 5 GB or less; normal numbers, std 0.02, from one stretch of 2^27 numbers
    that starts elsewhere for each tensor, seed 17. The adapter: LoRA of rank 64 on q, k, v, o, w1,
    w2, w3, with embed_tokens and lm_head whole, float32.
Run:   python benchmarks/bench_merge.py --tokenizer EXTENDED [--layers 7] [--runs 1]
           [--only cp,merge] [--folder DIR] >> benchmarks/results.jsonl
       EXTENDED: a folder that `lingraft tokenizer extend` made of Mixtral's tokenizer.
Row:   bench, contender, layers, model and written bytes, every time, peaks and processor time of
    the last run (imports included), killed, load before each run, machine, commit, versions.
Read:  ratios within one run only: a disk has good and bad hours. The load tells what else ran.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench_vocab import commit, tell

WIDTH, INNER, EXPERTS, ROWS, RANK = 4_096, 14_336, 8, 32_000, 64
SHARD_BYTES = 5 * 10**9
STRETCH = 1 << 27
_LEAST_AVAILABLE = 3 << 29  # below this the kernel may end any process of the machine
_LINEAR = {"q_proj": (WIDTH, WIDTH), "k_proj": (1_024, WIDTH), "v_proj": (1_024, WIDTH)}
_LINEAR["o_proj"] = (WIDTH, WIDTH)
_ROLES = {"w1": (INNER, WIDTH), "w2": (WIDTH, INNER), "w3": (INNER, WIDTH)}


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Give the published tensors of a Mixtral, in order."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (ROWS, WIDTH)}
    for n in range(layers):
        layer = f"model.layers.{n}"
        for name, shape in _LINEAR.items():
            found[f"{layer}.self_attn.{name}.weight"] = shape
        found[f"{layer}.block_sparse_moe.gate.weight"] = (EXPERTS, WIDTH)
        for expert in range(EXPERTS):
            for role, shape in _ROLES.items():
                found[f"{layer}.block_sparse_moe.experts.{expert}.{role}.weight"] = shape
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{norm}.weight"] = (WIDTH,)
    return {**found, "model.norm.weight": (WIDTH,), "lm_head.weight": (ROWS, WIDTH)}


def make_model(folder: Path, layers: int, tokenizer: Path) -> None:
    """Write the checkpoint."""
    import torch
    from transformers import MixtralConfig

    from lingraft.models import plan_shards, write_index
    from lingraft.weights import TensorEntry, write_shard

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(17)
    stretch = torch.empty(STRETCH, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
    entries = [TensorEntry(name, "BF16", shape) for name, shape in shapes(layers).items()]
    starts = {e.name: n * 7_919_993 % (STRETCH - 1) for n, e in enumerate(entries)}

    def pieces(entry: TensorEntry) -> Iterable[torch.Tensor]:
        start, left = starts[entry.name], entry.num_items
        while left:
            count = min(left, STRETCH - start, 1 << 23)
            piece = stretch[start : start + count]
            # Norms are ones; a random norm would make logits of a random model meaningless.
            yield torch.ones_like(piece) if "norm" in entry.name else piece
            left, start = left - count, (start + count) % STRETCH

    files = plan_shards(entries, SHARD_BYTES)
    for name, some in files.items():
        write_shard(folder / name, some, pieces)
    weight_map = {e.name: name for name, some in files.items() for e in some}
    write_index(folder, weight_map, sum(e.size_bytes for e in entries))
    config = MixtralConfig(
        vocab_size=ROWS,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_local_experts=EXPERTS,
        num_attention_heads=32,
        num_key_value_heads=8,
        architectures=["MixtralForCausalLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    for path in tokenizer.iterdir():
        shutil.copy(path, folder)


def make_adapter(folder: Path, layers: int) -> None:
    """Write the adapter, float32, with classic names."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(18)

    def random(*shape: int) -> torch.Tensor:
        return torch.empty(shape).normal_(0, 0.02, generator=generator)

    tensors = {}
    for name, shape in shapes(layers).items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if "_proj" in name or ".experts." in name:
            tensors[f"{module}.lora_A.weight"] = random(RANK, shape[1])
            tensors[f"{module}.lora_B.weight"] = random(shape[0], RANK)
        elif shape[0] == ROWS:
            tensors[f"{module}.weight"] = random(*shape)
    save_file(tensors, folder / "adapter_model.safetensors")
    targets = [*_LINEAR, *_ROLES]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 128}
    config |= {"target_modules": targets, "lora_dropout": 0.0, "bias": "none"}
    config |= {"modules_to_save": ["embed_tokens", "lm_head"], "base_model_name_or_path": ""}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def child(name: str, folder: Path, out: Path, tokenizer: Path) -> None:
    """Do one contender's work; tell when imports are done, and how long it took."""
    import torch

    model, adapter = folder / "model", folder / "adapter"
    work: Callable[[], object]
    if name == "expand":
        from lingraft.embed import expand

        work = partial(expand, model=model, tokenizer=tokenizer, out=out)
    elif name in ("merge", "merge+verify"):
        from lingraft.merge import merge

        work = partial(merge, model=model, adapter=adapter, out=out, verify="+" in name)
    else:
        from transformers import AutoModelForCausalLM

        work = partial(usual, name, AutoModelForCausalLM, model, adapter, out)
    torch.zeros(1)
    print("ready", flush=True)
    begin_s = time.monotonic()
    work()
    print(time.monotonic() - begin_s, flush=True)


def usual(name: str, loader: Any, model: Path, adapter: Path, out: Path) -> None:
    """Do as the libraries' documents say: everything in memory."""
    import torch

    loaded = loader.from_pretrained(model, dtype=torch.bfloat16)
    if name == "hf-resize":
        loaded.resize_token_embeddings(57_000, mean_resizing=False)
    else:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    loaded.save_pretrained(out, max_shard_size="5GB")


def available_bytes() -> int:
    """Memory that the machine can still give."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvail")) * 1024


class Watch(threading.Thread):
    """Samples the memory of a process, and kills it above a limit."""

    def __init__(self, pid: int, limit_bytes: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._limit = pid, limit_bytes
        self.peaks = {"RssAnon": 0, "VmRSS": 0}
        self.floor = 0
        self.killed = ""

    def _kill(self, why: str) -> None:
        if not self.killed:
            self.killed = why
            os.kill(self._pid, 9)

    def now(self) -> dict[str, int]:
        """Give bytes by the kernel's names."""
        try:
            text = Path(f"/proc/{self._pid}/status").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            return {}
        rows = (line.split() for line in text.splitlines())
        return {row[0][:-1]: int(row[1]) * 1024 for row in rows if row[0][:-1] in self.peaks}

    def run(self) -> None:
        """Sample until the process is gone."""
        while found := self.now():
            for key, size in found.items():
                self.peaks[key] = max(self.peaks[key], size)
            if found.get("RssAnon", 0) > self._limit:
                self._kill("limit")
            elif available_bytes() < _LEAST_AVAILABLE:
                self._kill("machine")
            time.sleep(0.02)


def run_child(
    name: str, folder: Path, out: Path, tokenizer: Path, limit_bytes: int
) -> dict[str, Any]:
    """Run one contender in a process, and watch it."""
    words = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    words += ["--out", str(out), "--tokenizer", str(tokenizer)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "the child's output is piped"
        ready = process.stdout.readline()
        watch = Watch(process.pid, limit_bytes)
        watch.floor = watch.now().get("RssAnon", 0)
        watch.start()
        rest = process.stdout.read().split()
        process.wait()
    ok = ready.strip() == "ready" and process.returncode == 0
    return {
        "time_s": round(float(rest[-1]), 2) if ok else None,
        "peak_anonymous_mb": round(watch.peaks["RssAnon"] / 1e6),
        "peak_rss_mb": round(watch.peaks["VmRSS"] / 1e6),
        "floor_anonymous_mb": round(watch.floor / 1e6),
        "killed": watch.killed,
        "exit": process.returncode,
    }


def copy(files: Sequence[Path], out: Path, *, sync: bool) -> dict[str, Any]:
    """Copy files with `cp`."""
    out.mkdir(parents=True)
    begin_s = time.monotonic()
    subprocess.run(["cp", *map(str, files), str(out)], check=True)
    if sync:
        subprocess.run(["sync", "-f", str(out)], check=True)
    return {"time_s": round(time.monotonic() - begin_s, 2)}


def settle(folder: Path) -> bool:
    """Bring what is written to the disk, and drop the page cache; tell whether that could be."""
    subprocess.run(["sync", "-f", str(folder)], check=True)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1", encoding="ascii")
    except OSError:
        for path in folder.rglob("*.safetensors"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return False
    return True


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files."""
    return sum(path.stat().st_size for path in paths)


class Bench:
    """Runs contenders and prints their rows."""

    def __init__(self, folder: Path, tokenizer: Path, limit_bytes: int, runs: int) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        self._limit, self._runs = limit_bytes, runs

    def make(self, layers: int) -> None:
        """Write model and adapter."""
        shutil.rmtree(self._folder, ignore_errors=True)
        tell(f"writing a model of {layers} layers")
        make_model(self._folder / "model", layers, self._tokenizer.parent / "base")
        make_adapter(self._folder / "adapter", layers)

    @property
    def files(self) -> list[Path]:
        """The model's weight files."""
        return sorted((self._folder / "model").glob("*.safetensors"))

    def row(self, name: str, layers: int, rewritten: Sequence[Path]) -> dict[str, Any]:
        """Run one contender, print its row, and give it."""
        results, loads = [], []
        written_bytes = 0
        for _ in range(self._runs):
            out = self._folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            dropped = settle(self._folder)
            loads.append(round(os.getloadavg()[0], 2))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            if name.startswith("cp"):
                results.append(copy(rewritten, out, sync="sync" in name))
            else:
                results.append(run_child(name, self._folder, out, self._tokenizer, self._limit))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            results[-1]["user_s"] = round(after.ru_utime - before.ru_utime, 1)
            results[-1]["system_s"] = round(after.ru_stime - before.ru_stime, 1)
            found = [p for p in out.rglob("*.safetensors") if p.stat().st_nlink == 1]
            written_bytes = size_of(found)
            shutil.rmtree(out, ignore_errors=True)
            for draft in self._folder.glob(".draft-*"):
                shutil.rmtree(draft)
        times = [result["time_s"] for result in results if result["time_s"]]
        record = {
            "bench": "merge",
            "contender": name,
            "layers": layers,
            "model_bytes": size_of(self.files),
            "written_bytes": written_bytes,
            "times_s": times,
            "mb_per_s": round(written_bytes / 1e6 / min(times), 1) if times else None,
            **{key: value for key, value in results[-1].items() if key != "time_s"},
            "cache_dropped": dropped,
            "load_before": loads,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "commit": commit(),
            "versions": versions(),
        }
        print(json.dumps(record), flush=True)
        tell(f"{name}, {layers} layers: {record['times_s']} s, {results[-1]}")
        return record


def versions() -> dict[str, str]:
    """Name the libraries that take part."""
    from importlib.metadata import version

    names = ("torch", "transformers", "peft", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default="cp,cp+sync,expand,merge,merge+verify,usual")
    parser.add_argument("--limit-gb", type=float, default=20)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", default="")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder, args.out, args.tokenizer)
        return
    only = args.only.split(",")
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        bench = Bench(Path(scratch) / "m", args.tokenizer, int(args.limit_gb * 1e9), args.runs)
        run_all(bench, args.layers, only)


def run_all(bench: Bench, layers: int, only: Sequence[str]) -> None:
    """Run the contenders at full size, then the usual ways at ever larger ones."""
    if set(only) - {"usual"}:
        bench.make(layers)
        files = bench.files
        for name in ("cp", "cp+sync", "merge", "merge+verify"):
            if name in only:
                bench.row(name, layers, files)
        if "expand" in only:
            grown = [files[0], files[-1]]  # embed_tokens is in the first, lm_head in the last
            for name in ("cp two files", "cp two files+sync", "expand"):
                bench.row(name, layers, grown)
    if "usual" not in only:
        return
    alive = {"hf-resize": "expand", "peft-merge": "merge"}
    for count in range(1, layers + 1):
        if not alive:
            return
        bench.make(count)
        for name, ours in sorted(alive.items()):
            killed = not bench.row(name, count, bench.files)["times_s"]
            bench.row(ours, count, bench.files)
            if killed:
                del alive[name]


if __name__ == "__main__":
    main()
