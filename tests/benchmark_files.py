"""Tiny benchmarks in the layout of a data folder, and a model that answers them."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pico
import pyarrow as pa
from byte_tokenizers import trained_bytes
from tokenizers import Tokenizer

NUM_ITEMS = 12
END = "<|end|>"


def save_model(folder: Path, *, seed: int = 3, context: int = 4_096, experts: bool = False) -> Path:
    """Save a Llama or Mixtral of a few thousand random numbers with a byte-level tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

    tokenizer = Tokenizer.from_str(trained_bytes())
    tokenizer.add_special_tokens([END])
    torch.manual_seed(seed)
    sizes = {**pico.SIZES, "vocab_size": tokenizer.get_vocab_size()}
    sizes |= {"max_position_embeddings": context, "bos_token_id": None}
    sizes["eos_token_id"] = tokenizer.token_to_id(END)
    sizes["initializer_range"] = 0.3
    model: Any
    if experts:
        model = MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes))
    model.generation_config.eos_token_id = sizes["eos_token_id"]
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_winogrande(data: Path, num_items: int = NUM_ITEMS) -> None:
    rows = [
        {
            "sentence": f"Box {n} was larger than bag {n + 1} because _ held {n + 2} things.",
            "option1": f"box {n}",
            "option2": f"bag {n + 1}",
            "answer": str(n % 2 + 1),
        }
        for n in range(num_items)
    ]
    write_arrow(data / "winogrande/hf_datasets/winogrande_xl/validation", rows)


def write_hellaswag(data: Path, num_items: int = NUM_ITEMS) -> None:
    rows = [
        {
            "ind": n,
            "activity_label": "Counting",
            "ctx_a": f"A person counts to {n}.",
            "ctx_b": "then",
            "ctx": f"A person counts to {n}. then",
            "endings": [f"goes on to {n + step}." for step in range(1, 5)],
            "source_id": f"made~{n}",
            "split": "val",
            "split_type": "indomain",
            "label": str(n % 4),
        }
        for n in range(num_items)
    ]
    write_arrow(data / "hellaswag/hf_datasets/none/validation", rows)


def write_arc(data: Path, name: str = "arc_challenge", num_items: int = NUM_ITEMS) -> None:
    for split in ("test", "train"):
        folder = data / "arc/olmo" / name / f"{split}_mc_5shot"
        folder.mkdir(parents=True)
        with gzip.open(folder / "requests.jsonl.gz", "wt", encoding="utf-8") as file:
            for n in range(num_items):
                for request in arc_requests(f"{split}-{n}", n):
                    file.write(json.dumps(request) + "\n")


def arc_requests(id: str, n: int) -> list[dict[str, Any]]:
    letters = "ABC" if n == 0 else "ABCD"
    choices = "".join(f"\n {c}. {n + i} stones" for i, c in enumerate(letters))
    query = f"Question: How many stones\nare in the box of {id}?{choices}\nAnswer:"
    doc = {"id": id, "query": query, "choices": list(letters), "gold": n % len(letters)}
    return [{"request_type": "loglikelihood", "doc": doc, "idx": i} for i in range(len(letters))]


def write_truthfulqa(data: Path, num_items: int = NUM_ITEMS) -> None:
    folder = data / "truthfulqa/data/v1"
    folder.mkdir(parents=True)
    rows = [
        {
            "question": f"What comes after {n}?",
            "mc1_targets": {f"{n + 1}": 1, "Nothing.": 0},
            "mc2_targets": {f"{n + 1}": 1, f"The number {n + 1}.": 1, "Nothing.": 0},
        }
        for n in range(num_items)
    ]
    (folder / "mc_task.json").write_text(json.dumps(rows))


def write_gsm8k(data: Path, num_items: int = NUM_ITEMS) -> None:
    (data / "gsm8k").mkdir(parents=True)
    for split, shift in (("train", 7), ("test", 0)):
        rows = [
            {"question": f"What is {n} and {shift}?", "answer": f"They are {n + shift}.\n#### {n}"}
            for n in range(num_items)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / "gsm8k" / f"{split}.jsonl").write_text(text)


def write_subjects(data: Path, benchmark: str, subjects: list[str], num_items: int = 3) -> None:
    """C-Eval, CMMLU or MMLU (as CSV): five examples and a few items of each subject."""
    split = "val" if benchmark == "ceval" else "test"
    head = {
        "ceval": ("id", "question", *"ABCD", "answer"),
        "cmmlu": ("", "Question", *"ABCD", "Answer"),
        "mmlu": ("", "question", *(f"choice{n}" for n in range(4)), "answer"),
    }[benchmark]
    for subject in subjects:
        for part, number in (("dev", 5), (split, num_items)):
            ending = "" if benchmark == "cmmlu" else f"_{part}"
            path = data / benchmark / part / f"{subject}{ending}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(head)
                for n in range(number):
                    choices = [f"{n + i} 天" for i in range(4)]
                    question = f"{subject}，第 {n} 题：几天？"
                    writer.writerow([n, question, *choices, "ABCD"[n % 4]])


def write_arrow(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as `datasets` saves them: one Arrow stream."""
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    path = folder / "data-00000-of-00001.arrow"
    with path.open("wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
