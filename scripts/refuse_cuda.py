"""Stop an installation that would pull CUDA packages: several GB that the demo never uses.

Usage: python refuse_cuda.py REPORT, where REPORT is what `pip install --dry-run --report` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

MESSAGE = """\
install: stopped: pip would install {count} CUDA packages ({names}, ...), several GB.
  The demo and the tests need the CPU build of torch only. Point pip at PyTorch's own index of it:
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make install
  For training on a GPU, see 'Installing on a GPU machine' in README.md."""


def cuda_packages(report: Path) -> list[str]:
    """Names of the packages of CUDA among those that pip would install."""
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = sorted(item["metadata"]["name"].lower() for item in found)
    return [n for n in names if n.startswith(("nvidia-", "cuda-")) or n == "triton"]


def main() -> None:
    """Exit with 1 and a way out where CUDA packages would come."""
    names = cuda_packages(Path(sys.argv[1]))
    if names:
        sys.exit(MESSAGE.format(count=len(names), names=", ".join(names[:3])))


if __name__ == "__main__":
    main()
