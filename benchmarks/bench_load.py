"""Time the building of a model to train, with its packed body anew, kept and read.

Contenders, each in a process of its own whose memory is sampled every 20 ms:
    anew    train.build.build, as without a cache
    first   the same through lingraft.packedcache, which packs and keeps
    kept    the same, read from what `first` kept
The packed parts of all three must be equal, bit for bit: a CRC-32 over all of them is compared.
Timed: the call in the child, imports not; embed_tokens, lm_head and adapters (LoRA of rank 64 on
all roles, float32) are made in it, too. Also the processor time of the call, which says more where
other programs run. The model's and the cache's files leave the page cache before each run.
Data:  a Mixtral with true widths, --layers layers, 32,000 rows, bfloat16, as bench_merge makes it.
Run:   python benchmarks/bench_load.py [--layers 1] [--runs 1] [--folder DIR]
           >> benchmarks/results.jsonl
Row:   bench, contender, layers, model and kept bytes, every time and processor time, peaks of the
    last run, threads, load before each run, machine, commit, versions.
Read:  ratios within one run only, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from bench_merge import Watch, make_model, size_of, versions
from bench_vocab import commit, tell

CONTENDERS = ("anew", "first", "kept")


def child(name: str, folder: Path) -> None:
    """Build once; tell when imports are done, how long it took, and what the packed parts are."""
    import torch

    from lingraft.models import ModelFolder
    from lingraft.packedcache import Pack, open_cache
    from lingraft.train.build import Built, build
    from lingraft.train.settings import LoraSettings

    device = torch.device("cpu")

    def make(pack: Pack | None = None) -> Built:
        options: dict[str, Any] = {} if pack is None else {"pack": pack}
        lora, plain = LoraSettings(), "bfloat16"
        return build(files, lora, quantize="nf4", dtype=plain, seed=1, device=device, **options)

    def note(text: str) -> None:
        assert "WARNING" not in text, text
        tell(text)

    print("ready", flush=True)
    begin_s, begin_cpu_s = time.monotonic(), time.process_time()
    files = ModelFolder(folder / "model")
    if name == "anew":
        built = make()
    else:
        built = open_cache(folder / "kept", files, device, note).build(make)
    time_s, cpu_s = time.monotonic() - begin_s, time.process_time() - begin_cpu_s
    found = 0
    for stack in built.stacks:
        for part in stack.buffers():
            found = zlib.crc32(part.reshape(-1).view(torch.uint8).numpy().data, found)
    print(time_s, cpu_s, found, flush=True)


def run_child(name: str, folder: Path, limit_bytes: int) -> dict[str, Any]:
    """Run one contender in a process, and watch it."""
    words = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "the child's output is piped"
        ready = process.stdout.readline()
        watch = Watch(process.pid, limit_bytes)
        watch.start()
        time_s, cpu_s, found = process.stdout.read().split()
        process.wait()
    assert (ready.strip(), process.returncode) == ("ready", 0), f"{name} failed"
    return {
        "time_s": round(float(time_s), 2),
        "cpu_s": round(float(cpu_s), 2),
        "crc32": int(found),
        "peak_anonymous_mb": round(watch.peaks["RssAnon"] / 1e6),
        "peak_rss_mb": round(watch.peaks["VmRSS"] / 1e6),
    }


def forget(folder: Path) -> None:
    """Have a folder's files leave the page cache; other programs keep what they have there."""
    subprocess.run(["sync", "-f", str(folder)], check=True)
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--limit-gb", type=float, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", default="")
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        folder = Path(scratch)
        (folder / "nothing").mkdir()
        tell(f"writing a model of {args.layers} layers")
        make_model(folder / "model", args.layers, folder / "nothing")
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        loads: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(args.runs):
            for path in (folder / "kept").glob("*/*"):
                path.unlink()
            for name in CONTENDERS:
                forget(folder)
                loads[name].append(round(os.getloadavg()[0], 2))
                results[name].append(run_child(name, folder, int(args.limit_gb * 1e9)))
                tell(f"{name}: {results[name][-1]}")
        digests = {run["crc32"] for runs in results.values() for run in runs}
        assert len(digests) == 1, f"the packed parts differ: {digests}"
        for name, runs in results.items():
            row(name, args.layers, folder, runs, loads[name])


def row(
    name: str, layers: int, folder: Path, runs: list[dict[str, Any]], loads: list[float]
) -> None:
    """Print one contender's row."""
    record = {
        "bench": "load",
        "contender": name,
        "layers": layers,
        "model_bytes": size_of((folder / "model").glob("*.safetensors")),
        "kept_bytes": size_of((folder / "kept").glob("*/*")),
        "times_s": [run["time_s"] for run in runs],
        "cpu_s": [run["cpu_s"] for run in runs],
        **{key: value for key, value in runs[-1].items() if key.startswith("peak")},
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load_before": loads,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "versions": versions(),
    }
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
