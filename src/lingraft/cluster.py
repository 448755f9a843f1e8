"""Work on many machines, through the executors of datatrove: here, SLURM, Ray.

Units are dealt out to tasks by rank: unit n belongs to task n modulo the number of tasks. Who did
what leaves no trace in the results (see `work`), so tasks may be killed and started again, and
what one machine began another may finish. What is done is told by the results themselves;
datatrove's own marks would not know a changed file.

Source: executors and ranks are datatrove's (github.com/huggingface/datatrove).
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError, MissingPackageError, UsageError
from .streaming import num_cores
from .work import Work

__all__ = ["EXECUTORS", "Cluster", "SlurmOptions", "Step"]

EXECUTORS = {
    "local": "LocalPipelineExecutor",
    "slurm": "SlurmPipelineExecutor",
    "ray": "RayPipelineExecutor",
}


@dataclass(frozen=True)
class SlurmOptions:
    """What SLURM asks for; see `sbatch`."""

    partition: str = ""
    time: str = ""
    env_command: str = ""
    """Shell command that makes lingraft available; "": the folder of this Python goes on PATH."""
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """More options of sbatch; "" for those without a value."""


@dataclass(frozen=True, repr=False)
class Step:
    """One step of a pipeline of datatrove's: the units of one rank."""

    work: Work

    def __repr__(self) -> str:
        return f"lingraft: {self.work.label}, {len(self.work)} units"

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        """Do the units of a rank that are not done."""
        for n in range(rank, len(self.work), world_size):
            if not self.work.is_done(n):
                self.work.do(n)


@dataclass(frozen=True)
class Cluster:
    """Where work is done, and what is asked for."""

    executor: str = "local"
    """"local": processes of this machine; "slurm": array jobs, submitted and not waited for;
    "ray": the running Ray cluster that this machine knows, or a new one on this machine alone."""
    tasks: int = 1
    """How many shares the units of a step are dealt into, at most."""
    workers: int | None = None
    """Most tasks at a time; None: one a core on this machine, else no limit."""
    cpus_per_task: int = 1
    mem_per_cpu_gb: int = 2
    slurm: SlurmOptions = SlurmOptions()

    def check(self) -> None:
        """Refuse what cannot be, before any work.

        Raises:
            MissingPackageError: datatrove, or ray, is not installed.
            UsageError: A number or a name cannot be, or SLURM is not here.
        """
        numbers = {"tasks": self.tasks, "workers": 1 if self.workers is None else self.workers}
        numbers |= {"cpus-per-task": self.cpus_per_task, "mem-per-cpu-gb": self.mem_per_cpu_gb}
        for name, number in numbers.items():
            if number < 1:
                raise UsageError(f"--{name} {number}: expected 1 or more.")
        if self.executor not in EXECUTORS:
            raise UsageError(f"executor '{self.executor}': expected one of {', '.join(EXECUTORS)}.")
        _check_slurm(self.executor, self.slurm)
        _load(self.executor)

    def run(self, works: Sequence[Work], logs: Path, name: str = "lingraft") -> str:
        """Do steps one after the other.

        Args:
            works: The steps; each may read what those before it write.
            logs: datatrove's folder of this run; a fresh one.
            name: What SLURM calls the jobs.

        Returns:
            SLURM's number of the last job, which goes on; "" where all is done.

        Raises:
            InputError: Ray's tasks ended and something is not done.
            LingraftError: A unit failed.
            UsageError: SLURM refuses a job.
        """
        kind = _load(self.executor)
        former: Any = None
        for number, work in enumerate(works):
            tasks = max(1, min(self.tasks, len(work)))
            folder = logs / f"{number}-{work.label.replace(' ', '-')}" if len(works) > 1 else logs
            shared = {"tasks": tasks, "logging_dir": str(folder), "skip_completed": False}
            if self.executor == "slurm":
                former = self._submit(kind, work, {**shared, **self._asked()}, name, former)
                continue
            self._run_here(kind, work, shared)
            _refuse_undone(work, folder)
        return "" if former is None else str(former.job_id)

    def _asked(self) -> dict[str, Any]:
        return {
            "workers": self.workers or -1,
            "cpus_per_task": self.cpus_per_task,
            "mem_per_cpu_gb": self.mem_per_cpu_gb,
        }

    def _run_here(self, kind: Any, work: Work, shared: Mapping[str, Any]) -> None:
        if self.executor == "local":
            workers = self.workers or max(1, num_cores() // self.cpus_per_task)
            kind([Step(work)], workers=min(workers, shared["tasks"]), **shared).run()
            return
        import ray

        started = not ray.is_initialized()
        if started:
            ray.init(log_to_driver=False)
        try:
            kind([Step(work)], **shared, **self._asked()).run()
        finally:
            if started:
                ray.shutdown()

    def _submit(
        self, kind: Any, work: Work, shared: Mapping[str, Any], name: str, former: Any
    ) -> Any:
        """Submit an array job that begins when the former one has ended well."""
        options = dict(self.slurm.sbatch)
        here = shlex.quote(str(Path(sys.executable).parent))
        job = kind(
            [Step(work)],
            time=self.slurm.time,
            partition=self.slurm.partition,
            job_name=name,
            qos=options.pop("qos", ""),  # datatrove's default is a class that few clusters have
            env_command=self.slurm.env_command or f"export PATH={here}:$PATH",
            sbatch_args=options,
            depends=former,
            **shared,
        )
        try:
            job.run()
        except subprocess.CalledProcessError as error:
            raise UsageError(
                f"sbatch refused the job (exit code {error.returncode}); it told why above.",
                way_out="Change --partition, --time or --sbatch-arg; see sinfo.",
            ) from None
        return job


def _refuse_undone(work: Work, logs: Path) -> None:
    """Ray's executor tells no failure; results do."""
    left = [n for n in range(len(work)) if not work.is_done(n)]
    if left:
        raise InputError(
            f"{work.label}: {len(left)} of {len(work)} units were not done.",
            effect="What follows would miss them.",
            way_out=f"See {logs / 'logs'}, and run the same command again.",
        )


def _check_slurm(executor: str, slurm: SlurmOptions) -> None:
    if executor != "slurm":
        if slurm != SlurmOptions():
            raise UsageError(
                f"partition, time, sbatch-arg and env-command mean nothing to '{executor}'.",
                way_out="Leave them out, or use --executor slurm.",
            )
        return
    if not slurm.partition or not slurm.time:
        raise UsageError(
            "SLURM needs a partition and a time limit.",
            way_out="Give both, as --partition cpu --time 04:00:00.",
        )
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise UsageError(
            "started inside a task of a SLURM array job.",
            effect="datatrove would take this process for one of the tasks.",
            way_out="Start it on a login node, or in a job that is no array.",
        )
    if shutil.which("sbatch") is None:
        raise UsageError("there is no 'sbatch' here.", way_out="Start it where SLURM is.")


def _load(executor: str) -> Any:
    """Import datatrove's executor."""
    try:
        if executor == "ray":
            importlib.import_module("ray")
        module = importlib.import_module(f"datatrove.executor.{executor}")
    except ModuleNotFoundError as error:
        package = (error.name or "datatrove").partition(".")[0]
        raise MissingPackageError(
            f"--executor {executor} needs the package '{package}', which is not installed.",
            way_out="pip install 'lingraft[cluster]', or work on this machine without --executor.",
        ) from None
    return getattr(module, EXECUTORS[executor])
