"""Pages that open from disk: one template engine, one look (`house.css`), everything inside.

What comes from data is escaped by the engine, and missing values are errors, not gaps.
"""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from .formats import FILTERS

__all__ = ["page_environment", "visible"]

_KEPT_CONTROLS = "\n\t"


def page_environment(folder: str) -> Environment:
    """Give the engine of the templates in a folder of the package; `house.css` is among them."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("lingraft", folder), PackageLoader("lingraft", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, visible=visible)
    return environment


def visible(text: str) -> str:
    """Replace control characters, which HTML forbids, by their pictures (NUL becomes ␀)."""
    return "".join(
        chr(0x2400 + ord(c)) if ord(c) < 0x20 and c not in _KEPT_CONTROLS else c for c in text
    )
