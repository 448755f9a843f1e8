"""`lingraft tokenizer encode`, `compare` and `show`: tokenizers at work on texts."""

from __future__ import annotations

import json as json_
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_words import many_values, reporter_for
from .errors import UsageError
from .texts import tell_surrogates

if TYPE_CHECKING:
    from .tokenizer.comparing import CompareResult
    from .tokenizer.packing import EncodeResult

__all__ = ["compare", "encode", "register", "show"]

_ENCODE_EXAMPLE = (
    "Example: lingraft tokenizer encode --tokenizer mixtral-zh data/zh/*.jsonl.zst --out zh.npy"
)
_COMPARE_EXAMPLE = (
    "Example: lingraft tokenizer compare mixtral=mixtral/tokenizer.model ours=mixtral-zh "
    "Qwen/Qwen3-8B --text book=book.jsonl wiki=wiki.jsonl --out efficiency"
)
_SHOW_EXAMPLE = "Example: lingraft tokenizer show '我的名字是' --tokenizer mixtral mixtral-zh --ids"
_PIPE_WIDTH = 1000
_KINDS = "a tokenizer.model, a tokenizer.json, a folder of one, or a hub name"

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Text: .jsonl, .parquet, .txt; also .gz, .zst."),
]
OneTokenizer = Annotated[str, typer.Option("--tokenizer", help=f"The tokenizer: {_KINDS}.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="ids.npy; ids.ends.npy is written beside.")]
Jobs = Annotated[int | None, typer.Option(help="Threads. Default: one a core.")]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
Eos = Annotated[bool, typer.Option("--eos", help="Put the tokenizer's EOS after each document.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Tokenizers = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]TOKENIZER...", help=f"Each {_KINDS}; the first is compared with."
    ),
]
Texts = Annotated[
    list[str],
    typer.Option(
        "--text",
        metavar="[NAME=]FILE...",
        help="Text to encode. After a name all files are one text; without one each is a text.",
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder for efficiency.md, .csv, .json, .svg, .png."),
]
JsonOut = Annotated[
    str, typer.Option("--json", metavar="OUT", help="File for the JSON; - for standard output.")
]
Words = Annotated[
    str | None,
    typer.Argument(metavar="TEXT", help="The text; - for standard input.", show_default=False),
]
ManyTokenizers = Annotated[
    list[str],
    typer.Option(
        "--tokenizer", metavar="[NAME=]TOKENIZER...", help=f"Each {_KINDS}; the first is the base."
    ),
]
Ids = Annotated[bool, typer.Option("--ids", help="Show the id of each piece.")]


def register(app: typer.Typer) -> None:
    """Give the verbs of this file to `lingraft tokenizer`."""
    app.command(epilog=_ENCODE_EXAMPLE)(encode)
    app.command(cls=many_values("--text"), epilog=_COMPARE_EXAMPLE)(compare)
    app.command(cls=many_values("--tokenizer"), epilog=_SHOW_EXAMPLE)(show)


def encode(
    files: Files,
    tokenizer: OneTokenizer,
    out: Out,
    jobs: Jobs = None,
    text_key: TextKey = "text",
    eos: Eos = False,
    json: Json = False,
) -> None:
    """Encode files into one row of ids, uint16 or uint32, and the ends of documents beside it.

    Ids are those of sentencepiece or tokenizers without special tokens.
    """
    from .tokenizer.packing import encode as run_encode

    result = run_encode(
        files,
        tokenizer=tokenizer,
        out=out,
        jobs=jobs,
        text_key=text_key,
        eos=eos,
        reporter=reporter_for(quiet=json),
    )
    _print_encode(result, json=json)


def _print_encode(result: EncodeResult, *, json: bool) -> None:
    if json:
        print(json_.dumps(asdict(result), indent=1, ensure_ascii=False, default=str))
        return
    print(
        f"{result.total_tokens:,} tokens of {result.num_docs:,} documents, "
        f"{result.size_bytes / 1e6:,.1f} MB of text, as {result.dtype} in {result.out}; "
        f"their ends in {result.ends}"
    )
    if result.num_surrogates:
        print(tell_surrogates(result.num_surrogates))


def compare(
    tokenizers: Tokenizers,
    text: Texts,
    out: OutFolder = None,
    text_key: TextKey = "text",
    jobs: Jobs = None,
    json: JsonOut = "",
) -> None:
    """Count the tokens that texts take with each tokenizer: a table for each text, and in total.

    A word is what stands between white space; there is no such figure for Chinese, Japanese, Thai.
    """
    from .tokenizer.comparing import check_record_path, write_record
    from .tokenizer.comparing import compare as run_compare

    to_stdout, target = json == "-", Path(json)
    if json and not to_stdout:
        check_record_path(target)
    result = run_compare(
        tokenizers,
        text=text,
        out=out,
        text_key=text_key,
        jobs=jobs,
        reporter=reporter_for(quiet=to_stdout),
    )
    if to_stdout:
        print(json_.dumps(result.record, indent=1, ensure_ascii=False))
        return
    _print_compare(result)
    if json:
        write_record(target, result)
        print(f"JSON: {target}")


def _print_compare(result: CompareResult) -> None:
    from rich.console import Console

    from .tokenizer.efficiency_text import efficiency_notes, efficiency_views

    console = Console()
    if not console.is_terminal:  # a pipe has no width: nothing is to be folded there
        console = Console(width=_PIPE_WIDTH)
    for view in efficiency_views(result.table):
        console.print(view)
        print()
    print("\n".join(efficiency_notes(result.table)))
    if result.folder is not None:
        print(f"table and chart: {result.folder / 'efficiency.md'}, .csv, .json, .svg, .png")


def show(
    text: Words = None,
    tokenizer: ManyTokenizers = [],
    ids: Ids = False,
    json: Json = False,
) -> None:
    r"""Show the pieces that each tokenizer cuts a text into, base beside extended.

    ▁ is a space, <0xE5> a byte, \n and the like what a terminal would not show.
    """
    from rich.console import Console

    from .tokenizer.showing import show as run_show
    from .tokenizer.showing import show_colours, show_lines

    if not tokenizer:
        raise UsageError("no tokenizer is given.", way_out="Name one or more: --tokenizer NAME.")
    if text is None:
        raise UsageError(
            "no TEXT is given.",
            effect="All words after --tokenizer are tokenizers.",
            way_out="Put it first, or after --: lingraft tokenizer show TEXT --tokenizer NAME.",
        )
    result = run_show(_read_stdin() if text == "-" else text, tokenizer)
    if json:
        print(json_.dumps(result.record, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(show_colours(result, ids=ids), soft_wrap=True)
    else:
        print("\n".join(show_lines(result, ids=ids)))


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"standard input is not UTF-8: {error.reason} at byte {error.start + 1}.",
            way_out="Give it as UTF-8.",
        ) from None
