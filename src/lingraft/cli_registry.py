"""`lingraft corpus list`, `add`, `stats` and `fetch`: sets on disk, and how they get there."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_words import many_values, reporter_for
from .texts import tell_surrogates

if TYPE_CHECKING:
    from .corpus import FetchResult, StatsResult

__all__ = ["add", "fetch", "list_", "register", "stats"]

_LIST_EXAMPLE = "Example: lingraft corpus list data/datasets.toml --data-dir /data"
_ADD_EXAMPLE = (
    "Example: lingraft corpus add data/datasets.toml SkyPile-150B-2023 "
    "--root '{DATA_DIR}/zh/{name}' --splits train,dev"
)
_STATS_EXAMPLE = (
    "Example: lingraft corpus stats corpus-zh --tokenizer mixtral=mixtral/tokenizer.model "
    "ours=mixtral-zh --html stats.html"
)
_FETCH_EXAMPLE = (
    "Example: lingraft corpus fetch hub:Skywork/SkyPile-150B --pattern 'data/2022-*.jsonl' "
    "'data/2023-*.jsonl' --out data/zh/SkyPile-150B"
)
_PIPE_WIDTH = 1000
_KINDS = "a tokenizer.model, a tokenizer.json, a folder of one, or a hub name"

Registry = Annotated[Path, typer.Argument(metavar="REGISTRY", help="A datasets.toml.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the set.")]
Place = Annotated[
    Path,
    typer.Argument(metavar="DIR|REGISTRY", help="What corpus prepare wrote, or a datasets.toml."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="What {DATA_DIR} stands for. Default: REGISTRY's folder."),
]
Root = Annotated[str, typer.Option(help="Folder of the set.")]
Doc = Annotated[str, typer.Option(help="Its documents, under root; .jsonl may be left out.")]
Encoded = Annotated[str, typer.Option(help="Its token files, under root.")]
Splits = Annotated[str, typer.Option(metavar="NAME,NAME...", help="Its splits.")]
Tokenizers = Annotated[
    list[str],
    typer.Option(
        "--tokenizer",
        metavar="[NAME=]TOKENIZER...",
        help=f"Count the tokens of the documents with each: {_KINDS}.",
    ),
]
Count = Annotated[
    bool, typer.Option("--count", help="Count documents, characters and bytes without one, too.")
]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
Html = Annotated[Path | None, typer.Option(metavar="OUT", help="Write the statistics as a page.")]
Jobs = Annotated[int | None, typer.Option(help="Threads. Default: one a core.")]
FetchJobs = Annotated[int, typer.Option(help="Files fetched at a time.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="hub:OWNER/NAME (HF_ENDPOINT names a mirror), a path, or a URL: s3://, gs://, "
        "https://, ...; a folder or a pattern gives its files.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to fetch into.")]
Patterns = Annotated[
    list[str],
    typer.Option(
        "--pattern",
        metavar="GLOB...",
        help="Files to take from repositories and folders. Default: all that are not hidden.",
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a hub repository. Default: main.")
]
ListOnly = Annotated[
    bool, typer.Option("--list", help="Tell what would be fetched, and fetch nothing.")
]


def register(app: typer.Typer) -> None:
    """Give the verbs of this file to `lingraft corpus`."""
    app.command("list", epilog=_LIST_EXAMPLE)(list_)
    app.command(epilog=_ADD_EXAMPLE)(add)
    app.command(cls=many_values("--tokenizer"), epilog=_STATS_EXAMPLE)(stats)
    app.command(cls=many_values("--pattern"), epilog=_FETCH_EXAMPLE)(fetch)


def list_(registry: Registry, data_dir: DataDir = None, json: Json = False) -> None:
    """List the sets of a registry, and where their files are; nothing of them is read."""
    from .corpus.registering import list_sets
    from .corpus.tables import list_view

    splits = list_sets(registry, data_dir=data_dir)
    if json:
        _print_json([asdict(one) for one in splits])
        return
    _print_view(list_view(splits))


def add(
    registry: Registry,
    name: Name,
    root: Root = "{DATA_DIR}",
    doc: Doc = "{name}-{split}",
    encoded: Encoded = "encoded-{name}-{split}",
    splits: Splits = "train,valid",
    json: Json = False,
) -> None:
    """Add a set to a registry, or make one; what stands in the file stays as it is.

    {DATA_DIR}, {name} and {split} are filled in when the registry is read.
    """
    from .corpus.registering import add_set

    names = [split.strip() for split in splits.split(",") if split.strip()]
    result = add_set(registry, name, root=root, doc=doc, encoded=encoded, splits=names)
    if json:
        _print_json(asdict(result))
        return
    print(f"{result.registry}: {'made, with' if result.created else 'now has'} '{name}'")


def stats(
    place: Place,
    tokenizer: Tokenizers = [],
    count: Count = False,
    data_dir: DataDir = None,
    text_key: TextKey = "text",
    html: Html = None,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Tell what each set holds: documents, characters, bytes, tokens, what was dropped.

    Tokens are those of token files, special tokens included; with --tokenizer
    also those of the text alone, counted now.
    """
    from .corpus.totals import stats as run_stats

    result = run_stats(
        place,
        tokenizers=tokenizer,
        count=count,
        data_dir=data_dir,
        text_key=text_key,
        html=html,
        jobs=jobs,
        reporter=reporter_for(quiet=json),
    )
    if json:
        _print_json(result.record)
        return
    _print_stats(result)
    if html is not None:
        print(f"page: {html}")


def _print_stats(result: StatsResult) -> None:
    from .corpus.tables import dropped_view, sizes_view, tokens_view

    tally = result.tally
    for view in (sizes_view(tally), tokens_view(tally), dropped_view(tally)):
        if view is not None:
            _print_view(view)
            print()
    num_surrogates = sum(one.num_surrogates for one in tally.sets.values())
    if num_surrogates:
        print(tell_surrogates(num_surrogates))
    print("\n".join(result.notes), end="\n" if result.notes else "")


def fetch(
    source: Sources,
    out: Out,
    pattern: Patterns = [],
    revision: Revision = None,
    jobs: FetchJobs = 4,
    list_only: ListOnly = False,
    json: Json = False,
) -> None:
    """Fetch the files of data sets into a folder, under their own names.

    Run it again to go on after a stop, or to fetch only what has changed.
    fetched.json in DIR tells where each file came from, its size and sha256,
    and which commit a branch was.
    """
    from .corpus.remote import fetch as run_fetch

    result = run_fetch(
        source,
        out=out,
        patterns=pattern,
        revision=revision,
        jobs=jobs,
        list_only=list_only,
        reporter=reporter_for(quiet=json),
    )
    if json:
        _print_json(result.record)
        return
    _print_fetch(result)


def _print_fetch(result: FetchResult) -> None:
    left = result.to_fetch
    size_bytes = sum(file.size_bytes or 0 for file in left)
    if result.is_done:
        there = len(result.files) - len(left)
        print(f"{len(left):,} files, {size_bytes / 1e6:,.1f} MB fetched; {there:,} were there")
        print(f"{result.folder}: see fetched.json")
        return
    for file in result.files:
        size = "?" if file.size_bytes is None else f"{file.size_bytes / 1e6:,.1f} MB"
        print(f"{size:>14}  {file.state:<8}  {file.name}")
    print(f"{len(result.files):,} files; to fetch: {len(left):,}, {size_bytes / 1e6:,.1f} MB")


def _print_view(view: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # a pipe has no width: nothing is to be folded there
        console = Console(width=_PIPE_WIDTH)
    console.print(view)


def _print_json(value: object) -> None:
    print(json_.dumps(value, indent=1, ensure_ascii=False, default=str))
