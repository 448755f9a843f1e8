"""Plots as SVG text, drawn by hand: small, the same bytes each time, and at home in the page.

Colours and fonts come from the page's style sheet by class (`s0`, `s1`, ...), so one drawing
serves light and dark; series differ by marker as well as by colour. Values stand in `<title>`
elements, which browsers show on hover without any script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "BarGroup", "Series", "bar_chart", "line_chart", "nice_ticks", "thin"]

Point = tuple[float, float]

_WIDTH, _HEIGHT = 560, 330
_LEFT, _TOP, _BOTTOM = 52, 14, 46
_LABEL_GAP = 18
_NUM_COLOURS = 6


@dataclass(frozen=True)
class Series:
    """One line of a plot."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Bar:
    """One bar: a name, a value and the value as printed."""

    name: str
    value: float
    text: str
    spread: tuple[float, float] | None = None
    """How far the value may be off, drawn as a line over the bar's end."""


@dataclass(frozen=True)
class BarGroup:
    """Bars that are compared with each other."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class _Frame:
    """Maps values to places in the drawing."""

    x_range: Point
    x_ticks: list[float]
    y_ticks: list[float]
    right: float

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (self.right - _LEFT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that cover [low, high] in steps of 1, 2 or 5 times a power of ten.

    Args:
        low: Smallest value to cover.
        high: Largest value to cover; where it equals `low`, a step is put on either side.
        count: About how many intervals are wanted.
    """
    assert low <= high, f"ticks from {low} to {high}"
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thin(points: Sequence[Point], limit: int) -> tuple[tuple[Point, ...], int]:
    """Average neighbours until at most `limit` points are left.

    Returns:
        The points, and how many of the given ones each stands for.
    """
    size = -(-len(points) // limit)
    if size <= 1:
        return tuple(points), 1
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    means = tuple(
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    )
    return means, size


def line_chart(
    series: Sequence[Series], *, label: str, x_label: str, y_label: str, markers: bool
) -> str:
    """Draw lines over a shared axis.

    Args:
        series: The lines; each has at least one point, at 0 or right of it.
        label: What the plot shows, for those who cannot see it.
        x_label: Quantity and unit of the horizontal axis.
        y_label: Quantity and unit of the vertical axis.
        markers: Whether points are marked and lines are named at their right end.
    """
    assert series, "a plot needs a series"
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points]
    right = _WIDTH - (118 if markers else 18)
    x_ticks = [x for x in nice_ticks(0.0, max(xs)) if x <= max(xs)] if max(xs) > 0 else [0.0]
    frame = _Frame((0.0, max(xs) or 1.0), x_ticks, nice_ticks(min(ys), max(ys)), right)
    body = [*_axes(frame, x_label, y_label)]
    for index, one in enumerate(series):
        body += _line(frame, one, index, markers)
    if markers:
        body += _end_labels(frame, series)
    return _svg("plot", _HEIGHT, label, body)


def bar_chart(groups: Sequence[BarGroup], *, label: str) -> str:
    """Draw horizontal bars from zero, grouped, each with its value.

    Args:
        groups: What is compared; all bars share one scale.
        label: What the plot shows, for those who cannot see it.
    """
    assert groups, "a plot needs a group"
    most = max((bar.spread or (0, bar.value))[1] for g in groups for bar in g.bars) or 1.0
    left, row, head = 172, 26, 30
    scale = (_WIDTH - left - 62) / most
    body: list[str] = []
    top = 4
    for group in groups:
        body.append(_text(0, top + 18, "head", group.name))
        top += head
        for index, bar in enumerate(group.bars):
            width = scale * bar.value
            body += [
                _text(left - 10, top + 16, "end", _shorten(bar.name, 22)),
                f'<rect class="fill s{index % _NUM_COLOURS}" x="{left}" y="{top + 2}" '
                f'width="{width:.1f}" height="{row - 7}" rx="3">'
                f"<title>{escape(f'{group.name}, {bar.name}: {bar.text}')}</title></rect>",
            ]
            end = left + width
            if bar.spread is not None:
                low, high = (left + scale * edge for edge in bar.spread)
                body.append(_whisker(low, high, top + 2 + (row - 7) / 2))
                end = high
            body.append(_text(end + 8, top + 16, "value", bar.text))
            top += row
        top += 10
    return _svg("plot bars", top, label, body)


def _whisker(low: float, high: float, y: float) -> str:
    ends = f"M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8"
    return f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}{ends}"/>'


def _svg(kind: str, height: float, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {_WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(label)}">' + "".join(body) + "</svg>"
    )


def _text(x: float, y: float, kind: str, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for value in frame.y_ticks:
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{frame.right:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, "end", _tick(value, frame.y_ticks)))
    for value in frame.x_ticks:
        parts.append(_text(frame.x(value), bottom + 18, "middle", _tick(value, frame.x_ticks)))
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{frame.right:.1f}"/>')
    parts.append(_text((_LEFT + frame.right) / 2, _HEIGHT - 8, "middle", x_label))
    middle = (_TOP + bottom) / 2
    turn = f"translate(12 {middle:.1f}) rotate(-90)"
    parts.append(f'<text class="middle" transform="{turn}">{escape(y_label)}</text>')
    return parts


def _tick(value: float, ticks: Sequence[float]) -> str:
    """A tick's number with as many decimals as its axis needs, thousands and millions named."""
    most, step = max(abs(t) for t in ticks), ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e4, "K")):
        if most >= limit:
            scale = limit if unit != "K" else 1e3
            return f"{_plain(value / scale, step / scale)}{unit if value else ''}"
    return _plain(value, step)


def _plain(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{decimals}f}"


def _line(frame: _Frame, series: Series, index: int, markers: bool) -> list[str]:
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    colour = index % _NUM_COLOURS
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path class="line s{colour}" d="M{line}"/>']
    if markers:
        parts += [
            _marker(place, index, f"{series.name}: {y:.3f} at {x:,.0f}")
            for place, (x, y) in zip(places, series.points, strict=True)
        ]
    return parts


def _marker(place: Point, index: int, text: str) -> str:
    """A circle, square, diamond or triangle, so that colour is not all that tells lines apart."""
    x, y = place
    style = f'class="mark s{index % _NUM_COLOURS}"'
    title = f"<title>{escape(text)}</title>"
    match index % 4:
        case 0:
            return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="3.6">{title}</circle>'
        case 1:
            shape = f"M{x - 3.4:.1f} {y - 3.4:.1f}h6.8v6.8h-6.8z"
        case 2:
            shape = f"M{x:.1f} {y - 4.6:.1f}l4.6 4.6l-4.6 4.6l-4.6 -4.6z"
        case _:
            shape = f"M{x:.1f} {y - 4.4:.1f}l4.4 7.6h-8.8z"
    return f'<path {style} d="{shape}">{title}</path>'


def _end_labels(frame: _Frame, series: Sequence[Series]) -> list[str]:
    """Name each line at its end; names that would overlap are moved apart."""
    ends = sorted((frame.y(s.points[-1][1]), index) for index, s in enumerate(series))
    top = _TOP + 4.0
    bottom = _HEIGHT - _BOTTOM - _LABEL_GAP * (len(ends) - 1)
    labels = []
    for rank, (y, index) in enumerate(ends):
        top = min(max(y + 4, top), max(bottom, _TOP + 4.0) + rank * _LABEL_GAP)
        x = frame.x(series[index].points[-1][0]) + 10
        name = _shorten(series[index].name, 15)
        labels.append(_text(x, top, f"tag s{index % _NUM_COLOURS}", name))
        top += _LABEL_GAP
    return labels


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
