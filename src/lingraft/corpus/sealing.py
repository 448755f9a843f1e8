"""The last step of `lingraft corpus prepare`: the result takes its place, the manifest comes last.

A folder with a manifest is whole, and `lingraft show` and `verify` read it. The manifest of an
earlier result is taken away before its files are replaced: never does one stand beside files that
it does not mean.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..manifest import FileEntry, Identity, Manifest, file_sha256
from ..store import disk_errors, write_text
from .engine import list_places, place, read_facts
from .finishing import list_outputs
from .plan import PLAN_NAME, Plan, read_plan
from .results import OUTPUTS, read_result
from .tallies import STATS_NAME

__all__ = ["FORMER_NAME", "IDENTITY_NAME", "MANIFEST_NAME", "Sealing"]

MANIFEST_NAME = "manifest.json"
IDENTITY_NAME = "identity.json"
"""What the manifest will say of where the result comes from; in the work folder."""
FORMER_NAME = ".former.json"
"""The manifest of an earlier result while that is replaced."""


@dataclass(frozen=True)
class Sealing:
    """The step as one unit of work."""

    folder: str
    key: str
    target: str
    label: str = "seal"

    @property
    def _plan(self) -> Plan:
        return read_plan(self.folder, self.key)

    def __len__(self) -> int:
        """One."""
        return 1

    def size_bytes(self, n: int) -> int:
        """Nothing to speak of."""
        return 1

    def is_done(self, n: int) -> bool:
        """Whether the work folder is gone: that comes last."""
        return not Path(self.folder).is_dir()

    def do(self, n: int) -> None:
        """Put everything in place, and take the work folder away.

        Raises:
            DiskFullError: There is no room for the manifest.
        """
        work, target, plan = Path(self.folder), Path(self.target), self._plan
        with disk_errors(target, place=plan.place):
            manifest = self._make_manifest(work, plan)
            _set_former_aside(target)
            place(work, plan, target)
            _remove_former(target, [entry.path for entry in manifest.files])
            write_text(target / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")
            # First out of the way: half a work folder could not be gone on with.
            done = work.with_name(f"{work.name}-done")
            shutil.rmtree(done, ignore_errors=True)
            work.rename(done)
            shutil.rmtree(done, ignore_errors=True)

    def _make_manifest(self, work: Path, plan: Plan) -> Manifest:
        places = list_places(work, plan)
        hashes = {
            output.name: read_result(self.folder, OUTPUTS, n).get("sha256", "")
            for n, output in enumerate(list_outputs(plan))
        }
        entries = [
            FileEntry(
                path=name,
                size_bytes=path.stat().st_size,
                sha256=hashes.get(name) or file_sha256(path),
            )
            for name, path in sorted(places.items())
        ]
        identity = Identity.model_validate_json((work / IDENTITY_NAME).read_bytes())
        circumstances = {
            "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "time_s": round(time.time() - (work / PLAN_NAME).stat().st_mtime, 3),
            "python": platform.python_version(),
            "packages": {"lingraft": __version__},
        }
        facts = read_facts(places[STATS_NAME], plan)
        return Manifest.build(identity, entries, facts, circumstances)


def _set_former_aside(target: Path) -> None:
    """Take the manifest of an earlier result away; what it lists is known until that is gone."""
    if (target / MANIFEST_NAME).is_file():
        (target / MANIFEST_NAME).replace(target / FORMER_NAME)


def _remove_former(target: Path, kept: Collection[str]) -> None:
    """Remove files of an earlier result that this one has not replaced."""
    former = target / FORMER_NAME
    if not former.is_file():
        return
    for entry in Manifest.model_validate_json(former.read_bytes()).files:
        if entry.path not in kept:
            (target / entry.path).unlink(missing_ok=True)
    former.unlink()
