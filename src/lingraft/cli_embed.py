"""`lingraft embed ...`: rows for new pieces, on plain model folders."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_words import many_values, reporter_for
from .errors import UsageError

if TYPE_CHECKING:
    from .embed import ExpandResult
    from .embed.settings import Option

__all__ = ["app", "parse_options"]

app = typer.Typer(
    help="Give a model rows for new pieces, and look at them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EXPAND_EXAMPLE = (
    "Example: lingraft embed expand --model mixtral --tokenizer tokenizer-zh --out mixtral-zh "
    "--method calibrated --head-method char-length --pad-to-multiple-of 64"
)
_PLOT_EXAMPLE = "Example: lingraft embed plot mixtral-zh --base mixtral --out plots"
_GGUF_EXAMPLE = "Example: lingraft embed from-gguf --model smollm2.Q8_0.gguf --out smollm2"

Model = Annotated[Path, typer.Option(metavar="DIR", help="The base model's folder.")]
Tokenizer = Annotated[Path, typer.Option(metavar="DIR", help="The extended tokenizer's folder.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")]
MethodName = Annotated[
    str | None,
    typer.Option("--method", metavar="NAME", help="Makes input rows; `embed methods` lists them."),
]
HeadMethod = Annotated[
    str | None, typer.Option(metavar="NAME", help="Makes head rows, where they are not tied.")
]
Options = Annotated[
    list[str], typer.Option("--option", metavar="KEY=VALUE...", help="Options of --method.")
]
HeadOptions = Annotated[
    list[str],
    typer.Option("--head-option", metavar="KEY=VALUE...", help="Options of --head-method."),
]
Counts = Annotated[
    Path | None,
    typer.Option(
        metavar="TOKENS_DIR", help="Text in extended ids, as lingraft encode writes; some need it."
    ),
]
Donor = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A model that knows the new pieces.")
]
BaseTokenizer = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The base's tokenizer. Default: in the model's folder."),
]
TieBreak = Annotated[
    bool,
    typer.Option(
        "--tie-break/--no-tie-break", help="Give pieces with the same parts rows that differ."
    ),
]
PadToMultipleOf = Annotated[int, typer.Option(metavar="N", help="Rows become a multiple of N.")]
Seed = Annotated[int, typer.Option(help="Decides every draw.")]
Plots = Annotated[bool, typer.Option("--plots", help="Write a page of plots into OUT/plots, too.")]
Redo = Annotated[bool, typer.Option("--redo", help="Replace what an earlier call made there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command(cls=many_values("--option", "--head-option"), epilog=_EXPAND_EXAMPLE)
def expand(
    model: Model,
    tokenizer: Tokenizer,
    out: Out,
    method: MethodName = None,
    head_method: HeadMethod = None,
    option: Options = [],
    head_option: HeadOptions = [],
    counts: Counts = None,
    donor: Donor = None,
    base_tokenizer: BaseTokenizer = None,
    tie_break: TieBreak = True,
    pad_to_multiple_of: PadToMultipleOf = 1,
    seed: Seed = 17,
    plots: Plots = False,
    redo: Redo = False,
    json: Json = False,
) -> None:
    """Give a model rows for the pieces that an extended tokenizer adds.

    Base rows stay as they are, bit by bit; shards without embeddings are linked, not read.
    """
    from .embed import expand as expand_

    result = expand_(
        model=model,
        tokenizer=tokenizer,
        out=out,
        method=method,
        head_method=head_method,
        options=parse_options(option),
        head_options=parse_options(head_option),
        counts=counts,
        donor=donor,
        base_tokenizer=base_tokenizer,
        tie_break=tie_break,
        pad_to_multiple_of=pad_to_multiple_of,
        seed=seed,
        plots=plots,
        redo=redo,
        reporter=reporter_for(quiet=json),
    )
    if json:
        record = {
            "folder": str(result.folder),
            "was_done": result.was_done,
            "facts": result.facts.model_dump(mode="json"),
        }
        print(json_.dumps(record, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(result)))


@app.command(epilog="Example: lingraft embed methods --json")
def methods(json: Json = False) -> None:
    """List the methods: what each makes, for which matrix, what it needs, its source."""
    from .embed.methods import METHODS

    if json:
        rows = [
            {
                "name": method.name,
                "summary": method.summary,
                "matrices": method.roles,
                "needs": method.needs,
                "options": method.settings(),
                "ranges": {key: str(allowed) for key, allowed in method.ranges.items()},
                "source": method.source,
            }
            for method in METHODS.values()
        ]
        print(json_.dumps(rows, indent=1, ensure_ascii=False))
        return
    for method in METHODS.values():
        print(f"{method.name}: {method.summary}")
        print(f"    for {' and '.join(method.roles)} rows; source: {method.source}")
        if method.needs:
            print(f"    needs {', '.join(method.needs)}")
        if method.settings():
            shown = (
                f"{key}={value}" + (f" ({method.ranges[key]})" if key in method.ranges else "")
                for key, value in method.settings().items()
            )
            print(f"    options {'; '.join(shown)}")


@app.command(epilog=_PLOT_EXAMPLE)
def plot(
    expanded: Annotated[Path, typer.Argument(help="An expanded model's folder.")],
    base: Annotated[Path, typer.Option(metavar="DIR", help="Its base model's folder.")],
    out: Out,
    base_tokenizer: BaseTokenizer = None,
    json: Json = False,
) -> None:
    """Draw base and new rows: both matrices, norms, nearest neighbours, a map of the two."""
    from .embed import plot as plot_

    files = plot_(expanded=expanded, base=base, out=out, base_tokenizer=base_tokenizer)
    if json:
        print(json_.dumps([str(path) for path in files], indent=1))
    else:
        print("\n".join(str(path) for path in files))


@app.command("from-gguf", epilog=_GGUF_EXAMPLE)
def from_gguf(
    model: Annotated[Path, typer.Option(metavar="FILE", help="A GGUF file.")],
    out: Out,
    json: Json = False,
) -> None:
    """Unpack the GGUF file of a small model into a model folder, in bfloat16."""
    from .embed import from_gguf as from_gguf_

    result = from_gguf_(model=model, out=out, reporter=reporter_for(quiet=json))
    if json:
        record = {
            "folder": str(result.folder),
            "num_parameters": result.num_parameters,
            "split_pattern": result.split_pattern,
        }
        print(json_.dumps(record, indent=1))
    else:
        print(f"{result.folder}: {result.num_parameters:,} parameters in bfloat16")


def parse_options(words: Sequence[str]) -> dict[str, Option]:
    """Read `key=value` words; a value is a number, true, false, or text.

    >>> parse_options(["std=0.02", "num_atoms=16", "device=cpu", "joint=true"])
    {'std': 0.02, 'num_atoms': 16, 'device': 'cpu', 'joint': True}

    Raises:
        UsageError: A word has no `=`, or two have the same key.
    """
    found: dict[str, Option] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"option {word!r}: expected KEY=VALUE, as std=0.02.")
        if key in found:
            raise UsageError(f"option {key!r}: given twice.")
        try:
            value = json_.loads(text)
        except ValueError:
            value = text
        found[key] = value if isinstance(value, bool | int | float) else text
    return found


def _lines(result: ExpandResult) -> list[str]:
    """Tell rows, how they were made, what is equal, and what comes next."""
    facts = result.facts
    head = "tied" if facts.tied else f"head rows: {facts.head_method}"
    state = " (was there already)" if result.was_done else ""
    lines = [
        f"{result.folder}: {facts.base_rows:,} + {facts.added_rows:,} rows"
        + (f" + {facts.padded:,} of padding" if facts.padded else "")
        + state,
        f"input rows: {facts.method}; {head}",
        f"spelled with {facts.mean_spelling_tokens:.2f} base ids on average; "
        f"{facts.copied:,} copied, {facts.special:,} special, {facts.unspellable:,} unspellable",
        f"equal to another new row: {facts.identical_rows:,} "
        f"({facts.identical_before:,} before ties were broken)",
    ]
    if facts.completed_bytes:
        lines.append(f"bytes that the base lacks: {facts.completed_bytes}, mean of its byte rows")
    if facts.head_identical_rows is not None:
        lines.append(
            f"equal head rows: {facts.head_identical_rows:,} "
            f"({facts.head_identical_before:,} before)"
        )
    if facts.probe_judge is not None:
        lines.append(f"chosen by the probe, by bits per byte of {facts.probe_judge}:")
        lines += [
            f"  {curve.method}{f'/{curve.head_method}' if curve.head_method else ''}: "
            f"{curve.bpb[facts.probe_judge][0]:.3f} -> {curve.bpb[facts.probe_judge][-1]:.3f}"
            for curve in facts.probe
        ]
    lines += [f"{count:,} pieces: {note}" for note, count in facts.notes.items()]
    lines.append(f"shards: {facts.shards_written} written, {facts.shards_linked} linked unread")
    return lines
