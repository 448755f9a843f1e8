"""Token files made on the spot: opened ones, and folders with their index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lingraft.manifest import file_sha256
from lingraft.shards import (
    INDEX_NAME,
    IndexedFile,
    IndexedTokenizer,
    TokenFile,
    TokenIndex,
    write_tokens,
)
from lingraft.store import write_json

BOS, EOS = 1, 2


def token_file(*docs: Sequence[int]) -> TokenFile:
    """Give a token file that lies in memory."""
    ids = np.array([i for doc in docs for i in doc], np.uint16)
    return TokenFile(ids, np.cumsum([len(d) for d in docs]).astype(np.uint64))


def count_up(num_docs: int, size: int, first: int = 10) -> list[list[int]]:
    """Give documents of `size` tokens, BOS and EOS among them, whose other ids count upwards."""
    inside = iter(range(first, first + num_docs * size))
    return [[BOS, *(next(inside) for _ in range(size - 2)), EOS] for _ in range(num_docs)]


def write_folder(
    folder: Path,
    files: Mapping[str, Sequence[Sequence[int]]],
    digest: str = "0" * 64,
    vocab_size: int = 60_000,
) -> Path:
    """Write token files of documents, and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, docs in files.items():
        path = folder / f"{name}.npy"
        num_docs, total_tokens = write_tokens(path, map(list, docs), vocab_size)
        sizes = np.array([3 * len(doc) for doc in docs], np.uint32)
        np.save(path.with_suffix(".bytes.npy"), sizes)
        entries.append(
            IndexedFile(
                name=name,
                source=f"{name}.jsonl",
                num_docs=num_docs,
                total_tokens=total_tokens,
                size_bytes=int(sizes.sum()),
                sha256={path.name: file_sha256(path)},
            )
        )
    tokenizer = IndexedTokenizer(
        name="tokenizer.model", digest=digest, vocab_size=vocab_size, bos_id=BOS, eos_id=EOS
    )
    index = TokenIndex.build(tokenizer, entries)
    write_json(folder / INDEX_NAME, index.model_dump(mode="json"))
    return folder
