"""MinHash signatures: how alike two documents are, from a few bytes of each.

The signature holds, for each of K hash functions, the smallest hash of a document's n-grams. Two
documents agree in one of them with the probability of their Jaccard similarity: the n-grams they
share, of all that either has. B bands of R hashes each become one 64-bit hash a band: documents
with an equal band are worth a comparison. For that, the low 8 bits of each hash are enough.

A text shorter than an n-gram is one n-gram; a text without tokens has no signature, and its bands
are all 0, which no other's are.

Shapes: D documents, B bands, R hashes of a band, K = B x R hashes.
Source: Broder 1997, On the resemblance and containment of documents; the low bits, Li & König
2010, arXiv 0910.3349; minima by the package `rensa`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..jit import jit
from .grams import MULTIPLIER, Tokens, UInt8, UInt64, mix, ngram_hashes
from .methods import NearDuplicateSettings

__all__ = ["NO_BAND", "algorithm", "signatures"]

UInt32 = npt.NDArray[np.uint32]

NO_BAND = 0
"""A band of a document without tokens: equal to nothing, not even to itself."""


def signatures(tokens: Tokens, settings: NearDuplicateSettings) -> tuple[UInt64, UInt8]:
    """Sign documents.

    Args:
        tokens: What `find_tokens` gave for them.
        settings: Size of n-grams and signatures, and the seed.

    Returns:
        The hash of every band, (D, B), and the low 8 bits of every hash, (D, K).
    """
    import rensa

    num_hashes = settings.num_bands * settings.rows_per_band
    grams = ngram_hashes(tokens, settings.gram_tokens, whole_if_short=True)
    starts_D1 = np.concatenate(([0], grams.ends_D)).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        grams.hashes_G, starts_D1, num_hashes, settings.seed
    )
    minima_DK = np.array(matrix.to_rows(), np.uint32).reshape(len(grams.ends_D), num_hashes)
    bands_DB = np.empty((len(minima_DK), settings.num_bands), np.uint64)
    _hash_bands(minima_DK, bands_DB)
    bands_DB[starts_D1[1:] == starts_D1[:-1]] = NO_BAND
    return bands_DB, minima_DK.astype(np.uint8)


def algorithm() -> str:
    """Name what gives the minima; signatures of another one cannot be compared."""
    import rensa

    return f"rensa {rensa.RMinHash.ALGORITHM_VERSION}"


@jit
def _hash_bands(minima_DK: UInt32, bands_DB: UInt64) -> None:
    num_bands = bands_DB.shape[1]
    rows = minima_DK.shape[1] // num_bands
    for d in range(len(minima_DK)):
        for b in range(num_bands):
            value = MULTIPLIER
            for k in range(b * rows, (b + 1) * rows):
                value = (value ^ np.uint64(minima_DK[d, k])) * MULTIPLIER
                value ^= value >> np.uint64(32)
            bands_DB[d, b] = max(mix(value), np.uint64(1))
