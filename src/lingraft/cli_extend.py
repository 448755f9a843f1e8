"""`lingraft tokenizer extend`: add pieces to a tokenizer."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_words import many_values, reporter_for

if TYPE_CHECKING:
    from .tokenizer.extending import ExtendResult

__all__ = ["register"]

_EXAMPLE = (
    "Example: lingraft tokenizer extend --base mixtral/tokenizer.model --pieces vocab-zh "
    "--special '<|im_start|>' '<|im_end|>' --pad-to-multiple 64 --out tokenizer-zh"
)

Base = Annotated[
    str, typer.Option(help="A tokenizer.model, a tokenizer.json, a folder of one, or a hub name.")
]
Pieces = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="pieces.txt, pieces.jsonl, or the folder that vocab search wrote."
    ),
]
Donor = Annotated[
    str | None,
    typer.Option(metavar="TOKENIZER", help="Instead: take the pieces of another tokenizer."),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")]
Special = Annotated[
    list[str], typer.Option(metavar="TOKEN...", help="Special tokens to add, behind the pieces.")
]
PadToMultiple = Annotated[
    int | None,
    typer.Option(metavar="N", help="Add inert pieces up to a multiple of N. Default: none."),
]
AsPublished = Annotated[
    bool,
    typer.Option(
        "--as-published",
        help="Repeat the well-known union: every donor piece, score 0. Its libraries disagree.",
    ),
]
Scripts = Annotated[
    list[str],
    typer.Option(metavar="NAME...", help="Unicode scripts to add. Default: as found."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the command to `lingraft tokenizer`."""
    app.command("extend", cls=many_values("--special", "--scripts"), epilog=_EXAMPLE)(_extend)


def _extend(
    base: Base,
    out: Out,
    pieces: Pieces = None,
    donor: Donor = None,
    special: Special = [],
    pad_to_multiple: PadToMultiple = None,
    as_published: AsPublished = False,
    scripts: Scripts = [],
    json: Json = False,
) -> None:
    """Add pieces to a tokenizer, below everything it has, and write it for every library.

    Base ids do not change. Each piece gets one merge rule, derived with the rules before it; a
    piece that no single rule makes is refused. DIR gets tokenizer.json, its configs, for a
    SentencePiece base tokenizer.model, and extension.json, which tells what was done.
    """
    from .tokenizer.extending import extend

    result = extend(
        base=base,
        pieces=pieces,
        donor=donor,
        out=out,
        special=special,
        pad_to_multiple=pad_to_multiple,
        as_published=as_published,
        scripts=[name for word in scripts for name in word.split(",") if name] or None,
        reporter=reporter_for(quiet=json),
    )
    if json:
        print(json_.dumps(_record(result), indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(result, base)))


def _record(result: ExtendResult) -> dict[str, object]:
    return {**asdict(result), "folder": str(result.folder)}


def _lines(result: ExtendResult, base: str) -> list[str]:
    """Tell sizes, what was left out, and what to do next."""
    parts = [f"{result.base_size:,} of the base"]
    if result.missing_bytes:
        parts.append(f"{len(result.missing_bytes)} bytes that it lacks")
    parts.append(f"{result.num_pieces:,} pieces")
    if result.specials:
        parts.append(f"{len(result.specials):,} special ({' '.join(result.specials)})")
    if result.num_padding:
        parts.append(f"{result.num_padding:,} inert padding pieces")
    lines = [f"{result.size:,} ids: {' + '.join(parts)}"]
    if result.scripts:
        lines.append(f"scripts: {', '.join(result.scripts)}")
    if result.left_out:
        total = sum(result.left_out.values())
        lines.append(f"{total:,} donor pieces left out, listed in left-out.jsonl:")
        lines.extend(f"  {count:,} {reason}" for reason, count in result.left_out.items())
    lines.append(f"next: lingraft tokenizer verify {result.folder} --base {base} --corpus FILE...")
    return lines
