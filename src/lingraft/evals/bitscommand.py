"""`lingraft bpb`: bits per byte of models on texts, the base first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..folders import require_writable
from ..progress import Reporter, SilentReporter
from ..store import write_json
from .bits import BitsSettings, Reader, TextScore, common_context, score_text
from .intervals import bits_difference
from .kept import Kept
from .keys import model_key
from .loading import Loaded, load_model
from .newpieces import Added, PieceWatch, find_added, row_norms
from .placing import context_of, labels_of, locate_model, read_tokenizer_of
from .plans import LoadPlan, check_plan
from .reading import Text, read_scored_texts

__all__ = ["bits_per_byte"]

Row = dict[str, Any]
_FORMAT = "lingraft.bpb/2"
_TRIED_DOCS = 20
"""Of each text: on them encoders are compared."""


@dataclass(frozen=True)
class _Job:
    """Everything that is settled before the first model is loaded."""

    labels: list[str]
    folders: list[Path]
    texts: list[Text]
    settings: BitsSettings
    max_tokens: int
    stride: int
    plan: LoadPlan
    added: dict[str, Added]
    """By label: the pieces that a model has more than the first one; {} if not asked."""


def bits_per_byte(
    models: Sequence[str | Path],
    texts: Sequence[str | Path],
    *,
    settings: BitsSettings | None = None,
    limit: int | None = None,
    text_key: str = "text",
    new_pieces: bool = False,
    plan: LoadPlan | None = None,
    resamples: int = 2_000,
    seed: int = 17,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> list[Row]:
    """Score models on texts.

    Args:
        models: Folders, or names of the hub; the base first.
        texts: Files, folders or patterns; each file is a text of its own.
        settings: How they are scored.
        limit: Documents of each file, at most.
        text_key: Column of the text, where a file has columns.
        new_pieces: Whether to tell what became of the pieces that were added to the first
            model's vocabulary.
        plan: How models are loaded.
        resamples: Draws of the bootstrap.
        seed: Decides them.
        out: JSON file to write; a killed call goes on with what it had scored.
        reporter: Where progress goes.

    Returns:
        A row for each model and text, text by text, as the JSON file holds them.

    Raises:
        UsageError: The call does not fit together, or a device is missing.
        MissingPackageError: A library is missing.
        InputError: A text or model cannot be used.
    """
    teller = reporter or SilentReporter()
    plan, path = plan or LoadPlan(), None if out is None else Path(out).expanduser()
    _check_call(path, resamples, seed)
    job = _settle(models, texts, settings or BitsSettings(), limit, text_key, new_pieces, plan)
    identity = [
        _FORMAT, asdict(job.settings), job.max_tokens, job.stride, plan.deciding(), new_pieces,
    ]  # fmt: skip
    with Kept(path, identity) as kept:
        if kept.damage:
            teller.note(kept.damage)
        if kept.num_found:
            teller.note(f"going on: {kept.num_found} results were there already")
        found = [_score_model(job, number, kept, teller) for number in range(len(job.labels))]
        rows = [
            _with_difference(by_model[n], found[0][n], resamples, seed)
            for n in range(len(job.texts))
            for by_model in found
        ]
        if path is not None:
            write_json(path, rows)
    return rows


def _check_call(path: Path | None, resamples: int, seed: int) -> None:
    """Refuse draws that cannot be made and a file that cannot be written."""
    for option, number in (("--resamples", resamples), ("--seed", seed)):
        if number < 0:
            raise UsageError(f"{option} {number}: expected 0 or more.")
    if path is not None:
        require_writable(path, "--json")


def _settle(
    models: Sequence[str | Path],
    names: Sequence[str | Path],
    settings: BitsSettings,
    limit: int | None,
    text_key: str,
    new_pieces: bool,
    plan: LoadPlan,
) -> _Job:
    """Check everything that can be checked without loading a model."""
    check_plan(plan)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected 1 or more documents.")
    sources = [str(model) for model in models]
    labels = labels_of(sources)
    folders = [locate_model(name, plan) for name in sources]
    contexts = [context_of(folder, plan) for folder in folders]
    max_tokens, stride = common_context(contexts, settings)
    texts = read_scored_texts([str(name) for name in names], limit=limit, text_key=text_key)
    added = _find_grafts(labels, folders, plan) if new_pieces else {}
    return _Job(labels, folders, texts, settings, max_tokens, stride, plan, added)


def _find_grafts(
    labels: Sequence[str], folders: Sequence[Path], plan: LoadPlan
) -> dict[str, Added]:
    """Find the models that extend the first one's vocabulary.

    Raises:
        UsageError: None does.
    """
    tokenizers = [read_tokenizer_of(folder, plan) for folder in folders]
    found = {
        label: added
        for label, tokenizer in zip(labels[1:], tokenizers[1:], strict=True)
        if (added := find_added(tokenizers[0], tokenizer)) is not None
    }
    if not found:
        raise UsageError(
            f"--new-pieces: no model has {labels[0]}'s pieces under the same ids, and more.",
            way_out="Name the base first, then the model that was grafted on it.",
        )
    return found


def _score_model(job: _Job, number: int, kept: Kept, reporter: Reporter) -> list[Row]:
    """Score every text with one model; it is loaded only if a result is missing."""
    label, folder = job.labels[number], job.folders[number]
    key = model_key(label, folder, job.plan)
    if job.added:  # which pieces are new is told by the first model
        key += f" beside {model_key(job.labels[0], job.folders[0], job.plan)}"
    rows: list[Row | None] = [kept.get(f"{key} {text.name} {text.sha256}") for text in job.texts]
    if any(row is None for row in rows):
        loaded = load_model(str(folder), job.plan, label)
        sample = [doc for text in job.texts for doc in text.docs[:_TRIED_DOCS]]
        reader = Reader(loaded, job.settings, sample)
        missing = sum(
            -(-t.size_bytes // 1_000) for t, row in zip(job.texts, rows, strict=True) if row is None
        )
        with reporter.task(f"score {label}", missing, "KB") as progress:
            for place, text in enumerate(job.texts):
                if rows[place] is None:
                    watch = PieceWatch(job.added[label]) if label in job.added else None
                    score = score_text(reader, text, job.max_tokens, job.stride, progress, watch)
                    rows[place] = row = _row(job, reader, text, score)
                    if watch is not None:
                        row["new_pieces"] = watch.result(loaded) | {
                            "norms": row_norms(loaded, job.added[label])
                        }
                    kept.put(f"{key} {text.name} {text.sha256}", row)
    return [row for row in rows if row is not None]


def _row(job: _Job, reader: Reader, text: Text, score: TextScore) -> Row:
    loaded: Loaded = reader.loaded
    num_eos = len(text.docs) if job.settings.eos else 0  # as in a recipe's evaluation
    return {
        "model": loaded.name,
        "text": text.name,
        "bpb": score.bpb,
        "bytes": score.size_bytes,
        "tokens": score.total_tokens,
        "chars": score.num_chars,
        "docs": len(text.docs),
        "blank_docs": text.num_blank,
        "num_surrogates": text.num_surrogates,
        "docs_over_context": score.num_windows_docs,
        "lost": {
            "docs": score.lost.num_docs,
            "bytes": score.lost.size_bytes,
            "bytes_frac": score.lost.size_bytes / score.size_bytes,
            "unknown_tokens": score.lost.unknown_tokens,
        },
        "tokens_per_char": (score.total_tokens - num_eos) / score.num_chars,
        "nats_per_token": sum(score.doc_nats) / score.total_tokens,
        "max_tokens": job.max_tokens,
        "stride": job.stride,
        "bos": reader.bos,
        "bos_put_by_tokenizer": reader.bos_is_own,
        "eos_counted": job.settings.eos,
        "encoder": reader.encoder.told,
        "loaded": loaded.describe(),
        "text_sha256": text.sha256,
        "doc_nats": list(score.doc_nats),
        "doc_bytes": list(score.doc_bytes),
    }


def _with_difference(row: Row, base: Row, resamples: int, seed: int) -> Row:
    """Give a row with its difference to the base's; the base's own has none."""
    if row is base:
        return row | {"difference": None}
    found = bits_difference(
        np.array(base["doc_nats"]),
        np.array(row["doc_nats"]),
        np.array(row["doc_bytes"]),
        resamples=resamples,
        seed=seed,
    )
    about = {"to": base["model"], "resamples": resamples, "seed": seed}
    return row | {"difference": found._asdict() | about}
