"""`lingraft merge` on plain folders: any model, any PEFT adapter, without a recipe."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import StaleError, UsageError
from ..folders import find_manifest, hold_place, model_fingerprint, read_own
from ..manifest import Identity, Manifest, canonical_json
from ..models import ModelFolder
from ..progress import Reporter, SilentReporter
from ..stages import find_stage
from ..store import Draft, disk_errors, write_text
from .adapter import Adapter
from .merging import Asked, merge_into, plan_merge
from .settings import MergeFacts
from .sizes import parse_size
from .targets import Plan
from .writing import copied_files

__all__ = ["MergeResult", "merge"]

Body = Literal["original", "nf4"]
Dtype = Literal["keep", "float32", "bfloat16", "float16"]
_MARK = "identity.json"


@dataclass(frozen=True)
class MergeResult:
    """A merged model.

    Attributes:
        folder: Where it lies: a model folder with a manifest.
        was_done: Whether it was there already, made in the same way.
        facts: What merging did.
    """

    folder: Path
    was_done: bool
    facts: MergeFacts


def merge(
    *,
    model: str | Path,
    adapter: str | Path,
    out: str | Path,
    dtype: Dtype = "keep",
    max_shard_size: str = "",
    body: Body = "original",
    verify: bool = True,
    both_bodies: bool | None = None,
    jobs: int | None = None,
    redo: bool = False,
    reporter: Reporter | None = None,
) -> MergeResult:
    """Merge a PEFT adapter into a model, shard by shard, in the memory of a few slices.

    A run that was stopped goes on from the shards that are done.

    Args:
        model: Folder of the model that the adapter was trained on.
        adapter: Folder of the adapter.
        out: Folder to write; it must not hold anything else.
        dtype: Storage of the merged model; `keep`: each tensor's own.
        max_shard_size: Most bytes of a file, as `5GB`; empty: files as the model has them.
        body: Weights to add to: the `original` ones, or their `nf4` round trip.
        verify: Compare logits of the merged model with those of base and adapter.
        both_bodies: Compare with the other body too; None: if the adapter was trained on NF4.
        jobs: Threads to compute with; None: one for each core.
        redo: Replace what `out` and its draft hold.
        reporter: Where progress goes.

    Raises:
        InputError: Model or adapter cannot be used, or do not belong together.
        UsageError: The call does not fit together, or `out` holds something else.
        StaleError: `out` holds a model merged in another way.
        DiskFullError: There is no room; told before the first byte where it can be known.
        VerifyError: The merged model does not say what base and adapter say.
    """
    _check_words(dtype, body, jobs, max_shard_size)
    teller = reporter or SilentReporter()
    folder = Path(out).expanduser().absolute()
    opened, trained = _open(Path(model), Path(adapter), folder)
    both = _trained_on_nf4(trained.path) if both_bodies is None else both_bodies
    asked = Asked(body, dtype, max_shard_size, verify, both and verify, jobs or 0)
    with disk_errors(folder, place="--out DIR"), hold_place(folder):
        return _carry_out(opened, trained, asked, folder, teller, redo=redo)


def _carry_out(
    model: ModelFolder,
    adapter: Adapter,
    asked: Asked,
    folder: Path,
    reporter: Reporter,
    *,
    redo: bool,
) -> MergeResult:
    """Merge, unless it was done; what cannot be merged is refused before a draft is touched."""
    inputs = _inputs(model, adapter)
    reporter.note("reading the adapter")
    identity = _identity(model, adapter, asked)
    former = read_own(folder, "merge", "a merged model")
    if former is not None and not redo:
        return MergeResult(folder, was_done=True, facts=_finished(former, folder, identity, inputs))
    plan = plan_merge(model, adapter, asked)
    draft = _open_draft(folder, identity, inputs, reporter, redo=redo)
    if draft.is_sealed:  # a kill left only the rename to do
        sealed = MergeFacts.model_validate(draft.finish().manifest.facts)
        return MergeResult(folder, was_done=False, facts=sealed)
    start_s = time.monotonic()
    facts = _fill(model, adapter, asked, plan, draft)
    time_s = round(time.monotonic() - start_s, 3)
    draft.seal(facts, {"time_s": time_s, "inputs": inputs})
    return MergeResult(folder, was_done=False, facts=facts)


def _fill(
    model: ModelFolder, adapter: Adapter, asked: Asked, plan: Plan, draft: Draft
) -> MergeFacts:
    """Merge into a draft; one without a finished shard is not left behind."""
    try:
        return merge_into(model, adapter, asked, draft, plan)
    except BaseException:
        if not any(draft.path.glob("*.safetensors")):
            shutil.rmtree(draft.path, ignore_errors=True)
        raise


def _check_words(dtype: str, body: str, jobs: int | None, max_shard_size: str) -> None:
    for name, value, words in (("dtype", dtype, get_args(Dtype)), ("body", body, get_args(Body))):
        if value not in words:
            raise UsageError(f"{name} '{value}': expected one of {', '.join(words)}.")
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs {jobs}: expected 1 or more.")
    if max_shard_size:
        parse_size(max_shard_size)


def _open(model: Path, adapter: Path, out: Path) -> tuple[ModelFolder, Adapter]:
    model, adapter = model.expanduser(), adapter.expanduser()
    for name, path in (("--model", model), ("--adapter", adapter)):
        _refuse_overlap(name, path, out)
    return ModelFolder(model), Adapter(adapter)


def _refuse_overlap(name: str, path: Path, out: Path) -> None:
    """Refuse an input that `out` is, holds, or lies in."""
    source, target = path.resolve(), out.resolve()
    effect = "The input would be overwritten."
    if source == target:
        what = f"{path}: is both {name} and --out."
    elif source.is_relative_to(target):
        what = f"{out}: --out holds {name}, {path}."
    elif target.is_relative_to(source):
        what = f"{out}: --out lies inside {name}, {path}."
        effect = "The input would be written into."
    else:
        return
    raise UsageError(what, effect=effect, way_out="Name another folder with --out.")


def _trained_on_nf4(adapter: Path) -> bool:
    """Look for the manifest of the training that made the adapter, and what it says."""
    for folder in (adapter, adapter.absolute().parent):
        manifest = find_manifest(folder)
        if manifest is not None:
            return manifest.identity.settings.get("quantize") == "nf4"
    return False


def _identity(model: ModelFolder, adapter: Adapter, asked: Asked) -> Identity:
    """Tell what decides the merged model's bytes; reads the adapter once, not the model."""
    settings = {
        "body": asked.body,
        "dtype": asked.dtype,
        "max_shard_size": asked.max_shard_size,
        "verify": asked.verify,
        "both_bodies": asked.both_bodies,
    }
    inputs = {"model": model_fingerprint(model), "adapter": adapter.check()}
    version = find_stage("merge").version
    return Identity(stage="merge", stage_version=version, settings=settings, seed=0, inputs=inputs)


def _inputs(model: ModelFolder, adapter: Adapter) -> dict[str, list[int]]:
    """Sizes and times of all files read or copied, so that a change between two runs is noticed."""
    read = [model.path / name for name in ("config.json", *model.shards)]
    paths = {"model": [*read, *copied_files(model)], "adapter": adapter.files}
    stats = {f"{source}/{p.name}": p.stat() for source, some in paths.items() for p in some}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _finished(
    former: Manifest, folder: Path, identity: Identity, inputs: dict[str, list[int]]
) -> MergeFacts:
    """Give the facts of a model that was merged in this very way.

    Raises:
        StaleError: It was merged in another way.
    """
    changes = identity.changes_from(former.identity)
    if not changes and former.circumstances.get("inputs") != inputs:
        changes = ["files of the model or the adapter were written since"]
    if changes:
        raise StaleError(
            f"{folder}: holds a model that was merged differently: {'; '.join(changes)}.",
            way_out="Name another folder with --out, or give --redo to replace it.",
        )
    return MergeFacts.model_validate(former.facts)


def _open_draft(
    folder: Path,
    identity: Identity,
    inputs: dict[str, list[int]],
    reporter: Reporter,
    *,
    redo: bool,
) -> Draft:
    """Open the draft of `folder`: a former one of the same inputs, or an empty one."""
    path = folder.with_name(f".draft-{folder.name}")
    mark = canonical_json({"identity": identity.model_dump(), "inputs": inputs})
    same = (path / _MARK).is_file() and (path / _MARK).read_text(encoding="utf-8") == mark
    sealed = find_manifest(path)
    if sealed is not None:
        same = sealed.identity == identity and sealed.circumstances.get("inputs") == inputs
    if redo or not same:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        write_text(path / _MARK, mark)
    return Draft(path, folder, identity, reporter)
