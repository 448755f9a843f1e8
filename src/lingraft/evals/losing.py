"""Text that a tokenizer loses: what its ids do not say, no model pays for.

Unknown pieces without byte fallback, lower case, NFKC, folded spaces: the ids of such a text are
those of a poorer one, and bits per byte of the text come out too low. What is lost is counted in
characters of a document that are not in the text of its ids, whatever their order: at least that
much is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from tokenizers.decoders import ByteLevel, Metaspace

__all__ = ["Lost", "find_lost"]


class Lost(NamedTuple):
    """What ids do not say of a text."""

    num_docs: int
    """Documents that lose something."""
    size_bytes: int
    """UTF-8 bytes of the characters that do not come back."""
    unknown_tokens: int
    """Ids of the piece for what the vocabulary lacks."""


def find_lost(tokenizer: Any, docs: Sequence[str], docs_ids: Sequence[Sequence[int]]) -> Lost:
    """Compare documents with the texts of their ids.

    Args:
        tokenizer: A transformers tokenizer.
        docs: Documents.
        docs_ids: What it makes of each, without BOS and EOS.
    """
    unknown = _unknown_ids(tokenizer)
    num_docs = size_bytes = unknown_tokens = 0
    for doc, ids in zip(docs, docs_ids, strict=True):
        known = [id for id in ids if id not in unknown]
        missing = _missing(tokenizer, doc, known)
        unknown_tokens += len(ids) - len(known)
        num_docs += bool(missing) or len(known) < len(ids)
        size_bytes += sum(len(char.encode()) * count for char, count in missing.items())
    return Lost(num_docs, size_bytes, unknown_tokens)


def _missing(tokenizer: Any, doc: str, ids: list[int]) -> Counter[str]:
    """Count the characters of a document that are not in the text of its ids."""
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back == doc:
        return Counter()
    texts = [back]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and backend.decoder is None:  # then pieces come back as spelled
        pieces = tokenizer.convert_ids_to_tokens(ids)
        texts += [decoder().decode(pieces) for decoder in (ByteLevel, Metaspace)]
    return min((Counter(doc) - Counter(text) for text in texts), key=Counter.total)


def _unknown_ids(tokenizer: Any) -> set[int]:
    """Give the ids that stand for what the vocabulary lacks; a file may name it, or a config."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    piece = getattr(model, "unk_token", None)
    found = {tokenizer.unk_token_id, tokenizer.get_vocab().get(piece)}
    return {int(id) for id in found if id is not None}
