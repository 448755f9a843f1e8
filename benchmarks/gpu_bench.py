"""What the GPU's checks and timings share: results by name, random numbers, random experts."""

from __future__ import annotations

import argparse
import json
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import silu

from lingraft.train.lora import FrozenStack, LoraPair, QLoraExperts, QLoraStack

BF16, FP32 = torch.bfloat16, torch.float32


class Bench:
    """Results by name, written after each."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Start with what the machine is."""
        self.options, self.device = options, torch.device(options.device)
        self.is_gpu = self.device.type == "cuda"
        self.results: dict[str, Any] = {"torch": torch.__version__}
        if self.is_gpu:
            self.results["device"] = torch.cuda.get_device_name()

    def part(self, name: str, run: Callable[[Bench], dict[str, Any]]) -> None:
        """Run one part; a failure is a result, and does not stop the others."""
        start = time.perf_counter()
        try:
            found = run(self)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:600]}
            traceback.print_exc(limit=-3)
        self.sync()
        self.results[name] = {**found, "part_s": round(time.perf_counter() - start, 2)}
        print(name, json.dumps(self.results[name]), flush=True)
        if self.options.out:
            Path(self.options.out).write_text(json.dumps(self.results, indent=1), encoding="utf-8")
        if self.is_gpu:
            torch.cuda.empty_cache()

    def sync(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def time_ms(self, run: Callable[[], Any], runs: int | None = None) -> float:
        """Median milliseconds of one call, after two that do not count."""
        times = []
        for number in range(2 + (runs or self.options.runs)):
            self.sync()
            start = time.perf_counter()
            run()
            self.sync()
            if number >= 2:
                times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

    def random(self, *shape: int, dtype: torch.dtype = FP32, std: float = 1.0) -> torch.Tensor:
        """Random numbers on the device."""
        return torch.randn(*shape, device=self.device).mul_(std).to(dtype)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Length of the difference over that of what is expected."""
    expected = expected.detach().double()
    return float((found.detach().double() - expected).norm() / expected.norm().clamp_min(1e-30))


def make_experts(
    bench: Bench, width: int, inner: int, rank: int, groups: int, dtype: torch.dtype, drop: float
) -> QLoraExperts:
    """Random experts whose adapters are not at their start."""
    generator = torch.Generator().manual_seed(1)

    def pair(inputs: int, outputs: int) -> LoraPair:
        made = LoraPair(groups, inputs, outputs, rank, 2.0 * rank, generator).to(bench.device)
        made.B.data = bench.random(*made.B.shape, std=0.02)
        return made

    def matrices(rows: int, columns: int, count: int) -> list[torch.Tensor]:
        return [bench.random(rows, columns, dtype=BF16, std=0.02) for _ in range(count)]

    gate_up = QLoraStack(
        FrozenStack(matrices(inner, width, 2 * groups), True, parts=2),
        [pair(width, inner), pair(width, inner)],
        drop,
    )
    down = QLoraStack(FrozenStack(matrices(width, inner, groups), True), [pair(inner, width)], drop)
    return QLoraExperts(gate_up, down, silu, dtype)


def route_evenly(bench: Bench, tokens: int, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two random experts a token, and their shares."""
    scores = bench.random(tokens, groups).softmax(1)
    shares, index = scores.topk(2, 1)
    return index, (shares / shares.sum(1, keepdim=True)).requires_grad_()
