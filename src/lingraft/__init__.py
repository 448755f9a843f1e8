"""Graft a new language onto a pretrained LLM.

One recipe takes a base model and a corpus of a language it reads badly, and gives back an
extended tokenizer, an expanded model, a continued-pretraining run, a merged checkpoint, its
evaluation and its model card. The verbs on recipes and runs are functions here; those on plain
files and folders are functions of the stages that are named here, as `lingraft.vocab.search`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import corpus, embed, encode, evals, merge, tokenizer, vocab
    from .api import CheckResult, Difference, check, diff, run, show, verify
    from .errors import (
        DiskFullError,
        InputError,
        LingraftError,
        LockedError,
        MissingPackageError,
        Problem,
        RecipeError,
        StaleError,
        UsageError,
        VerifyError,
    )
    from .exact import Encoder

__all__ = [
    "CheckResult",
    "Difference",
    "DiskFullError",
    "Encoder",
    "InputError",
    "LingraftError",
    "LockedError",
    "MissingPackageError",
    "Problem",
    "RecipeError",
    "StaleError",
    "UsageError",
    "VerifyError",
    "__version__",
    "check",
    "corpus",
    "diff",
    "embed",
    "encode",
    "evals",
    "merge",
    "run",
    "show",
    "tokenizer",
    "verify",
    "vocab",
]

__version__ = "0.1.0"

_API = {"CheckResult", "Difference", "check", "diff", "run", "show", "verify"}
_STAGES = {"corpus", "embed", "encode", "evals", "merge", "tokenizer", "vocab"}
"""Stages that can be used by themselves, as `lingraft.vocab.search`."""


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: importing lingraft stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'lingraft' has no attribute {name!r}")
    if name in _STAGES:
        return importlib.import_module(f".{name}", __name__)
    place = ".api" if name in _API else ".exact" if name == "Encoder" else ".errors"
    module = importlib.import_module(place, __name__)
    return getattr(module, name)
