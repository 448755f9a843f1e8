"""Extend the base tokenizer by the chosen pieces, write every form of it, and prove it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from ..documents import read_documents
from ..encoder import FastEncoder
from ..errors import VerifyError
from ..fast import write_tokenizer
from ..pieces import SentencePieces
from ..progress import Progress
from ..settings import StageSettings
from ..store import Artefact, Draft
from .check import Checker, Compared, check_base_kept, find_unreachable
from .hard import HARD_TEXTS, every_code_point, texts_around
from .piecerules import extend_model, parse_rows
from .settings import Efficiency, TokenizerFacts, TokenizerSettings

__all__ = ["run"]

_BATCH_TEXTS = 512


def run(settings: StageSettings, inputs: Mapping[str, Artefact], draft: Draft) -> TokenizerFacts:
    """Write the extended tokenizer; what is checked is what was written.

    Raises:
        InputError: A chosen piece cannot be added.
        VerifyError: The result is not the base with some neighbours joined.
    """
    assert isinstance(settings, TokenizerSettings), "tokenizer.run got another stage's settings"
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


def _tell(valid: Mapping[str, Compared], total: Compared, added: int, draft: Draft) -> None:
    per_set = ", ".join(
        f"{name} {c.base_tokens / c.num_chars:.3f} -> {c.extended_tokens / c.num_chars:.3f}"
        for name, c in valid.items()
        if c.num_chars
    )
    draft.note(f"{added:,} pieces added; tokens per character: {per_set}")
    draft.note(
        f"{total.num_texts:,} texts: SentencePiece and fast tokenizer agree on all; "
        f"{total.num_unchanged:,} without added characters, encoded as by the base"
    )
