"""Which packages are installed, without importing them: no foreign code runs.

Python takes any folder on its path for a package, and the working directory is on it: after a run
with wandb, the folder `wandb/` that it left would count as the package wandb. A folder without
`__init__.py` is a package here only where an installed distribution brings modules in it.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions

__all__ = ["find_package", "has_package"]


def find_package(name: str) -> ModuleSpec | None:
    """Find an installed package or module by the name that `import` takes; None: there is none.

    Args:
        name: A name without dots; what is no identifier is no package.
    """
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or spec.origin is not None:
        return spec
    return spec if name in packages_distributions() else None


def has_package(name: str) -> bool:
    """Whether a package is installed."""
    return find_package(name) is not None
