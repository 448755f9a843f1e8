"""`lingraft embed expand` on plain folders: any model, any extended tokenizer, without a recipe."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StaleError, UsageError
from ..folders import hold_place, model_fingerprint, read_own
from ..manifest import Identity, canonical_json, file_sha256
from ..models import INDEX as MODEL_INDEX
from ..models import TOKENIZER_FILES, ModelFolder
from ..progress import Reporter, SilentReporter
from ..shards import INDEX_NAME
from ..stages import find_stage
from ..store import Draft, disk_errors, open_draft, require_space
from .expanding import Choice, check_choice, expand_into
from .methods import INPUT_DEFAULT, OUTPUT_DEFAULT
from .probing import PROBE
from .settings import EmbedFacts, Option
from .sources import Source, read_source
from .writing import plan_growth, small_files, space_needed

__all__ = ["ExpandResult", "expand"]

_MOST_MULTIPLE = 65_536
_NOUN = "an expanded model"


@dataclass(frozen=True)
class ExpandResult:
    """An expanded model.

    Attributes:
        folder: Where it lies: a model folder with a manifest and the extended tokenizer.
        was_done: Whether it was there already, made in the same way.
        facts: What was done.
    """

    folder: Path
    was_done: bool
    facts: EmbedFacts


def expand(
    *,
    model: str | Path,
    tokenizer: str | Path,
    out: str | Path,
    method: str | None = None,
    head_method: str | None = None,
    options: Mapping[str, Option] | None = None,
    head_options: Mapping[str, Option] | None = None,
    counts: str | Path | None = None,
    donor: str | Path | None = None,
    base_tokenizer: str | Path | None = None,
    tie_break: bool = True,
    pad_to_multiple_of: int = 1,
    seed: int = 17,
    plots: bool = False,
    redo: bool = False,
    reporter: Reporter | None = None,
) -> ExpandResult:
    """Give a model rows for the pieces that an extended tokenizer adds; base rows stay as they are.

    Args:
        model: Folder of the base model.
        tokenizer: Folder of the extended tokenizer.
        out: Folder to write; it must not hold anything else.
        method: Makes input rows, and those of a tied head; None: the default.
        head_method: Makes head rows; None: the default.
        options: Of `method`.
        head_options: Of `head_method`.
        counts: Token folder that the extended tokenizer encoded, for methods that need text.
        donor: Folder of a model that knows the new pieces, for methods that need one.
        base_tokenizer: File or folder of the base's tokenizer; None: in the model's folder.
        tie_break: Whether pieces with the same parts get rows that differ.
        pad_to_multiple_of: Rows become a multiple of this.
        seed: Decides every draw.
        plots: Whether a page of plots is written into the folder, too.
        redo: Make it again where `out` holds one made in another way.
        reporter: Where progress goes.

    Raises:
        InputError: Model or tokenizer cannot be used, or do not belong together.
        UsageError: The call does not fit together, or `out` holds something else.
        StaleError: `out` holds a model that was expanded in another way.
        DiskFullError: There is no room; told before the first byte.
    """
    names = (method or INPUT_DEFAULT, head_method or OUTPUT_DEFAULT)
    settings = (dict(options or {}), dict(head_options or {}))
    choice = Choice(*names, *settings, tie_break, pad_to_multiple_of, _path(donor))
    paths = (Path(model).expanduser(), Path(tokenizer).expanduser())
    folder = Path(out).expanduser().absolute()
    _check(*paths, choice, seed)
    inputs = {"--model": paths[0], "--tokenizer": paths[1], "--donor": choice.donor}
    inputs |= {"--counts": _path(counts), "--base-tokenizer": _path(base_tokenizer)}
    _refuse_overlap(folder, inputs)
    source = read_source(*paths, tokens=_path(counts), base=_path(base_tokenizer))
    _check_head(source, choice, head_method)
    return _carry_out(source, choice, seed, folder, reporter, plots=plots, redo=redo)


def _carry_out(
    source: Source,
    choice: Choice,
    seed: int,
    folder: Path,
    reporter: Reporter | None,
    *,
    plots: bool,
    redo: bool,
) -> ExpandResult:
    teller = reporter or SilentReporter()
    check_choice(choice, source)
    identity, inputs = _identity(source, choice, seed), _inputs(source, choice.donor)
    with disk_errors(folder, place="--out DIR"), hold_place(folder):
        done = None if redo else _finished(folder, identity, inputs)
        if done is not None:
            return ExpandResult(folder, was_done=True, facts=done)
        read_own(folder, "embed", _NOUN)
        _require_space(source, choice, folder)
        draft = open_draft(folder, identity, teller, resumable=False)
        if draft.is_sealed:  # by a run that was killed before the rename; its inputs may differ
            shutil.rmtree(draft.path)
            draft = open_draft(folder, identity, teller, resumable=False)
        try:
            facts = _fill(source, choice, draft, inputs, plots=plots)
        except BaseException:
            shutil.rmtree(draft.path, ignore_errors=True)  # nothing in it can be gone on with
            raise
    return ExpandResult(folder, was_done=False, facts=facts)


def _fill(
    source: Source, choice: Choice, draft: Draft, inputs: Mapping[str, Any], *, plots: bool
) -> EmbedFacts:
    start_s = time.monotonic()
    facts, written = expand_into(source, choice, draft)
    for shard in written.linked:
        if (draft.path / shard).samefile(source.model.path / shard):
            draft.set_aside(shard)  # the base's own file: hashing it would read all of it
    if plots:
        from .page import write_page

        place, name = draft.path / "plots", draft.final.name
        write_page(source, draft.path, place, name, facts.model_dump(mode="json"))
        draft.set_aside("plots/*")
    time_s = round(time.monotonic() - start_s, 3)
    draft.seal(facts, {"time_s": time_s, "inputs": dict(inputs)})
    return facts


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name).expanduser()


def _check(model: Path, tokenizer: Path, choice: Choice, seed: int) -> None:
    """Refuse what cannot be meant."""
    if not 0 <= seed < 1 << 32:
        raise UsageError(f"seed {seed}: expected 0 to {(1 << 32) - 1:,}.")
    if not 1 <= choice.multiple <= _MOST_MULTIPLE:
        raise UsageError(f"pad-to-multiple-of {choice.multiple}: expected 1 to {_MOST_MULTIPLE:,}.")
    if model.suffix == ".gguf":
        raise UsageError(
            f"{model}: a GGUF file; expected a model folder.",
            effect="Its packed weights have no rows that could be added to.",
            way_out=f"Unpack it first: lingraft embed from-gguf --model {model} --out DIR.",
        )
    for option, path in (("--model", model), ("--tokenizer", tokenizer)):
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder.", way_out=f"Check {option} DIR.")


def _refuse_overlap(out: Path, inputs: Mapping[str, Path | None]) -> None:
    """Refuse an `out` that holds an input, or lies inside one."""
    for option, path in inputs.items():
        if path is None:
            continue
        holds = path.resolve().is_relative_to(out.resolve())
        if holds or out.resolve().is_relative_to(path.resolve()):
            raise UsageError(
                f"{out}: is {option}, or holds it." if holds else f"{out}: lies inside {option}.",
                effect="The input would be overwritten." if holds else "It would be written into.",
                way_out="Name another folder with --out.",
            )


def _check_head(source: Source, choice: Choice, head_method: str | None) -> None:
    """Refuse a head's method where another one makes its rows."""
    if head_method is None:
        return
    if source.matrices.tied:
        raise UsageError(
            f"{source.model.path}: its head is tied to its input rows; --head-method "
            f"{head_method} would have nothing to make.",
            way_out="Leave --head-method out.",
        )
    if choice.method == PROBE:
        raise UsageError(
            "the probe chooses the head's method, too.",
            way_out="Leave --head-method out, or name the pairs: --option "
            "candidates=mean/mean,calibrated/char-length.",
        )


def _identity(source: Source, choice: Choice, seed: int) -> Identity:
    settings = {
        "method": choice.method,
        "head_method": None if source.matrices.tied else choice.head_method,
        "options": dict(choice.options),
        "head_options": dict(choice.head_options),
        "tie_break": choice.tie_break,
        "pad_to_multiple_of": choice.multiple,
    }
    inputs = {"model": model_fingerprint(source.model), "tokenizer": source.digest}
    inputs["base_tokenizer"] = source.base_digest
    if source.extra:
        extra = canonical_json({str(id): text for id, text in source.extra.items()})
        inputs["base_tokens"] = hashlib.sha256(extra.encode()).hexdigest()
    if source.tokens is not None:
        inputs["tokens"] = file_sha256(source.tokens / INDEX_NAME)
    if choice.donor is not None:
        inputs["donor"] = model_fingerprint(ModelFolder(choice.donor))
    version = find_stage("embed").version
    return Identity(
        stage="embed", stage_version=version, settings=settings, seed=seed, inputs=inputs
    )


def _inputs(source: Source, donor: Path | None) -> dict[str, Any]:
    """Tell the state of every file read or copied, so that a change between two runs is noticed.

    Weights by size and time, for reading them takes long; all others by sha256.
    """
    models = {"model": source.model}
    if donor is not None:
        models["donor"] = ModelFolder(donor)
    found: dict[str, Any] = {
        f"donor/{name}": file_sha256(donor / name)
        for name in TOKENIZER_FILES
        if donor is not None and (donor / name).is_file()
    }
    for name, model in models.items():
        for shard in model.shards:
            stat = (model.path / shard).stat()
            found[f"{name}/{shard}"] = [stat.st_size, stat.st_mtime_ns]
        found[f"{name}/config.json"] = file_sha256(model.path / "config.json")
    if (source.model.path / MODEL_INDEX).is_file():
        found[f"model/{MODEL_INDEX}"] = file_sha256(source.model.path / MODEL_INDEX)
    for name, path in small_files(source.model.path, source.tokenizer).items():
        place = "model" if path.parent == source.model.path else "tokenizer"
        found[f"{place}/{name}"] = file_sha256(path)
    return found


def _finished(folder: Path, identity: Identity, inputs: Mapping[str, Any]) -> EmbedFacts | None:
    """Give the facts of a model that was expanded in this very way; None: there is none.

    Raises:
        StaleError: There is one that was expanded in another way.
    """
    if not (folder / "manifest.json").is_file():
        return None
    manifest = read_own(folder, "embed", _NOUN)
    assert manifest is not None, "a folder with a manifest.json is not empty"
    changes = identity.changes_from(manifest.identity)
    if not changes:
        former: Any = manifest.circumstances.get("inputs", {})
        names = sorted({*inputs, *former})
        changed = [name for name in names if inputs.get(name) != former.get(name)]
        changes = [f"written since: {', '.join(changed)}"] if changed else []
    if changes:
        raise StaleError(
            f"{folder}: holds a model that was expanded differently: {'; '.join(changes)}.",
            way_out="Name another folder with --out, or give --redo to replace it.",
        )
    return EmbedFacts.model_validate(manifest.facts)


def _require_space(source: Source, choice: Choice, folder: Path) -> None:
    added = source.added
    growth = plan_growth(source.matrices, added.num_base, len(added), choice.multiple)
    require_space(folder, space_needed(source.model, source.matrices, growth, folder))
