"""Fold the adapter into the weights: W + scale B A, slice by slice, and prove it.

Memory holds a few slices of one matrix, whatever the model's size: tensors are read by ranges of
rows, summed in float32, and written behind a header that is known beforehand. At the end logits of
the merged model are compared with those of base and adapter, both streamed from disk.

    adapter               a PEFT adapter on disk
    layout, places        published tensors in stored ones; adapter tensors -> published tensors
    targets               every tensor of the merged model, and what is done to it
    fold, sums            the arithmetic; rows of base and adapter read and added
    writing, sizes        shards planned, linked, written, gone on with
    streamed, verify      a model that streams its weights; logits compared
    merging, command      all of it in order; the verb on plain folders

`lingraft.merge.merge` is the command line's `lingraft merge`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command import MergeResult, merge

__all__ = ["MergeResult", "merge"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in __all__:
        raise AttributeError(f"module 'lingraft.merge' has no attribute {name!r}")
    from . import command

    return getattr(command, name)
