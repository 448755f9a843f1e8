"""Extend the base tokenizer by the chosen pieces, write every form of it, and prove it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from ..documents import read_documents
from ..encoder import FastEncoder
from ..errors import VerifyError
from ..exact import Encoder
from ..fast import write_tokenizer
from ..pieces import SentencePieces
from ..progress import Progress
from ..settings import StageSettings
from ..store import Artefact, Draft
from .check import Checker, Compared, check_base_kept, find_unreachable
from .extending import RECORD, extend
from .hard import HARD_TEXTS, every_code_point, texts_around
from .outcome import Check
from .piecerules import extend_model, parse_rows
from .settings import Efficiency, TokenizerFacts, TokenizerSettings
from .verifying import verify

__all__ = ["run"]

_BATCH_TEXTS = 512
_REPLAYS = ("every code point", "replay on built-in texts", "replay on the corpora")
_COMPARED = {
    "texts without the new scripts",
    "texts with them",
    "texts with bytes that the base loses",
}
_UNCHANGED = "texts without the new scripts, unchanged"
"""Names of checks, and of their figures."""


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> TokenizerFacts:
    """Write the extended tokenizer; what is checked is what was written.

    Raises:
        InputError: A chosen piece cannot be added.
        VerifyError: The result is not the base with some neighbours joined.
    """
    assert isinstance(settings, TokenizerSettings), "tokenizer.run got another stage's settings"
    if not (inputs["base"].path / "tokenizer.model").is_file():
        return _extend_fast(settings, inputs, draft)
    base = SentencePieces.read(inputs["base"].file("tokenizer.model"))
    vocab = inputs["vocab"].file("pieces.jsonl")
    with vocab.open(encoding="utf-8") as lines:
        rows = parse_rows(lines, str(vocab))
    write_tokenizer(extend_model(base, rows), draft.path)
    extended = SentencePieces.read(draft.path / "tokenizer.model")
    check_base_kept(base, extended)
    _refuse_unreachable(extended, len(base.pieces))
    checker = Checker(base, extended, FastEncoder.read(draft.path / "tokenizer.json"))
    counts = _compare_all(checker, extended.pieces[len(base.pieces) :], settings, inputs, draft)
    valid = {name: counts[f"{name}-valid"] for name in inputs["corpus"].facts["sets"]}
    total = Compared()
    for count in counts.values():
        total = total.plus(count)
    _tell(valid, total, len(rows), draft)
    return TokenizerFacts(
        base_size=len(base.pieces),
        added_pieces=len(rows),
        size=len(extended.pieces),
        efficiency={name: _efficiency(count) for name, count in valid.items()},
        num_texts_compared=total.num_texts,
        num_texts_unchanged=total.num_unchanged,
        unreachable_pieces=0,
    )


def _extend_fast(
    settings: TokenizerSettings, inputs: Mapping[str, Artefact], draft: Draft
) -> TokenizerFacts:
    """Do as the verbs `tokenizer extend` and `tokenizer verify` do, for a `tokenizer.json` alone.

    Raises:
        InputError: A chosen piece cannot be added.
        VerifyError: A check of the result failed.
    """
    base, corpus = inputs["base"].path, inputs["corpus"]
    out = draft.scratch / "extended"
    made = extend(base=base, pieces=inputs["vocab"].path, out=out, reporter=draft.reporter)
    for file in out.iterdir():
        if file.name != RECORD:  # it names the run's folder: equal runs would differ by it
            file.rename(draft.path / file.name)
    found = verify(
        draft.path,
        base=base,
        corpus=_samples(settings.check_docs, corpus, draft.scratch),
        scripts=made.scripts,
        reporter=draft.reporter,
    )
    if found.failed:
        raise _failure(found.failed[0])
    figures = [check.figures for check in found.checks if check.name in _REPLAYS]
    efficiency = {
        name: _measure(corpus.file(f"{name}-valid.jsonl"), base, draft.path)
        for name in corpus.facts["sets"]
    }
    draft.note(f"{made.num_pieces:,} pieces added; tokens per character: {_ratios(efficiency)}")
    for check in found.checks:
        draft.note(f"{check.name}: {check.text}")
    return TokenizerFacts(
        base_size=made.base_size,
        missing_bytes=len(made.missing_bytes),
        added_pieces=made.num_pieces,
        size=made.size,
        efficiency=efficiency,
        num_texts_compared=sum(
            int(row[name]) for row in figures for name in _COMPARED & row.keys()
        ),
        num_texts_unchanged=sum(int(row[_UNCHANGED]) for row in figures),
        unreachable_pieces=0,
    )


def _samples(check_docs: int, corpus: Artefact, scratch: Path) -> list[Path]:
    """Give all of validation, and files of the first training documents of each set."""
    files: list[Path] = []
    for name in corpus.facts["sets"]:
        sample = scratch / f"{name}-train.jsonl"
        with (
            corpus.file(f"{name}-train.jsonl").open(encoding="utf-8") as lines,
            sample.open("w", encoding="utf-8") as written,
        ):
            written.writelines(islice(lines, check_docs))
        files += [sample, corpus.file(f"{name}-valid.jsonl")]
    return files


def _measure(path: Path, base: Path, extended: Path) -> Efficiency:
    encoders = Encoder(str(base)), Encoder(str(extended))
    counts, num_chars, size_bytes = [0, 0], 0, 0
    for texts in _batches(doc.text for doc in read_documents(path)):
        for side, encoder in enumerate(encoders):
            counts[side] += sum(map(len, encoder.encode_batch(texts)))
        num_chars += sum(map(len, texts))
        size_bytes += sum(len(text.encode()) for text in texts)
    return Efficiency(
        base_tokens=counts[0],
        extended_tokens=counts[1],
        num_chars=num_chars,
        size_bytes=size_bytes,
    )


def _failure(check: Check) -> VerifyError:
    return VerifyError(
        "\n  ".join([f"{check.name}: {check.text}", *check.examples, *check.notes]),
        effect="The model would read other text than it was trained on.",
        way_out="Do not ship this tokenizer; report it with the base tokenizer's name.",
    )


def _refuse_unreachable(extended: SentencePieces, num_base: int) -> None:
    lost = find_unreachable(extended, num_base)
    if lost:
        raise VerifyError(
            f"{len(lost)} added pieces can never be produced: {', '.join(map(repr, lost[:5]))}.",
            effect="Their rows would be trained on nothing.",
            way_out="Take them off the piece list.",
        )


def _compare_all(
    checker: Checker,
    added: tuple[str, ...],
    settings: TokenizerSettings,
    inputs: Mapping[str, Artefact],
    draft: Draft,
) -> dict[str, Compared]:
    """Compare built-in texts, and documents of every set and split; count by source."""
    corpus = inputs["corpus"]
    sizes = {
        f"{name}-{split}": min(splits[split]["num_docs"], limit or splits[split]["num_docs"])
        for name, splits in corpus.facts["sets"].items()
        for split, limit in (("train", settings.check_docs), ("valid", None))
    }
    built_in: dict[str, list[str]] = {
        "hard list": list(HARD_TEXTS),
        "every code point": list(every_code_point()),
        "texts around added pieces": list(texts_around(added)),
    }
    total = sum(map(len, built_in.values())) + sum(sizes.values())
    with draft.progress("compare", total, "texts") as progress:
        counts = {
            where: _compare(checker, texts, where, progress) for where, texts in built_in.items()
        }
        for source, size in sizes.items():
            docs = islice(read_documents(corpus.file(f"{source}.jsonl")), size)
            counts[source] = _compare(checker, (doc.text for doc in docs), source, progress)
    return counts


def _compare(checker: Checker, texts: Iterable[str], where: str, progress: Progress) -> Compared:
    count = Compared()
    for batch in _batches(texts):
        count = count.plus(checker.compare(batch, where))
        progress.advance(len(batch), where)
    return count


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, _BATCH_TEXTS)):
        yield batch


def _efficiency(count: Compared) -> Efficiency:
    return Efficiency(
        base_tokens=count.base_tokens,
        extended_tokens=count.extended_tokens,
        num_chars=count.num_chars,
        size_bytes=count.size_bytes,
    )


def _ratios(valid: Mapping[str, Compared] | Mapping[str, Efficiency]) -> str:
    return ", ".join(
        f"{name} {c.base_tokens / c.num_chars:.3f} -> {c.extended_tokens / c.num_chars:.3f}"
        for name, c in valid.items()
        if c.num_chars
    )


def _tell(valid: Mapping[str, Compared], total: Compared, added: int, draft: Draft) -> None:
    draft.note(f"{added:,} pieces added; tokens per character: {_ratios(valid)}")
    draft.note(
        f"{total.num_texts:,} texts: SentencePiece and fast tokenizer agree on all; "
        f"{total.num_unchanged:,} without added characters, encoded as by the base"
    )
