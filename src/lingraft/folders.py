"""What verbs on plain folders share: their locks, manifests, and fingerprints of models."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError, VerifyError
from .manifest import Manifest, canonical_json, read_manifest
from .models import ModelFolder
from .store import lock_folder

__all__ = ["find_manifest", "hold_place", "model_fingerprint", "read_own"]


def find_manifest(folder: Path) -> Manifest | None:
    """Read an artefact's manifest; None: there is none, or the file is another program's."""
    try:
        return read_manifest(folder)
    except VerifyError:
        return None


def model_fingerprint(model: ModelFolder) -> str:
    """Digest of a model: its artefact's, or of config and headers where there is no manifest."""
    manifest = find_manifest(model.path)
    if manifest is not None:
        return manifest.digest
    shards = {
        shard: [[e.name, e.dtype, list(e.shape)] for e in model.entries(shard)]
        for shard in model.shards
    }
    content = canonical_json({"config": model.config, "shards": shards})
    return hashlib.sha256(content.encode()).hexdigest()


def read_own(folder: Path, stage: str, noun: str) -> Manifest | None:
    """Read the manifest of what `stage` made in `folder`; None: nothing is there.

    Args:
        folder: Where a verb is to write.
        stage: Whose artefacts may be replaced.
        noun: What they are called, as "a merged model".

    Raises:
        UsageError: There is something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    manifest = find_manifest(folder)
    if manifest is None or manifest.identity.stage != stage:
        raise UsageError(
            f"{folder}: holds something else than {noun}.",
            effect="It would be overwritten.",
            way_out="Name another folder with --out, or remove this one.",
        )
    return manifest


def require_writable(path: Path, option: str) -> None:
    """Refuse a file that could not be written when the work is done, before it begins.

    Args:
        path: The file; its folder is there.
        option: How the user named it.

    Raises:
        UsageError: It is a folder, or its folder is not there or takes no file.
    """
    why = "is a folder" if path.is_dir() else ""
    if not why:
        try:
            with tempfile.TemporaryFile(dir=path.absolute().parent):
                pass  # that it can be made is all that is asked
        except OSError as error:
            why = f"cannot be written: {error.strerror}"
    if why:
        raise UsageError(
            f"{option} {path}: {why}; expected a file in a folder that takes one.",
            effect="What is found could not be kept.",
            way_out="Name a file in another folder, or - to print.",
        )


@contextmanager
def hold_place(folder: Path) -> Iterator[None]:
    """Hold the place of `folder` for this process, by a lock beside it."""
    lock = folder.with_name(f".lock-{folder.name}")
    with lock_folder(lock, place="--out DIR", other="--out OTHER"):
        try:
            yield
        finally:
            shutil.rmtree(lock, ignore_errors=True)
