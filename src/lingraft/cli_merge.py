"""`lingraft merge`: a model and an adapter to one checkpoint."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_words import reporter_for

if TYPE_CHECKING:
    from .merge.command import MergeResult

__all__ = ["merge", "register"]

_EXAMPLE = (
    "Example: lingraft merge --model mixtral-zh-expanded --adapter adapter --out mixtral-zh "
    "--dtype bfloat16 --max-shard-size 5GB"
)

Model = Annotated[
    Path, typer.Option(metavar="DIR", help="The model that the adapter was trained on.")
]
Adapter = Annotated[Path, typer.Option(metavar="DIR", help="A PEFT adapter: LoRA, rsLoRA, DoRA.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")]
Dtype = Annotated[
    str, typer.Option(help="keep, float32, bfloat16 or float16. keep: each tensor's own.")
]
MaxShardSize = Annotated[
    str,
    typer.Option(metavar="SIZE", help="Most bytes of a file, as 5GB. Default: as the model has."),
]
Body = Annotated[
    str,
    typer.Option(
        help="original: add to the weights as they are. nf4: to what 4-bit training saw of them."
    ),
]
Verify = Annotated[
    bool,
    typer.Option("--verify/--no-verify", help="Compare logits with those of base and adapter?"),
]
BothBodies = Annotated[
    bool | None,
    typer.Option(
        "--both-bodies/--one-body",
        help="Compare with the other body too? Default: if the adapter was trained on NF4.",
    ),
]
Jobs = Annotated[int | None, typer.Option(help="Threads to compute with. Default: all cores.")]
Redo = Annotated[bool, typer.Option("--redo", help="Replace what DIR and its draft hold.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=_EXAMPLE)(merge)


def merge(
    model: Model,
    adapter: Adapter,
    out: Out,
    dtype: Dtype = "keep",
    max_shard_size: MaxShardSize = "",
    body: Body = "original",
    verify: Verify = True,
    both_bodies: BothBodies = None,
    jobs: Jobs = None,
    redo: Redo = False,
    json: Json = False,
) -> None:
    """Merge an adapter into its model, slice by slice: memory holds no shard and no model.

    DIR becomes a model folder in the published layout, with manifest.json. A stopped run goes on
    where it was. At the end logits are compared with those of base and adapter, also streamed.
    """
    from .merge import merge as run_merge

    result = run_merge(
        model=model,
        adapter=adapter,
        out=out,
        dtype=dtype,  # type: ignore[arg-type]  # checked there
        max_shard_size=max_shard_size,
        body=body,  # type: ignore[arg-type]  # checked there
        verify=verify,
        both_bodies=both_bodies,
        jobs=jobs,
        redo=redo,
        reporter=reporter_for(quiet=json),
    )
    print(json_.dumps(_record(result), indent=1)) if json else _tell(result)


def _record(result: MergeResult) -> dict[str, Any]:
    facts = result.facts.model_dump()
    return {"folder": str(result.folder), "was_done": result.was_done, **facts}


def _tell(result: MergeResult) -> None:
    facts = result.facts
    print(
        f"{result.folder}: {'merged before in the same way; ' if result.was_done else ''}"
        f"{facts.tensors_merged:,} tensors merged, {facts.tensors_replaced:,} replaced, "
        f"{facts.rows_replaced:,} token rows replaced, {facts.tensors_kept:,} kept; "
        f"{facts.size_bytes / 1e9:,.2f} GB, {facts.shards_written} files written, "
        f"{facts.shards_linked} linked"
    )
    if facts.untied:
        print("the head was written out: training moved it away from the input rows")
    if facts.max_logit_difference is None:
        print("logits were not compared")
        return
    print(
        f"logits differ by at most {facts.max_logit_difference:.2e} from base and adapter "
        f"(largest logit {facts.largest_logit:.3g})"
    )
    if facts.max_logit_difference_other_body is not None:
        print(f"against the other body: {facts.max_logit_difference_other_body:.2e}")
