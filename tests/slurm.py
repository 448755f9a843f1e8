"""Stand-ins for SLURM's commands: jobs run at once, one after the other, on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import lingraft

SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path
folder = Path(__file__).parent
script = Path(sys.argv[-1]).read_text()
number = len(list(folder.glob("script-*"))) + 1
(folder / f"script-{{number}}").write_text(script)
(folder / f"arguments-{{number}}").write_text(" ".join(sys.argv[1:-1]))
env = dict(os.environ, SLURM_NODELIST="node-1", SLURM_JOB_ID=str(number), RUN_OFFSET="0")
last = int(re.search(r"--array=0-([0-9]+)", script)[1])
for rank in range(last + 1):
    env["SLURM_ARRAY_TASK_ID"] = str(rank)
    with (folder / f"job-{{number}}-{{rank}}.log").open("w") as log:
        subprocess.run(["bash", sys.argv[-1]], env=env, stdout=log, stderr=log)
print(f"Submitted batch job {{number}}")
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "$3"\n'


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the commands into `folder`, where every job's script and output stay, too."""
    folder.mkdir()
    commands = {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN, "scontrol": SCONTROL}
    for name, text in commands.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(lingraft.__file__).parents[1]))
