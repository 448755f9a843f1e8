"""The functions of `steps` in Triton: one pass over memory each, sums in float32.

Every sum has one order, whatever the GPU does first: nothing is added atomically.
"""

from __future__ import annotations

from .glukernels import add_adapter, glu, glu_backward
from .rowkernels import combine, drop, gather, norm, norm_backward, rotate

__all__ = [
    "add_adapter",
    "combine",
    "drop",
    "gather",
    "glu",
    "glu_backward",
    "norm",
    "norm_backward",
    "rotate",
]
