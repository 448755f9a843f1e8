"""`lingraft bpb`: bits per byte of models with any tokenizers, on any text."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_words import many_values, reporter_for
from .texts import tell_surrogates

__all__ = [
    "Attn",
    "Device",
    "Dtype",
    "Load",
    "Models",
    "PackedCache",
    "TrustRemoteCode",
    "bpb",
    "register",
]

RESAMPLES = 2_000

_EXAMPLE = (
    "Example: lingraft bpb mixtral mixtral-zh --text book.jsonl wiki.jsonl --json bpb.json; "
    "what became of the new pieces: lingraft bpb mixtral mixtral-zh --text book.jsonl --new-pieces"
)

Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Model folders or OWNER/NAME of the hub, base first."),
]
Texts = Annotated[
    list[str],
    typer.Option(
        "--text",
        metavar="FILE...",
        help="Text: .jsonl, .parquet (a document a row), .txt (one document); also .gz, .zst.",
    ),
]
OutJson = Annotated[
    Path | None,
    typer.Option("--json", metavar="OUT", help="Write the rows as JSON; - prints them."),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Longest context. Default: the shortest of the models', at most 4,096."),
]
Stride = Annotated[
    int | None,
    typer.Option(
        help="Tokens that each window of a long document adds: smaller is slower, and each token "
        "sees more of what is before it. Default: half the context."
    ),
]
Limit = Annotated[int | None, typer.Option(help="Documents of each file, at most. Default: all.")]
Bos = Annotated[
    str,
    typer.Option(
        metavar="PIECE",
        help="What stands before each document. auto: BOS if the tokenizer puts it, else EOS.",
    ),
]
Eos = Annotated[bool, typer.Option("--eos/--no-eos", help="Count EOS after each document?")]
TextKey = Annotated[str, typer.Option(help="Column of the text.")]
NewPieces = Annotated[
    bool, typer.Option("--new-pieces", help="Tell how the pieces that the base lacks are used.")
]
Resamples = Annotated[
    int, typer.Option(min=0, help="Draws of the bootstrap of each difference; 0: no interval.")
]
Seed = Annotated[int, typer.Option(min=0, help="Decides them.")]
Load = Annotated[str, typer.Option(help="full or 4bit (NF4, double quantisation).")]
Attn = Annotated[
    str, typer.Option(help="sdpa, eager or flash_attention_2. Default: as transformers chooses.")
]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16. auto: float32 on a CPU.")
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N, or split: over all GPUs (accelerate).")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python files that come with a model.")
]
PackedCache = Annotated[
    str,
    typer.Option(
        metavar="DIR", help="Keep a Mixtral's 4-bit weights here: the next load is faster."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(cls=many_values("--text"), epilog=_EXAMPLE)(bpb)


def bpb(
    models: Models,
    text: Texts,
    json: OutJson = None,
    stride: Stride = None,
    max_tokens: MaxTokens = None,
    limit: Limit = None,
    bos: Bos = "auto",
    eos: Eos = False,
    text_key: TextKey = "text",
    new_pieces: NewPieces = False,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 17,
    load: Load = "full",
    attn: Attn = "",
    dtype: Dtype = "auto",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    packed_cache: PackedCache = "",
) -> None:
    """Bits per byte of models on texts, the base first: it compares any tokenizers.

    Each difference has a 95% interval, by a paired bootstrap over documents. A killed call with
    --json OUT goes on where it was.
    """
    from .evals.bits import BitsSettings
    from .evals.bitscommand import bits_per_byte
    from .evals.loading import LoadPlan

    printed = json is not None and str(json) == "-"
    rows = bits_per_byte(
        models,
        text,
        settings=BitsSettings(max_tokens, stride, bos, eos),
        limit=limit,
        text_key=text_key,
        new_pieces=new_pieces,
        plan=LoadPlan(load, attn, dtype, device, trust_remote_code, packed_cache),
        resamples=resamples,
        seed=seed,
        out=None if printed else json,
        reporter=reporter_for(quiet=printed),
    )
    print(json_.dumps(rows, indent=1, ensure_ascii=False)) if printed else _tell(rows)


def _tell(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console

    console = Console()
    for text in dict.fromkeys(row["text"] for row in rows):
        console.print(_score_table([row for row in rows if row["text"] == text]))
    pieces = [row for row in rows if "new_pieces" in row]
    for row in pieces:
        console.print(_piece_table(row))
    for row in {row["model"]: row for row in pieces}.values():
        console.print(_norm_table(row))
    for line in _notes(rows):
        print(line)


def _score_table(rows: list[dict[str, Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    first = rows[0]
    about = f"{first['docs']:,} documents, {first['bytes'] / 1e6:,.2f} MB"
    table = Table(title=escape(f"{first['text']}: {about}"))
    table.add_column("model", overflow="fold")
    for column in ("bits/byte", "to the base", "95% interval", "tokens", "a character"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row["model"]),
            f"{row['bpb']:.4f}{_mark(row)}",
            *_difference(row["difference"], _mark(row) or _mark(first), row["docs"]),
            f"{row['tokens']:,}",
            f"{row['tokens_per_char']:.3f}",
        )
    return table


def _mark(row: dict[str, Any]) -> str:
    """Mark a figure that is too low, since its tokenizer lost some of the text."""
    return "*" if row["lost"]["docs"] else ""


def _difference(found: dict[str, Any] | None, mark: str, num_docs: int) -> tuple[str, str]:
    if found is None:
        return "", ""
    if found["low"] is None:
        return f"{found['bpb']:+.4f}{mark}", "one document" if num_docs == 1 else ""
    return f"{found['bpb']:+.4f}{mark}", f"{found['low']:+.4f} to {found['high']:+.4f}"


def _piece_table(row: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    found = row["new_pieces"]
    used = f"{found['num_used']:,} of {found['num_added']:,} new pieces used"
    table = Table("pieces", title=escape(f"{row['model']} on {row['text']}: {used}"))
    for column in ("tokens", "share", "probability", "median rank", "first", "in first 10"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, share in (("added", found["tokens_frac"]), ("base", 1 - found["tokens_frac"])):
        group = found[name]
        cells = [f"{group['tokens']:,}", f"{share:.1%}"]
        if group["tokens"]:
            cells += [f"{group['mean_probability']:.3f}", f"{group['median_rank']:,.0f}"]
            cells += [f"{group['top1_frac']:.1%}", f"{group['top10_frac']:.1%}"]
        table.add_row(name, *cells)
    return table


def _norm_table(row: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("rows", "", title=escape(f"{row['model']}: norms of rows"))
    for column in ("5%", "median", "95%"):
        table.add_column(column, justify="right")
    for role, groups in row["new_pieces"]["norms"].items():
        for name, found in groups.items():
            table.add_row(role, name, *(f"{found[q]:.3f}" for q in ("q05", "q50", "q95")))
    return table


def _notes(rows: list[dict[str, Any]]) -> list[str]:
    """Tell how it was done: what a reader must know to compare it with other figures."""
    first = rows[0]
    lines = [f"context {first['max_tokens']:,} tokens, stride {first['stride']:,}"]
    for row in {row["model"]: row for row in rows}.values():
        own = "its tokenizer's own" if row["bos_put_by_tokenizer"] else "not put by its tokenizer"
        lines.append(f"{row['model']}: {row['bos']} before each document ({own}), not counted")
        lines.append(f"  encoded by: {row['encoder']}")
    lines.append(
        "EOS after each document: " + ("counted" if first["eos_counted"] else "not scored")
    )
    blank = sum({row["text"]: row["blank_docs"] for row in rows}.values())
    if blank:
        lines.append(f"blank documents, left out: {blank:,}")
    halves = {row["text"]: row["num_surrogates"] for row in rows}
    lines += [f"{name}: {tell_surrogates(number)}" for name, number in halves.items() if number]
    lines += [_loss(row) for row in rows if row["lost"]["docs"]]
    return lines


def _loss(row: dict[str, Any]) -> str:
    lost = row["lost"]
    return (
        f"* {row['model']} on {row['text']}: its tokenizer loses {lost['bytes']:,} bytes of the "
        f"text ({lost['bytes_frac']:.2%}) or more, in {lost['docs']:,} of {row['docs']:,} "
        f"documents ({lost['unknown_tokens']:,} unknown pieces). Nothing was paid for them: its "
        "figure is too low. Compare only figures without a mark, on text that all tokenizers keep."
    )
