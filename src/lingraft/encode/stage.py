"""Encode every set and split with the extended tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from ..documents import read_documents
from ..encoder import FastEncoder
from ..pieces import SentencePieces
from ..progress import Progress
from ..settings import StageSettings
from ..shards import token_dtype, write_tokens
from ..store import Artefact, Draft, link_or_copy
from .documents import bracket
from .settings import EncodedSplit, EncodeFacts, EncodeSettings

__all__ = ["run"]

_BATCH_DOCS = 512


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> EncodeFacts:
    """Write `SET-SPLIT.npy`, `.ends.npy` and `.bytes.npy` for every set and split."""
    assert isinstance(settings, EncodeSettings), "encode.run got another stage's settings"
    corpus, tokenizer = inputs["corpus"], inputs["tokenizer"]
    pieces = SentencePieces.read(tokenizer.file("tokenizer.model"))
    encoder = FastEncoder.read(tokenizer.file("tokenizer.json"))
    bos_id = pieces.bos_id if settings.prepend_bos else None
    eos_id = pieces.eos_id if settings.append_eos else None
    sets: dict[str, dict[str, EncodedSplit]] = {}
    total_docs = sum(
        s[split]["num_docs"] for s in corpus.facts["sets"].values() for split in _SPLITS
    )
    with draft.progress("encode", total_docs, "docs") as progress:
        for name in corpus.facts["sets"]:
            for split in _SPLITS:
                source = corpus.file(f"{name}-{split}.jsonl")
                sizes: list[int] = []
                docs = _encode(source, encoder, bos_id, eos_id, sizes, progress)
                target = draft.path / f"{name}-{split}.npy"
                num_docs, total_tokens = write_tokens(target, docs, len(pieces.pieces))
                np.save(target.with_suffix(".bytes.npy"), np.asarray(sizes, np.uint32))
                sets.setdefault(name, {})[split] = EncodedSplit(
                    num_docs=num_docs, total_tokens=total_tokens, size_bytes=sum(sizes)
                )
    link_or_copy(corpus.file("datasets.toml"), draft.path / "datasets.toml")
    total = sum(s.total_tokens for splits in sets.values() for s in splits.values())
    draft.note(f"{total:,} tokens in {len(sets)} sets")
    return EncodeFacts(
        sets=sets, total_tokens=total, token_bytes=token_dtype(len(pieces.pieces)).itemsize
    )


_SPLITS = ("train", "valid")


def _encode(
    source: Path,
    encoder: FastEncoder,
    bos_id: int | None,
    eos_id: int | None,
    sizes: list[int],
    progress: Progress,
) -> Iterator[list[int]]:
    """Give each document's ids; append its size in UTF-8 bytes to `sizes`."""
    for texts in _batches(doc.text for doc in read_documents(source)):
        sizes.extend(len(text.encode()) for text in texts)
        for ids in encoder.encode_batch(texts):
            yield bracket(ids, bos_id, eos_id)
        progress.advance(len(texts))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, _BATCH_DOCS)):
        yield batch
