"""On a GPU: the checks that stand before the timings of `benchmarks/gpu_kernels.py`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from lingraft.train.lora import use_path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    options = argparse.Namespace(device="cuda", out="", runs=1)
    return importlib.import_module("gpu_bench").Bench(options)


def check(name: str, bench: Any) -> dict[str, Any]:
    with use_path("fused"):
        found: dict[str, Any] = getattr(importlib.import_module("gpu_checks"), name)(bench)
    return found


def test_nf4_is_unpacked_to_the_same_bits(bench: Any) -> None:
    found = check("check_nf4", bench)
    assert found["codes_constants_maxima_mean_that_differ_from_cpu"][0] == 0
    assert found["unpacked_float32_equal"]
    assert found["unpacked_bfloat16_equal"]
    assert found["unpacked_equals_cpu"]


def test_fused_steps_are_the_plain_ones(bench: Any) -> None:
    found = check("check_steps", bench)
    assert max(found["torch.float32"]) < 1e-6
    assert max(found["torch.bfloat16"]) < 2e-3


def test_expert_blocks_are_the_plain_ones(bench: Any) -> None:
    found = check("check_experts", bench)
    for name in ("small", "true_width"):
        assert max(map(float, found[f"{name}_float32"])) < 5e-6
        assert max(map(float, found[f"{name}_bfloat16"])) < 1e-2
        assert found[f"{name}_same_bits_twice"]
    assert max(map(float, found["dropout_float32"])) < 5e-6


def test_every_attention_keeps_documents_apart_as_torchs_own_does(bench: Any) -> None:
    found = check("check_attention", bench)
    assert {"sdpa", "flex_attention"} <= found.keys()
    for of_name in found.values():
        assert of_name["loss"] < 2e-3
        assert of_name["gradients_median"] < 0.2
        assert of_name["same_bits_twice"]
        assert of_name["bpb"] == pytest.approx(found["sdpa"]["bpb"], rel=2e-2)


def test_models_are_the_plain_ones_and_recomputed_ones_the_kept(bench: Any) -> None:
    found = check("check_model", bench)
    assert found["float32_worst"] < 5e-6
    assert found["float32_recomputed_equals_kept"]
    assert found["bfloat16_recomputed_equals_kept"]
