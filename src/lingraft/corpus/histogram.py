"""Lengths of documents as a drawing: SVG text, in the page's colours, the same bytes each time.

Lengths spread over many powers of ten, so the axis is logarithmic: each bar covers the lengths
from one edge up to the next, which is twice as far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from .tallies import Histogram

__all__ = ["draw_lengths", "short_number"]

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 34, 52
_GAP = 1.5
_MOST_LABELS = 9
_MOST_TICKS = 5


def draw_lengths(histogram: Histogram, name: str) -> str:
    """Draw a histogram; nothing where it holds no document.

    Args:
        histogram: Documents by characters.
        name: What the documents are called.
    """
    counts, edges = _trimmed(histogram)
    if not counts:
        return ""
    ticks = _ticks(max(counts))
    width = (_WIDTH - _LEFT - _RIGHT) / len(counts)
    bottom = _HEIGHT - _BOTTOM
    scale = (bottom - _TOP) / ticks[-1]
    body = [*_rules(ticks, scale, bottom)]
    for n, count in enumerate(counts):
        height = count * scale
        told = f"{edges[n]:,} to {edges[n + 1] - 1:,} characters: {count:,} documents"
        body.append(
            f'<rect class="fill s2" x="{_LEFT + n * width + _GAP:.1f}" y="{bottom - height:.1f}" '
            f'width="{width - 2 * _GAP:.1f}" height="{height:.1f}"><title>{told}</title></rect>'
        )
    body += _labels(edges, width, bottom)
    label = _describe(counts, edges, name)
    return (
        f'<svg class="plot lengths" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">' + "".join(body) + "</svg>"
    )


def short_number(value: int) -> str:
    """A number for an axis: powers of two keep their digits, 512, 1K, 16K, 1M.

    >>> [short_number(n) for n in (0, 512, 2048, 1 << 20)]
    ['0', '512', '2K', '1M']
    """
    for unit, name in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return str(value)


def _trimmed(histogram: Histogram) -> tuple[list[int], list[int]]:
    """Leave out the empty bars at both ends."""
    full = [n for n, count in enumerate(histogram.counts) if count]
    if not full:
        return [], []
    return histogram.counts[full[0] : full[-1] + 1], histogram.edges[full[0] : full[-1] + 2]


def _ticks(most: int) -> list[int]:
    """Whole numbers from 0 to `most` or above, in steps of 1, 2 or 5 times a power of ten."""
    power = 10 ** max(0, math.ceil(math.log10(most / _MOST_TICKS)) - 1)
    step = next(m * power for m in (1, 2, 5, 10, 20) if m * power * _MOST_TICKS >= most)
    return list(range(0, most + step, step))


def _rules(ticks: Sequence[int], scale: float, bottom: float) -> Iterator[str]:
    for tick in ticks:
        y = bottom - tick * scale
        kind = "grid" if tick else "axis"
        yield f'<path class="{kind}" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        yield f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{_thousands(tick)}</text>'
    yield '<text x="0" y="14">documents</text>'


def _thousands(value: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**4, "K")):
        if value >= unit:
            return f"{value / (unit if name != 'K' else 1000):g}{name}"
    return f"{value:,}"


def _labels(edges: Sequence[int], width: float, bottom: float) -> Iterator[str]:
    every = math.ceil(len(edges) / _MOST_LABELS)
    for n in range(0, len(edges), every):
        x = _LEFT + n * width
        yield f'<path class="axis" d="M{x:.1f} {bottom}v4"/>'
        kind = "end" if n + 1 == len(edges) and n else "middle"
        yield f'<text class="{kind}" x="{x:.1f}" y="{bottom + 18}">{short_number(edges[n])}</text>'
    x = (_LEFT + _WIDTH - _RIGHT) / 2
    yield (
        f'<text class="middle" x="{x:.1f}" y="{_HEIGHT - 10}">'
        "characters in a document (K: 1,024)</text>"
    )


def _describe(counts: Sequence[int], edges: Sequence[int], name: str) -> str:
    peak = max(range(len(counts)), key=lambda n: counts[n])
    return (
        f"Lengths of the documents of {name}, from {edges[0]:,} to {edges[-1] - 1:,} characters; "
        f"most, {counts[peak]:,}, have {edges[peak]:,} to {edges[peak + 1] - 1:,}."
    )
