"""Text to packed token files: documents end to end, with BOS and EOS, nothing dropped.

The reference forgot EOS and dropped text at every batch end. Here each document is whole, and
its end and its size in bytes stand beside the ids, so that bits per byte can be told later.

    command            the verb `lingraft encode`; what the stage does, too
    spans, joining     units of text -> parts; parts -> token files and their index
    documents          BOS and EOS around documents
    dataset            token files as rows for torch and transformers: in order, packed, mixed
    bestfit            whole documents into rows, with little left free

`lingraft.encode.encode` is the command line's `lingraft encode`; `Mixture` gives the batches of a
training step, `TokenDataset` and `MixtureDataset` give rows.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..mixture import Mixture
    from .command import EncodedFolder, encode
    from .dataset import MixtureDataset, TokenDataset

__all__ = ["EncodedFolder", "Mixture", "MixtureDataset", "TokenDataset", "encode"]

_PLACES = {
    "EncodedFolder": "lingraft.encode.command",
    "Mixture": "lingraft.mixture",
    "MixtureDataset": "lingraft.encode.dataset",
    "TokenDataset": "lingraft.encode.dataset",
    "encode": "lingraft.encode.command",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: recipes only need the settings."""
    if name not in _PLACES:
        raise AttributeError(f"module 'lingraft.encode' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
