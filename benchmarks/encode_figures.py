"""What `bench_encode.py` makes of its measurements: differences, rows, ratios, the table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench_vocab import tell
from encode_peers import DIGEST_BYTES

_LISTS = ("load_s", "warm_s", "first_s", "second_s", "first_cpu_s", "second_cpu_s")
_PEAKS = ("texts_bytes", "loaded_bytes", "first_peak_bytes", "second_peak_bytes")


class Corpus(NamedTuple):
    """Texts on disk, ready to be read by each contender."""

    name: str
    path: Path
    num_docs: int
    num_bytes: int
    sha256: str


@dataclass
class Tokenizer:
    """A tokenizer in the forms there are."""

    name: str
    model: str = ""
    fast: str = ""
    made_fast: bool = False

    @property
    def own(self) -> str:
        """Its own library."""
        return "sentencepiece" if self.model else "tokenizers"


@dataclass
class Cell:
    """All rounds of a contender with a tokenizer on a corpus."""

    tokenizer: Tokenizer
    corpus: Corpus
    contender: str
    samples: list[dict[str, Any]] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    """{"skipped" or "failed": reason}."""
    differing: int | None = None

    def speeds(self, which: str) -> list[float]:
        """MB/s of each round."""
        return [self.corpus.num_bytes / 1e6 / sample[f"{which}_s"] for sample in self.samples]

    def speed(self, which: str) -> float:
        """Median MB/s."""
        return statistics.median(self.speeds(which))


def digests_path(cell: Cell, work: Path) -> Path:
    """Where a contender's digests lie."""
    return work / f"{cell.tokenizer.name}-{cell.corpus.name}-{cell.contender}.digests"


def compare(group: Sequence[Cell], work: Path) -> None:
    """Count the documents whose ids are not the own library's; the most of all rounds."""
    own = next(cell for cell in group if cell.contender == cell.tokenizer.own)
    if own.why:
        return
    right = digests_path(own, work).read_bytes()
    starts = range(0, len(right), DIGEST_BYTES)
    for cell in group:
        if cell.why:
            continue
        found = digests_path(cell, work).read_bytes()
        if len(found) == len(right):
            differing = sum(
                found[i : i + DIGEST_BYTES] != right[i : i + DIGEST_BYTES] for i in starts
            )
        else:
            differing = cell.corpus.num_docs  # not even as many documents
        cell.differing = max(differing, cell.differing or 0)


def cell_row(cell: Cell) -> dict[str, Any]:
    """All that was measured of a contender."""
    row: dict[str, Any] = {
        "tokenizer": cell.tokenizer.name,
        "corpus": cell.corpus.name,
        "contender": cell.contender,
        **cell.why,
        "runs": len(cell.samples),
    }
    if not cell.samples:
        return row
    for name in (*_LISTS, *_PEAKS):
        row[name] = [sample[name] for sample in cell.samples]
    for which in ("first", "second"):
        row[f"{which}_mb_s"] = cell.speeds(which)
        row[f"median_{which}_mb_s"] = cell.speed(which)
    row["second_differs"] = any(sample["second_differs"] for sample in cell.samples)
    row |= {"note": cell.samples[-1]["note"], "version": cell.samples[-1]["version"]}
    row |= {"own": cell.tokenizer.own, "made_fast": cell.tokenizer.made_fast}
    if cell.differing is not None:
        row["differing_docs"] = cell.differing
        row["differing_frac"] = cell.differing / cell.corpus.num_docs
    return row


def ratio_row(group: Sequence[Cell]) -> dict[str, Any]:
    """Speed of ours over each other one's, and which exact one is the fastest of the others."""
    corpus = group[0].corpus
    row: dict[str, Any] = {
        "tokenizer": group[0].tokenizer.name,
        "corpus": corpus.name,
        "contender": "",
        "text": {
            "num_docs": corpus.num_docs,
            "num_bytes": corpus.num_bytes,
            "sha256": corpus.sha256,
        },
        "ratios": {},
    }
    ours = next((cell for cell in group if cell.contender == "ours" and cell.samples), None)
    others = [cell for cell in group if cell is not ours and cell.samples]
    if ours is None or not others:
        return row
    for other in others:
        for which in ("first", "second"):
            pairs = zip(ours.speeds(which), other.speeds(which), strict=False)
            rounds = [a / b for a, b in pairs]
            row["ratios"].setdefault(f"ours/{other.contender}", {})[which] = {
                "of_medians": ours.speed(which) / other.speed(which),
                "rounds": [min(rounds), max(rounds)],
            }
    exact = [cell for cell in others if cell.differing == 0]
    if exact:
        row["best_exact_peer"] = max(exact, key=lambda cell: cell.speed("first")).contender
    return row


def tell_table(cells: Sequence[Cell]) -> None:
    """Print a table for people."""
    tell(
        f"\n{'tokenizer':<14} {'text':<5} {'contender':<17} {'MB/s first: median (all)':<32}"
        f"{'second':>8} {'cores':>6} {'load s':>7} {'warm s':>7} {'peak MB':>8}  docs that differ"
    )
    for cell in cells:
        head = f"{cell.tokenizer.name:<14} {cell.corpus.name:<5} {cell.contender:<17} "
        if not cell.samples:
            tell(head + json.dumps(cell.why, ensure_ascii=False)[:110])
            continue
        middle = {k: statistics.median(s[k] for s in cell.samples) for k in (*_LISTS, *_PEAKS)}
        every = ", ".join(f"{speed:.1f}" for speed in cell.speeds("first"))
        first = f"{cell.speed('first'):.1f} ({every})"
        wrong = "" if cell.differing is None else f"{cell.differing:,} of {cell.corpus.num_docs:,}"
        wrong += ", and the passes" if any(s["second_differs"] for s in cell.samples) else ""
        tell(
            f"{head}{first:<32}{cell.speed('second'):>8.1f} "
            f"{middle['first_cpu_s'] / middle['first_s']:>6.2f} {middle['load_s']:>7.2f} "
            f"{middle['warm_s']:>7.2f} {middle['first_peak_bytes'] / 1e6:>8,.0f}  {wrong}"
        )
