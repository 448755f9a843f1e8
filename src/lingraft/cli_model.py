"""`lingraft model`: look at model folders."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_words import reporter_for
from .errors import InputError, UsageError

if TYPE_CHECKING:
    from .modeldiff import ModelDiff, TensorDiff

__all__ = ["app"]

app = typer.Typer(help="Look at model folders.", no_args_is_help=True)

ModelPath = Annotated[Path, typer.Argument(help="A model folder.")]
Top = Annotated[int, typer.Option(metavar="N", help="Tensors to list; 0: all that differ.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.callback()
def _group() -> None:
    """Look at model folders."""


@app.command(
    epilog="Example: lingraft model diff mixtral-zh-expanded mixtral-zh --top 10. "
    "Exit codes, as diff: 0 the same, 1 they differ, 2 trouble."
)
def diff(a: ModelPath, b: ModelPath, top: Top = 20, json: Json = False) -> None:
    """Tell which tensors of two models differ, and by how much; their configs too.

    Models are read slice by slice. Of matrices of other numbers of rows (a vocabulary that grew)
    the common rows are compared.
    """
    from .modeldiff import diff_models

    try:
        found = diff_models(a, b, reporter=reporter_for(quiet=json))
    except InputError as error:  # exit code 1 means that they differ; trouble is 2, as with diff
        raise UsageError(error.what, effect=error.effect, way_out=error.way_out) from None
    if json:
        print(json_.dumps({"same": found.is_same, **asdict(found)}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(found, top)))
    if not found.is_same:
        raise typer.Exit(1)


def _lines(found: ModelDiff, top: int) -> list[str]:
    if found.is_same:
        return [f"{found.tensors_same:,} tensors and the config are the same"]
    lines = [
        f"{found.tensors_same:,} tensors are the same, {len(found.differing):,} differ, "
        f"{len(found.only_a):,} are only in A, {len(found.only_b):,} only in B"
    ]
    lines += [f"config {line}" for line in found.config]
    lines += [f"only in A: {name}" for name in found.only_a[: top or None]]
    lines += [f"only in B: {name}" for name in found.only_b[: top or None]]
    listed = found.differing[: top or None]
    if listed:
        lines.append(f"{'largest':>10}  {'relative':>10}  {'rows':>17}  tensor")
    lines += [_line(tensor) for tensor in listed]
    left = len(found.differing) - len(listed)
    if left:
        lines.append(f"... {left:,} more: --top 0")
    return lines


def _line(tensor: TensorDiff) -> str:
    rows = f"{tensor.rows_changed:,}/{tensor.rows_compared:,}"
    notes = []
    if tensor.shape_a != tensor.shape_b:
        notes.append(f"{list(tensor.shape_a)} -> {list(tensor.shape_b)}")
    if tensor.dtype_a != tensor.dtype_b:
        notes.append(f"{tensor.dtype_a} -> {tensor.dtype_b}")
    if tensor.nan_rows:
        notes.append(f"{tensor.nan_rows:,} rows not finite")
    note = f"  ({', '.join(notes)})" if notes else ""
    largest, relative = (
        "-" if number is None else f"{number:.3g}" for number in (tensor.max_abs, tensor.relative)
    )
    return f"{largest:>10}  {relative:>10}  {rows:>17}  {tensor.name}{note}"
