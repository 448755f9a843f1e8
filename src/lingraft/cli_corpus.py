"""`lingraft corpus`: from raw files to clean documents, without a recipe."""

from __future__ import annotations

import typer

from . import cli_prepare, cli_registry

__all__ = ["app"]

app = typer.Typer(
    help="Fetch, prepare, register and count the documents of a corpus.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

cli_prepare.register(app)
cli_registry.register(app)
