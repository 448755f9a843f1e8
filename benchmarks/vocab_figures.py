"""What `bench_vocab.py` makes of its measurements: ratios, fits, exponents, rows."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LINE_LIMIT = 4_192
"""sentencepiece's max_sentence_length, in bytes."""
SCALES = (25, 50, 100)
"""Shares of the distinct documents, in percent."""
PEAKS = ("peak_bytes", "anon_peak_bytes")
_NOT_LEARNED = 256 + 3
"""Pieces of sentencepiece's that are bytes or control pieces."""
_LOG = {
    "sentences": r"Loaded (?:all )?(\d+) sentences",
    "skipped_long": r"Skipped (\d+) too long sentences",
    "all_chars": r"all chars count=(\d+)",
    "alphabet": r"Alphabet size=(\d+)",
    "coverage": r"Final character coverage=([\d.]+)",
}


@dataclass(frozen=True)
class Sample:
    """One process, seen from outside."""

    wall_s: float
    peak_bytes: int
    anon_peak_bytes: int
    facts: dict[str, Any]
    log: str


@dataclass
class Contender:
    """What is started again and again."""

    name: str
    kind: str
    arguments: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)
    encodings: list[Sample] = field(default_factory=list)

    def median(self, what: str) -> float:
        """Median of a number over the samples."""
        return float(statistics.median(getattr(sample, what) for sample in self.samples))


def read_log(log: str, text: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """What a training by sentencepiece used, by its own log; and the bytes of these lines."""
    found = {name: re.search(pattern, log) for name, pattern in _LOG.items()}
    missing = [name for name, hit in found.items() if hit is None and name != "skipped_long"]
    assert not missing, f"sentencepiece's log does not tell {missing}"
    facts = {name: float(hit[1]) if hit else 0.0 for name, hit in found.items()}
    cut = flags["max_sentence_length"] == LINE_LIMIT
    skipped_bytes = text["long_line_bytes"] if cut else 0
    return {
        "log": facts,
        "reserved_lines": len(re.findall("Reserved chars are found", log)),
        "skipped_as_counted": facts["skipped_long"] == (text["long_lines"] if cut else 0),
        "bytes_used": text["line_bytes"] - skipped_bytes,
        "bytes_skipped": skipped_bytes,
        "num_rules": flags["vocab_size"] - _NOT_LEARNED - int(facts["alphabet"]),
    }


def ratios(contenders: Sequence[Contender]) -> dict[str, Any]:
    """Ours over each other contender: of medians, and the span over rounds."""
    ours = next((c for c in contenders if c.name == "ours"), None)
    found: dict[str, Any] = {}
    if ours is None:
        return found
    for other in contenders:
        if other is ours:
            continue
        for what in ("wall_s", "peak_bytes", "anon_peak_bytes"):
            rounds = [
                getattr(a, what) / getattr(b, what)
                for a, b in zip(ours.samples, other.samples, strict=True)
            ]
            found.setdefault(f"ours/{other.name}", {})[what] = {
                "of_medians": ours.median(what) / other.median(what),
                "rounds": [min(rounds), max(rounds)],
            }
    return found


def reference_way(
    contenders: Sequence[Contender], sizes: Sequence[int], num_counts: int
) -> dict[str, Any]:
    """What 16 sizes x 4 counts by sentencepiece would take."""
    measured = [c for c in contenders if c.encodings]
    if len(measured) < 3:
        return {}
    points = [c.arguments["flags"]["vocab_size"] for c in measured]
    times_s = [c.median("wall_s") for c in measured]
    slope, start = statistics.linear_regression(points, times_s)
    encode_s = statistics.mean(statistics.median(s.wall_s for s in c.encodings) for c in measured)
    train_s = num_counts * sum(start + slope * size for size in sizes)
    total_s = train_s + encode_s * len(sizes) * num_counts
    ours = [c.median("wall_s") for c in contenders if c.name == "ours"]
    return {
        "num_trainings": len(sizes) * num_counts,
        "sizes": list(sizes),
        "measured": {c.name: [n, s] for c, n, s in zip(measured, points, times_s, strict=True)},
        "fit_s": {"start": start, "per_1000": 1000 * slope},
        "largest_residual_s": max(
            abs(start + slope * n - s) for n, s in zip(points, times_s, strict=True)
        ),
        "encode_s": encode_s,
        "train_total_s": train_s,
        "total_s": total_s,
        **({"over_ours": total_s / ours[0]} if ours else {}),
    }


def scaling(contenders: Sequence[Contender], text: Mapping[str, Any]) -> dict[str, Any]:
    """Peak and symbols against bytes of distinct text, and their exponents."""
    parts = [c for s in SCALES for c in contenders if c.name == f"ours_{s}"]
    if not parts:
        return {}
    sizes = [text["scale_bytes"][str(s)] for s in SCALES]
    symbols = [c.samples[-1].facts["training"]["num_symbols"] for c in parts]
    columns = {"symbols": symbols, **{w: [c.median(w) for c in parts] for w in PEAKS}}
    logs = [math.log(size) for size in sizes]
    exponents = {
        name: statistics.linear_regression(logs, [math.log(v) for v in values]).slope
        for name, values in columns.items()
    }
    return {"bytes": sizes, **columns, "exponents": exponents}


def limited(contenders: Sequence[Contender]) -> dict[str, Any]:
    """Whether all runs over the whole text gave the same files."""
    runs = [c for c in contenders if c.name in ("ours", "ours_1gb")]
    names = ("curves_sha256", "rules_sha256")
    seen = {name: sorted({s.facts[name] for c in runs for s in c.samples}) for name in names}
    return {"files": seen, "equal": all(len(v) == 1 for v in seen.values())} if runs else {}


def contender_row(contender: Contender) -> dict[str, Any]:
    """All that was measured of a contender; facts are those of its last run."""
    samples = contender.samples
    row: dict[str, Any] = {"contender": contender.name, "runs": len(samples)}
    for what in ("wall_s", *PEAKS):
        row[what] = [getattr(s, what) for s in samples]
        row[f"median_{what}"] = contender.median(what)
    if contender.kind == "ours":
        row["curves_s"] = [s.facts["curves_s"] for s in samples]
        row["compiled_files"] = [s.facts["compiled_files"] for s in samples]
    if contender.encodings:
        row["encode_s"] = [s.wall_s for s in contender.encodings]
    settings = ("flags", "vocab_size", "alphabet", "chars", "max_size", "memory")
    row["settings"] = {k: v for k, v in contender.arguments.items() if k in settings}
    return row | {"facts": samples[-1].facts}
