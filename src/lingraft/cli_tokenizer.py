"""`lingraft tokenizer ...`: extend, verify, encode, compare and show, on plain files."""

from __future__ import annotations

import typer

from . import cli_extend, cli_texts, cli_verify

__all__ = ["app"]

app = typer.Typer(
    help="Extend a tokenizer, prove it, compare and use it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

cli_extend.register(app)
cli_verify.register(app)
cli_texts.register(app)
