"""One contender of `bench_encode.py`, in a process of its own; not to be run by hand.

Run:   python benchmarks/encode_peers.py NAME JSON   (JSON: the keyword arguments of `measure`)
Row:   the last line of standard output is a JSON object of what was measured.

Each contender imports what it needs inside its own function: its memory and its time are its own.
What each is called with and gives back (nothing is converted inside the clock):

    ours             lingraft.exact.Encoder.encode_batch(list of str): list of int32 arrays
    sentencepiece    encode(list of str): list of lists
    sentencepiece_np the same with return_type="numpy": list of int32 arrays
    tokenizers       encode_batch_fast(list of str): list of Encoding; lists are made when asked for
    gigatoken        encode_batch(list of str): one awkward array of uint32 (flat ids and offsets)
    gigatoken_bytes  encode_batch(BytesSource): the documents joined to one buffer of bytes before
                     the clock starts, its documented fastest way for text in memory
    tokie            encode_batch(list of str): list of Encoding (ids and more)
    tokie_files      encode_files: ids and offsets as two arrays; reads a file in memory (tmpfs)
                     that was written before the clock started
    tiktoken         encode_ordinary_batch(list of str): list of lists; a tokenizer.json of byte
                     level whose ids stand in the order of its rules; NFC, where the file asks for
                     it, is done by unicodedata inside the clock
    kitoken          encode_all(list of str) in as many Python threads as there are (it has none
                     of its own, and gives up the interpreter's lock only in part): list of lists

No special tokens are added, and literal ones stay text. gigatoken and tokie have no switch for the
latter: they are given the tokenizer without its special added tokens, which comes to the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

SEPARATOR = b"<|lingraft benchmark: end of document|>"
DIGEST_BYTES = 8


class Peer(NamedTuple):
    """A contender that is ready to encode."""

    encode: Callable[[Any], Any]
    rows: Callable[[Any], Iterable[Any]]
    """Ids of each document, out of what `encode` gave."""
    prepare: Callable[[Sequence[str]], Any] = lambda texts: texts
    """What `encode` is given; outside the clock."""
    note: str = ""


class CannotReadError(Exception):
    """The library has no way to read this tokenizer."""


class Forms(NamedTuple):
    """The files of a tokenizer; "" for a form that it does not have."""

    model: str
    fast: str


def load_ours(forms: Forms, threads: int, folder: Path) -> Peer:
    from lingraft.exact import Encoder

    encoder = Encoder(forms.model or forms.fast)
    return Peer(lambda texts: encoder.encode_batch(texts, threads), iter, note=encoder.reason)


def load_sentencepiece(forms: Forms, threads: int, folder: Path) -> Peer:
    processor = _processor(forms)
    return Peer(lambda texts: processor.encode(texts, num_threads=threads), iter)


def load_sentencepiece_np(forms: Forms, threads: int, folder: Path) -> Peer:
    processor = _processor(forms)
    return Peer(
        lambda texts: processor.encode(texts, num_threads=threads, return_type="numpy"), iter
    )


def load_tokenizers(forms: Forms, threads: int, folder: Path) -> Peer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(_need(forms.fast, "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Peer(
        lambda texts: tokenizer.encode_batch_fast(texts, add_special_tokens=False),
        lambda batch: (encoding.ids for encoding in batch),
    )


def load_gigatoken(forms: Forms, threads: int, folder: Path) -> Peer:
    tokenizer = _gigatoken(forms)
    return Peer(lambda texts: tokenizer.encode_batch(texts, parallel=threads > 1), _awkward_rows)


def load_gigatoken_bytes(forms: Forms, threads: int, folder: Path) -> Peer:
    gigatoken = import_module("gigatoken")

    tokenizer = _gigatoken(forms)

    def prepare(texts: Sequence[str]) -> Any:
        return gigatoken.BytesSource([_join(texts)], separator=SEPARATOR)

    return Peer(
        lambda source: tokenizer.encode_batch(source, parallel=threads > 1), _awkward_rows, prepare
    )


def load_tokie(forms: Forms, threads: int, folder: Path) -> Peer:
    tokenizer = _tokie(forms, folder)
    return Peer(
        lambda texts: tokenizer.encode_batch(texts, add_special_tokens=False),
        lambda batch: (encoding.ids for encoding in batch),
    )


def load_tokie_files(forms: Forms, threads: int, folder: Path) -> Peer:
    tokenizer = _tokie(forms, folder)

    def prepare(texts: Sequence[str]) -> list[str]:
        path = folder / f"tokie-{os.getpid()}-{len(texts)}.txt"
        path.write_bytes(_join(texts))
        return [str(path)]

    def rows(result: Any) -> Iterable[Any]:
        ids, offsets = result
        return (ids[a:b] for a, b in pairwise(offsets))

    return Peer(
        lambda paths: tokenizer.encode_files(paths, separator=SEPARATOR, add_special_tokens=False),
        rows,
        prepare,
    )


def load_tiktoken(forms: Forms, threads: int, folder: Path) -> Peer:
    from unicodedata import normalize

    tiktoken = import_module("tiktoken")

    spec = json.loads(Path(_need(forms.fast, "tokenizer.json")).read_text(encoding="utf-8"))
    pattern, ranks = _ranks(spec)
    encoding = tiktoken.Encoding("it", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    form = (spec["normalizer"] or {}).get("type", "")

    def encode(texts: Sequence[str]) -> Any:
        plain = [normalize(form, text) for text in texts] if form else texts
        return encoding.encode_ordinary_batch(plain, num_threads=threads)

    return Peer(encode, iter)


def load_kitoken(forms: Forms, threads: int, folder: Path) -> Peer:
    from concurrent.futures import ThreadPoolExecutor

    kitoken = import_module("kitoken")

    if forms.model:
        tokenizer = kitoken.Kitoken.from_sentencepiece_file(forms.model)
    else:
        tokenizer = kitoken.Kitoken.from_tokenizers_file(forms.fast)
    pool = ThreadPoolExecutor(threads)

    def encode(texts: Sequence[str]) -> Any:
        step = -(-len(texts) // (8 * threads))
        parts = [texts[i : i + step] for i in range(0, len(texts), step)]
        return [ids for part in pool.map(tokenizer.encode_all, parts) for ids in part]

    return Peer(encode, iter)


class Kind(NamedTuple):
    """How a contender is loaded, and whose version stands in its row."""

    load: Callable[[Forms, int, Path], Peer]
    package: str
    is_ours: bool = False
    """Runs under the project's own Python, not under the peers'."""


KINDS: dict[str, Kind] = {
    "ours": Kind(load_ours, "lingraft", True),
    "sentencepiece": Kind(load_sentencepiece, "sentencepiece", True),
    "sentencepiece_np": Kind(load_sentencepiece_np, "sentencepiece", True),
    "tokenizers": Kind(load_tokenizers, "tokenizers", True),
    "gigatoken": Kind(load_gigatoken, "gigatoken"),
    "gigatoken_bytes": Kind(load_gigatoken_bytes, "gigatoken"),
    "tokie": Kind(load_tokie, "tokie"),
    "tokie_files": Kind(load_tokie_files, "tokie"),
    "tiktoken": Kind(load_tiktoken, "tiktoken"),
    "kitoken": Kind(load_kitoken, "kitoken"),
}


def _need(path: str, what: str) -> str:
    if not path:
        raise CannotReadError(f"it reads a {what}, and there is none")
    return path


def _processor(forms: Forms) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=_need(forms.model, "tokenizer.model"))


def _gigatoken(forms: Forms) -> Any:
    tokenizer = import_module("gigatoken").Tokenizer
    if forms.model:
        # What its from_sentencepiece does, with a step between.
        convert = import_module("gigatoken._load.sentencepiece").sentencepiece_to_tokenizer_json
        return tokenizer.from_json(_without_special(convert(Path(forms.model).read_bytes())))
    return tokenizer.from_json(_without_special(Path(forms.fast).read_text(encoding="utf-8")))


def _tokie(forms: Forms, folder: Path) -> Any:
    fast = Path(_need(forms.fast, "tokenizer.json"))
    path = folder / "tokenizer.json"
    path.write_text(_without_special(fast.read_text(encoding="utf-8")), encoding="utf-8")
    return import_module("tokie").Tokenizer.from_json(str(path))


def _without_special(content: str) -> str:
    spec = json.loads(content)
    added = spec.get("added_tokens") or []
    spec["added_tokens"] = [token for token in added if not token["special"]]
    return json.dumps(spec, ensure_ascii=False)


def _join(texts: Sequence[str]) -> bytes:
    data = SEPARATOR.join(text.encode() for text in texts)
    assert data.count(SEPARATOR) == len(texts) - 1, "a document holds the separator"
    return data


def _awkward_rows(result: Any) -> Iterable[Any]:
    import numpy as np

    offsets = np.asarray(result.layout.offsets.data)
    ids = np.asarray(result.layout.content.data)
    return (ids[a:b] for a, b in pairwise(offsets))


def _ranks(spec: dict[str, Any]) -> tuple[str, dict[bytes, int]]:
    """Give the pattern and ranks of a tokenizer.json of byte level."""
    cuts = spec.get("pre_tokenizer") or {}
    parts = cuts.get("pretokenizers") or [cuts]
    splits = [part for part in parts if part.get("type") == "Split"]
    levels = [part for part in parts if part.get("type") == "ByteLevel"]
    if len(levels) != 1 or len(splits) > 1 or levels[0].get("add_prefix_space"):
        raise CannotReadError("not a tokenizer of byte level with one pattern")
    if splits and "Regex" not in splits[0]["pattern"]:
        raise CannotReadError("it is not cut by a pattern")
    gpt2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    pattern = splits[0]["pattern"]["Regex"] if splits else gpt2
    vocab, merges = spec["model"]["vocab"], spec["model"]["merges"]
    merged = [vocab["".join(rule.split(" ") if isinstance(rule, str) else rule)] for rule in merges]
    if merged != sorted(merged):
        raise CannotReadError("its ids do not stand in the order of its rules")
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    byte_of = {chr(b if b in visible else 256 + hidden.index(b)): b for b in range(256)}
    added = {token["content"] for token in spec.get("added_tokens") or []}
    ranks = {
        bytes(byte_of[char] for char in piece): id
        for piece, id in vocab.items()
        if piece not in added
    }
    return pattern, ranks


def measure(
    name: str, *, forms: Sequence[str], threads: int, texts: str, warm: str, folder: str, out: str
) -> dict[str, Any]:
    """Load, warm up, encode twice.

    Args:
        name: The contender.
        forms: `tokenizer.model` and `tokenizer.json`, "" for one that is missing.
        threads: Threads to use.
        texts: A JSON file: the list of documents.
        warm: The same, of other documents.
        folder: For scratch files, in memory if possible.
        out: Where the digests of each document's ids go.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    documents, others = (json.loads(Path(path).read_bytes()) for path in (texts, warm))
    facts: dict[str, Any] = {"texts_bytes": peak_bytes()}
    begin = time.perf_counter()
    peer = KINDS[name].load(Forms(*forms), threads, Path(folder))
    facts["load_s"] = time.perf_counter() - begin
    facts["note"], facts["version"] = peer.note, package_version(KINDS[name].package)
    source, other = peer.prepare(documents), peer.prepare(others)
    begin = time.perf_counter()
    peer.encode(other)
    facts["warm_s"] = time.perf_counter() - begin
    facts["loaded_bytes"] = peak_bytes()
    digests = b""
    for which in ("first", "second"):
        cpu, begin = time.process_time(), time.perf_counter()
        result = peer.encode(source)
        facts[f"{which}_s"] = time.perf_counter() - begin
        facts[f"{which}_cpu_s"] = time.process_time() - cpu
        facts[f"{which}_peak_bytes"] = peak_bytes()
        found = b"".join(map(digest, peer.rows(result)))
        facts["second_differs"] = which == "second" and found != digests
        digests = digests or found
        del result
    Path(out).write_bytes(digests)
    return facts


def digest(ids: Any) -> bytes:
    """Digest a document's ids, whatever holds them."""
    data = ids.astype("<i4").tobytes() if hasattr(ids, "astype") else array("i", ids).tobytes()
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def peak_bytes() -> int:
    """Peak of this process's resident memory so far."""
    # Not getrusage: its peak outlives exec, so it may be that of the process that started this.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def package_version(package: str) -> str:
    """Version of an installed package; "" where it is used from its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def main(arguments: Sequence[str]) -> None:
    """Be one contender and print what it measured."""
    if len(arguments) != 2 or arguments[0] not in KINDS:
        sys.exit(f"usage: encode_peers.py {'|'.join(KINDS)} JSON (started by bench_encode.py)")
    try:
        facts = measure(arguments[0], **json.loads(arguments[1]))
    except (ImportError, CannotReadError) as reason:
        facts = {"skipped": f"{type(reason).__name__}: {reason}"}
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
