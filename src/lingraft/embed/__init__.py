"""Rows for pieces that the base never saw.

A new piece has a spelling that the base can read: its bytes, through the base's own merge
rules. What is known about the base rows of that spelling is where the piece's own rows start, in
embed_tokens (what the body reads) and in lm_head (what it predicts). The checkpoint is expanded
shard by shard: shards without these two matrices are linked, not read.

    added, sources              what is known about the new pieces; model and tokenizers compared
    methods                     the table of methods: names, sources, needs
    mean, normal, meancov, weighted, hierarchical, calibrated, head_frequency   closed forms
    auxiliary, focus, omp       methods by nearness in text
    learned, distil, headdistil, spelltrie, probe     methods with gradients; a choice by trial
    averaging, filling          means of base rows; all rows of a matrix, ties told apart
    writing                     the expanded model folder
    expanding, command, stage   a choice carried out: on plain folders, in a recipe
    gguf                        GGUF files as model folders
    diagnostics, drawing, page  norms, neighbours and pictures of base and new rows

`lingraft.embed.expand` is the command line's `lingraft embed expand`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command import ExpandResult, expand
    from .gguf import from_gguf
    from .page import plot

__all__ = ["ExpandResult", "expand", "from_gguf", "plot"]

_PLACES = {"ExpandResult": "command", "expand": "command", "from_gguf": "gguf", "plot": "page"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in _PLACES:
        raise AttributeError(f"module 'lingraft.embed' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
