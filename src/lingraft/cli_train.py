"""`lingraft train`: a recipe through its training stage, by one process or by many."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .cli_words import reporter_for

__all__ = ["register", "train"]

_EXAMPLES = (
    "Examples: lingraft train recipes/demo.toml --set train.lr=5e-4; with many processes: torchrun "
    "--nproc_per_node 2 -m lingraft train recipes/demo.toml. A run that SIGTERM stopped exits with "
    "75; the same command goes on. Under torchrun the exit code is torchrun's own, which is 1."
)

RecipePath = Annotated[Path, typer.Argument(help="A recipe, as recipes/demo.toml.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting. Repeatable.")
]
Redo = Annotated[list[str], typer.Option(metavar="STAGE", help="Do a stage again. Repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=_EXAMPLES)(train)


def train(recipe: RecipePath, set: Overrides = [], redo: Redo = [], json: Json = False) -> None:
    """Do a recipe through its training stage; a stopped run goes on where it was."""
    from .recipe import read_recipe
    from .together import train_recipe

    read = read_recipe(recipe, set)
    result = train_recipe(read, source=str(recipe), redo=redo, reporter=reporter_for(quiet=json))
    if result is None:
        return
    if json:
        stages = [asdict(stage) for stage in result.stages]
        print(json_.dumps({"folder": str(result.folder), "stages": stages}, indent=1))
        return
    for stage in result.stages:
        print(f"{stage.stage:<10} {stage.state:<8} {stage.time_s:8.1f} s  {stage.digest[:12]}")
    print(f"adapter: {result.folder / '60-train' / 'adapter'}")
