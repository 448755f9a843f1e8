"""Reading the corpus on many machines: the map step of the search, as tasks of datatrove.

Task i of N reads its files into the work folder of the search, a part a file. Parts do not depend
on who wrote them, so the search that follows finds them whole and gives the same result, bit for
bit, whatever the number of tasks, workers or machines; it reads for itself what is missing. A part
counts once its JSON file is there: tasks may be killed and started again at any time, and only
files without a part are handed out.

Everything that decides the codes (base, scripts, word starts, every file with its size and time of
change) is settled where the count is started. A task that sees it otherwise stops.

What follows streams on one machine: sketching pairs and cutting are passes over 4 bytes a
character, the sketch's size follows from the length of all text, and nothing can be cut before all
is sketched, so other machines would have to be started twice more. Of 179 MB of text (57 million
codes) one thread reads all in 3 s with Mixtral's tokenizer, and in 150 s with GPT-2's, where words
are encoded whole; two cores take about 1 s to sketch, and 3 s to cut and count.

Source: executors and shards by rank are datatrove's (github.com/huggingface/datatrove).
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bases import read_base
from ..errors import InputError, LingraftError, MissingPackageError, UsageError
from ..progress import Reporter, SilentReporter
from ..store import disk_errors, lock_folder
from ..texts import find_texts
from .alphabet import Alphabet
from .asked import list_names
from .command import WORK, Names
from .engine import num_cores
from .spool import Spool, make_scan, part_key, read_part
from .targets import read_alphabet

__all__ = ["CountResult", "CountTask", "SlurmOptions", "count"]

_EXECUTORS = {
    "local": "LocalPipelineExecutor",
    "slurm": "SlurmPipelineExecutor",
    "ray": "RayPipelineExecutor",
}
_AHEAD = 2  # batches that wait for each thread
_LOGS = "count"


@dataclass(frozen=True)
class CountResult:
    """A count that is done, or handed to SLURM."""

    folder: Path
    num_files: int
    num_missing: int
    """Files without a part when the count was started."""
    num_tasks: int
    """Tasks that they were shared among; 0 where nothing was missing."""
    job_id: str = ""
    """SLURM's number of the (last) array job, which goes on; "" where all is done."""
    logs: Path | None = None
    """datatrove's folder of this count."""


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
class CountTask:
    """One step of a pipeline: files to parts; each rank takes every N-th file."""

    base: str
    scripts: tuple[str, ...]
    word_start: bool
    text_key: str
    folder: str
    files: tuple[tuple[str, str], ...]
    """Path, and identity of its part where the count was started."""
    jobs: int

    def __repr__(self) -> str:
        return f"lingraft vocab count: {len(self.files)} files to {self.folder}"

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """Read the files of one task.

        Raises:
            InputError: A file cannot be read, or is not what it was where the count was started.
        """
        alphabet = Alphabet(read_base(self.base), self.scripts, self.word_start)
        spool = Spool(Path(self.folder), len(alphabet.flags_C))
        scan = make_scan(alphabet)
        with disk_errors(spool.folder, place="--out DIR"), ThreadPoolExecutor(self.jobs) as pool:
            for name, identity in self.files[rank::world_size]:
                path = Path(name)
                if not path.is_file() or part_key(path, self.text_key, alphabet)[1] != identity:
                    raise _differs(path, self.base)
                ahead = _AHEAD * self.jobs
                read_part(spool, path, self.text_key, alphabet, scan, pool, ahead, _ignore)


def count(
    *,
    base: str | Path,
    corpus: Names,
    out: str | Path,
    tasks: int,
    executor: str = "local",
    workers: int | None = None,
    scripts: Sequence[str] | None = None,
    word_start: bool | None = None,
    text_key: str = "text",
    cpus_per_task: int = 1,
    mem_per_cpu_gb: int = 2,
    slurm: SlurmOptions | None = None,
    reporter: Reporter | None = None,
) -> CountResult:
    """Read the corpus of a search in many tasks; then `search` with the same arguments.

    Args:
        base: As for `search`; every machine must be able to read it in that place.
        corpus: As for `search`; a file is never shared among tasks, so have as many as tasks.
        out: The folder of the search, on a disk that all machines share.
        tasks: How many shares the files are dealt into.
        executor: "local": processes on this machine; "slurm": an array job, which is submitted
            and not waited for; "ray": the running Ray cluster that this machine knows, or a new
            one on this machine alone.
        workers: Most tasks at a time; None: one a core on this machine, else no limit.
        scripts: As for `search`; if not given they are found here, once, for all tasks.
        word_start: As for `search`.
        text_key: As for `search`.
        cpus_per_task: Threads of a task, and cores to ask for.
        mem_per_cpu_gb: Memory to ask for; 1.1 GB is the most that one was seen to use.
        slurm: What SLURM asks for; partition and time must be given.
        reporter: Where notes go; datatrove logs to standard error and to `out`/.work/count-N.

    Raises:
        InputError: A file could not be read, or not by every task.
        LockedError: A search is at work in `out`.
        MissingPackageError: datatrove, or ray, is not installed.
        UsageError: The options cannot be, or SLURM refuses the job.
    """
    numbers = {"tasks": tasks, "workers": 1 if workers is None else workers}
    numbers |= {"cpus-per-task": cpus_per_task, "mem-per-cpu-gb": mem_per_cpu_gb}
    _check(numbers, executor, slurm)
    kind = _load(executor)
    run = _Runner(
        kind, executor, tasks, workers, cpus_per_task, mem_per_cpu_gb, slurm or SlurmOptions()
    )
    note = (reporter or SilentReporter()).note
    return _count(str(base), corpus, Path(out).absolute(), scripts, word_start, text_key, run, note)


def _count(
    base: str,
    corpus: Names,
    folder: Path,
    scripts: Sequence[str] | None,
    word_start: bool | None,
    text_key: str,
    run: _Runner,
    note: Callable[[str], None],
) -> CountResult:
    """Deal out what is missing, run it, and look whether it is there."""
    files = find_texts(list_names("corpus", corpus))
    with disk_errors(folder, place="--out DIR"):
        # Only while the work is dealt out: datatrove's processes would inherit the lock, and one
        # of them outlives a killed parent. Parts need none.
        with lock_folder(folder, place="--out DIR", other="--out OTHER"):
            alphabet = read_alphabet(base, scripts, word_start, files, text_key, note)
            task = _deal(base, alphabet, text_key, folder / WORK, files, run.threads)
            logs = _fresh_folder(folder / WORK) if task.files else None
        note(f"{len(files):,} files, {len(task.files):,} of them to read")
        if logs is None:
            return CountResult(folder, len(files), 0, 0)
        shares = min(run.tasks, len(task.files))
        job_id = run(task, shares, logs)
        if not job_id:
            _check_whole(task, alphabet, logs)
    return CountResult(folder, len(files), len(task.files), shares, job_id, logs)


def _deal(
    base: str, alphabet: Alphabet, text_key: str, work: Path, files: Sequence[Path], jobs: int
) -> CountTask:
    """Make the task of all files without a part; large ones first, so that shares are even."""
    work.mkdir(exist_ok=True)
    paths = [file.absolute() for file in files]
    rows = [
        (-path.stat().st_size, str(path), part_key(path, text_key, alphabet)[1])
        for path in _missing(paths, text_key, alphabet, work)
    ]
    place = Path(base).expanduser()
    return CountTask(
        base=str(place.absolute()) if place.exists() else base,
        scripts=alphabet.scripts,
        word_start=alphabet.word_start,
        text_key=text_key,
        folder=str(work),
        files=tuple((path, identity) for _, path, identity in sorted(rows)),
        jobs=jobs,
    )


def _missing(paths: Sequence[Path], text_key: str, alphabet: Alphabet, work: Path) -> list[Path]:
    spool = Spool(work, len(alphabet.flags_C))
    return [path for path in paths if spool.find(*part_key(path, text_key, alphabet)) is None]


def _check_whole(task: CountTask, alphabet: Alphabet, logs: Path) -> None:
    """Ray's executor tells no failure; parts do."""
    paths = [Path(path) for path, _ in task.files]
    left = _missing(paths, task.text_key, alphabet, Path(task.folder))
    if left:
        raise InputError(
            f"{len(left)} of {len(paths)} files were not read: {left[0]}"
            + (", ..." if len(left) > 1 else "."),
            effect="The search would have to read them by itself.",
            way_out=f"See {logs / 'logs'}, and run the same command again.",
        )


def _check(numbers: Mapping[str, int], executor: str, slurm: SlurmOptions | None) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"--{name} {number}: expected 1 or more.")
    if executor not in _EXECUTORS:
        raise UsageError(f"executor '{executor}': expected one of {', '.join(_EXECUTORS)}.")
    if executor != "slurm":
        if slurm not in (None, SlurmOptions()):
            raise UsageError(
                f"partition, time, sbatch-arg and env-command mean nothing to '{executor}'.",
                way_out="Leave them out, or use --executor slurm.",
            )
        return
    if slurm is None or not slurm.partition or not slurm.time:
        raise UsageError(
            "SLURM needs a partition and a time limit.",
            way_out="Give both, as --partition cpu --time 04:00:00.",
        )
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise UsageError(
            "started inside a task of a SLURM array job.",
            effect="datatrove would take this process for one of the tasks.",
            way_out="Start the count on a login node, or in a job that is no array.",
        )
    if shutil.which("sbatch") is None:
        raise UsageError("there is no 'sbatch' here.", way_out="Start it where SLURM is.")


def _fresh_folder(work: Path) -> Path:
    """Make a folder for datatrove: tasks of another count may still read theirs."""
    number = 1 + len(list(work.glob(f"{_LOGS}-*")))
    folder = work / f"{_LOGS}-{number}"
    folder.mkdir()
    return folder


@dataclass(frozen=True)
class _Runner:
    """One of datatrove's executors, and what it is told."""

    kind: Any
    executor: str
    tasks: int
    workers: int | None
    threads: int
    memory_gb: int
    slurm: SlurmOptions

    def __call__(self, task: CountTask, tasks: int, logs: Path) -> str:
        """Hand the task out; give the number of a job that goes on, or ""."""
        # Parts tell what is done; datatrove's own marks would not know a changed file.
        shared = {"tasks": tasks, "logging_dir": str(logs), "skip_completed": False}
        if self.executor == "local":
            workers = self.workers or max(1, num_cores() // self.threads)
            self.kind([task], workers=min(workers, tasks), **shared).run()
            return ""
        shared |= {"workers": self.workers or -1}
        shared |= {"cpus_per_task": self.threads, "mem_per_cpu_gb": self.memory_gb}
        if self.executor == "slurm":
            return self._submit(task, shared)
        import ray

        started = not ray.is_initialized()
        if started:
            ray.init(log_to_driver=False)
        try:
            self.kind([task], **shared).run()
        finally:
            if started:
                ray.shutdown()
        return ""

    def _submit(self, task: CountTask, shared: Mapping[str, Any]) -> str:
        """Submit an array job; give its number."""
        options = dict(self.slurm.sbatch)
        here = shlex.quote(str(Path(sys.executable).parent))
        job = self.kind(
            [task],
            time=self.slurm.time,
            partition=self.slurm.partition,
            job_name="lingraft-count",
            qos=options.pop("qos", ""),  # datatrove's default is a class that few clusters have
            env_command=self.slurm.env_command or f"export PATH={here}:$PATH",
            sbatch_args=options,
            **shared,
        )
        try:
            job.run()
        except subprocess.CalledProcessError as error:
            raise UsageError(
                f"sbatch refused the job (exit code {error.returncode}); it told why above.",
                way_out="Change --partition, --time or --sbatch-arg; see sinfo.",
            ) from None
        return str(job.job_id)


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
            way_out="pip install 'lingraft[cluster]', or use lingraft vocab search alone.",
        ) from None
    return getattr(module, _EXECUTORS[executor])


def _differs(path: Path, base: str) -> LingraftError:
    return InputError(
        f"{path}: not the same here as where the count was started, or the base {base} is not.",
        effect="The search would read the file again.",
        way_out="Give paths that all machines share, and run the same command again.",
    )


def _ignore(amount: int) -> None:
    """Tell no progress: datatrove logs whole tasks."""
