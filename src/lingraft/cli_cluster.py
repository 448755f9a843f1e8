"""Options of commands whose work may be done on many machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = [
    "CpusPerTask",
    "EnvCommand",
    "Executor",
    "MaybeExecutor",
    "MemPerCpu",
    "Partition",
    "SbatchArgs",
    "Tasks",
    "Time",
    "Workers",
    "make_cluster",
    "parse_sbatch",
]

Tasks = Annotated[int, typer.Option(help="How many shares the files are dealt into.")]
Executor = Annotated[
    str, typer.Option(metavar="NAME", help="Where tasks run: local, slurm or ray.")
]
Workers = Annotated[
    int | None, typer.Option(help="Most tasks at a time. Default: one a core here, else no limit.")
]
CpusPerTask = Annotated[int, typer.Option(help="Threads of a task, and cores to ask for.")]
MemPerCpu = Annotated[int, typer.Option("--mem-per-cpu-gb", help="Memory to ask for.")]
Partition = Annotated[str, typer.Option(help="SLURM's partition.")]
Time = Annotated[str, typer.Option(metavar="HH:MM:SS", help="SLURM's time limit of a task.")]
SbatchArgs = Annotated[
    list[str], typer.Option("--sbatch-arg", metavar="KEY=VALUE", help="Repeatable: of sbatch.")
]
EnvCommand = Annotated[
    str, typer.Option(help="Shell command before a SLURM task. Default: this Python's folder.")
]
MaybeExecutor = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Share the work out: local, slurm or ray (through datatrove). Default: --jobs here.",
    ),
]


def make_cluster(
    executor: str,
    tasks: int,
    workers: int | None,
    cpus_per_task: int,
    mem_per_cpu_gb: int,
    partition: str,
    time: str,
    sbatch_arg: Sequence[str],
    env_command: str,
) -> Cluster | None:
    """Put the options together; None where the work is done in this process and its own.

    Raises:
        UsageError: Options of a cluster are given, and no executor.
    """
    from .cluster import Cluster, SlurmOptions

    slurm = SlurmOptions(partition, time, env_command, parse_sbatch(sbatch_arg))
    cluster = Cluster(executor, tasks, workers, cpus_per_task, mem_per_cpu_gb, slurm)
    if executor:
        return cluster
    if cluster != Cluster(""):
        raise UsageError(
            "options of a cluster are given, but no --executor.",
            way_out="Add --executor local, slurm or ray, or leave them out.",
        )
    return None


def parse_sbatch(words: Sequence[str]) -> dict[str, str]:
    """Read `KEY=VALUE` words, or KEY alone, with or without dashes before it.

    >>> parse_sbatch(["account=nlp", "--exclusive"])
    {'account': 'nlp', 'exclusive': ''}

    Raises:
        UsageError: A word has no key.
    """
    pairs = [word.lstrip("-").partition("=") for word in words]
    for word, (key, _, _) in zip(words, pairs, strict=True):
        if not key:
            raise UsageError(f"--sbatch-arg {word}: expected KEY=VALUE.", way_out="As account=nlp.")
    return {key: value for key, _, value in pairs}
