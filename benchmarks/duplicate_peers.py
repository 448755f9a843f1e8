"""What runs inside the contenders' processes of `bench_duplicates.py`.

Each reads the same JSON rows {"id", "text"} from two files, decides which documents go, and writes
their numbers. Only ours needs lingraft.

    ours             `lingraft.corpus.prepare(near_duplicates=True)`: read, clean, sign, compare,
                     split, write the documents that stay, statistics
    ours_methods     its methods alone, in one process: read, tokens, signatures, comparison
    datatrove        its four MinHash steps by LocalPipelineExecutor, tokens by language as
                     FineWeb-2 makes them (Chinese: jieba through spaCy; English: spaCy), its text
                     normalisation (case, punctuation, digits, diacritics), 64-bit hashes
    datatrove_same   the same with our tokens, by a regular expression, and of its normalisation
                     only case
    datasketch       MinHash(112) of 5-grams of the same tokens, MinHashLSH(params=(14, 8)) in one
                     process; a document goes if any before it is found; all are inserted, so that
                     likeness goes on from document to document, as it does for the others

All: 14 bands of 8 hashes of 5-grams. datatrove and datasketch drop whatever shares a band; ours
compares the signatures, too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

BANDS, ROWS, GRAM = 14, 8, 5
_HAN = r"\p{Han}\p{Hiragana}\p{Katakana}"
_TOKEN = rf"[{_HAN}]|[[\p{{L}}\p{{N}}\p{{M}}]--[{_HAN}]]+"


class Job(NamedTuple):
    """What a contender gets."""

    folder: Path
    """Of the two files of rows."""
    work: Path
    """For what it writes."""
    language: str
    jobs: int


def read_rows(folder: Path) -> Iterator[tuple[int, str]]:
    """Give the number and text of every document."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield int(row["id"]), row["text"]


def run_ours(job: Job) -> set[int]:
    """All of `lingraft corpus prepare`."""
    from lingraft.corpus import prepare

    prepare(
        job.folder, out=job.work / "out", name="texts", language=job.language, jobs=job.jobs,
        valid_frac=0.0, near_duplicates=True,
    )  # fmt: skip
    begin = time.perf_counter()
    kept = {json.loads(line)["id"] for line in (job.work / "out" / "texts-train.jsonl").open("rb")}
    removed = set()
    from lingraft.corpus.split import document_id, text_digest

    for number, text in read_rows(job.folder):
        doc_id = document_id(text_digest(text))
        if doc_id not in kept:
            removed.add(number)
        kept.discard(doc_id)  # an equal text later on went
    Untimed.seconds += time.perf_counter() - begin
    return removed


class Untimed:
    """Time that went into finding out what a contender did."""

    seconds = 0.0


def run_ours_methods(job: Job) -> set[int]:
    """Tokens, signatures and comparison in one process."""
    import numpy as np

    from lingraft.corpus.grams import find_tokens
    from lingraft.corpus.matching import match
    from lingraft.corpus.methods import NearDuplicateSettings
    from lingraft.corpus.minhash import signatures
    from lingraft.progress import SilentReporter

    settings = NearDuplicateSettings()
    numbers: list[int] = []
    parts: list[tuple[Any, Any]] = []
    batch: list[str] = []

    def sign() -> None:
        parts.append(signatures(find_tokens(batch), settings))
        batch.clear()

    for number, text in read_rows(job.folder):
        numbers.append(number)
        batch.append(text)
        if len(batch) == 1000:
            sign()
    sign()
    paths = (job.work / "bands.npy", job.work / "lows.npy")
    np.save(paths[0], np.ascontiguousarray(np.concatenate([bands for bands, _ in parts]).T))
    np.save(paths[1], np.concatenate([lows for _, lows in parts]))
    with SilentReporter().task("match", 1, "docs") as progress:
        drop = match([paths[0]], [paths[1]], [len(numbers)], settings, 1 << 29, job.work, progress)
    return {numbers[n] for n in drop.tolist()}


def run_datatrove(job: Job) -> set[int]:
    """Its four steps, tokens by language."""
    return _datatrove(job, {"zh": "cmn_Hani", "en": "eng_Latn"}[job.language], {})


def run_datatrove_same(job: Job) -> set[int]:
    """Its four steps with our tokens."""
    off = dict.fromkeys(("norm_numbers", "norm_unicode_diacritics", "remove_punctuation"), False)
    return _datatrove(job, _same_tokenizer(), off)


def _same_tokenizer() -> Any:
    find = import_module("regex").compile(_TOKEN, import_module("regex").V1).findall
    base = import_module("datatrove.utils.word_tokenizers").WordTokenizer

    class SameTokenizer(base):  # type: ignore[misc, valid-type]
        """Tokens as lingraft finds them."""

        def word_tokenize(self, text: str) -> Any:
            return find(text)

        def sent_tokenize(self, text: str) -> Any:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> Any:
            raise NotImplementedError

    return SameTokenizer()


def _datatrove(job: Job, tokenizer: Any, norms: dict[str, bool]) -> set[int]:
    local = import_module("datatrove.executor").LocalPipelineExecutor
    dedup = import_module("datatrove.pipeline.dedup.minhash")
    reader = import_module("datatrove.pipeline.readers").JsonlReader
    writer = import_module("datatrove.pipeline.writers.jsonl").JsonlWriter
    hashes = import_module("datatrove.utils.hashing").HashConfig(precision=64, hash_fc="xxhash")
    norm = import_module("datatrove.utils.text").TextNormConfig(**norms)
    config = dedup.MinhashConfig(
        n_grams=GRAM,
        num_buckets=BANDS,
        hashes_per_bucket=ROWS,
        hash_config=hashes,
        norm_config=norm,
    )
    place = {name: str(job.work / name) for name in ("sigs", "buckets", "ids", "kept", "removed")}

    def step(name: str, pipeline: list[Any], tasks: int) -> None:
        executor = local(
            pipeline,
            tasks=tasks,
            workers=min(tasks, job.jobs),
            logging_dir=str(job.work / f"log-{name}"),
        )
        executor.run()

    rows = reader(str(job.folder))
    signing = dedup.MinhashDedupSignature(place["sigs"], config=config, language=tokenizer)
    step("sign", [rows, signing], 2)
    bucketing = dedup.MinhashDedupBuckets(place["sigs"], place["buckets"], config=config)
    step("buckets", [bucketing], BANDS)
    step("cluster", [dedup.MinhashDedupCluster(place["buckets"], place["ids"], config=config)], 1)
    removed = writer(place["removed"], compression=None)
    filtering = dedup.MinhashDedupFilter(place["ids"], exclusion_writer=removed)
    step("filter", [rows, filtering, writer(place["kept"], compression=None)], 2)
    begin = time.perf_counter()
    gone = {number for number, _ in read_rows(Path(place["removed"]))}
    Untimed.seconds += time.perf_counter() - begin
    return gone


def run_datasketch(job: Job) -> set[int]:
    """MinHashLSH, documents one after the other."""
    datasketch = import_module("datasketch")
    find = import_module("regex").compile(_TOKEN, import_module("regex").V1).findall
    hash_of = import_module("xxhash").xxh32_intdigest
    index = datasketch.MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    removed = set()
    for number, text in read_rows(job.folder):
        tokens = find(text.lower())
        grams = {" ".join(tokens[n : n + GRAM]) for n in range(max(1, len(tokens) - GRAM + 1))}
        sketch = datasketch.MinHash(num_perm=BANDS * ROWS, hashfunc=hash_of)
        sketch.update_batch([gram.encode() for gram in grams])
        if index.query(sketch):
            removed.add(number)
        index.insert(number, sketch)
    return removed


class Kind(NamedTuple):
    """How a contender is run, and whose version stands in its row."""

    run: Callable[[Job], set[int]]
    package: str
    is_ours: bool = False


KINDS = {
    "ours": Kind(run_ours, "lingraft", True),
    "ours_methods": Kind(run_ours_methods, "lingraft", True),
    "datatrove": Kind(run_datatrove, "datatrove"),
    "datatrove_same": Kind(run_datatrove_same, "datatrove"),
    "datasketch": Kind(run_datasketch, "datasketch"),
}


def main(arguments: list[str]) -> None:
    """Be one contender: once over a few documents, then over all; print what was measured."""
    name, options = arguments[0], json.loads(arguments[1])
    work = Path(options["work"])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options["jobs"]])
    facts: dict[str, Any] = {}
    try:
        for folder in ("warm", "rows"):
            (work / folder).mkdir()
            job = Job(Path(options[folder]), work / folder, options["language"], options["jobs"])
            Untimed.seconds = 0.0
            print(f"begin {folder}", flush=True)
            begin = time.perf_counter()
            removed = KINDS[name].run(job)
            print(f"end {folder}", flush=True)
            seconds = time.perf_counter() - begin - Untimed.seconds
            facts[folder] = {"time_s": seconds}
    except (ImportError, PackageNotFoundError) as error:
        print(json.dumps({"skipped": f"{type(error).__name__}: {error}"}))
        return
    facts["version"] = _version(KINDS[name].package)
    (work / "removed.json").write_text(json.dumps(sorted(removed)), encoding="utf-8")
    print(json.dumps(facts))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main(sys.argv[1:])
