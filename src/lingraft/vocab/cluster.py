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

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..bases import read_base
from ..cluster import Cluster, SlurmOptions
from ..errors import InputError, LingraftError
from ..progress import Reporter, SilentReporter
from ..store import disk_errors, lock_folder
from ..streaming import list_names
from ..texts import find_texts
from .alphabet import Alphabet
from .command import WORK, Names
from .spool import Part, Spool, make_scan, part_key, read_part
from .targets import read_alphabet

__all__ = ["CountResult", "CountTask", "SlurmOptions", "count"]

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
    num_surrogates: int = 0
    """Halves of surrogate pairs in the files that are read, each of which stands as U+FFFD."""


@dataclass(frozen=True)
class CountTask:
    """Files to parts, a unit a file."""

    base: str
    scripts: tuple[str, ...]
    word_start: bool
    text_key: str
    folder: str
    files: tuple[tuple[str, str], ...]
    """Path, and identity of its part where the count was started."""
    jobs: int
    label: str = "read"

    def __len__(self) -> int:
        """Give the number of files."""
        return len(self.files)

    def size_bytes(self, n: int) -> int:
        """Give the size of a file."""
        return Path(self.files[n][0]).stat().st_size

    def is_done(self, n: int) -> bool:
        """Whether the part of a file is there."""
        alphabet = _alphabet(self.base, self.scripts, self.word_start)
        path = Path(self.files[n][0])
        spool = Spool(Path(self.folder), len(alphabet.flags_C))
        return path.is_file() and spool.find(*part_key(path, self.text_key, alphabet)) is not None

    def do(self, n: int) -> None:
        """Read one file.

        Raises:
            InputError: It cannot be read, or is not what it was where the count was started.
        """
        alphabet = _alphabet(self.base, self.scripts, self.word_start)
        spool = Spool(Path(self.folder), len(alphabet.flags_C))
        name, identity = self.files[n]
        path = Path(name)
        if not path.is_file() or part_key(path, self.text_key, alphabet)[1] != identity:
            raise _differs(path, self.base)
        scan, ahead = make_scan(alphabet), _AHEAD * self.jobs
        with disk_errors(spool.folder, place="--out DIR"), ThreadPoolExecutor(self.jobs) as pool:
            read_part(spool, path, self.text_key, alphabet, scan, pool, ahead, _ignore)


@lru_cache(maxsize=2)
def _alphabet(base: str, scripts: tuple[str, ...], word_start: bool) -> Alphabet:
    """Read a base once a process, not once a file."""
    return Alphabet(read_base(base), scripts, word_start)


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
    cluster = Cluster(
        executor, tasks, workers, cpus_per_task, mem_per_cpu_gb, slurm or SlurmOptions()
    )
    cluster.check()
    note = (reporter or SilentReporter()).note
    folder = Path(out).absolute()
    return _count(str(base), corpus, folder, scripts, word_start, text_key, cluster, note)


def _count(
    base: str,
    corpus: Names,
    folder: Path,
    scripts: Sequence[str] | None,
    word_start: bool | None,
    text_key: str,
    cluster: Cluster,
    note: Callable[[str], None],
) -> CountResult:
    """Deal out what is missing, run it, and look whether it is there."""
    files = find_texts(list_names("corpus", corpus))
    with disk_errors(folder, place="--out DIR"):
        # Only while the work is dealt out: datatrove's processes would inherit the lock, and one
        # of them outlives a killed parent. Parts need none.
        with lock_folder(folder, place="--out DIR", other="--out OTHER"):
            alphabet = read_alphabet(base, scripts, word_start, files, text_key, note)
            work = folder / WORK
            task = _deal(base, alphabet, text_key, work, files, cluster.cpus_per_task)
            logs = _fresh_folder(work) if task.files else None
        note(f"{len(files):,} files, {len(task.files):,} of them to read")
        job_id = cluster.run([task], logs, "lingraft-count") if logs else ""
        num_surrogates = sum(
            part.num_surrogates for part in _parts(files, text_key, alphabet, work) if part
        )
    shares = min(cluster.tasks, len(task.files))
    return CountResult(folder, len(files), len(task.files), shares, job_id, logs, num_surrogates)


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
    parts = _parts(paths, text_key, alphabet, work)
    return [path for path, part in zip(paths, parts, strict=True) if part is None]


def _parts(
    paths: Sequence[Path], text_key: str, alphabet: Alphabet, work: Path
) -> Iterator[Part | None]:
    """Give the part of each file that has one."""
    spool = Spool(work, len(alphabet.flags_C))
    return (spool.find(*part_key(path, text_key, alphabet)) for path in paths)


def _fresh_folder(work: Path) -> Path:
    """Make a folder for datatrove: tasks of another count may still read theirs."""
    number = 1 + len(list(work.glob(f"{_LOGS}-*")))
    folder = work / f"{_LOGS}-{number}"
    folder.mkdir()
    return folder


def _differs(path: Path, base: str) -> LingraftError:
    return InputError(
        f"{path}: not the same here as where the count was started, or the base {base} is not.",
        effect="The search would read the file again.",
        way_out="Give paths that all machines share, and run the same command again.",
    )


def _ignore(amount: int) -> None:
    """Tell no progress: datatrove logs whole tasks."""
