"""Fuzz the encoder with nasty texts, and what reads tokenizers with damaged files.

Two parts, each in worker processes of its own, for as long as `--minutes` says:

    texts   batches of random texts (bytes read as UTF-8, runs, rare characters, pieces of the
            tokenizer glued and cut, literal special tokens, sentences damaged) through
            `Encoder.encode_batch` of each tokenizer. A finding is any difference from its own
            library (sentencepiece, or `tokenizers` without special tokens), with the text made
            as short as it stays different; and any exception.
    files   tokenizer files with flipped bits, cut, spliced, or with single values, pieces, rules
            and settings changed, through `Encoder(...)` and, if that reads them, a few texts. Each
            must work, with the ids that its own library gives, or raise a LingraftError.

A case that takes more than 20 s is a hang: its worker is killed. A worker that ends on its own
(segmentation fault, abort) is a crash. Both are findings, and a fresh worker goes on with the next
case. Workers may use 6 GB of address space, so that a file cannot take the whole machine.

Every case is drawn from the seed and its number. Findings of one kind (same part, exception, line,
and tokenizer where ids differ) are counted, the first of each is kept in --out: the file or text,
and finding.json beside it. Exit code 1 if there is any.

Data:  small tokenizers of all kinds that are trained on the spot, and those of --tokenizer.
Run:   python benchmarks/fuzz_tokenizers.py --minutes 10 --seed 17 --out FOLDER
           [--tokenizer PATH]... [--only texts,files] >> benchmarks/results.jsonl
Row:   cases, texts and characters, outcomes by name, findings with their counts; which encoder
       each tokenizer was given; machine, commit, versions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import select
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, TextIO

from bench_vocab import commit, tell
from fuzz_damage import damage
from fuzz_texts import make_small, make_text, shrink

CASE_S, START_S = 20.0, 300.0
MEMORY_BYTES = 6 << 30
TEXTS_A_CASE = 20
_PROBES = (
    "",
    " ",
    "The quick  brown fox 12",
    "中华人民共和国\n\n",
    "a" * 50 + "的的的",
    "<s>\0\u2581é👩‍👩‍👧",
)


def own_encode(path: Path) -> Callable[[Sequence[str]], list[list[int]]]:
    """Give the encoding of a tokenizer's own library, called without lingraft."""
    if path.suffix == ".json":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.encode_special_tokens = True
        return lambda texts: [
            e.ids for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda texts: list(processor.encode(list(texts)))


def describe(error: BaseException) -> dict[str, str]:
    """Tell an exception by its class, its message and the last line of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lingraft" in Path(frame.filename).parts]
    last = (ours or frames)[-1]
    where = f"{Path(last.filename).name}:{last.lineno} in {last.name}: {last.line}"
    return {"exception": type(error).__name__, "message": str(error)[:500], "where": where}


class TextCases:
    """Texts through every tokenizer that can be read."""

    def __init__(self, paths: Sequence[Path], say: Callable[..., None]) -> None:
        from lingraft.errors import LingraftError
        from lingraft.exact import Encoder

        self.tokenizers: list[tuple[Path, Any, Any, list[str]]] = []
        for path in paths:
            try:
                encoder = Encoder(path)
            except LingraftError as error:
                say(tokenizer=path.name, encoder=f"refused: {error.what}")
                continue
            pieces = [piece for id in range(encoder.base.size) if (piece := encoder.base.piece(id))]
            say(tokenizer=path.name, encoder=encoder.reason or "compiled")
            encoder.encode_batch(_PROBES)
            self.tokenizers.append((path, encoder, own_encode(path), pieces))

    def run(self, rng: Random, current: Path) -> dict[str, Any]:
        """Encode a batch by one tokenizer."""
        path, encoder, own, pieces = rng.choice(self.tokenizers)
        texts = [make_text(rng, pieces) for _ in range(TEXTS_A_CASE)]
        batch = {"tokenizer": path.name, "texts": texts}
        current.with_suffix(".json").write_text(json.dumps(batch), encoding="utf-8")
        size = {"texts": len(texts), "chars": sum(map(len, texts))}
        try:
            found = encoder.encode_batch(texts, rng.choice((1, 2, None)))
        except BaseException as error:
            return {"outcome": "exception", "finding": describe(error), **size}
        try:
            rights = own(texts)
        except BaseException:
            return {"outcome": "only ours takes it", **size}
        for text, ids, right in zip(texts, found, rights, strict=True):
            if ids.tolist() != right:
                short = shrink(text, lambda t: encoder.encode(t).tolist() != own([t])[0])
                told = {"tokenizer": path.name, "text": short, "encoder": encoder.reason}
                told |= {"ours": encoder.encode(short).tolist(), "own": own([short])[0]}
                return {"outcome": "different", "finding": told, **size}
        return {"outcome": "equal", **size}


class FileCases:
    """Damaged files through the reader, and the encoder if that reads them."""

    def __init__(self, paths: Sequence[Path], say: Callable[..., None], num_small: int) -> None:
        from lingraft.errors import LingraftError
        from lingraft.exact import Encoder

        self.paths, self.num_small = paths, num_small
        self.contents = {path: path.read_bytes() for path in paths}
        for path in paths:  # compiles what there is to compile
            with contextlib.suppress(LingraftError):
                Encoder(path).encode_batch(_PROBES)

    def run(self, rng: Random, current: Path) -> dict[str, Any]:
        """Damage a file and use it."""
        from lingraft.errors import LingraftError
        from lingraft.exact import Encoder

        large = self.paths[self.num_small :]
        path = rng.choice(large if large and rng.random() < 0.02 else self.paths[: self.num_small])
        target = current.with_suffix(path.suffix)
        content, name = damage(rng, self.contents[path], path.suffix)
        target.write_bytes(content)
        told = {"tokenizer": path.name, "damage": name}
        try:
            encoder = Encoder(target)
            found = [ids.tolist() for ids in encoder.encode_batch(_PROBES, 1)]
            found += [encoder.encode(text).tolist() for text in _PROBES]
        except LingraftError as error:
            return {"outcome": f"refused: {type(error).__name__}"}
        except BaseException as error:
            return {"outcome": "exception", "finding": {**describe(error), **told}}
        try:
            right = own_encode(target)(_PROBES) * 2
        except BaseException:
            return {"outcome": "only ours takes it"}
        if found != right:
            at = next(i for i, (a, b) in enumerate(zip(found, right, strict=True)) if a != b)
            text = _PROBES[at % len(_PROBES)]
            pair = {"text": text, "ours": found[at], "own": right[at], "encoder": encoder.reason}
            return {"outcome": "different", "finding": {**told, **pair}}
        return {"outcome": "equal, " + ("own library" if encoder.reason else "compiled")}


def work(part: str, seed: int, start: int, folder: str, num_small: int, paths: list[str]) -> None:
    """Be a worker: cases from `start` on, a line before and after each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    def say(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    files = [Path(path) for path in paths]
    cases = TextCases(files, say) if part == "texts" else FileCases(files, say, num_small)
    say(ready=True)
    number = start
    while True:
        say(start=number)
        current = Path(folder) / f"case-{part}-{number}"
        facts = cases.run(Random(f"{seed} {part} {number}"), current)
        if "finding" not in facts:
            for file in Path(folder).glob(f"{current.name}.*"):
                file.unlink()
        say(number=number, **facts)
        number += 1


class Part:
    """Watches the workers of one part."""

    def __init__(self, name: str, arguments: argparse.Namespace, folder: Path) -> None:
        self.name, self.arguments, self.folder = name, arguments, folder
        self.cases = self.texts = self.chars = self.workers = 0
        self.outcomes: Counter[str] = Counter()
        self.findings: dict[str, dict[str, Any]] = {}
        self.encoders: dict[str, str] = {}
        self.alone: set[str] = set()
        self.broken, self.limit_s = "", START_S

    def run(self, paths: Sequence[Path], num_small: int) -> None:
        """Start workers until the time is over."""
        end, number = time.monotonic() + 60 * self.arguments.minutes, 0
        while time.monotonic() < end and not self.broken:
            settings = [self.name, self.arguments.seed, number, str(self.folder), num_small]
            call = json.dumps([*settings, [*map(str, paths)]])
            self.workers += 1
            with tempfile.TemporaryFile("w+") as log:
                worker = subprocess.Popen(
                    [sys.executable, __file__, "--worker", call], stdout=subprocess.PIPE, stderr=log
                )
                number = self.watch(worker, log, number, end)
                worker.kill()
                worker.wait()

    def watch(self, worker: subprocess.Popen[bytes], log: TextIO, number: int, end: float) -> int:
        """Follow a worker to its end; give the number of the next case."""
        self.limit_s, is_ready = START_S, False
        for line in lines_of(worker, lambda: self.limit_s):
            if line is None:
                self.add(number, {"outcome": "hang", "finding": {"seconds": self.limit_s}})
                return number + 1
            facts = json.loads(line)
            if "encoder" in facts:
                self.encoders[facts["tokenizer"]] = facts["encoder"]
            elif "ready" in facts:
                self.limit_s, is_ready = CASE_S, True
            elif "start" in facts:
                number = facts["start"]
                if time.monotonic() > end:
                    return number
            else:
                self.add(number, facts)
        log.seek(0)
        told = {"exit_code": worker.wait(), "stderr": log.read()[-1500:]}
        if is_ready:
            self.add(number, {"outcome": "crash", "finding": told})
        else:
            self.broken = f"{self.name}: no case was run: {told}"
        return number + 1

    def add(self, number: int, facts: dict[str, Any]) -> None:
        """Count a case, and keep the first finding of its kind."""
        self.cases += 1
        self.texts += facts.get("texts", 0)
        self.chars += facts.get("chars", 0)
        self.outcomes[facts["outcome"]] += 1
        if "finding" not in facts:
            return
        files = sorted(self.folder.glob(f"case-{self.name}-{number}.*"))
        kind = self.kind(facts)
        if kind in self.findings:
            self.findings[kind]["count"] += 1
        else:
            kept = self.arguments.out / f"{self.name}-{number}"
            kept.mkdir(parents=True, exist_ok=True)
            for file in files:
                (kept / file.name).write_bytes(file.read_bytes())
            self.findings[kind] = {"count": 1, "case": number, **facts["finding"]}
            told = json.dumps({"kind": kind, **self.findings[kind]}, indent=1)
            (kept / "finding.json").write_text(told + "\n", encoding="utf-8")
            tell(f"{kind}\n    case {number}: {json.dumps(facts['finding'])[:400]}")
        for file in files:
            file.unlink()

    def kind(self, facts: dict[str, Any]) -> str:
        """Tell findings apart by what they have in common with others of the same cause."""
        finding = facts["finding"]
        names = ("exception", "where", "exit_code")
        if "ours" in finding:
            damages = finding.get("damage", "").split(", ")
            if len(damages) == 1:
                self.alone.add(damages[0])
            # Of several damages, one that was a finding alone is the likely cause.
            known = [damage for damage in damages if damage in self.alone]
            finding = finding | {"damage": ", ".join(known[:1] or damages)}
            names = ("tokenizer", "damage", "encoder")
        shown = [str(finding[name]) for name in names if finding.get(name)]
        if "stderr" in finding:
            shown += [finding["stderr"].strip()[-120:]]
        joined = " | ".join([self.name, facts["outcome"], *shown])
        return re.sub(r"0x[0-9a-f]+|\d{4,}", "#", joined)


def lines_of(
    worker: subprocess.Popen[bytes], limit_s: Callable[[], float]
) -> Iterator[bytes | None]:
    """Give what a worker prints, line by line; None when it is silent for too long."""
    assert worker.stdout is not None
    rest = b""
    while True:
        ready, _, _ = select.select([worker.stdout], [], [], limit_s())
        if not ready:
            yield None
            return
        data = os.read(worker.stdout.fileno(), 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def main() -> None:
    """Read the options and run."""
    if sys.argv[1:2] == ["--worker"]:
        work(*json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--tokenizer", action="append", default=[], type=Path, metavar="PATH")
    parser.add_argument("--only", default="texts,files", type=lambda text: text.split(","))
    parser.add_argument("--out", type=Path, required=True, help="folder for the findings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = make_small(Path(folder))
        paths = [*small, *arguments.tokenizer]
        parts = [Part(name, arguments, Path(folder)) for name in arguments.only]
        threads = [threading.Thread(target=p.run, args=(paths, len(small))) for p in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report(parts, arguments)


def report(parts: Sequence[Part], arguments: argparse.Namespace) -> None:
    """Print what was found to standard error and the row to standard output."""
    if broken := [part.broken for part in parts if part.broken]:
        sys.exit("\n".join(broken))
    row: dict[str, Any] = {"bench": "fuzz_tokenizers", "seed": arguments.seed}
    row["minutes"] = arguments.minutes
    for part in parts:
        row[part.name] = {
            "cases": part.cases,
            "workers": part.workers,
            "outcomes": dict(sorted(part.outcomes.items())),
            "findings": {kind: finding["count"] for kind, finding in part.findings.items()},
        }
        if part.texts:
            row[part.name] |= {"texts": part.texts, "chars": part.chars, "encoders": part.encoders}
        tell(f"{part.name}: {json.dumps(row[part.name], indent=1, ensure_ascii=False)}")
    names = ("sentencepiece", "tokenizers", "numba", "numpy")
    row |= {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "versions": {name: version(name) for name in names},
    }
    print(json.dumps(row, ensure_ascii=False))
    sys.exit(1 if any(part.findings for part in parts) else 0)


if __name__ == "__main__":
    main()
