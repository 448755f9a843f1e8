"""Names and splits of documents, both by hash: nothing depends on order or on other documents.

Sorting by id shuffles a set the same way everywhere, so the head of a set is a fair sample of it
(see `mixture.py`). The split has a hash of its own, salted with the seed: were it cut from the
id, the held-out documents would all stand at one end of that order.
"""

from __future__ import annotations

import hashlib

__all__ = ["document_id", "is_valid", "split_of", "text_digest"]


def text_digest(text: str) -> bytes:
    """Give the sha256 of a text in UTF-8, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def document_id(digest: bytes) -> str:
    """Give the id of the text that `text_digest` gave `digest` for: 16 hexadecimal digits."""
    return digest[:8].hex()


def is_valid(doc_id: str, seed: int, valid_frac: float) -> bool:
    """Tell whether a document is held out for validation.

    Args:
        doc_id: The document's id.
        seed: Seed of the run; another seed holds out other documents.
        valid_frac: Share to hold out, in (0, 1); a larger share only adds documents.
    """
    return _point(doc_id, seed) < valid_frac * 2.0**64


def split_of(doc_id: str, seed: int, valid_frac: float, test_frac: float) -> str:
    """Name the split of a document: `train`, `valid` or `test`.

    Documents are held out for validation from one end of the hashes and for tests from the other:
    neither share decides which documents the other takes.

    Args:
        doc_id: The document's id.
        seed: Seed of the run.
        valid_frac: Share to hold out for validation, in [0, 1).
        test_frac: Share to hold out for tests, in [0, 1); both together below 1.
    """
    point = _point(doc_id, seed)
    if point < valid_frac * 2.0**64:
        return "valid"
    return "test" if point >= (1.0 - test_frac) * 2.0**64 else "train"


def _point(doc_id: str, seed: int) -> int:
    """Give a number below 2^64 that nothing but the id and the seed decides."""
    digest = hashlib.sha256(f"{seed}:{doc_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
