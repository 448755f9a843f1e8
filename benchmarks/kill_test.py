"""Kill a run again and again, and show that its result is the one of a run left alone.

Protocol: the recipe is run once undisturbed into one folder; then in another folder it is
started and killed with SIGKILL, at least once inside each stage and until `--kills` kills are
done, and started a last time to its end. Inside a stage the moment of the kill is drawn
from the first 10 to 40% of the time that the undisturbed run spent there (seed 17), so that a
stage killed twice is not done before its second kill. Compared: the digest of every stage
(identity and bytes of all files), and every file's sha256 again by `lingraft verify`.

Run:   python benchmarks/kill_test.py recipes/demo.toml --kills 12 --folder /somewhere
Exit:  0 where all digests are equal, 3 where one differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from lingraft import show, verify
from lingraft.stages import STAGES


def start(recipe: str, folder: Path, name: str) -> subprocess.Popen[str]:
    """Start a run in its own process group; its lines can be read."""
    command = [sys.executable, "-m", "lingraft", "run", recipe]
    command += ["--set", f"run.folder={folder}", "--set", f"run.name={name}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> int:
    """Let a run come to its end; give its exit code."""
    process.communicate()
    return process.returncode


def times_of(run: Path) -> dict[str, float]:
    """Seconds that each stage took, by stage."""
    return {m["identity"]["stage"]: m["circumstances"]["time_s"] for m in show(run)}


def kill_inside(run: Path, stage: str, wait_s: float, process: subprocess.Popen[str]) -> str:
    """Wait until the run says that it works on `stage`, then `wait_s`, then kill it.

    Returns:
        `inside` where the stage was begun and not done, `outside` otherwise.
    """
    row = next(s for s in STAGES if s.name == stage)
    assert process.stdout is not None, "the run was started without a pipe"
    begun = any(line.startswith(f"  {row.folder}: {row.does}") for line in process.stdout)
    time.sleep(wait_s)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return "inside" if begun and alive and not (run / row.folder).exists() else "outside"


def main() -> None:
    """Run the protocol and print one JSON row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    alone, killed = options.folder / "alone", options.folder / "killed"
    if not (alone / "90-report" / "manifest.json").is_file():
        assert finish(start(options.recipe, options.folder, "alone")) == 0, "the run failed"
    spent_s = times_of(alone)
    generator = random.Random(17)
    longest = sorted(spent_s, key=lambda name: -spent_s[name])
    order = [s.name for s in STAGES]
    plan = sorted([*order, *longest[: options.kills - len(order)]], key=order.index)
    kills = []
    for stage in plan:
        process = start(options.recipe, options.folder, "killed")
        wait_s = generator.uniform(0.1, 0.4) * spent_s[stage]
        hit = kill_inside(killed, stage, wait_s, process)
        kills.append({"stage": stage, "after_s": round(wait_s, 2), "hit": hit})
        print(kills[-1], flush=True)
    assert finish(start(options.recipe, options.folder, "killed")) == 0, "the last run failed"
    digests = [{m["identity"]["stage"]: m["digest"] for m in show(run)} for run in (alone, killed)]
    wrong = verify(alone) + verify(killed)
    inside = {k["stage"] for k in kills if k["hit"] == "inside"}
    row = {
        "bench": "kill_test",
        "kills": len(kills),
        "stages_hit": len(inside),
        "stages": len(order),
        "equal_digests": digests[0] == digests[1],
        "files_differ": wrong,
        "digests": digests[1],
    }
    print(json.dumps(row))
    sys.exit(0 if digests[0] == digests[1] and not wrong else 3)


if __name__ == "__main__":
    main()
