"""One contender of `bench_vocab.py`, in a process of its own; not to be run by hand.

Run:   python benchmarks/vocab_contenders.py KIND JSON   (JSON: the keyword arguments of KIND)
Row:   the last line of standard output is a JSON object of what the contender can say about itself.

A contender imports what it needs inside its function: its memory is its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


def prepare(corpus: str, out: str, every: int, alphabets: list[int], limit: int) -> Facts:
    """Not timed: the same documents as lines for the others, and as parts for the scaling.

    Args:
        corpus: Text files, as `lingraft vocab search` takes them.
        out: Folder for what is made.
        every: Take every n-th document.
        alphabets: Numbers of characters of which sentencepiece's coverage is wanted.
        limit: Bytes above which sentencepiece skips a line, unless told otherwise.
    """
    import zstandard

    from lingraft.texts import find_texts, read_texts

    folder, seen = Path(out), set[bytes]()
    chars: Counter[str] = Counter()
    facts: Facts = dict.fromkeys(
        ("num_docs", "num_bytes", "num_lines", "line_bytes", "long_lines", "long_line_bytes"), 0
    )
    facts |= {"longest_line": 0, "scale_bytes": {}}

    def pack(path: Path) -> Any:  # a compressor serves one stream
        return zstandard.ZstdCompressor(level=3).stream_writer(path.open("wb"))

    with ExitStack() as stack:
        lines = stack.enter_context((folder / "lines.txt").open("w", encoding="utf-8", newline=""))
        whole = stack.enter_context(pack(folder / "whole.jsonl.zst"))
        scaled = {
            share: stack.enter_context(pack(folder / f"scale-{share}.jsonl.zst"))
            for share in (25, 50, 100)
        }
        facts["scale_bytes"] = dict.fromkeys(scaled, 0)
        docs = (doc.text for path in find_texts([corpus]) for doc in read_texts(path))
        for text in islice(docs, 0, None, every):
            data = text.encode()
            row = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
            facts["num_docs"] += 1
            facts["num_bytes"] += len(data)
            whole.write(row)
            for line in filter(None, text.split("\n")):
                _count_line(facts, line, limit)
                chars.update(line)
                lines.write(line + "\n")
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                continue
            for share, file in scaled.items():
                if len(seen) % (100 // share) == 0:
                    file.write(row)
                    facts["scale_bytes"][share] += len(data)
            seen.add(digest)
    chars["\u2581"] = chars.pop(" ", 0) + facts["num_lines"]  # as sentencepiece writes spaces
    facts["num_distinct_docs"], facts["num_chars"] = len(seen), len(chars)
    facts["coverage"] = {size: _coverage(chars, size) for size in alphabets}
    return facts


def _count_line(facts: Facts, line: str, limit: int) -> None:
    size = len(line.encode())
    facts["num_lines"] += 1
    facts["line_bytes"] += size
    facts["longest_line"] = max(facts["longest_line"], size)
    if size > limit:
        facts["long_lines"] += 1
        facts["long_line_bytes"] += size


def _coverage(chars: Counter[str], size: int) -> float:
    """Share of the text that its `size` most frequent characters cover, a hair less.

    sentencepiece takes characters until it is reached; half of the last one's count keeps the
    number right through float32.
    """
    counts = sorted(chars.values(), reverse=True)[:size]
    return (sum(counts) - 0.5 * counts[-1]) / chars.total()


def ours(base: str, corpus: str, evals: dict[str, str], out: str, **options: Any) -> Facts:
    """The whole search; tells the moment (monotonic clock) at which each of its tasks opened."""
    from lingraft.vocab.command import search

    opened: dict[str, float] = {}
    spent_s: dict[str, float] = {}

    class Silent:
        def advance(self, amount: int = 1, text: str = "") -> None: ...

    class Clock:
        @contextmanager
        def task(self, label: str, total: int, unit: str, done: int = 0) -> Iterator[Silent]:
            opened[label] = time.monotonic()
            yield Silent()
            spent_s[label] = time.monotonic() - opened[label]

        def note(self, text: str) -> None: ...

    search(base=base, corpus=corpus, eval=evals, out=out, reporter=Clock(), **options)
    training = json.loads(Path(out, "choice.json").read_text(encoding="utf-8"))["training"]
    return {"curves_at": opened["write"], "spent_s": spent_s, "training": training}


def sentencepiece(text: str, model: str, flags: dict[str, Any]) -> Facts:
    """One training from lines of text; its log goes to standard error."""
    import sentencepiece as spm

    spm.SentencePieceTrainer.train(input=text, model_prefix=model, **flags)
    return {}


def encode(model: str, evals: dict[str, str], threads: int) -> Facts:
    """What each vocabulary of the reference's way costs once more: encode, count, ALP."""
    import sentencepiece as spm

    from lingraft.texts import read_texts

    processor = spm.SentencePieceProcessor(model_file=model)
    alps: dict[str, float] = {}
    for name, path in evals.items():
        texts = [doc.text for doc in read_texts(Path(path))]
        counts: Counter[int] = Counter()
        for ids in processor.encode(texts, num_threads=threads):
            counts.update(ids)
        total = counts.total()
        alps[name] = math.fsum(c * math.log(c / total) for c in counts.values()) / len(texts)
    return {"alp": alps}


def tokenizers(text: str, out: str, vocab_size: int, alphabet: int) -> Facts:
    """Hugging Face's BpeTrainer, on units like sentencepiece's: script, number, whitespace."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Strip(left=False, right=True)  # lines come with their end
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # First: it gives a space to the script before it, but drops one that a text begins
            # with. So a space between two scripts stays apart here, unlike in sentencepiece.
            pre_tokenizers.UnicodeScripts(),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Metaspace(prepend_scheme="never", split=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, limit_alphabet=alphabet, max_token_length=16, show_progress=False
    )
    tokenizer.train([text], trainer)
    tokenizer.save(out)
    merges = json.loads(Path(out).read_text(encoding="utf-8"))["model"]["merges"]
    return {"num_pieces": tokenizer.get_vocab_size(), "num_rules": len(merges)}


KINDS: dict[str, Callable[..., Facts]] = {
    "prepare": prepare,
    "ours": ours,
    "sentencepiece": sentencepiece,
    "encode": encode,
    "tokenizers": tokenizers,
}


def main(arguments: Sequence[str]) -> None:
    """Be one contender and print what it tells."""
    if len(arguments) != 2 or arguments[0] not in KINDS:
        sys.exit(f"usage: vocab_contenders.py {'|'.join(KINDS)} JSON (started by bench_vocab.py)")
    facts = KINDS[arguments[0]](**json.loads(arguments[1]))
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
