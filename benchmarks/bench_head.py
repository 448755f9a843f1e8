"""Time lingraft.losses.linear_cross_entropy against torch's matmul + cross_entropy.

Timed: forward and backward, gradients of hidden states and weight. Not timed: imports, data.
Data:  random float32 hidden states, N = 512 and 2,048 rows, D = 96; weight V = 34,643; seed 17.
       Both are given the same tensors in the same process, in turn; losses are compared first.
Run:   python benchmarks/bench_head.py >> benchmarks/results.jsonl
Row:   bench, implementation, N, V, D, runs, min_s, median_s, max_s, threads, machine, versions.
Read:  the ratio of median_s within one run; absolute times move with the machine's load.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from lingraft.losses import linear_cross_entropy

RUNS = 9


def plain(x_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """The same loss, holding N x V logits."""
    return F.cross_entropy(x_ND @ weight_VD.t(), labels_N)


def time_once(loss_of: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> float:
    """Seconds of one forward and backward."""
    for tensor in tensors:
        tensor.grad = None
    begin_s = time.perf_counter()
    loss_of(*tensors).backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - begin_s


def main() -> None:
    """Print one row for each implementation and size."""
    torch.manual_seed(17)
    weight_VD = torch.randn(34_643, 96, requires_grad=True)
    for num_rows in (512, 2_048):
        x_ND = torch.randn(num_rows, 96, requires_grad=True)
        labels_N = torch.randint(0, 34_643, (num_rows,))
        pair = {"chunked": linear_cross_entropy, "plain": plain}
        losses = [float(f(x_ND, weight_VD, labels_N)) for f in pair.values()]
        assert abs(losses[0] - losses[1]) < 1e-4, losses
        times_s: dict[str, list[float]] = {name: [] for name in pair}
        for _ in range(RUNS):
            for name, loss_of in pair.items():
                times_s[name].append(time_once(loss_of, x_ND, weight_VD, labels_N))
        for name, times in times_s.items():
            row = {
                "bench": "head",
                "implementation": name,
                "N": num_rows,
                "V": 34_643,
                "D": 96,
                "runs": RUNS,
                "min_s": round(min(times), 4),
                "median_s": round(statistics.median(times), 4),
                "max_s": round(max(times), 4),
                "threads": torch.get_num_threads(),
                "machine": f"{platform.machine()}, {platform.processor() or 'cpu'}",
                "versions": {"torch": torch.__version__, "python": platform.python_version()},
            }
            print(json.dumps(row))


if __name__ == "__main__":
    main()
