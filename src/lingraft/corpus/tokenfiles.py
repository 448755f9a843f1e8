"""How many tokens a registered token file holds, whoever wrote it.

    NAME.npy                  one of ours; the tokenizer stands in the `index.json` beside it
    folder with index.json    ours; all of its files together
    folder with state.json    what `datasets` saved for the reference: rows of `input_ids`

Ids are not read, only their lengths: ours are in a header, those of `datasets` are the offsets of
a column. The reference multiplies its rows by 2,048, whatever was their length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..shards import INDEX_NAME, open_folder, open_tokens

__all__ = ["EncodedTotal", "count_encoded"]

_STATE_NAME = "state.json"
_IDS = "input_ids"


class EncodedTotal(NamedTuple):
    """What a token file holds."""

    total_tokens: int
    """BOS and EOS included, where they were written."""
    tokenizer: str = ""
    """Its name; "" where the file does not tell."""
    digest: str = ""
    num_docs: int | None = None
    """Of the text, empty ones included; None where documents cannot be told apart."""
    size_bytes: int | None = None
    """UTF-8 bytes of the texts, where they were kept."""


def count_encoded(path: Path) -> EncodedTotal | None:
    """Count the tokens at a place that a registry names; None where nothing is there.

    Raises:
        InputError: What is there is no token file, or is damaged.
    """
    if path.is_file():
        return _count_file(path)
    if (path / INDEX_NAME).is_file():
        return _count_folder(path)
    if (path / _STATE_NAME).is_file():
        return _count_saved(path)
    if path.exists():
        raise InputError(
            f"{path}: no token files in it, neither an {INDEX_NAME} nor a {_STATE_NAME}.",
            effect="Its tokens cannot be counted.",
            way_out="Name what `lingraft encode` wrote, or encode the text again.",
        )
    return None


def _count_file(path: Path) -> EncodedTotal:
    if (path.parent / INDEX_NAME).is_file():
        folder = open_folder(path.parent)
        if path.stem in folder.files:
            entry = next(one for one in folder.index.files if one.name == path.stem)
            tokenizer = folder.index.tokenizer
            return EncodedTotal(
                entry.total_tokens,
                tokenizer.name,
                tokenizer.digest,
                entry.num_docs + entry.num_empty,
                entry.size_bytes,
            )
    file = open_tokens(path)
    size_bytes = None if file.sizes_bytes is None else int(file.sizes_bytes.sum(dtype="uint64"))
    return EncodedTotal(len(file.ids), num_docs=file.num_docs, size_bytes=size_bytes)


def _count_folder(path: Path) -> EncodedTotal:
    index = open_folder(path).index
    return EncodedTotal(
        sum(entry.total_tokens for entry in index.files),
        index.tokenizer.name,
        index.tokenizer.digest,
        sum(entry.num_docs + entry.num_empty for entry in index.files),
        sum(entry.size_bytes for entry in index.files),
    )


def _count_saved(path: Path) -> EncodedTotal:
    """Count the ids of a data set as `Dataset.save_to_disk` of `datasets` leaves it."""
    import pyarrow as pa

    try:
        state = json.loads((path / _STATE_NAME).read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in state["_data_files"]]
        total = sum(_count_arrow(path / name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: not a data set that can be read: {str(error) or type(error).__name__}.",
            effect="Its tokens cannot be counted.",
            way_out=f"Encode the text again; expected Arrow files with a column '{_IDS}'.",
        ) from None
    return EncodedTotal(total)


def _count_arrow(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        column = stream.schema.get_field_index(_IDS)
        if column < 0:
            raise KeyError(f"{path.name}: no column '{_IDS}'")
        return sum(_sum(pc.sum(pc.list_value_length(batch.column(column)))) for batch in stream)


def _sum(scalar: Any) -> int:
    return int(scalar.as_py() or 0)
