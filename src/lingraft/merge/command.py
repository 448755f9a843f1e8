"""`lingraft merge` on plain folders: any model, any PEFT adapter, without a recipe."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import StaleError, UsageError, VerifyError
from ..manifest import Identity, canonical_json, read_manifest
from ..models import ModelFolder
from ..progress import Reporter, SilentReporter
from ..store import Draft, disk_errors, lock_folder, write_text
from .adapter import Adapter
from .merging import Asked, merge_into
from .settings import MergeFacts
from .sizes import parse_size

__all__ = ["MergeResult", "merge"]

Body = Literal["original", "nf4"]
Dtype = Literal["keep", "float32", "bfloat16", "float16"]
_VERSION = 2
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
    inputs = _inputs(opened, trained)
    with disk_errors(folder, place="--out DIR"), _locked(folder):
        teller.note("reading the adapter")
        identity = _identity(opened, trained, asked)
        done = None if redo else _finished(folder, identity, inputs)
        if done is not None:
            return MergeResult(folder, was_done=True, facts=done)
        draft = _open_draft(folder, identity, inputs, teller, redo=redo)
        if draft.is_sealed:  # a kill left only the rename to do
            sealed = MergeFacts.model_validate(draft.finish().manifest.facts)
            return MergeResult(folder, was_done=False, facts=sealed)
        start_s = time.monotonic()
        facts = merge_into(opened, trained, asked, draft)
        time_s = round(time.monotonic() - start_s, 3)
        draft.seal(facts, {"time_s": time_s, "inputs": inputs})
    return MergeResult(folder, was_done=False, facts=facts)


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
        if path.resolve() == out.resolve():
            raise UsageError(
                f"{path}: is both {name} and --out.",
                effect="The input would be overwritten.",
                way_out="Name another folder with --out.",
            )
    return ModelFolder(model), Adapter(adapter)


def _trained_on_nf4(adapter: Path) -> bool:
    """Look for the manifest of the training that made the adapter, and what it says."""
    for folder in (adapter, adapter.absolute().parent):
        if (folder / "manifest.json").is_file():
            return read_manifest(folder).identity.settings.get("quantize") == "nf4"
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
    inputs = {"model": _fingerprint(model), "adapter": adapter.check()}
    return Identity(stage="merge", stage_version=_VERSION, settings=settings, seed=0, inputs=inputs)


def _fingerprint(model: ModelFolder) -> str:
    """Digest of a model: its artefact's, or of config and headers where there is no manifest."""
    if (model.path / "manifest.json").is_file():
        return read_manifest(model.path).digest
    shards = {
        shard: [[e.name, e.dtype, list(e.shape)] for e in model.entries(shard)]
        for shard in model.shards
    }
    content = canonical_json({"config": model.config, "shards": shards})
    return hashlib.sha256(content.encode()).hexdigest()


def _inputs(model: ModelFolder, adapter: Adapter) -> dict[str, list[int]]:
    """Sizes and times of the files read, so that a change between two runs is noticed."""
    paths = [*(model.path / shard for shard in model.shards), *adapter.files]
    stats = {f"{path.parent.name}/{path.name}": path.stat() for path in paths}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _finished(folder: Path, identity: Identity, inputs: dict[str, list[int]]) -> MergeFacts | None:
    """Give the facts of a model that was merged in this very way; None: there is none.

    Raises:
        StaleError: There is one that was merged in another way.
        UsageError: There is something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    way_out = "Name another folder with --out, or give --redo to replace it."
    try:
        manifest = read_manifest(folder)
    except VerifyError:
        raise UsageError(
            f"{folder}: holds something else than a merged model.",
            effect="It would be overwritten.",
            way_out="Name another folder with --out, or remove this one.",
        ) from None
    changes = identity.changes_from(manifest.identity)
    if not changes and manifest.circumstances.get("inputs") != inputs:
        changes = ["files of the model or the adapter were written since"]
    if changes:
        raise StaleError(
            f"{folder}: holds a model that was merged differently: {'; '.join(changes)}.",
            way_out=way_out,
        )
    return MergeFacts.model_validate(manifest.facts)


def _open_draft(
    folder: Path,
    identity: Identity,
    inputs: dict[str, list[int]],
    reporter: Reporter,
    *,
    redo: bool,
) -> Draft:
    """Open the draft of `folder`: a former one of the same inputs, or an empty one.

    Raises:
        UsageError: With `redo`, `folder` holds something that no merge has made.
    """
    if redo and folder.exists() and not (folder / "manifest.json").is_file() and _is_filled(folder):
        raise UsageError(
            f"{folder}: holds something else than a merged model.",
            effect="It would be overwritten.",
            way_out="Name another folder with --out, or remove this one.",
        )
    path = folder.with_name(f".draft-{folder.name}")
    mark = canonical_json({"identity": identity.model_dump(), "inputs": inputs})
    same = (path / _MARK).is_file() and (path / _MARK).read_text(encoding="utf-8") == mark
    if (path / "manifest.json").is_file():
        sealed = read_manifest(path)
        same = sealed.identity == identity and sealed.circumstances.get("inputs") == inputs
    if redo or not same:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        write_text(path / _MARK, mark)
    return Draft(path, folder, identity, reporter)


def _is_filled(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the place of `folder` for this process."""
    lock = folder.with_name(f".lock-{folder.name}")
    with lock_folder(lock, place="--out DIR", other="--out OTHER"):
        yield
        shutil.rmtree(lock, ignore_errors=True)
