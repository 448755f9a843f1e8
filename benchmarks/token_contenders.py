"""Contenders of `bench_tokens.py`: JSON lines to token files on disk, each as its users do it.

    ours        lingraft.encode.encode, threads of one process
    reference   datasets: load_dataset("json"), map(tokenise), map(concatenate, cut to 2,048),
                save_to_disk; processes by num_proc. What HIT-SCIR/Chinese-Mixtral-8x7B's
                data/preprocess_datasets.py (a672672) does: lists concatenated by sum() in batches
                of 1,000, the rest of each batch dropped, no EOS
    joined      the same with lists joined in linear time: what the quadratic sum alone costs
    datatrove   JsonlReader, DocumentTokenizer with EOS, not shuffled; one task a file
    megatron    IndexedDatasetBuilder of megatron-core, fed as its tools/preprocess_data.py does:
                lines to a pool of processes that parse and encode, ids in order, EOD after each

Started by bench_tokens.py as `token_contenders.py NAME JSON`; prints one JSON row. Timed: from
before the first byte is read until the last one is written, imports and the tokenizer's loading
excluded where the library's shape allows it (told in `includes`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

BLOCK_TOKENS = 2_048


def run_ours(files: Sequence[str], tokenizer: str, out: Path, jobs: int) -> dict[str, Any]:
    import lingraft
    from lingraft.encode import encode

    lingraft.Encoder(tokenizer)  # compiled code is loaded before the clock, as other imports are
    begin = time.perf_counter()
    result = encode(list(files), tokenizer=tokenizer, out=out, jobs=jobs)
    return {"time_s": time.perf_counter() - begin, "tokens": result.total_tokens,
            "includes": "loading the tokenizer"}  # fmt: skip


def run_reference(files: Sequence[str], tokenizer: str, out: Path, jobs: int) -> dict[str, Any]:
    return _run_datasets(files, tokenizer, out, jobs, _sum_lists)


def run_joined(files: Sequence[str], tokenizer: str, out: Path, jobs: int) -> dict[str, Any]:
    return _run_datasets(files, tokenizer, out, jobs, _chain_lists)


def _sum_lists(lists: Sequence[list[int]]) -> list[int]:
    return sum(lists, [])  # noqa: RUF017 - as the reference: each step copies all before it


def _chain_lists(lists: Sequence[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def _run_datasets(
    files: Sequence[str],
    tokenizer: str,
    out: Path,
    jobs: int,
    join: Callable[[Sequence[list[int]]], list[int]],
) -> dict[str, Any]:
    datasets = import_module("datasets")
    fast = import_module("transformers").PreTrainedTokenizerFast(
        tokenizer_file=str(Path(tokenizer) / "tokenizer.json")
    )
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cache = out.with_name(out.name + "-cache")
    begin = time.perf_counter()
    data = datasets.load_dataset(
        "json", data_files=list(files), split="train", cache_dir=str(cache)
    )

    def tokenise(rows: dict[str, list[str]]) -> dict[str, Any]:
        return dict(fast(rows["text"]))

    def cut(rows: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {key: join(lists) for key, lists in rows.items()}
        whole = len(joined["input_ids"]) // BLOCK_TOKENS * BLOCK_TOKENS
        return {
            key: [ids[i : i + BLOCK_TOKENS] for i in range(0, whole, BLOCK_TOKENS)]
            for key, ids in joined.items()
        }

    encoded = data.map(tokenise, batched=True, num_proc=jobs, remove_columns=data.column_names)
    packed = encoded.map(cut, batched=True, num_proc=jobs)
    packed.save_to_disk(str(out))
    time_s = time.perf_counter() - begin
    shutil.rmtree(cache)
    return {"time_s": time_s, "tokens": len(packed) * BLOCK_TOKENS, "includes": ""}


def run_datatrove(files: Sequence[str], tokenizer: str, out: Path, jobs: int) -> dict[str, Any]:
    executor = import_module("datatrove.executor.local").LocalPipelineExecutor
    reader = import_module("datatrove.pipeline.readers").JsonlReader
    writer = import_module("datatrove.pipeline.tokens").DocumentTokenizer
    folder = str(Path(files[0]).parent)
    begin = time.perf_counter()
    executor(
        [
            reader(folder, glob_pattern="*.jsonl"),
            writer(
                str(out),
                tokenizer_name_or_path=str(Path(tokenizer) / "tokenizer.json"),
                eos_token="</s>",
                shuffle_documents=False,
            ),
        ],
        tasks=len(files),
        workers=jobs,
        logging_dir=str(out) + "-logs",
        skip_completed=False,
    ).run()
    time_s = time.perf_counter() - begin
    width = 2  # ids below 65,536
    tokens = sum(path.stat().st_size for path in out.glob("*.ds")) // width
    return {"time_s": time_s, "tokens": tokens, "includes": "starting processes"}


_FAST: Any = None


def _begin(path: str) -> None:
    global _FAST  # noqa: PLW0603 - one tokenizer a process, as a pool's initialiser gives it
    _FAST = import_module("tokenizers").Tokenizer.from_file(path)


def _encode_line(line: str) -> list[int]:
    ids: list[int] = _FAST.encode(json.loads(line)["text"]).ids
    return [*ids, 2]


def run_megatron(files: Sequence[str], tokenizer: str, out: Path, jobs: int) -> dict[str, Any]:
    import numpy as np

    torch = import_module("torch")
    indexed = import_module("megatron.core.datasets.indexed_dataset")
    out.mkdir()
    total = 0
    begin = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    path = str(Path(tokenizer) / "tokenizer.json")
    with context.Pool(jobs, _begin, (path,)) as pool:
        for number, name in enumerate(files):
            builder = indexed.IndexedDatasetBuilder(str(out / f"{number}.bin"), dtype=np.uint16)
            with Path(name).open(encoding="utf-8") as lines:
                for ids in pool.imap(_encode_line, lines, 32):
                    builder.add_item(torch.tensor(ids))
                    builder.end_document()
                    total += len(ids)
            builder.finalize(str(out / f"{number}.idx"))
    return {
        "time_s": time.perf_counter() - begin, "tokens": total, "includes": "starting processes",
    }  # fmt: skip


RUNS: dict[str, Callable[[Sequence[str], str, Path, int], dict[str, Any]]] = {
    "ours": run_ours,
    "reference": run_reference,
    "joined": run_joined,
    "datatrove": run_datatrove,
    "megatron": run_megatron,
}


def main() -> None:
    """Be one contender."""
    name, given = sys.argv[1], json.loads(sys.argv[2])
    try:
        row = RUNS[name](given["files"], given["tokenizer"], Path(given["out"]), given["jobs"])
    except ImportError as error:
        row = {"skipped": f"{type(error).__name__}: {error}"}
    print("\n" + json.dumps(row))


if __name__ == "__main__":
    main()
