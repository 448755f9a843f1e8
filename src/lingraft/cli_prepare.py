"""`lingraft corpus prepare`: raw files to clean, distinct documents, split and counted."""

from __future__ import annotations

import json as json_
from collections.abc import Mapping, Sequence
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
from .errors import UsageError
from .texts import tell_surrogates

if TYPE_CHECKING:
    from .corpus.command import PrepareResult

__all__ = ["parse_named", "prepare", "register"]

_EXAMPLE = (
    "Examples: lingraft corpus prepare zh=data/zh en=data/en --out corpus --near-duplicates; "
    "lingraft corpus prepare data/zh/*.jsonl.zst --out corpus-zh --quality --scripts Han "
    "--decontaminate data/evals --keep-dropped; on a cluster, add --executor slurm --tasks 100 "
    "--partition cpu --time 02:00:00"
)
_PIPE_WIDTH = 1000

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]FILE...",
        help="Text: .jsonl, .parquet, .txt, also .gz, .zst, and .warc.wet.gz; files, folders, "
        "patterns, hub:OWNER/NAME, package:NAME/PATH. A name begins a set of all that follows.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")]
Name = Annotated[
    str, typer.Option(help="Name of the set before any NAME=. Default: its file or folder.")
]
Language = Annotated[
    list[str],
    typer.Option(metavar="[NAME=]CODE...", help="Language of the sets. Default: by script."),
]
Reader = Annotated[
    str,
    typer.Option(help="auto (by ending), jsonl, parquet, lines, wet, tagged, python-strings."),
]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
Patterns = Annotated[
    list[str],
    typer.Option("--pattern", metavar="GLOB...", help="Files to take from folders and hubs."),
]
Revision = Annotated[str, typer.Option(help="Commit, tag or branch of hub repositories.")]
ValidFrac = Annotated[
    float | None, typer.Option(help="Share held out for validation; 0: none. Default: 0.001.")
]
TestFrac = Annotated[float | None, typer.Option(help="Share held out for tests. Default: 0, none.")]
Seed = Annotated[int, typer.Option(help="Decides which documents are held out.")]
MinChars = Annotated[int | None, typer.Option(help="Drop shorter documents. Default: 16.")]
MaxChars = Annotated[int | None, typer.Option(help="Drop longer documents. Default: 1,000,000.")]
Deduplicate = Annotated[
    bool, typer.Option("--deduplicate/--no-deduplicate", help="Drop documents of equal text?")
]
NearDuplicates = Annotated[
    bool, typer.Option("--near-duplicates", help="Drop near duplicates, too (MinHash).")
]
MinSimilarity = Annotated[
    float | None,
    typer.Option(help="Jaccard similarity of near duplicates. Implies --near-duplicates."),
]
Simplify = Annotated[
    bool, typer.Option("--simplify", help="Traditional Chinese characters to simplified ones.")
]
Quality = Annotated[
    bool, typer.Option("--quality", help="Filter by words, symbols and repetition, as Gopher.")
]
Scripts = Annotated[
    list[str],
    typer.Option(metavar="NAME...", help="Scripts that texts must be in. Implies --quality."),
]
MinScriptFrac = Annotated[
    float | None, typer.Option(help="Share of letters in --scripts. Default: 0.5.")
]
Mask = Annotated[
    list[str], typer.Option(metavar="KIND...", help="Mask personal data: email, phone.")
]
Decontaminate = Annotated[
    list[str],
    typer.Option(
        metavar="FILE...", help="Benchmarks; documents that share 13 tokens in a row are dropped."
    ),
]
DecontaminateSplits = Annotated[
    list[str],
    typer.Option(metavar="SPLIT...", help="Drop them from these splits only. Default: all."),
]
OnBadRow = Annotated[
    str | None,
    typer.Option(help="A row without a document: stop, or drop and count. Default: stop."),
]
KeepDropped = Annotated[
    bool, typer.Option("--keep-dropped", help="Write dropped documents to dropped/SET.jsonl.zst.")
]
Jobs = Annotated[int | None, typer.Option(help="Processes. Default: one a core.")]
Redo = Annotated[bool, typer.Option("--redo", help="Replace a corpus that was made differently.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    words = ("--language", "--pattern", "--scripts", "--mask", "--decontaminate")
    command = many_values(*words, "--decontaminate-splits")
    app.command(cls=command, epilog=_EXAMPLE)(prepare)


def prepare(
    files: Files,
    out: Out,
    name: Name = "",
    language: Language = [],
    reader: Reader = "auto",
    text_key: TextKey = "text",
    pattern: Patterns = [],
    revision: Revision = "main",
    valid_frac: ValidFrac = None,
    test_frac: TestFrac = None,
    seed: Seed = 17,
    min_chars: MinChars = None,
    max_chars: MaxChars = None,
    deduplicate: Deduplicate = True,
    near_duplicates: NearDuplicates = False,
    min_similarity: MinSimilarity = None,
    simplify: Simplify = False,
    quality: Quality = False,
    scripts: Scripts = [],
    min_script_frac: MinScriptFrac = None,
    mask: Mask = [],
    decontaminate: Decontaminate = [],
    decontaminate_splits: DecontaminateSplits = [],
    on_bad_row: OnBadRow = None,
    keep_dropped: KeepDropped = False,
    jobs: Jobs = None,
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
    """Read, clean, filter, clear of duplicates and split; count what is dropped, by reason.

    DIR gets SET-train.jsonl and SET-valid.jsonl, datasets.toml, stats.json, stats.html, examples of
    what was dropped in dropped.jsonl, and manifest.json. A stopped run goes on where it was.
    """
    given = dict(locals())  # every option, by the name of its parameter
    from .corpus import prepare as run_prepare

    result = run_prepare(
        parse_named(files, name),
        out=out,
        language=_parse_languages(language),
        seed=seed,
        jobs=jobs,
        cluster=make_cluster(**{key: given[key] for key in _OF_CLUSTER}),
        redo=redo,
        reporter=reporter_for(quiet=json),
        **_read_options(given),
    )
    _print_json(result) if json else _print_result(result)


_OF_CLUSTER = (
    "executor",
    "tasks",
    "workers",
    "cpus_per_task",
    "mem_per_cpu_gb",
    "partition",
    "time",
    "sbatch_arg",
    "env_command",
)
_AS_THEY_ARE = (
    "reader",
    "text_key",
    "revision",
    "valid_frac",
    "test_frac",
    "min_chars",
    "max_chars",
    "deduplicate",
    "simplify",
    "on_bad_row",
    "keep_dropped",
)


def _read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put options together to settings; None where the default stays."""
    scripts, share = _split(given["scripts"]), given["min_script_frac"]
    if share is not None and not scripts:
        raise UsageError(
            "--min-script-frac is given, but no --scripts.",
            way_out="Name the scripts, as --scripts Han.",
        )
    quality = {"scripts": scripts} if scripts else {}
    quality |= {} if share is None else {"min_script_frac": share}
    similarity = given["min_similarity"]
    near = {} if similarity is None else {"min_similarity": similarity}
    return {
        **{key: given[key] for key in _AS_THEY_ARE},
        "patterns": given["pattern"],
        "quality": quality if given["quality"] or quality else None,
        "near_duplicates": near if given["near_duplicates"] or near else None,
        "mask": _split(given["mask"]) or None,
        "decontaminate": given["decontaminate"] or None,
        "decontaminate_splits": _split(given["decontaminate_splits"]) or None,
    }


def parse_named(words: Sequence[str], name: str) -> dict[str, list[str]] | list[str]:
    """Read `NAME=FILE` words; a word without a name belongs to the one before.

    Words before the first name belong to the set `name`; without any name, all words are one set
    whose name is found later. A word that is a file is one, whatever signs are in it.

    >>> parse_named(["a.jsonl", "wiki=b.txt", "c.txt"], "zh")
    {'zh': ['a.jsonl'], 'wiki': ['b.txt', 'c.txt']}

    Raises:
        UsageError: A name or a file is missing.
    """
    found: dict[str, list[str]] = {}
    current = name
    for word in words:
        head, sign, file = word.partition("=")
        if not sign or "/" in head or Path(word).exists():
            file = word
        else:
            current = head
        if not file or (sign and not head):
            raise UsageError(f"{word}: expected NAME=FILE.", way_out="As zh=data/zh.jsonl.")
        found.setdefault(current, []).append(file)
    if list(found) == [""]:
        return found[""]
    if "" in found:
        raise UsageError(
            f"{found[''][0]}: belongs to no set, and others do.",
            way_out="Name it, too: NAME=FILE, or --name NAME.",
        )
    return found


def _parse_languages(words: Sequence[str]) -> str | dict[str, str]:
    """Read one code for all sets, or `NAME=CODE` words."""
    pairs = [word.partition("=") for word in words]
    if len(words) == 1 and not pairs[0][1]:
        return words[0]
    for word, (name, _, code) in zip(words, pairs, strict=True):
        if not name or not code:
            raise UsageError(
                f"--language {word}: expected NAME=CODE.", way_out="As --language zh=zh en=en."
            )
    return {name: code for name, _, code in pairs}


def _split(words: Sequence[str]) -> list[str]:
    """Read names between commas or spaces."""
    return [name for word in words for name in word.split(",") if name]


def _print_json(result: PrepareResult) -> None:
    record = {
        "folder": str(result.folder),
        "was_done": result.was_done,
        "job_id": result.job_id,
        **result.stats,
    }
    print(json_.dumps(record, indent=1, ensure_ascii=False))


def _print_result(result: PrepareResult) -> None:
    if result.job_id:
        print(f"job {result.job_id}; when it is done, {result.folder} holds the corpus")
        return
    from rich.console import Console

    from .corpus.tables import dropped_view, sizes_view
    from .corpus.tallies import read_tally

    console = Console()
    if not console.is_terminal:  # a pipe has no width: nothing is to be folded there
        console = Console(width=_PIPE_WIDTH)
    tally = read_tally(result.stats, str(result.folder))
    for view in (sizes_view(tally), dropped_view(tally)):
        if view is not None:
            console.print(view)
            print()
    num_surrogates = sum(one.num_surrogates for one in tally.sets.values())
    if num_surrogates:
        print(tell_surrogates(num_surrogates))
    print(f"{result.folder}: see stats.html, and dropped.jsonl for what was dropped")
