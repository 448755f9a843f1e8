"""`lingraft encode`: text files to a folder of token files."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_cluster import (
    CpusPerTask,
    EnvCommand,
    MaybeExecutor,
    MemPerCpu,
    Partition,
    SbatchArgs,
    Tasks,
    Time,
    Workers,
    make_cluster,
)
from .cli_words import many_values, reporter_for
from .texts import tell_surrogates

if TYPE_CHECKING:
    from .encode.command import EncodedFolder

__all__ = ["encode", "register"]

_EXAMPLE = (
    "Examples: lingraft encode --tokenizer mixtral-zh --input corpus/*-train.jsonl "
    "corpus/*-valid.jsonl --out tokens; "
    "on a cluster: lingraft encode --tokenizer mixtral-zh --input data/*.jsonl --out tokens-zh "
    "--executor slurm --tasks 100 --partition cpu --time 02:00:00"
)

Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="FILE...",
        help="Text: .jsonl, .parquet, .txt (a document a line); also .gz, .zst. Each becomes a "
        "token file.",
    ),
]
Tokenizer = Annotated[
    str, typer.Option(help="A tokenizer.model, a tokenizer.json, a folder of one, or a hub name.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")]
Jobs = Annotated[int | None, typer.Option(help="Cores to use here. Default: all.")]
Bos = Annotated[
    bool | None,
    typer.Option("--bos/--no-bos", help="BOS before each document? Default: as the tokenizer."),
]
Eos = Annotated[bool, typer.Option("--eos/--no-eos", help="EOS after each document?")]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
Redo = Annotated[bool, typer.Option("--redo", help="Replace token files of other texts.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(cls=many_values("--input"), epilog=_EXAMPLE)(encode)


def encode(
    input: Inputs,
    tokenizer: Tokenizer,
    out: Out,
    jobs: Jobs = None,
    bos: Bos = None,
    eos: Eos = True,
    text_key: TextKey = "text",
    redo: Redo = False,
    executor: MaybeExecutor = "",
    tasks: Tasks = 1,
    workers: Workers = None,
    cpus_per_task: CpusPerTask = 1,
    mem_per_cpu_gb: MemPerCpu = 2,
    partition: Partition = "",
    time: Time = "",
    sbatch_arg: SbatchArgs = [],
    env_command: EnvCommand = "",
    json: Json = False,
) -> None:
    """Turn text into token files: ids exactly as the tokenizer's own library gives them.

    DIR gets NAME.npy (ids, memory-mapped), NAME.ends.npy, NAME.bytes.npy for each file, and
    index.json. A stopped run goes on where it was. Read them with lingraft.encode.TokenDataset.
    """
    from .encode import encode as run_encode

    cluster = make_cluster(
        executor, tasks, workers, cpus_per_task, mem_per_cpu_gb, partition, time, sbatch_arg,
        env_command,
    )  # fmt: skip
    result = run_encode(
        input,
        tokenizer=tokenizer,
        out=out,
        jobs=jobs,
        bos=bos,
        eos=eos,
        text_key=text_key,
        cluster=cluster,
        redo=redo,
        reporter=reporter_for(quiet=json),
    )
    print(json_.dumps(_record(result), indent=1)) if json else _tell(result)


def _record(result: EncodedFolder) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "was_done": result.was_done,
        "job_id": result.job_id,
        "encoder": result.encoder,
        "reason": result.reason,
        "num_docs": result.num_docs,
        "total_tokens": result.total_tokens,
        "size_bytes": result.size_bytes,
        "num_surrogates": result.num_surrogates,
        "index": None if result.index is None else result.index.model_dump(),
    }


def _tell(result: EncodedFolder) -> None:
    if result.index is None:
        print(f"job {result.job_id}; when it is done, {result.folder} holds the token files")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("file", title="already there" if result.was_done else None)
    for column in ("documents", "empty", "tokens", "MB of text", "bytes per token"):
        table.add_column(column, justify="right")
    for file in result.index.files:
        per_token = file.size_bytes / file.total_tokens if file.total_tokens else 0.0
        table.add_row(
            file.name,
            f"{file.num_docs:,}",
            f"{file.num_empty:,}",
            f"{file.total_tokens:,}",
            f"{file.size_bytes / 1e6:,.1f}",
            f"{per_token:.2f}",
        )
    Console().print(table)
    print(
        f"{result.total_tokens:,} tokens of {result.num_docs:,} documents in {result.folder} "
        f"({result.index.dtype})"
    )
    if result.num_surrogates:
        print(tell_surrogates(result.num_surrogates))
