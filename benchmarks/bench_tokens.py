"""Text to packed tokens on disk: MB/s and memory against the reference's way and its peers.

Two parts:

    speed   every contender of `token_contenders.py` on the same files, in processes of its own,
            rounds going through all of them. MB are 10^6 bytes of the texts, in UTF-8. Timed is
            what the contender's row says; `wall_s` is the whole process, imports included, and
            `cpu_s` what it and its children computed for, as of the last sample of each: others
            on the cores hardly change that.
    memory  ours alone on the text 1, 4 and 16 times over: the peak must not follow the input.

Memory: proportional set sizes of the process and all its children, added up, sampled every 0.2 s;
the highest sum. Pages of memory-mapped files that were read are in it.

Right or wrong: tokens written are told. ours, datatrove and megatron write all tokens and an EOS
a document (ours adds BOS, as the tokenizer does; so do reference and joined, and megatron);
the reference drops the rest of every batch and has no EOS.

Data:  --text FILES, documents from all of them in equal shares of bytes until --mb; two .jsonl.
Run:   python benchmarks/bench_tokens.py --text FILES --tokenizer FOLDER [--mb 120] [--jobs 2]
           [--runs 3] [--peers-python PYTHON] [--megatron FOLDER] [--only ours,datatrove]
           [--parts speed,memory] >> benchmarks/results.jsonl
       FOLDER holds tokenizer.model and tokenizer.json. The peers' environment has datasets,
       transformers and datatrove; --megatron names a folder with megatron-core (pip install
       --no-deps --target FOLDER megatron-core), used with this Python's torch.
Row:   one a contender, one a size of the memory part: all times, medians, MB/s, peaks; one with
       the ratios of ours to each.
Read:  ratios within one run only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_vocab import commit, tell
from token_contenders import RUNS

from lingraft.texts import find_texts, read_texts

_SAMPLE_S = 0.2
_MULTIPLES = (1, 4, 16)
_MEASURED = ("time_s", "wall_s", "cpu_s", "peak_bytes")


def main() -> None:
    """Measure and print rows."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        work = Path(folder)
        files, num_bytes = _prepare(find_texts(asked.text), work / "text", asked.mb * 1e6)
        tell(f"{num_bytes / 1e6:.1f} MB in {len(files)} files")
        about = {
            "bench": "tokens", "text_bytes": num_bytes, "jobs": asked.jobs, "commit": commit(),
            "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        }  # fmt: skip
        rows = []
        if "speed" in asked.parts:
            rows += _speed(asked, files, num_bytes, work)
        if "memory" in asked.parts:
            rows += _memory(asked, files, num_bytes, work)
        for row in rows:
            print(json.dumps({**about, **row}), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--tokenizer", required=True, help="folder of both forms")
    parser.add_argument("--mb", type=float, default=120.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--megatron", default="")
    parser.add_argument("--only", default=",".join(RUNS), type=lambda text: text.split(","))
    parser.add_argument("--parts", default="speed,memory", type=lambda text: text.split(","))
    parser.add_argument("--scratch", default=None, help="folder for texts and results")
    return parser.parse_args()


def _speed(
    asked: argparse.Namespace, files: Sequence[Path], num_bytes: int, work: Path
) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in asked.only}
    for number in range(asked.runs):
        turn = number % len(asked.only)
        for name in [*asked.only[turn:], *asked.only[:turn]]:
            row = _run_one(asked, name, files, work)
            found[name].append(row)
            speed = num_bytes / 1e6 / row["time_s"] if "time_s" in row else 0.0
            tell(f"round {number + 1}: {name}: {speed:.1f} MB/s {row}")
    rows = [_summary(name, results, num_bytes) for name, results in found.items()]
    whole = {row["contender"]: row for row in rows if "median_mb_s" in row}
    if "ours" in whole:
        mine, others = whole["ours"], {name: row for name, row in whole.items() if name != "ours"}
        ratios = {n: mine["median_mb_s"] / row["median_mb_s"] for n, row in others.items()}
        cpu_s = {n: statistics.median(row["cpu_s"]) for n, row in whole.items()}
        cpu = {name: cpu_s[name] / cpu_s["ours"] for name in others}
        rows.append({"part": "ratios", "ours_over": ratios, "cpu_over_ours": cpu})
        tell(f"ours over others: { {name: round(ratio, 1) for name, ratio in ratios.items()} }")
    return rows


def _summary(name: str, results: Sequence[dict[str, Any]], num_bytes: int) -> dict[str, Any]:
    row: dict[str, Any] = {"part": "speed", "contender": name, "runs": len(results)}
    whole = [result for result in results if "time_s" in result]
    if not whole:
        return {**row, **results[-1]}
    row |= {key: [result[key] for result in whole] for key in _MEASURED}
    speeds = [num_bytes / 1e6 / result["time_s"] for result in whole]
    row |= {"mb_s": speeds, "median_mb_s": statistics.median(speeds)}
    return {**row, "tokens": whole[-1]["tokens"], "includes": whole[-1]["includes"]}


def _memory(
    asked: argparse.Namespace, files: Sequence[Path], num_bytes: int, work: Path
) -> list[dict[str, Any]]:
    rows = []
    for times in _MULTIPLES:
        folder = work / f"times-{times}"
        folder.mkdir()
        for file in files:
            with (folder / file.name).open("wb") as target:
                for _ in range(times):
                    with file.open("rb") as source:
                        shutil.copyfileobj(source, target)
        row = _run_one(asked, "ours", sorted(folder.iterdir()), work)
        shutil.rmtree(folder)
        rows.append({"part": "memory", "contender": "ours", "times": times, **row})
        tell(f"{times} x {num_bytes / 1e6:.0f} MB: {rows[-1]}")
    return rows


def _run_one(
    asked: argparse.Namespace, name: str, files: Sequence[Path], work: Path
) -> dict[str, Any]:
    out = work / "out"
    given = {
        "files": list(map(str, files)), "tokenizer": str(Path(asked.tokenizer).absolute()),
        "out": str(out), "jobs": asked.jobs,
    }  # fmt: skip
    own = name in ("ours", "megatron")
    script = str(Path(__file__).with_name("token_contenders.py"))
    words = [sys.executable if own else asked.peers_python, script, name, json.dumps(given)]
    env = {**os.environ, "HF_HOME": str(work / "hub"), "HF_HUB_OFFLINE": "1"}
    if name == "megatron":
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [asked.megatron, env.get("PYTHONPATH")]))
    begin = time.perf_counter()
    with subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        peak = _Peak(process.pid)
        peak.start()
        stdout, stderr = process.communicate()
    peak.stop()
    wall_s = time.perf_counter() - begin
    for path in work.glob("out*"):
        shutil.rmtree(path)
    if process.returncode:
        return {"failed": stderr.strip().splitlines()[-1][:300] if stderr.strip() else "no word"}
    row: dict[str, Any] = json.loads(stdout.strip().splitlines()[-1])
    return {**row, "wall_s": wall_s, "cpu_s": peak.cpu_s, "peak_bytes": peak.bytes}


class _Peak(threading.Thread):
    """Samples the memory and the processor time of a process and its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._is_over, self.bytes = pid, threading.Event(), 0
        self._cpu_s: dict[int, float] = {}

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu_s.values())

    def run(self) -> None:
        while not self._is_over.wait(_SAMPLE_S):
            pids = list(_family(self._pid))
            self.bytes = max(self.bytes, sum(map(_pss_bytes, pids)))
            self._cpu_s |= {pid: used for pid in pids if (used := _used_s(pid))}

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _family(int(child))
    except OSError:  # it ended meanwhile
        return


def _used_s(pid: int) -> float:
    """Processor time of a process until now; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    lines = [line.split() for line in text.splitlines() if line.startswith("Pss:")]
    return int(lines[0][1]) << 10 if lines else 0


def _prepare(paths: Sequence[Path], folder: Path, most_bytes: float) -> tuple[list[Path], int]:
    """Write two files of equal shares; give them and the bytes of their texts."""
    folder.mkdir()
    share, total = most_bytes / len(paths), 0
    files = [folder / "a.jsonl", folder / "b.jsonl"]
    with files[0].open("w", encoding="utf-8") as a, files[1].open("w", encoding="utf-8") as b:
        for path in paths:
            size = 0
            for number, doc in enumerate(read_texts(path)):
                row = json.dumps({"text": doc.text}, ensure_ascii=False) + "\n"
                (a, b)[number % 2].write(row)
                size += len(doc.text.encode())
                if size >= share:
                    break
            total += size
    return files, total


if __name__ == "__main__":
    main()
