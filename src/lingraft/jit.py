"""Compilation of kernels: when first called, kept on disk, free of Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["jit"]

_F = TypeVar("_F", bound=Callable[..., Any])


def jit(function: _F) -> _F:
    """Compile a function of numbers and arrays with numba."""
    compiled: _F = numba.njit(cache=True, nogil=True)(function)
    return compiled
