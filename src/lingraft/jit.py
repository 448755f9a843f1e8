"""Compilation of kernels: when first called, kept on disk, free of Python's lock.

numba keeps machine code beside the source, or in the user's cache, and looks at the date of one
file only: a change in a kernel's helper in another file would go unseen. So the cache is a folder
named after a digest of all of lingraft's compiled modules. Where nothing can be written, kernels
are compiled anew in every process.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

__all__ = ["cache_folder", "jit", "jit_inline"]

_F = TypeVar("_F", bound=Callable[..., Any])
_log = logging.getLogger("lingraft")
_IN_SPINE = ("characters", "cutting", "jit", "lookup", "merging", "partcache", "splitting")
"""Spine modules that hold kernels."""
_IN_CORPUS = ("collecting", "grams", "matching", "minhash", "overlap", "repetition")
"""Modules of the corpus stage that hold kernels."""


def jit(function: _F) -> _F:
    """Compile a function of numbers and arrays with numba."""
    return _compile(function, "never")


def jit_inline(function: _F) -> _F:
    """Compile a function into each of its callers: for what is called once a character."""
    return _compile(function, "always")


def _compile(function: _F, inline: str) -> _F:
    folder, before = cache_folder(), numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder or before  # other users of numba keep theirs
    try:
        compiled: _F = numba.njit(cache=bool(folder), nogil=True, inline=inline)(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


@cache
def cache_folder() -> str:
    """Give the cache folder of these very sources; "" where none can be written."""
    given = os.environ.get("NUMBA_CACHE_DIR", "")
    homes = [Path(given)] if given else [Path(__file__).parent / "__pycache__", _user_cache()]
    for home in homes:
        folder = home / f"lingraft-kernels-{_digest()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        return str(folder)
    _log.warning("no folder for compiled code can be written: it is made anew every time")
    return ""


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "lingraft"


def _digest() -> str:
    """Digest every module that may hold a kernel, or a number that is compiled into one."""
    root = Path(__file__).parent
    content = hashlib.sha256()
    named = [root / f"{name}.py" for name in _IN_SPINE]
    named += [root / "corpus" / f"{name}.py" for name in _IN_CORPUS]
    for path in sorted([*named, *(root / "vocab").glob("*.py")]):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]
