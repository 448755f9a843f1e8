"""Check that a GGUF file holds an extended tokenizer, and that llama.cpp reads text as we do.

Compared: pieces with their scores (SentencePiece; special ones have none that counts) or with merge
rules (byte-level) of the file with those of the folder; then ids by llama.cpp with ids by
`lingraft.Encoder`, line by line, without special pieces.

Data:  any files of text; the project's figures are of lines of zh-eval/wiki and en/wikinews.
Run:   python scripts/convert_gguf.py --llama-cpp DIR --model DIR --out FILE
       python benchmarks/check_gguf.py --llama-cpp DIR --gguf FILE --tokenizer DIR --text FILES
           --peers-python PYTHON >> benchmarks/results.jsonl
       --peers-python: of an environment with llama-cpp-python; without it ids are not compared.
Row:   bench, tokenizer, model (of the vocabulary), pre, pieces, pieces_differ, rules, rules_differ,
       lines, lines_with_added (that hold a new piece), lines_differ, first, versions.
Read:  every number of differences must be 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bench_vocab import commit

from lingraft import Encoder
from lingraft.pieces import Kind, SentencePieces
from lingraft.texts import find_texts, read_texts

_WORKER = """
import json, sys
import llama_cpp
model = llama_cpp.Llama(model_path=sys.argv[1], vocab_only=True, verbose=False)
for line in sys.stdin:
    ids = model.tokenize(json.loads(line).encode(), add_bos=False, special=False)
    print(json.dumps(ids))
print(json.dumps(llama_cpp.__version__))
"""


def main() -> None:
    """Check one file; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the model")
    parser.add_argument("--text", nargs="+", required=True)
    parser.add_argument("--lines", type=int, default=2_000, help="of each file")
    parser.add_argument("--num-base", type=int, default=0, help="pieces of the base")
    parser.add_argument("--peers-python", default="")
    asked = parser.parse_args()
    row = {"bench": "check_gguf", "tokenizer": asked.tokenizer.name, "commit": commit()}
    row |= compare_vocabulary(read_gguf(asked.llama_cpp, asked.gguf), asked.tokenizer)
    if asked.peers_python:
        lines = read_lines(asked.text, asked.lines)
        row |= compare_ids(asked.peers_python, asked.gguf, asked.tokenizer, lines, asked.num_base)
    print(json.dumps(row, ensure_ascii=False))
    print(row, file=sys.stderr)
    sys.exit(1 if any(row.get(f"{what}_differ") for what in ("pieces", "rules", "lines")) else 0)


def read_gguf(llama_cpp: Path, path: Path) -> dict[str, Any]:
    """Read the vocabulary of a file with llama.cpp's own reader."""
    sys.path.insert(0, str(llama_cpp / "gguf-py"))
    import gguf

    fields = gguf.GGUFReader(path).fields
    names = ("model", "pre", "tokens", "scores", "token_type", "merges")
    keys = {name: f"tokenizer.ggml.{name}" for name in names}
    return {name: fields[key].contents() for name, key in keys.items() if key in fields}


def compare_vocabulary(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compare pieces, and scores or merge rules, with the folder's."""
    told = {"model": found["model"], "pre": found.get("pre"), "pieces": len(found["tokens"])}
    if (folder / "tokenizer.model").is_file():
        ours = SentencePieces.read(folder / "tokenizer.model")
        both = zip(
            ours.pieces, found["tokens"], ours.scores, found["scores"], ours.kinds, strict=False
        )
        same = [
            piece == other and (score == other_score or kind is not Kind.NORMAL)
            for piece, other, score, other_score, kind in both
        ]
        differ = len(same) - sum(same) + abs(len(ours.pieces) - len(found["tokens"]))
        return told | {"pieces_differ": differ, "rules": 0, "rules_differ": 0}
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = {id: piece for piece, id in spec["model"]["vocab"].items()}
    vocabulary |= {token["id"]: token["content"] for token in spec["added_tokens"]}
    differ = sum(piece != vocabulary.get(id) for id, piece in enumerate(found["tokens"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    rules_differ = sum(a != b for a, b in zip(merges, found["merges"], strict=False))
    rules_differ += abs(len(merges) - len(found["merges"]))
    return told | {"pieces_differ": differ, "rules": len(merges), "rules_differ": rules_differ}


def read_lines(names: Sequence[str], count: int) -> list[str]:
    """Give lines of the documents of each file."""
    found: list[str] = []
    for path in find_texts(names):
        lines = (line for d in read_texts(path) for line in d.text.splitlines() if line.strip())
        found += islice(lines, count)
    return found


def compare_ids(
    python: str, gguf: Path, folder: Path, lines: Sequence[str], num_base: int
) -> dict[str, Any]:
    """Compare ids, line by line."""
    done = subprocess.run(
        [python, "-c", _WORKER, str(gguf)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
    )
    *theirs, version = map(json.loads, done.stdout.splitlines())
    ours = [ids.tolist() for ids in Encoder(folder, warn=False).encode_batch(lines)]
    differing = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    with_added = sum(max(ids, default=0) >= num_base for ids in ours) if num_base else 0
    first = None
    if differing:
        n = differing[0]
        first = {"line": lines[n][:200], "ours": ours[n][:40], "llama_cpp": theirs[n][:40]}
    return {
        "lines": len(lines),
        "lines_with_added": with_added,
        "lines_differ": len(differing),
        "first": first,
        "versions": {"llama-cpp-python": version},
    }


if __name__ == "__main__":
    main()
