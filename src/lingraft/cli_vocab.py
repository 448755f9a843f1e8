"""`lingraft vocab ...`: the vocabulary search on plain files, without a recipe."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_cluster import (
    CpusPerTask,
    EnvCommand,
    Executor,
    MemPerCpu,
    Partition,
    SbatchArgs,
    Tasks,
    Time,
    Workers,
    parse_sbatch,
)
from .cli_words import many_values, reporter_for
from .errors import UsageError
from .texts import tell_surrogates

if TYPE_CHECKING:
    from .vocab import CountResult, SearchResult

__all__ = ["app", "parse_counts", "parse_evals", "split_names"]

app = typer.Typer(
    help="Search vocabularies, and tell what one costs and saves.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ManyValues = many_values("--corpus", "--eval", "--keep", "--scripts", "--ban")
_SEARCH_EXAMPLE = (
    "Example: lingraft vocab search --base mixtral/tokenizer.model --corpus data/zh/*.jsonl.zst "
    "--eval book=book.jsonl wiki=wiki.jsonl --chars 4451,5435,6414,7434 --max-size 45000 "
    "--out vocab-zh"
)
_COUNT_EXAMPLE = (
    "Example: lingraft vocab count --base mixtral/tokenizer.model --corpus data/zh/*.jsonl.zst "
    "--out vocab-zh --tasks 200 --executor slurm --partition cpu --time 04:00:00"
)
_PRICE_EXAMPLE = (
    "Example: lingraft vocab price vocab-zh --model hidden=4096,active=12.9e9,total=46.7e9,"
    "vocab=32000 --serve-chars-per-day 1e9"
)


Base = Annotated[
    str, typer.Option(help="A tokenizer.model, a tokenizer.json, a folder of one, or a hub name.")
]
Corpus = Annotated[
    list[str],
    typer.Option(
        metavar="FILE...", help="Text to learn from: .jsonl, .parquet, .txt; also .gz, .zst."
    ),
]
Evals = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=FILE...", help="Text to measure ALP on; a name may have many files."
    ),
]
MaxSize = Annotated[int, typer.Option(help="Largest number of added pieces.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")]
Chars = Annotated[
    str,
    typer.Option(
        metavar="N,N...",
        help="Numbers of added single characters, a curve each. Default: those that leave out "
        "1%, 0.1%, 0.01%, 0.001% of the text.",
    ),
]
Size = Annotated[
    int | None, typer.Option(help="Number of added pieces to choose, instead of a rule.")
]
NumChars = Annotated[
    int | None, typer.Option(help="Single characters to choose. Default: the best count.")
]
Rule = Annotated[str, typer.Option(help="How the size is chosen: gain or knee.")]
MinGain = Annotated[
    float | None, typer.Option(help="Nats per byte that 1,000 more pieces must add.")
]
Sensitivity = Annotated[
    float | None, typer.Option("--knee-s", "--knee-sensitivity", help="Kneedle's S.")
]
Keep = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=FILE...", help="Text of another language: measures what changes in it."
    ),
]
Scripts = Annotated[
    list[str], typer.Option(metavar="NAME...", help="Unicode scripts. Default: as found.")
]
WordStart = Annotated[
    bool | None,
    typer.Option(
        "--word-start/--no-word-start",
        help="May pieces begin with a space? Default: where the scripts put spaces.",
    ),
]
MaxPieceChars = Annotated[
    int | None, typer.Option("--max-chars", "--max-piece-chars", help="Longest piece.")
]
MinCount = Annotated[int | None, typer.Option(help="Fewest joins of a rule.")]
Ban = Annotated[
    list[str], typer.Option(metavar="PIECE...", help="Pieces and characters not to add.")
]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
Jobs = Annotated[int | None, typer.Option(help="Threads. Default: one a core.")]
Memory = Annotated[
    str | None,
    typer.Option(help="Memory of its own to stay below, as 2GB; the rest goes to mapped files."),
]
Cut = Annotated[int | None, typer.Option(help="Cut where symbols meet fewer times; 0: never.")]
KeepWork = Annotated[bool, typer.Option("--keep-work", help="Keep the encoded corpus.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="What vocab search wrote.")]
Model = Annotated[
    str,
    typer.Option(
        metavar="hidden=N,active=N,total=N,vocab=N[,tied=true]",
        help="Width, active and all parameters, vocabulary of the base model.",
    ),
]
OneEval = Annotated[
    str | None, typer.Option("--eval", metavar="NAME", help="Evaluation text. Default: the first.")
]
TrainChars = Annotated[float, typer.Option(help="Characters of the training corpus.")]
ServeChars = Annotated[float, typer.Option(help="Characters served a day.")]
MinOccurrences = Annotated[
    int | None, typer.Option(help="How often training must show a new piece.")
]


@app.command(cls=_ManyValues, epilog=_SEARCH_EXAMPLE)
def search(
    base: Base,
    corpus: Corpus,
    eval: Evals,
    max_size: MaxSize,
    out: Out,
    chars: Chars = "",
    size: Size = None,
    num_chars: NumChars = None,
    rule: Rule = "gain",
    min_gain: MinGain = None,
    knee_sensitivity: Sensitivity = None,
    keep: Keep = [],
    scripts: Scripts = [],
    word_start: WordStart = None,
    max_piece_chars: MaxPieceChars = None,
    min_count: MinCount = None,
    ban: Ban = [],
    text_key: TextKey = "text",
    jobs: Jobs = None,
    memory: Memory = None,
    cut: Cut = None,
    keep_work: KeepWork = False,
    json: Json = False,
) -> None:
    """Search every vocabulary up to a size, choose one, and draw the curves.

    DIR gets curves.parquet, rules.parquet, choice.json, pieces.txt, pieces.jsonl and the plot as
    alp.svg, alp.png and alp.html. A stopped search goes on from what it has read.
    """
    from .vocab import search as run_search

    names = ("min_gain", "knee_sensitivity", "word_start", "max_piece_chars", "min_count")
    values = (min_gain, knee_sensitivity, word_start, max_piece_chars, min_count)
    options = {n: v for n, v in zip(names, values, strict=True) if v is not None}
    result = run_search(
        base=base,
        corpus=corpus,
        eval=parse_evals(eval),
        out=out,
        max_size=max_size,
        chars=parse_counts(chars),
        size=size,
        num_chars=num_chars,
        rule=rule,
        keep=parse_evals(keep),
        scripts=split_names(scripts),
        text_key=text_key,
        jobs=jobs,
        memory=memory,
        cut=cut,
        keep_work=keep_work,
        reporter=reporter_for(quiet=json),
        ban=ban,
        **options,
    )
    _print_search(result, json=json)


def _print_search(result: SearchResult, *, json: bool) -> None:
    if json:
        print(json_.dumps(dict(result.choice), indent=1, ensure_ascii=False))
        return
    print("\n".join(result.choice["reasons"]))
    print(f"{len(result.pieces):,} pieces in {result.folder / 'pieces.txt'}")
    print(f"plot: {result.folder / 'alp.html'}")
    if result.num_surrogates:
        print(tell_surrogates(result.num_surrogates))


@app.command(cls=_ManyValues, epilog=_COUNT_EXAMPLE)
def count(
    base: Base,
    corpus: Corpus,
    out: Out,
    tasks: Tasks,
    executor: Executor = "local",
    workers: Workers = None,
    scripts: Scripts = [],
    word_start: WordStart = None,
    text_key: TextKey = "text",
    cpus_per_task: CpusPerTask = 1,
    mem_per_cpu_gb: MemPerCpu = 2,
    partition: Partition = "",
    time: Time = "",
    sbatch_arg: SbatchArgs = [],
    env_command: EnvCommand = "",
    json: Json = False,
) -> None:
    """Read the corpus in many tasks, here or on many machines; then search as ever.

    vocab search with the same base, corpus, scripts and DIR goes on from what was read, to the
    same result bit for bit. Run it again after a failure: only what is missing is read.
    """
    from .vocab import SlurmOptions
    from .vocab import count as run_count

    result = run_count(
        base=base,
        corpus=corpus,
        out=out,
        tasks=tasks,
        executor=executor,
        workers=workers,
        scripts=split_names(scripts),
        word_start=word_start,
        text_key=text_key,
        cpus_per_task=cpus_per_task,
        mem_per_cpu_gb=mem_per_cpu_gb,
        slurm=SlurmOptions(partition, time, env_command, parse_sbatch(sbatch_arg)),
        reporter=reporter_for(quiet=json),
    )
    _print_count(result, json=json)


def _print_count(result: CountResult, *, json: bool) -> None:
    if json:
        print(json_.dumps(asdict(result), indent=1, ensure_ascii=False, default=str))
        return
    if result.job_id:
        print(f"{result.num_missing:,} files in {result.num_tasks:,} tasks: job {result.job_id}")
        print(f"when it is done: lingraft vocab search ... --out {result.folder}")
        return
    print(f"all {result.num_files:,} files are read, {result.num_missing:,} of them now")
    if result.num_surrogates:
        print(tell_surrogates(result.num_surrogates))


@app.command(epilog=_PRICE_EXAMPLE)
def price(
    folder: Folder,
    model: Model,
    eval: OneEval = None,
    num_chars: NumChars = None,
    size: Size = None,
    train_chars: TrainChars = 0,
    serve_chars_per_day: ServeChars = 0,
    min_occurrences: MinOccurrences = None,
    json: Json = False,
) -> None:
    """Should the tokenizer be extended at all? Tokens saved against what new pieces cost."""
    from .vocab import price as run_price

    result = run_price(
        folder,
        model=model,
        eval=eval,
        num_chars=num_chars,
        size=size,
        train_chars=train_chars,
        serve_chars_per_day=serve_chars_per_day,
        min_occurrences=min_occurrences,
    )
    if json:
        print(json_.dumps(result.record, indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    from .vocab.pricing_text import price_view

    Console().print(price_view(result.rows, result.size))
    print("\n".join(result.verdict))


def parse_evals(words: Sequence[str]) -> dict[str, list[str]]:
    """Read `NAME=FILE` words; a word without a name belongs to the one before.

    >>> parse_evals(["book=a.jsonl", "b.jsonl", "wiki=c.txt"])
    {'book': ['a.jsonl', 'b.jsonl'], 'wiki': ['c.txt']}

    Raises:
        UsageError: The first word has no name, or a name has no file.
    """
    found: dict[str, list[str]] = {}
    name = ""
    for word in words:
        head, sign, file = word.partition("=")
        if sign:
            name = head
        else:
            file = word
        if not name or not file:
            raise UsageError(
                f"--eval {word}: expected NAME=FILE.", way_out="As --eval book=book.jsonl."
            )
        found.setdefault(name, []).append(file)
    return found


def split_names(words: Sequence[str]) -> list[str] | None:
    """Read names between commas or spaces; None where there is none."""
    return [name for word in words for name in word.split(",") if name] or None


def parse_counts(text: str) -> list[int] | None:
    """Read `4451,5435`; None where there is nothing.

    Raises:
        UsageError: It is no list of numbers.
    """
    words = [word.strip().replace("_", "") for word in text.split(",")]
    if not text.strip():
        return None
    if not all(word.isdecimal() for word in words):
        raise UsageError(
            f"--chars {text}: expected numbers between commas.", way_out="As --chars 1000,2000."
        )
    return [int(word) for word in words]
