"""The manifest: what an artefact is, what it was made from, and what is in it.

`identity` is what decides the bytes: stage, version of its code, settings, seed, digests of
its inputs. `files` are the bytes. `digest` covers both, and nothing else: no time, machine
or path. `circumstances` hold the rest. Two runs of the same thing have the same digests.

Facts are numbers about the artefact with their unit in the name; a report may print nothing
that is not a fact.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import VerifyError

__all__ = [
    "FORMAT",
    "Facts",
    "FileEntry",
    "Identity",
    "Manifest",
    "canonical_json",
    "file_sha256",
    "read_manifest",
]

FORMAT = "lingraft.manifest/1"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Facts(BaseModel):
    """Base of the facts that a stage returns; every field has its unit in its name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


class Identity(_Record):
    """All that decides an artefact's bytes."""

    stage: str
    stage_version: int
    settings: dict[str, Any]
    seed: int
    inputs: dict[str, str]

    @property
    def digest(self) -> str:
        """Digest of the identity alone: known before the work is done."""
        return hashlib.sha256(canonical_json(self.model_dump()).encode()).hexdigest()

    def changes_from(self, other: Identity) -> list[str]:
        """Say, one line each, where `self` differs from `other` (the one on disk)."""
        mine, theirs = _flat(self.model_dump()), _flat(other.model_dump())
        keys = sorted(mine.keys() | theirs.keys())
        return [
            f"{key}: {_show(theirs.get(key))} -> {_show(mine.get(key))}"
            for key in keys
            if mine.get(key) != theirs.get(key)
        ]


class FileEntry(_Record):
    """One file of an artefact; `path` is relative to the artefact's folder."""

    path: str
    size_bytes: int
    sha256: str


class Manifest(_Record):
    """The content of `manifest.json`."""

    format: str
    identity: Identity
    digest: str
    files: list[FileEntry]
    facts: dict[str, Any]
    circumstances: dict[str, Any]

    @classmethod
    def build(
        cls,
        identity: Identity,
        files: list[FileEntry],
        facts: Facts,
        circumstances: dict[str, Any],
    ) -> Manifest:
        """Make a manifest; the digest is computed here and nowhere else."""
        return cls(
            format=FORMAT,
            identity=identity,
            digest=_digest(identity, files),
            files=files,
            facts=facts.model_dump(mode="json"),
            circumstances=circumstances,
        )

    @property
    def is_consistent(self) -> bool:
        """Whether the digest is still that of identity and files."""
        return self.digest == _digest(self.identity, self.files)


def _digest(identity: Identity, files: list[FileEntry]) -> str:
    content = {"identity": identity.model_dump(), "files": [f.model_dump() for f in files]}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """JSON that is the same text for the same value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces of 4 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` of an artefact.

    Raises:
        VerifyError: There is no manifest, or it is not one of a format that we know.
    """
    path = folder / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise VerifyError(
            f"{folder}: not an artefact, it has no manifest.json.",
            way_out="Give a run folder (runs/NAME) or one of its stage folders.",
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise VerifyError(
            f"{path}: not a manifest: {'.'.join(map(str, first['loc'])) or 'file'}: "
            f"{first['msg']}.",
            way_out=f"Redo the stage with --redo {folder.name}.",
        ) from None
    if manifest.format != FORMAT:
        raise VerifyError(
            f"{path}: format '{manifest.format}'; this version reads '{FORMAT}'.",
            way_out="Use the lingraft that wrote it, or redo the stage.",
        )
    return manifest


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _show(value: object) -> str:
    text = "(absent)" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
