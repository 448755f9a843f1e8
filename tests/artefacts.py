"""Small artefacts and drafts for tests of single stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lingraft.manifest import Facts, Identity
from lingraft.progress import SilentReporter
from lingraft.store import Artefact, Draft, open_draft

SEED = 17


def empty_draft(folder: Path, name: str) -> Draft:
    """Give a fresh draft, as the run would hand it to a stage; `name` like `40-embed`."""
    identity = Identity(stage=name[3:], stage_version=1, settings={}, seed=SEED, inputs={})
    return open_draft(folder / name, identity, SilentReporter(), resumable=True)


def make_artefact(folder: Path, name: str, fill: Callable[[Path], Facts]) -> Artefact:
    """Make an artefact whose files and facts come from `fill(path)`."""
    draft = empty_draft(folder, name)
    return draft.seal(fill(draft.path), {})
