"""The text of `real_model.py`: one stream of documents, the same for every tokenizer.

Documents of the language and of the replay are dealt in proportion of their bytes, in the order
of the files (which is the order of a hash of the text), so that a run with one tokenizer has
read the same documents as a run with another one after the same number of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.shards import TokenFile, TokenFolder


@dataclass(frozen=True)
class Stream:
    """Documents end to end.

    Attributes:
        ids: Without the BOS of each document where it is the EOS of the one before.
        ends: Where each document ends in `ids`.
        end_bytes: UTF-8 bytes of all text up to there.
    """

    ids: npt.NDArray[Any]
    ends: npt.NDArray[np.int64]
    end_bytes: npt.NDArray[np.int64]

    def bytes_at(self, tokens: float) -> float:
        """Bytes of text in the first `tokens`."""
        return float(np.interp(tokens, [0, *self.ends], [0, *self.end_bytes]))


def order_documents(
    sizes: Sequence[npt.NDArray[Any]], shares: Sequence[float], total_bytes: float, seed: int
) -> list[tuple[int, int]]:
    """Deal documents: (number of the file, number of the document), by bytes alone.

    Args:
        sizes: UTF-8 bytes of the documents of each file.
        shares: Bytes of each file for one byte of the first.
        total_bytes: Bytes of the first file to deal; it begins anew where it ends.
        seed: 0 keeps the order of the files, others shuffle it.
    """
    orders = [
        np.random.default_rng([seed, n]).permutation(len(s)) if seed else np.arange(len(s))
        for n, s in enumerate(sizes)
    ]
    dealt = [0.0] * len(sizes)
    places = [0] * len(sizes)
    found = []
    while dealt[0] < total_bytes:
        which = min(range(len(sizes)), key=lambda n: (dealt[n] / shares[n], n))
        doc = int(orders[which][places[which] % len(orders[which])])
        places[which] += 1
        dealt[which] += float(sizes[which][doc])
        found.append((which, doc))
    return found


def make_stream(
    files: Sequence[TokenFile], order: Sequence[tuple[int, int]], drop_bos: bool
) -> Stream:
    """Lay documents end to end."""
    starts = [np.concatenate([[0], f.ends[:-1]]).astype(np.int64) for f in files]
    pieces = []
    sizes = []
    for which, doc in order:
        file = files[which]
        pieces.append(file.ids[int(starts[which][doc]) + drop_bos : int(file.ends[doc])])
        assert file.sizes_bytes is not None, "token files without sizes"
        sizes.append(int(file.sizes_bytes[doc]))
    ends = np.cumsum([len(piece) for piece in pieces])
    return Stream(np.concatenate(pieces), ends, np.cumsum(sizes))


def held_out(
    folder: TokenFolder, names: Sequence[str], most: int
) -> dict[str, tuple[list[Any], list[int]]]:
    """Documents and their sizes, by set; the first `most` of each."""
    found = {}
    for name in names:
        file = folder.file(name)
        assert file.sizes_bytes is not None, "token files without sizes"
        docs = [file.doc(n) for n in range(min(most, file.num_docs))]
        found[name] = (docs, [int(size) for size in file.sizes_bytes[: len(docs)]])
    return found
