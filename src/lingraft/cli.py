"""The command line: verbs only. Those here call the function of the same name in `lingraft.api`.

Exit codes: 0 done, 1 a stage failed, 2 bad recipe or usage, 3 verification differs, 75 stopped by
SIGTERM: the same command goes on.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import cli_bpb, cli_encode, cli_eval, cli_generate, cli_merge, cli_train
from .cli_corpus import app as corpus_app
from .cli_embed import app as embed_app
from .cli_model import app as model_app
from .cli_tokenizer import app as tokenizer_app
from .cli_vocab import app as vocab_app
from .errors import LingraftError

if TYPE_CHECKING:
    from . import api
    from .progress import Reporter
    from .runner import RunResult

__all__ = ["app", "main", "make_reporter"]

_INTERRUPTED = 130  # what typer makes of Ctrl-C: 128 + SIGINT, as shells count

app = typer.Typer(
    help="Graft a new language onto a pretrained LLM.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a stage failed, 2 bad recipe or usage, 3 verification differs, "
    "75 stopped by SIGTERM.",
)

cli_encode.register(app)
cli_merge.register(app)
cli_train.register(app)
cli_bpb.register(app)
cli_generate.register(app)
cli_eval.register(app)
app.add_typer(corpus_app, name="corpus")
app.add_typer(vocab_app, name="vocab")
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(model_app, name="model")
app.add_typer(embed_app, name="embed")

RecipePath = Annotated[Path, typer.Argument(help="A recipe, as recipes/demo.toml.")]
RunPath = Annotated[Path, typer.Argument(help="A run (runs/demo) or one stage of it.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command(epilog="Example: lingraft run recipes/demo.toml --set train.max_steps=20")
def run(
    recipe: RecipePath,
    set: Overrides = [],
    to: Annotated[str, typer.Option(help="Last stage to do, as 'tokenizer'.")] = "",
    redo: Annotated[
        list[str], typer.Option(metavar="STAGE", help="Do a stage again. Repeatable.")
    ] = [],
    json: Json = False,
) -> None:
    """Do every stage of a recipe that is not done yet; a killed run goes on where it was."""
    from . import api

    result = api.run(recipe, set=set, to=to, redo=redo, reporter=make_reporter(quiet=json))
    _print_json(_run_json(result)) if json else _print_run(result)


@app.command(epilog="Example: lingraft check recipes/mixtral-zh.toml")
def check(recipe: RecipePath, set: Overrides = [], json: Json = False) -> None:
    """Check a recipe whole, tell every problem, and estimate what a run needs."""
    from . import api

    result = api.check(recipe, set=set)
    if json:
        _print_json(asdict(result))
    else:
        _print_check(recipe, result)
    if result.problems:
        raise typer.Exit(2)


@app.command(epilog="Example: lingraft show runs/demo/80-evals --json")
def show(path: RunPath, json: Json = False) -> None:
    """Show what is in a run or a stage: facts, digests, times."""
    from . import api

    manifests = api.show(path)
    if json:
        _print_json(manifests)
        return
    for manifest in manifests:
        identity = manifest["identity"]
        time_s = manifest["circumstances"].get("time_s", 0)
        print(f"{identity['stage']:<10} {manifest['digest'][:12]}  {time_s:8.1f} s")
        facts = api.flat_facts(manifest["facts"])
        for key, value in list(facts.items())[: None if len(manifests) == 1 else 6]:
            print(f"           {key} = {value}")
        if len(manifests) > 1 and len(facts) > 6:
            print(f"           ... {len(facts) - 6} more: lingraft show {path}/STAGE")


@app.command(epilog="Examples: lingraft verify runs/demo; lingraft verify tokens")
def verify(
    path: Annotated[
        Path, typer.Argument(help="A run, one stage of it, or what lingraft encode wrote.")
    ],
    json: Json = False,
) -> None:
    """Hash every file and compare with its record; exit code 3 where something differs.

    The record is manifest.json, or index.json of a folder of token files.
    """
    from . import api

    wrong = api.verify(path)
    if json:
        _print_json(wrong)
    else:
        print("\n".join(wrong) or f"{path}: every file is as recorded.")
    if wrong:
        raise typer.Exit(3)


@app.command(epilog="Example: lingraft diff runs/demo runs/demo-control")
def diff(a: RunPath, b: RunPath, json: Json = False) -> None:
    """Tell what differs between two runs or artefacts; exit code 3 where something does."""
    from . import api

    found = api.diff(a, b)
    if json:
        _print_json([asdict(d) for d in found])
    else:
        lines = [f"{d.stage:<10} {d.part:<9} {d.text}" for d in found]
        print("\n".join(lines) or f"{a} and {b} are the same.")
    if found:
        raise typer.Exit(3)


def main() -> None:
    """Run the command line; a user's mistake ends in a message, not in a traceback."""
    # GNU OpenMP's threads spin 300,000 rounds when they wait. Two programs on the same cores then
    # slow each other down up to thirtyfold; with a short spin each gets about its half.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        app()
    except LingraftError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except PermissionError as error:  # a run tells more; this is for the verbs that only look
        print(f"{error.filename}: {error.strerror}. Check its rights.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("\nStopped. Run the same command again to go on from here.", file=sys.stderr)
        raise


def make_reporter(*, quiet: bool) -> Reporter:
    """Live bars on a terminal, lines elsewhere; with --json both go to standard error."""
    from .progress import LineReporter, RichReporter

    stream = sys.stderr if quiet else sys.stdout
    if stream.isatty() and not quiet:
        return RichReporter()
    return LineReporter(lambda line: print(line, file=stream, flush=True))


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _run_json(result: RunResult) -> dict[str, Any]:
    return {"folder": str(result.folder), "stages": [asdict(s) for s in result.stages]}


def _print_run(result: RunResult) -> None:
    from rich.console import Console
    from rich.table import Table

    from .runner import resolve_run

    console = Console()
    stages = Table("stage", "", "time", "digest", title=f"run {result.folder}")
    for stage in result.stages:
        stages.add_row(stage.stage, stage.state, f"{stage.time_s:.1f} s", stage.digest[:12])
    console.print(stages)
    facts = {a.manifest.identity.stage: a.facts for a in resolve_run(result.folder)}
    if "evals" in facts and result.stages[-1].stage in ("evals", "report"):
        console.print(_score_table(facts["evals"]["languages"]))
    if "train" in facts and result.stages[-1].stage in ("evals", "report"):
        train = facts["train"]
        print(
            f"trainable {train['trainable_parameters']:,} "
            f"(LoRA {train['lora_parameters']:,}, embed_tokens and lm_head "
            f"{train['embed_parameters']:,}), frozen {train['frozen_parameters']:,} "
            f"at {train['bits_per_frozen_parameter']:.3f} bits"
        )
    if result.stages[-1].stage == "report":
        print(f"report: {result.folder / '90-report' / 'report.html'}")


def _score_table(scores: dict[str, dict[str, dict[str, float]]]) -> Any:
    from rich.table import Table

    models = list(scores)
    table = Table(title="bits per byte on held-out text (tokens per character)")
    table.add_column("language")
    for model in models:
        table.add_column(model, justify="right")
    for language in scores[models[0]]:
        cells = [scores[m][language] for m in models]
        table.add_row(language, *(f"{c['bpb']:.3f} ({c['tokens_per_char']:.3f})" for c in cells))
    return table


def _print_check(recipe: Path, result: api.CheckResult) -> None:
    if result.problems:
        noun = "problem" if len(result.problems) == 1 else "problems"
        print(f"{recipe}: {len(result.problems)} {noun}")
        for problem in result.problems:
            print(f"  {problem}")
    else:
        print(f"{recipe}: no problems")
    for warning in result.warnings:
        print(f"  note: {warning}")
    if result.estimate is None:
        return
    needs = result.estimate
    print("needs, by arithmetic (assumptions: docs/estimates.md):")
    print(
        f"  parameters: {needs.total_parameters / 1e9:,.3f} B; trained: "
        f"LoRA {needs.lora_parameters / 1e6:,.1f} M, "
        f"embed_tokens and lm_head {needs.embed_parameters / 1e6:,.1f} M"
    )
    _print_sizes(f"memory on each of {needs.devices} device(s)", needs.gpu_memory_bytes)
    _print_sizes("disk", needs.disk_bytes)
    if needs.devices > 1:
        print(
            f"  note: {needs.devices} processes train together, and torchrun starts them: see "
            "docs/training.md"
        )
    if needs.train_tokens:
        print(
            f"  training: {needs.train_tokens / 1e9:,.3f} B tokens, "
            f"about {_duration(needs.train_time_s)}"
        )
    else:
        print("  training: tokens not known before encoding (estimate.train_tokens)")


def _print_sizes(label: str, sizes: dict[str, int]) -> None:
    parts = ", ".join(f"{name} {size / 1e9:,.2f}" for name, size in sizes.items())
    print(f"  {label}: {sum(sizes.values()) / 1e9:,.2f} GB ({parts})")


def _duration(time_s: float) -> str:
    if time_s < 3600:
        return f"{time_s / 60:.0f} min"
    return f"{time_s / 3600:.1f} h" if time_s < 48 * 3600 else f"{time_s / 86400:.1f} days"
