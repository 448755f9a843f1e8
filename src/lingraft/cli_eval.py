"""`lingraft eval`: benchmarks of EleutherAI's harness, every model beside the base."""

from __future__ import annotations

import contextlib
import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_bpb import Attn, Device, Dtype, Models, PackedCache, TrustRemoteCode
from .cli_words import many_values, reporter_for
from .errors import UsageError

if TYPE_CHECKING:
    from .evals.evaluating import EvalResult
    from .evals.plans import LoadPlan
    from .evals.tables import Table

__all__ = ["eval_", "register"]

_EXAMPLES = (
    "Examples: lingraft eval mixtral mixtral-zh --suite zh --out eval-zh; "
    "without internet, 4 items of each subject: lingraft eval mixtral mixtral-zh --suite zh "
    "--data-dir evals --limit 4; bits per byte: lingraft eval mixtral mixtral-zh --suite bpb "
    "--data-dir texts. A killed evaluation goes on with the same command."
)

Suite = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="zh (C-Eval, CMMLU), en (MMLU, HellaSwag), leaderboard (the Open LLM Leaderboard's "
        "six), bpb (bits per byte), or a task, group or tag of lm-evaluation-harness.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Read benchmarks from files (layout: docs/evaluation.md); for bpb, texts. "
        "Default: the hub.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="First N items of each task, as the harness counts: each subject."
    ),
]
Items = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="About N items of each benchmark, over its subjects."),
]
Backend = Annotated[str, typer.Option(help="transformers, 4bit (the same, in NF4) or vllm.")]
OutJson = Annotated[
    Path | None,
    typer.Option("--json", metavar="OUT", help="Write the results as JSON too; - prints them."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of answers and results. Default: eval-NAME."),
]
NumFewshot = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Examples before each question. Default: the suite's."),
]
BatchSize = Annotated[
    str, typer.Option(metavar="N", help="Requests at once, or auto: as many as fit.")
]
SharePrefixes = Annotated[
    bool,
    typer.Option(
        "--share-prefixes",
        help="Read what prompts begin with once: several times faster; likelihoods differ from the "
        "harness's in their last digits.",
    ),
]
IncludePath = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Task files of your own for the harness.")
]
ModelArgs = Annotated[
    list[str],
    typer.Option(metavar="KEY=VALUE", help="For vLLM, as tensor_parallel_size=2. Repeatable."),
]
TooLong = Annotated[
    str,
    typer.Option(
        help="Items longer than a model's context: cut (at their beginning, as the harness does; "
        "they are counted), or refuse."
    ),
]
Published = Annotated[
    bool, typer.Option("--published", help="Print the reference's published figures beside.")
]
Subjects = Annotated[bool, typer.Option("--subjects", help="Print every subject's scores.")]
Resamples = Annotated[int, typer.Option(min=0, help="Draws of the bootstrap of each difference.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides them.")]
Redo = Annotated[bool, typer.Option("--redo", help="Ask everything anew.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("eval", cls=many_values("--model-args"), epilog=_EXAMPLES)(eval_)


def eval_(
    ctx: typer.Context,
    models: Models,
    suite: Suite,
    data_dir: DataDir = None,
    limit: Limit = None,
    items: Items = None,
    backend: Backend = "transformers",
    json: OutJson = None,
    out: Out = None,
    num_fewshot: NumFewshot = None,
    batch_size: BatchSize = "1",
    share_prefixes: SharePrefixes = False,
    include_path: IncludePath = None,
    model_args: ModelArgs = [],
    too_long: TooLong = "cut",
    published: Published = False,
    subjects: Subjects = False,
    resamples: Resamples = 10_000,
    seed: Seed = 17,
    attn: Attn = "",
    dtype: Dtype = "auto",
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
    packed_cache: PackedCache = "",
    redo: Redo = False,
) -> None:
    """Evaluate models on benchmarks, the base first: scores, differences and their intervals.

    The numbers are those of lm-evaluation-harness; every prompt and answer is kept in DIR.
    """
    from .evals.evaluating import EvalPlan, evaluate_models

    load = _load_plan(backend, attn, dtype, device, trust_remote_code, packed_cache)
    printed = _is_printed(json)
    if suite == "bpb":
        _refuse_for_bits(ctx, backend)
        draws = resamples if _is_given(ctx, "resamples") else None
        _bits_per_byte(models, data_dir, limit, load, json, draws, seed)
        return
    plan = EvalPlan(
        suite=suite,
        data_dir=data_dir,
        include_path=include_path,
        limit=limit,
        items=items,
        num_fewshot=num_fewshot,
        backend="transformers" if backend == "4bit" else backend,
        load=load,
        model_args=_arguments(model_args),
        batch_size=batch_size,
        share_prefixes=share_prefixes,
        too_long=too_long,
        resamples=resamples,
        seed=seed,
    )
    folder, teller = out or Path(f"eval-{suite}"), reporter_for(quiet=printed)
    result = evaluate_models(models, plan, out=folder, redo=redo, reporter=teller)
    if _give(result, json):
        _tell(result, published=published, subjects=subjects)


def _load_plan(
    backend: str,
    attn: str,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    packed_cache: str,
) -> LoadPlan:
    from .evals.plans import LoadPlan

    load = "4bit" if backend == "4bit" else "full"
    return LoadPlan(load, attn, dtype, device, trust_remote_code, packed_cache)


def _is_printed(json: Path | None) -> bool:
    """Tell whether results go to the terminal; before the work, refuse what cannot take them."""
    if json is None or str(json) == "-":
        return json is not None
    from .folders import require_writable

    with contextlib.suppress(OSError):  # which is told in the next line
        json.parent.mkdir(parents=True, exist_ok=True)
    require_writable(json, "--json")
    return False


_NOT_FOR_BITS = (
    *("items", "out", "num_fewshot", "batch_size", "share_prefixes", "include_path"),
    *("model_args", "too_long", "published", "subjects", "redo"),
)


def _refuse_for_bits(ctx: typer.Context, backend: str) -> None:
    """Refuse options that were given and say nothing about bits per byte."""
    if backend not in ("transformers", "4bit"):
        raise UsageError(
            f"--suite bpb with --backend {backend}: expected transformers or 4bit.",
            effect="Bits per byte are computed by transformers.",
        )
    given = [name for name in _NOT_FOR_BITS if _is_given(ctx, name)]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(
            f"--suite bpb with {option}: that option is for benchmarks of the harness.",
            effect="It would not be used.",
            way_out="Leave it out; lingraft bpb has the options of bits per byte.",
        )


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _arguments(words: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE; numbers, true and false become what they say."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--model-args {word}: expected KEY=VALUE.")
        try:
            found[key] = json_.loads(value)
        except ValueError:
            found[key] = value
    return found


def _bits_per_byte(
    models: list[str],
    data_dir: Path | None,
    limit: int | None,
    load: Any,
    json: Path | None,
    resamples: int | None,
    seed: int,
) -> None:
    """Score the texts of a folder, as `lingraft bpb` does."""
    from . import cli_bpb

    if data_dir is None:
        raise UsageError(
            "--suite bpb: no texts; expected a folder of them with --data-dir.",
            way_out="Name one, or use lingraft bpb MODEL... --text FILE.",
        )
    cli_bpb.bpb(
        models,
        [str(data_dir)],
        json=json,
        limit=limit,
        resamples=cli_bpb.RESAMPLES if resamples is None else resamples,
        seed=seed,
        load=load.load,
        attn=load.attn,
        dtype=load.dtype,
        device=load.device,
        trust_remote_code=load.trust_remote_code,
        packed_cache=load.packed_cache,
    )


def _give(result: EvalResult, json: Path | None) -> bool:
    """Print or write JSON, and tell whether there is room for a table."""
    from .store import write_json

    if str(json) == "-":
        print(json_.dumps(result.results, indent=1, ensure_ascii=False))
        return False
    if json is not None:
        write_json(json, result.results)
    return True


def _tell(result: EvalResult, *, published: bool, subjects: bool) -> None:
    from rich.console import Console

    from .evals.tables import published_figures, result_table, subject_table

    results = result.results
    console = Console()
    console.print(_rich(result_table(results, published=published)))
    if subjects:
        names = [model["name"] for model in results["models"]]
        for row in results["rows"]:
            if row["subjects"]:
                console.print(_rich(subject_table(row, names)))
    for note in dict.fromkeys(note for row in results["rows"] for note in row["notes"]):
        print(f"note: {note}")
    if published:
        figures = published_figures()
        print(f"published: {figures['source']}; {figures['note']}")
    print(f"lm-evaluation-harness {results['harness']}; answers and results: {result.folder}")


def _rich(table: Table) -> Any:
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = RichTable(title=escape(table.title))
    for number, column in enumerate(table.columns):
        shown.add_column(escape(column), justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown
