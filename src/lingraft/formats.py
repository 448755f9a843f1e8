"""How numbers look on pages and cards: one function a kind, used by all."""

from __future__ import annotations

import math

__all__ = [
    "FILTERS",
    "show_alp",
    "show_bpb",
    "show_bytes",
    "show_change",
    "show_count",
    "show_fixed",
    "show_points",
    "show_ratio",
    "show_setting",
    "show_share",
    "show_short",
]

_MINUS = "−"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def show_count(value: int) -> str:
    """A whole number with thousands separators: 1,234,567."""
    return f"{value:,d}"


def show_short(value: int) -> str:
    """A large number for a headline: 950, 12.3 K, 1.23 M, 4.56 B (three figures)."""
    for limit, unit in ((1e9, " B"), (1e6, " M"), (1e4, " K")):
        if value >= limit:
            scaled = value / (limit if limit != 1e4 else 1e3)
            return f"{_three_figures(scaled)}{unit}"
    return show_count(value)


def show_bpb(value: float) -> str:
    """Bits per byte with three decimals."""
    return f"{value:.3f}"


def show_fixed(value: float, decimals: int = 2) -> str:
    """A number of a column: the same decimals in every row."""
    return f"{value:,.{decimals}f}"


def show_alp(value: float) -> str:
    """An average log probability in nats: −1,234.56."""
    return ("" if value >= 0 else _MINUS) + f"{abs(value):,.2f}"


def show_ratio(value: float) -> str:
    """A ratio with three figures: 0.512, 1.53, 12.3; very small ones as 3.1 × 10⁻⁶."""
    if value and abs(value) < 1e-3:
        figures, _, power = f"{value:.1e}".partition("e")
        return f"{figures}\u00a0×\u00a010{str(int(power)).translate(_RAISED)}"
    return _three_figures(value)


def show_change(frac: float) -> str:
    """A relative change with its sign and one decimal: -0.354 is −35.4%."""
    text = f"{abs(frac) * 100:.1f}%"
    if text == "0.0%":
        return "±0.0%"
    return ("+" if frac > 0 else _MINUS) + text


def show_points(value: float, decimals: int = 2) -> str:
    """A difference with its sign: +1.26, −0.30, ±0.00."""
    text = f"{abs(value):.{decimals}f}"
    if not float(text):
        return f"±{text}"
    return ("+" if value > 0 else _MINUS) + text


def show_share(part: int, whole: int) -> str:
    """A share in percent with three figures, 12.3%; none of nothing is 0%."""
    if not part:
        return "0%"
    percent = 100 * part / whole
    return f"{_three_figures(percent)}%" if percent >= 1e-3 else "<0.001%"


def show_bytes(value: int) -> str:
    """A size in binary units: 512 B, 1.50 KiB, 88.0 GiB."""
    size = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{value:,d} B" if unit == "B" else f"{_three_figures(size)} {unit}"
        size /= 1024
    return f"{_three_figures(size)} TiB"


def show_setting(value: object) -> str:
    """A setting as its author would write it: 1e-05, true, a list with commas."""
    match value:
        case None:
            return "default"
        case bool():
            return "yes" if value else "no"
        case int():
            return show_count(value)
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(show_setting(item) for item in value)
        case _:
            return str(value)


def _three_figures(value: float) -> str:
    whole = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{min(3, max(0, 3 - whole))}f}"


FILTERS = {
    "alp": show_alp,
    "bpb": show_bpb,
    "bytes": show_bytes,
    "change": show_change,
    "count": show_count,
    "fixed": show_fixed,
    "points": show_points,
    "ratio": show_ratio,
    "setting": show_setting,
    "share": show_share,
    "short": show_short,
}
"""The functions under the names that templates call them by."""
