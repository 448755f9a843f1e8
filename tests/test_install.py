"""The set-up stops before CUDA packages are installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "refuse_cuda.py"


def judge(folder: Path, *names: str) -> "subprocess.CompletedProcess[str]":
    report = folder / "report.json"
    report.write_text(json.dumps({"install": [{"metadata": {"name": n}} for n in names]}))
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(report)], capture_output=True, text=True, check=False
    )


def test_the_cpu_build_passes(tmp_path: Path) -> None:
    assert judge(tmp_path, "torch", "sympy", "filelock").returncode == 0


@pytest.mark.parametrize("name", ["nvidia-cublas-cu13", "triton", "cuda-bindings"])
def test_cuda_packages_stop_the_set_up_with_a_way_out(tmp_path: Path, name: str) -> None:
    done = judge(tmp_path, "torch", name)
    assert done.returncode == 1
    assert name in done.stderr
    assert "download.pytorch.org/whl/cpu" in done.stderr
