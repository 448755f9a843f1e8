"""Convert a grafted model to GGUF with llama.cpp's own converter.

A SentencePiece model converts as it is: `convert_hf_to_gguf.py` alone does the same. For a
byte-level tokenizer the converter must know the split pattern by name, and finds the name by a
hash of ids of one text. An extended tokenizer gives that text other ids, so the hash is not in its
table and it stops ("BPE pre-tokenizer was not recognized"). The pattern is the base's: here the
converter is asked about the base instead, once normaliser and split of the two are found equal.
Nothing else of it is touched.

Run: python scripts/convert_gguf.py --llama-cpp DIR --model DIR [--base DIR] --out FILE.gguf
     --llama-cpp: a checkout of llama.cpp (the source archive of llama-cpp-python holds one, under
     vendor/llama.cpp). What follows `--` goes to the converter: -- --outtype bf16
"""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llama-cpp", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--base", type=Path, metavar="DIR", help="of the base's tokenizer")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("rest", nargs="*", help="options of the converter, after --")
    asked = parser.parse_args()
    script = asked.llama_cpp / "convert_hf_to_gguf.py"
    if not script.is_file():
        sys.exit(f"{script}: no such file; expected a checkout of llama.cpp.")
    if asked.base is not None:
        for option, folder in (("--model", asked.model), ("--base", asked.base)):
            if not (folder / "tokenizer.json").is_file():
                parser.error(
                    f"{option} {folder}: no tokenizer.json there; expected a model folder."
                )
        refuse_other_split(asked.model, asked.base)
        sys.path[:0] = [str(asked.llama_cpp), str(asked.llama_cpp / "gguf-py")]
        ask_about_the_base(asked.base)
    sys.argv = [str(script), str(asked.model), "--outfile", str(asked.out), *asked.rest]
    runpy.run_path(str(script), run_name="__main__")


def refuse_other_split(model: Path, base: Path) -> None:
    """End where base and model prepare text in different ways: the name would be a wrong one."""
    prepared = []
    for folder in (model, base):
        spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        prepared.append([spec.get("normalizer"), spec.get("pre_tokenizer")])
    if prepared[0] != prepared[1]:
        sys.exit(f"{model} and {base} split text in different ways; expected a base and its graft.")


def ask_about_the_base(base: Path) -> None:
    """Let the converter name the base's split pattern where it does not know the model's hash."""
    from transformers import AutoTokenizer

    text_model: Any = importlib.import_module("conversion.base").TextModel
    by_hash = text_model.get_vocab_base_pre

    def name_of(self: Any, tokenizer: Any) -> str:
        try:
            found: str = by_hash(self, tokenizer)
        except NotImplementedError:
            found = by_hash(self, AutoTokenizer.from_pretrained(base))
        return found

    text_model.get_vocab_base_pre = name_of


if __name__ == "__main__":
    main()
