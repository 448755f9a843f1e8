"""The curves as one page to explore: hover, zoom, and three quantities to choose from.

The page (`interactive.html` beside this file) holds its data and plotly's own script, and asks
nothing of any network. Its size is nearly all plotly's, about 4.8 MB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import numpy as np

from .alp import Curve, EvalFacts, Float64, alp_per_byte
from .choose import Choice

__all__ = ["curves_page", "gain_per_1000"]

_MOST_POINTS = 600
_STEEP_FRAC = 0.1
_STRETCH = 1_000


def curves_page(curves: Sequence[Curve], evals: Sequence[EvalFacts], choice: Choice) -> str:
    """Give the page as HTML; equal values give equal text.

    Args:
        curves: One for each number of single characters.
        evals: Evaluation texts, in the order of the curves' rows.
        choice: The vocabulary to mark, and its reasons.
    """
    from plotly.offline import get_plotlyjs

    page = files(__package__).joinpath("interactive.html").read_text("utf-8")
    data = json.dumps(_page_data(curves, evals, choice), separators=(",", ":"))
    # In a script element, "</script>" or "<!--" inside a name would end or change the element.
    head, tail = page.split("__DATA__")
    middle, end = tail.split("__PLOTLY__")
    script: str = get_plotlyjs()
    return "".join([head, data.replace("<", "\\u003c"), middle, script, end])


def gain_per_1000(curve: Curve, evals: Sequence[EvalFacts]) -> Float64:
    """Give what 1,000 pieces add around every size, nats per byte, of shape (E, K + 1).

    It is the rise over the 1,000 pieces around a size, 500 on either side; near the ends of the
    curve as many on either side as there are. The ends themselves have none (NaN).
    """
    heights_EK = alp_per_byte(curve, evals)
    last = heights_EK.shape[1] - 1
    places = np.arange(last + 1)
    half = np.minimum(np.minimum(places, last - places), _STRETCH // 2)
    rise_EK = heights_EK[:, places + half] - heights_EK[:, places - half]
    gains_EK: Float64 = rise_EK / np.where(half > 0, 2 * half, np.nan) * 1000
    return gains_EK


def _page_data(
    curves: Sequence[Curve], evals: Sequence[EvalFacts], choice: Choice
) -> dict[str, Any]:
    first, last = min(c.start for c in curves), max(c.end for c in curves)
    return {
        "evals": [asdict(text) for text in evals],
        "curves": [_curve_data(curve, evals, choice) for curve in curves],
        "choice": {
            "size": choice.size,
            "num_chars": choice.num_chars,
            "rule": choice.rule,
            "knee": choice.knee,
            "min_gain": choice.min_gain,
            "reasons": choice.reasons,
        },
        "first": first,
        "last": last,
        "steep_end": min(first + round(_STEEP_FRAC * (last - first)), choice.size),
    }


def _curve_data(curve: Curve, evals: Sequence[EvalFacts], choice: Choice) -> dict[str, Any]:
    sizes = curve.sample(_MOST_POINTS, choice.size)
    places = np.array(sizes) - curve.start
    gains_EK = gain_per_1000(curve, evals)[:, places]
    return {
        "num_chars": curve.num_chars,
        "sizes": sizes,
        "alp": [[round(v, 4) for v in row] for row in curve.alp_EK[:, places].tolist()],
        "tokens": curve.tokens_EK[:, places].tolist(),
        "byte_tokens": curve.byte_tokens_E.tolist(),
        "gain": [[_number(v) for v in row] for row in gains_EK.tolist()],
    }


def _number(value: float) -> float | None:
    """Keep 5 digits; JSON has no word for NaN."""
    return None if np.isnan(value) else float(f"{value:.5g}")
