"""`lingraft tokenizer verify`: every check on a tokenizer, and the certificate."""

from __future__ import annotations

import json as json_
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_words import many_values, reporter_for

if TYPE_CHECKING:
    from .tokenizer.verifying import VerifyResult

__all__ = ["register", "verify"]

_EXAMPLE = (
    "Example: lingraft tokenizer verify mixtral-zh --base mixtral/tokenizer.model "
    "--corpus data/zh/*.jsonl.zst. Exit codes: 0 all well, 3 a check failed."
)
_DIFFERS = 3
_MARKS = {"ok": "ok", "told": "note", "differs": "DIFFERS", "skipped": "skipped"}
_STYLES = {"ok": "green", "told": "yellow", "differs": "bold red", "skipped": "dim"}

Folder = Annotated[
    str,
    typer.Argument(
        metavar="DIR", help="A folder, a tokenizer.model, a tokenizer.json or a hub name."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="TOKENIZER", help="What it was extended from. Default: as extension.json tells."
    ),
]
Corpus = Annotated[
    list[str],
    typer.Option(
        metavar="FILE...", help="Texts to try it on: .jsonl, .parquet, .txt; also .gz, .zst."
    ),
]
Scripts = Annotated[
    list[str],
    typer.Option(metavar="NAME...", help="Scripts of the new language. Default: as found."),
]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
Jobs = Annotated[int | None, typer.Option(help="Threads. Default: one a core.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the command to `lingraft tokenizer`."""
    app.command(cls=many_values("--corpus", "--scripts"), epilog=_EXAMPLE)(verify)


def verify(
    folder: Folder,
    base: Base = None,
    corpus: Corpus = [],
    scripts: Scripts = [],
    text_key: TextKey = "text",
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Prove a tokenizer: its forms agree, its base is kept, texts change only where they should.

    Anyone's tokenizer will do. Without a base, what needs one is skipped.
    """
    from .tokenizer.verifying import verify as run_verify

    result = run_verify(
        folder,
        base=base,
        corpus=corpus,
        scripts=[name for word in scripts for name in word.split(",") if name] or None,
        text_key=text_key,
        jobs=jobs,
        reporter=reporter_for(quiet=json),
    )
    if json:
        print(json_.dumps(dict(result.record), indent=1, ensure_ascii=False))
    else:
        _print(result)
    if not result.ok:
        raise typer.Exit(_DIFFERS)


def _print(result: VerifyResult) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    title = f"{result.tokenizer} against {result.base}" if result.base else result.tokenizer
    table = Table("check", "", "found", title=escape(title), title_justify="left")
    for check in result.checks:
        style = _STYLES[check.state]
        mark = f"[{style}]{_MARKS[check.state]}[/{style}]"
        table.add_row(check.name, mark, escape(check.text))
    console.print(table)
    for line in _explanations(result):
        print(line)


def _explanations(result: VerifyResult) -> list[str]:
    lines: list[str] = []
    for check in result.checks:
        if check.state in ("differs", "told") or check.notes:
            lines += ["", f"{check.name}: {_MARKS[check.state]}"]
            shown = [*check.examples, *check.notes] if check.state != "ok" else check.notes
            lines += [f"  {line}" for paragraph in shown for line in paragraph.split("\n")]
    if result.certificate is not None:
        lines += ["", "certificate"]
        proved = result.certificate["proved"] or ["nothing"]
        lines += [f"  proved: {line}" for line in proved]
        lines += [f"  measured: {line}" for line in result.certificate["measured"]]
    return lines
