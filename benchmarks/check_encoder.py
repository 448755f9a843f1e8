"""Check that the Encoder gives what each tokenizer's own library gives, text by text.

For every tokenizer: all documents of the files, then each of their lines by itself (prefixes and
borders differ there), and the built-in hard list. Compared: ids by `lingraft.Encoder` and by
sentencepiece (a .model) or tokenizers (a .json), without special pieces. Not timed.

Data:  any files; the project's figures are of 12 files of Chinese and English, 225 MB.
Run:   python benchmarks/check_encoder.py --text FILES --tokenizer FILES >> benchmarks/results.jsonl
Row:   one a tokenizer: bench, tokenizer, digest, library, reason, documents, lines, bytes, and the
       number of each that differ, and the first of them.
Read:  every number of differing texts must be 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from bench_vocab import commit

from lingraft import Encoder
from lingraft.texts import find_texts, read_texts
from lingraft.tokenizer.hard import HARD_TEXTS

_BATCH_TEXTS = 2_000


def main() -> None:
    """Check every tokenizer; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--tokenizer", nargs="+", required=True)
    asked = parser.parse_args()
    files = find_texts(asked.text)
    differing = 0
    for name in asked.tokenizer:
        row = check(name, files)
        differing += row["documents_differ"] + row["lines_differ"] + row["hard_differ"]
        about = {
            "commit": commit(),
            "versions": {n: version(n) for n in ("sentencepiece", "tokenizers")},
        }
        print(json.dumps({**row, **about}, ensure_ascii=False), flush=True)
        print({key: row[key] for key in row if key != "bench"}, file=sys.stderr, flush=True)
    sys.exit(1 if differing else 0)


def check(name: str, files: Sequence[Path]) -> dict[str, Any]:
    """Compare one tokenizer on everything."""
    encoder = Encoder(name, warn=False)
    row: dict[str, Any] = {
        "bench": "check_encoder",
        "tokenizer": Path(name).name,
        "digest": encoder.base.digest[:12],
        "library": encoder.backend,
        "reason": encoder.reason,
    }
    first = ""
    counts = {"hard": [0, 0, 0], "documents": [0, 0, 0], "lines": [0, 0, 0]}
    for kind, texts in _batches(files):
        mine, theirs = encoder.encode_batch(texts), encoder.base.encode_batch(texts)
        for text, a, b in zip(texts, mine, theirs, strict=True):
            counts[kind][0] += 1
            counts[kind][1] += len(text.encode())
            if a.tolist() != list(b):
                counts[kind][2] += 1
                first = first or text[:200]
    for kind, (num, size_bytes, differ) in counts.items():
        row |= {f"num_{kind}": num, f"{kind}_bytes": size_bytes, f"{kind}_differ": differ}
    return {**row, "first": first}


def _batches(files: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    yield "hard", list(HARD_TEXTS)
    for path in files:
        documents = (doc.text for doc in read_texts(path))
        while batch := list(islice(documents, _BATCH_TEXTS)):
            yield "documents", batch
            yield "lines", [line for text in batch for line in text.split("\n")]


if __name__ == "__main__":
    main()
