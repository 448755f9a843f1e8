"""Where a source named in a recipe lies: in a package, in Python itself, or on disk.

    package:NAME/inner/path   a file or folder inside an installed package
    stdlib:inner/path         a file or folder of Python's own library
    anything else             a path, relative to the working directory

A package is found without importing it, so no foreign code runs.
"""

from __future__ import annotations

import platform
import sysconfig
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from .errors import MissingPackageError, UsageError
from .packages import find_package

__all__ = ["identify_source", "is_hub_source", "locate_source"]


def is_hub_source(source: str) -> bool:
    """Whether `source` names a hub repository (`hub:OWNER/NAME`)."""
    return source.startswith("hub:")


def locate_source(source: str) -> Path:
    """Turn a source into a path that exists.

    Raises:
        MissingPackageError: The package is not installed.
        UsageError: There is nothing at that place, or it cannot be looked at.
    """
    if source.startswith("package:"):
        name, _, inner = source.removeprefix("package:").partition("/")
        path = _package_folder(name) / inner
    elif source.startswith("stdlib:"):
        path = Path(sysconfig.get_paths()["stdlib"]) / source.removeprefix("stdlib:")
    else:
        path = Path(source).expanduser()
    try:
        found = path.exists()
    except OSError as error:  # a folder on the way gives no rights
        raise UsageError(
            f"source '{source}': {path} cannot be read: {error.strerror}.",
            way_out="Check the path and its rights.",
        ) from None
    if not found:
        raise UsageError(f"source '{source}': nothing at {path}.", way_out="Check the path.")
    return path


def identify_source(source: str) -> Path | str:
    """What stands for the source's bytes in an identity: a version, or the path to hash.

    Raises:
        MissingPackageError: The package is not installed.
        UsageError: There is nothing at that place, or it cannot be looked at.
    """
    if is_hub_source(source):
        return source
    path = locate_source(source)
    if source.startswith("package:"):
        name = source.removeprefix("package:").partition("/")[0]
        distributions = packages_distributions().get(name, [name])
        try:
            return "+".join(f"{d} {version(d)}" for d in sorted(set(distributions)))
        except PackageNotFoundError:
            return path
    if source.startswith("stdlib:"):
        return f"python {platform.python_version()}"
    return path


def _package_folder(name: str) -> Path:
    spec = find_package(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            f"source 'package:{name}': no package '{name}' is installed.",
            way_out=f"pip install {name.replace('_', '-')}",
        )
    return Path(next(iter(spec.submodule_search_locations)))
